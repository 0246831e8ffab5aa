"""Carry out all runs of a sweep file: a grid of suites, methods, shots and seeds."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.sweep.executor_config import ExecutorConfig
from dassl.sweep.grid import Sweep, read_sweep, with_changes
from dassl.sweep.look import look
from dassl.sweep.overview import describe
from dassl.sweep.plan import expand
from dassl.sweep.session import start
from dassl.sweep.status import STATUS_FILE, Entry
from dassl.utils.cli import Parser, exit_code, names, numbers, say
from dassl.utils.errors import UserError
from dassl.utils.logger import setup_logger

_EPILOG = """\
The same command carries out what is left: it skips finished runs and resumes interrupted ones.
Exit status: 0 all runs are done, 1 some failed, 2 a mistake, explained in one line, 130 interrupted.

examples
  python sweep.py demo --dry-run
  python sweep.py paper_general10 --root DATA --gpus 0,1 --jobs 4
  python sweep.py paper_plant6 --root DATA --ray auto --gpus-per-run 0.25
  python sweep.py demo --methods CoOp-MT,SoftCPT-NATS --shots 4 --seeds 1 OPTIM.MAX_EPOCH 5
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="sweep.py", description=__doc__, epilog=_EPILOG)
    add = parser.add_argument
    add("sweep", metavar="SWEEP", help="a sweep file, or the name of one in configs/sweeps/")
    add("--dry-run", action="store_true", help="list the runs, their states, and the estimated time")
    add("--root", default="", metavar="DIR", help="folder that holds the data folders (DATASET.ROOT)")
    add("--output-dir", default="", metavar="DIR", help="folder of the runs, instead of the file's")
    add("--methods", type=names, default=(), metavar="NAME,NAME", help="methods, instead of the file's")
    add("--shots", type=numbers, default=(), metavar="N,N", help="shots, instead of the file's")
    add("--seeds", type=numbers, default=(), metavar="N,N", help="seeds, instead of the file's")
    add("--retries", type=int, default=1, metavar="N", help="how often a failed run is tried again (default: 1)")
    add_place_flags(parser)
    add("options", nargs="*", metavar="KEY VALUE", help="config keys for every run, e.g. OPTIM.MAX_EPOCH 5")
    return parser


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that choose the executor."""
    add = parser.add_argument_group("executor").add_argument
    add("--jobs", type=int, default=0, metavar="N", help="runs at the same time (default: one per GPU, else per core)")
    add("--gpus", type=names, default=(), metavar="N,N", help="GPUs that the runs share (default: all)")
    add("--ray", default="", metavar="ADDRESS", help='a Ray cluster, or "auto"; see docs/sweeps.md')
    add("--gpus-per-run", type=float, metavar="X", help="share of a GPU per run on Ray (default: 1 if there are GPUs)")
    add("--cpus-per-run", type=int, default=1, metavar="N", help="cores per run on Ray (default: 1)")
    add("--open-cluster", action="store_true", help="join a Ray cluster although it requires no token")
    add("--bring-back", action="store_true", help="the cluster shares no folder with this machine: send results back")


def chosen_sweep(args: argparse.Namespace) -> Sweep:
    """The sweep of the file, with the replacements from the command line."""
    sweep = read_sweep(args.sweep)
    methods = tuple(sweep.method(name) for name in args.methods)  # the file may define or change a row
    changes = {"methods": methods, "shots": args.shots, "seeds": args.seeds, "output": args.output_dir}
    return with_changes(sweep, **changes)


def executor(args: argparse.Namespace) -> ExecutorConfig:
    """The settings of the executor.

    Raises:
        UserError: a number is invalid, or two flags contradict each other.
    """
    if min(args.jobs, args.gpus_per_run or 0, args.retries) < 0 or args.cpus_per_run < 1:
        raise UserError("--jobs, --gpus-per-run and --retries must be 0 or more, --cpus-per-run 1 or more")
    share = float(args.gpus_per_run or 0)
    if (share > 1 and not share.is_integer()) or math.isnan(share):
        raise UserError(
            f"--gpus-per-run {share:g}: expected a share of one GPU, such as 0.25, or a whole number of GPUs"
        )
    if args.ray and args.gpus:
        raise UserError("--gpus is for this machine; with --ray use --gpus-per-run")
    if not args.ray and (args.gpus_per_run is not None or args.bring_back or args.open_cluster):
        raise UserError("--gpus-per-run, --bring-back and --open-cluster are for a Ray cluster; add --ray auto")
    share, cores = args.gpus_per_run, args.cpus_per_run
    return ExecutorConfig(args.jobs, args.gpus, args.ray, share, cores, args.bring_back, args.open_cluster)


def _carry_out(args: argparse.Namespace) -> list[Entry]:
    setup_logger(None)
    config, sweep = executor(args), chosen_sweep(args)
    if sweep.protocol and config.bring_back:
        raise UserError("--bring-back sends back one folder per run, but a protocol has two; use a shared folder")
    for method in sweep.methods if config.bring_back else ():
        if method.start:
            raise UserError(f"{method.label} starts from runs that --bring-back leaves here; use a shared folder")
    root = ["DATASET.ROOT", str(Path(args.root).expanduser().absolute())] if args.root else []
    runs = expand(sweep, pairs=[*root, *args.options])
    found = [run.found() for run in runs]
    if args.dry_run:
        print(describe(runs, found, jobs=max(1, config.jobs if config.ray else config.local()[0])), end="", flush=True)
    left = [run for run, state in zip(runs, found, strict=True) if state in ("new", "begun")]
    for remark in look(left, here=not config.ray, fetch=not args.dry_run):
        print(remark)
    if args.dry_run:
        return []
    failed = start(sweep.name, sweep.folder, runs, found, executor=config, retries=args.retries)
    print(f"{len(runs) - len(failed)} of {len(runs)} runs are done; {sweep.folder / STATUS_FILE} lists them")
    for entry in failed:
        say(f"failed: {entry.run.title}: {entry.error}")
    return failed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    failed: list[Entry] = []
    code = exit_code(
        lambda: failed.extend(_carry_out(build_parser().parse_intermixed_args(argv))),
        interrupted="interrupted; the same command resumes with the runs that are left",
    )
    return code or int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
