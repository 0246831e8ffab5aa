"""Compare zero-shot CLIP, CoOp and SoftCPT on the embedded suite Demo6 and print the tables.

Finished runs are kept, and the same command resumes an interrupted demo.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clip.names import DEMO_VIT
from dassl.report.checks import notice_lines, notices
from dassl.report.forms import print_form
from dassl.report.plots import accuracy_figure, save
from dassl.report.sheets import Options, main_sheets, task_sheets
from dassl.report.study import Suite, suites
from dassl.report.tree import read_tree
from dassl.results.methods import read_methods
from dassl.sweep.executor_config import ExecutorConfig
from dassl.sweep.grid import Sweep, read_sweep, with_changes
from dassl.sweep.plan import Run, expand
from dassl.sweep.session import start
from dassl.utils.cli import Parser, exit_code, numbers
from dassl.utils.errors import UserError
from dassl.utils.files import write_text
from dassl.utils.logger import setup_logger
from dassl.utils.tools import CHECKOUT

# Rows that --all shows besides the paper's.
FURTHER = (
    "MCoOp",
    "TaskRes",
    "TCP",
    "Tip-Adapter",
    "GDA",
    "LP++",
    "CLAP",
    "CM-LP",
    "Tip-Adapter-F",
    "CLIP-Adapter",
    "ProLIP",
    "ProLIP-MT",
)
# Rows that --everything adds: they tune the image tower, so no features are stored for them, and it must be a ViT.
TUNE_IMAGES = ("MVPT", "MUPT", "MaPLe", "PromptSRC", "CLIP-LoRA")
FOLDER = CHECKOUT / "output"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="scripts/demo.sh", description=__doc__)
    add = parser.add_argument
    add("--all", action="store_true", help=f"all methods on stored features, with their cost, on {DEMO_VIT}")
    add("--everything", action="store_true", help="like --all, with the methods that tune the image tower")
    add("--shots", type=numbers, default=(), metavar="N,N", help="training images per class (default: 1,4,16)")
    add("--seeds", type=numbers, default=(), metavar="N,N", help="seeds (default: 1,2,3)")
    add("--output-dir", type=Path, help="folder of the runs (default: output/demo6, for --all output/demo6_all)")
    add("--jobs", type=int, default=0, help="runs at the same time (default: one per core, one with a GPU)")
    add("options", nargs="*", metavar="KEY VALUE", help="config keys for every run, e.g. OPTIM.MAX_EPOCH 5")
    return parser


def chosen_sweep(args: argparse.Namespace) -> Sweep:
    """The sweep configs/sweeps/demo.yaml, with the replacements from the command line."""
    whole = args.all or args.everything
    output = (args.output_dir or FOLDER / ("demo6_all" if whole else "demo6")).absolute()
    sweep = with_changes(read_sweep("demo"), shots=args.shots, seeds=args.seeds, output=str(output))
    options = {"DATALOADER.FEATURES_DIR": str(output / "features"), "DATASET.CACHE_DIR": str(output / "cache")}
    if whole:
        added = (*FURTHER, *TUNE_IMAGES) if args.everything else FURTHER
        sweep = replace(sweep, methods=tuple(m for m in read_methods().values() if m.paper or m.label in added))
        options["MODEL.BACKBONE.NAME"] = DEMO_VIT
    return replace(sweep, options={**sweep.options, **options})


def report(runs: Sequence[Run], output: Path, *, costs: bool) -> Suite:
    """Print the tables of the runs; write them as Markdown, and the figure. Returns the suites."""
    tree, chosen = read_tree(output), {run.folder for run in runs}
    tree = replace(tree, records=tuple(each for each in tree.records if each.folder in chosen))
    (suite,) = suites(tree)
    options = Options(costs=costs, memory=costs)
    sheets = [*main_sheets(suite, options), *task_sheets(suite, options)]
    print(f"\n{print_form(sheets, 'text')}", end="")
    write_text(output / "table.md", print_form(sheets, "markdown"))
    save(accuracy_figure, suite, output / "accuracy.png")
    for line in notice_lines(notices(tree, [suite])):
        print(line)
    print(f"\ntables: {output / 'table.md'}\nfigure: {output / 'accuracy.png'}\nruns:   {output}")
    return suite


def _carry_out(args: argparse.Namespace) -> None:
    setup_logger(None)
    sweep = chosen_sweep(args)
    runs = expand(sweep, pairs=args.options)
    found = [run.found() for run in runs]
    left = len(runs) - found.count("done")
    if left:
        print(f"{left} of {len(runs)} runs to do, output in {sweep.folder}", flush=True)
        executor = ExecutorConfig(jobs=args.jobs)
        failed = start(sweep.name, sweep.folder, runs, found, executor=executor)
        if failed:
            reasons = [f"{entry.run.title}: {entry.error}" for entry in failed]
            raise UserError("\n".join([*reasons, f"{len(failed)} runs failed, so there are no tables"]))
    report(runs, sweep.folder, costs=args.all or args.everything)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns 0, 2 after a mistake, explained in one line, or 130 if interrupted."""
    return exit_code(
        lambda: _carry_out(build_parser().parse_intermixed_args(argv)),
        interrupted="interrupted; the same command resumes with the runs that are left",
    )


if __name__ == "__main__":
    sys.exit(main())
