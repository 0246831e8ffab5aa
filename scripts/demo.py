"""Compare zero-shot CLIP, CoOp and SoftCPT on the embedded suite Demo6 and print the tables.

Runs that are finished are kept: started again after an interruption, it goes on where it was.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from dassl.utils.cli import exit_code
from dassl.utils.errors import UserError
from dassl.utils.files import write_text
from dassl.utils.plots import plot_shots
from dassl.utils.results import RESULTS_FILE, read_results
from dassl.utils.tables import Cells, method_table, summarise, task_table
from dassl.utils.tools import CHECKOUT

DATASET = "configs/datasets/demo6.yaml"


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        label: what the table calls it.
        setting: folder of its runs.
        options: config keys beyond the trainer's demo.yaml.
    """

    label: str
    trainer: str
    setting: str
    options: tuple[str, ...] = ()
    learns: bool = True


METHODS = (
    Method("zero-shot CLIP", "ZeroshotCLIP", "template", learns=False),
    Method("CoOp-MT", "MTCoOpHard", "shared"),
    Method("CoOp-CA", "MTCoOpHard", "per_task", ("TRAINER.MTCOOPH.TSC", "True")),
    Method("SoftCPT-NATA", "MTCoOp", "NATA"),
    Method("SoftCPT-NATS", "MTCoOp", "NATS", ("TRAINER.MTCOOP.TASK_CSC", "True")),
)


@dataclass(frozen=True)
class Run:
    """One cell of the table for one seed."""

    method: Method
    shots: int
    seed: int

    def folder(self, output: Path) -> Path:
        """Run folder in the layout of docs/architecture.md."""
        name = f"demo_{self.shots}shots" if self.method.learns else "demo"
        return output / self.method.trainer / name / self.method.setting / f"seed{self.seed}"

    def arguments(self, output: Path) -> list[str]:
        """Command line for train.py."""
        config = f"configs/trainers/{self.method.trainer}/demo.yaml"
        flags = ["--trainer", self.method.trainer, "--dataset-config-file", DATASET, "--config-file", config]
        flags += ["--output-dir", str(self.folder(output)), "--seed", str(self.seed)]
        keys = ["DATASET.NUM_SHOTS", str(self.shots), "DATALOADER.FEATURES_DIR", str(output / "features")]
        return [*flags, *keys, "DATASET.CACHE_DIR", str(output / "cache"), *self.method.options]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/demo.sh", description=__doc__)
    add = parser.add_argument
    add("--shots", type=_numbers, default=[1, 4, 16], metavar="N,N", help="training images per class (default: 1,4,16)")
    add("--seeds", type=_numbers, default=[1, 2, 3], metavar="N,N", help="seeds (default: 1,2,3)")
    add("--output-dir", type=Path, default=CHECKOUT / "output/demo6", help="where the runs go (default: output/demo6)")
    add("--jobs", type=int, default=0, help="runs at the same time (default: one per core, one with a GPU)")
    add("options", nargs="*", metavar="KEY VALUE", help="config keys for every run, e.g. OPTIM.MAX_EPOCH 5")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def plan(shots: Sequence[int], seeds: Sequence[int]) -> list[Run]:
    """All runs, those that learn from more images first; a method's runs stand together.

    The first method of each (shots, seed) then encodes the images that the others find encoded.
    """
    learned = [m for m in METHODS if m.learns]
    runs = [Run(m, k, s) for m in learned for k in sorted(set(shots), reverse=True) for s in dict.fromkeys(seeds)]
    return [Run(m, 1, seeds[0]) for m in METHODS if not m.learns] + runs


def work(arguments: list[str], threads: int) -> int:
    """One run, in a worker process; returns train.py's exit code."""
    os.environ["TQDM_DISABLE"] = "1"
    import torch

    import train

    torch.set_num_threads(threads)
    _be_quiet()
    return train.main(arguments)


def _be_quiet() -> None:
    """The console shows warnings only; everything is in each run's log.txt."""
    from dassl.utils.logger import setup_logger

    setup_logger(None)
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.WARNING)


def run_all(runs: Sequence[Run], output: Path, options: Sequence[str], jobs: int) -> None:
    """Carry out the runs, several at a time.

    Raises:
        UserError: a run failed; its own message stands above.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with tqdm(total=len(runs), unit="run", disable=None) as bar:
        first = [run for run in runs if not run.method.learns]
        for batch in (first, [run for run in runs if run.method.learns]):
            # "spawn": a forked copy of a process that has used torch's threads may hang.
            with ProcessPoolExecutor(min(jobs, max(len(batch), 1)), get_context("spawn")) as pool:
                futures = {pool.submit(work, [*run.arguments(output), *options], threads): run for run in batch}
                try:
                    for future, run in _finished(futures):
                        bar.set_postfix_str(f"{run.method.label}, {run.shots} shots, seed {run.seed}")
                        bar.update()
                        if future.result():
                            raise UserError(f"the run {run.folder(output)} failed; the reason stands above")
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise


def _finished(futures: dict[Future[int], Run]) -> Iterator[tuple[Future[int], Run]]:
    return ((future, futures[future]) for future in as_completed(futures))


def default_jobs() -> int:
    """One run per core; a GPU is used by one run at a time."""
    import torch

    return 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, 8)


def report(runs: Sequence[Run], output: Path) -> Cells:
    """Print the tables; write them as Markdown, and the figure."""
    cells = summarise((run.method.label, read_results(run.folder(output))) for run in runs)
    tables = {"mean over the six tasks in %, mean +- std over seeds": method_table(cells)}
    for shots in sorted({run.shots for run in runs if run.method.learns}):
        tables[f"per task, {shots} shot{'s' * (shots != 1)}"] = task_table(cells, shots)
    for title, table in tables.items():
        print(f"\nDemo6, {title}\n{table.render('text')}", end="")
    markdown = "\n".join(f"**Demo6, {title}**\n\n{table.render('markdown')}" for title, table in tables.items())
    write_text(output / "table.md", markdown)
    figure = plot_shots(cells, output / "accuracy.png", title="Demo6", ylabel="mean accuracy over tasks (%)")
    print(f"\ntables: {output / 'table.md'}\nfigure: {figure}\nruns:   {output}")
    return cells


def _carry_out(args: argparse.Namespace) -> None:
    output = args.output_dir.absolute()
    runs = plan(args.shots, args.seeds)
    # With options of one's own a finished run is looked at again: train.py refuses it if its config was another one.
    left = [run for run in runs if args.options or not (run.folder(output) / RESULTS_FILE).is_file()]
    if left:
        print(f"{len(left)} of {len(runs)} runs to do, output in {output}", flush=True)
        run_all(left, output, args.options, args.jobs or default_jobs())
    report(runs, output)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns 0, 2 after a mistake that was explained, 130 when interrupted."""
    args = build_parser().parse_args(argv)
    return exit_code(
        lambda: _carry_out(args), interrupted="interrupted; the same command goes on with the runs that are left"
    )


if __name__ == "__main__":
    sys.exit(main())
