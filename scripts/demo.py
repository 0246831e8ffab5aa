"""Compare zero-shot CLIP, CoOp and SoftCPT on the embedded suite Demo6 and print the tables.

Runs that are finished are kept: started again after an interruption, it goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from dassl.report.simple import plot_shots
from dassl.results.methods import read_methods
from dassl.results.record import RunResult, read_results
from dassl.results.tables import Cell, Cells, Table, mean_spread, method_table, summarise, task_table
from dassl.sweep.grid import Sweep, read_sweep, with_changes
from dassl.sweep.place import Place
from dassl.sweep.plan import Run, expand
from dassl.sweep.session import start
from dassl.utils.cli import Parser, exit_code, numbers
from dassl.utils.errors import UserError
from dassl.utils.files import write_text
from dassl.utils.logger import setup_logger
from dassl.utils.tools import CHECKOUT

# Rows beyond the paper's that --all shows too.
FURTHER = ("TaskRes",)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="scripts/demo.sh", description=__doc__)
    add = parser.add_argument
    add("--all", action="store_true", help="every method of the paper's table, with what it costs")
    add("--shots", type=numbers, default=(), metavar="N,N", help="training images per class (default: 1,4,16)")
    add("--seeds", type=numbers, default=(), metavar="N,N", help="seeds (default: 1,2,3)")
    add("--output-dir", type=Path, default=CHECKOUT / "output/demo6", help="where the runs go (default: output/demo6)")
    add("--jobs", type=int, default=0, help="runs at the same time (default: one per core, one with a GPU)")
    add("options", nargs="*", metavar="KEY VALUE", help="config keys for every run, e.g. OPTIM.MAX_EPOCH 5")
    return parser


def chosen_sweep(args: argparse.Namespace) -> Sweep:
    """The sweep configs/sweeps/demo.yaml with what the command line replaces."""
    output = args.output_dir.absolute()
    sweep = with_changes(read_sweep("demo"), shots=args.shots, seeds=args.seeds, output=str(output))
    if args.all:
        rows = tuple(m for m in read_methods().values() if m.paper or m.label in FURTHER)
        sweep = replace(sweep, methods=rows)
    places = {"DATALOADER.FEATURES_DIR": str(output / "features"), "DATASET.CACHE_DIR": str(output / "cache")}
    return replace(sweep, options={**sweep.options, **places})


def seeds_of(runs: Sequence[Run]) -> list[tuple[str, RunResult]]:
    """Label and result of each (method, shots, seed): the runs of a method that is trained task by task are one."""
    together: dict[tuple[str, int, int], list[RunResult]] = {}
    for run in runs:
        together.setdefault((run.method.label, run.shots, run.seed), []).append(read_results(run.folder))
    return [(label, joined(results)) for (label, _, _), results in together.items()]


def joined(results: Sequence[RunResult]) -> RunResult:
    """One result out of the runs of single tasks: mean figure, sum of parameters and seconds, highest memory.

    There is no figure where a task has none: a mean over other tasks could not be compared.
    """
    tasks = tuple(task for result in results for task in result.tasks)
    figures = [task.metric for task in tasks]
    seconds = {key: sum(result.seconds.get(key, 0.0) for result in results) for key in results[0].seconds}
    memory = {key: max(result.memory[key] for result in results) for key in results[0].memory}
    return replace(
        results[0],
        tasks=tasks,
        metric=None if None in figures else fmean(figures),
        parameters=sum(result.parameters for result in results),
        seconds=seconds,
        memory=memory,
    )


def cost_table(cells: Cells) -> Table:
    """What each method costs: trainable parameters, seconds of training at the most shots, peak memory in MiB.

    The seconds leave out what is encoded for the feature store: the first run that needs a feature says nothing of its
    method. The memory is that of the whole process, or what its tensors take on a GPU.
    """
    rows: list[list[Cell]] = []
    for label in dict.fromkeys(label for label, _ in cells):
        most = max(shots for name, shots in cells if name == label)
        runs = cells[label, most]
        kind = "device_mib" if runs[0].memory.get("device_mib") else "host_mib"
        memory = max(run.memory.get(kind, 0.0) for run in runs)
        seconds = mean_spread(run.seconds["train"] for run in runs) if runs[0].mode == "train" else None
        rows.append([label, max(run.parameters for run in runs), seconds, round(memory)])
    return Table(["method", "parameters", "training s", "peak MiB"], rows)


def report(runs: Sequence[Run], output: Path, *, costs: bool) -> Cells:
    """Print the tables; write them as Markdown, and the figure."""
    cells = summarise(seeds_of(runs))
    tables = {"mean over the six tasks in %, mean +- std (population) over seeds": method_table(cells)}
    if costs:
        tables["all tasks together: training without encoding images, memory of the process"] = cost_table(cells)
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
    setup_logger(None)
    sweep = chosen_sweep(args)
    runs = expand(sweep, pairs=args.options)
    found = [run.found() for run in runs]
    left = len(runs) - found.count("done")
    if left:
        print(f"{left} of {len(runs)} runs to do, output in {sweep.folder}", flush=True)
        place = Place(jobs=args.jobs)
        failed = start(sweep.name, sweep.folder, runs, found, place=place)
        if failed:
            reasons = [f"{entry.run.title}: {entry.error}" for entry in failed]
            raise UserError("\n".join([*reasons, f"{len(failed)} runs failed, so there are no tables"]))
    report(runs, sweep.folder, costs=args.all)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns 0, 2 after a mistake that was explained, 130 when interrupted."""
    return exit_code(
        lambda: _carry_out(build_parser().parse_intermixed_args(argv)),
        interrupted="interrupted; the same command goes on with the runs that are left",
    )


if __name__ == "__main__":
    sys.exit(main())
