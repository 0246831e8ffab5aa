"""Collect the results of finished runs: mean and spread over seeds, per task, for one folder or a whole tree."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dassl.utils.errors import UserError
from dassl.utils.runs import KEYWORD, Group, RunFigures, find_groups, is_run, read_group, read_run, subfolders
from dassl.utils.tables import FORMATS, MeanStd, Table, mean_std, task_means

DESCRIPTION = """\
Collect the results of finished runs.

DIR may be
  a folder of runs (seed1, seed2, ...)   each run, then mean +- standard deviation over them, overall and per task
  a folder of such folders               with --multi-exp: each of them as above, then the average of their means;
                                         without it: a table with one row for every folder of runs found below DIR
  one run                                its figures

A run is read from its results.json. Where there is none, its log.txt is read: the figures after the line
"Finished training" (or "Finish training"), the last one if there are several. A run without a usable figure is
left out of the mean and named, with the reason.
"""

EPILOG = """\
Exit status: 0 figures were printed; 1 every run was left out; 2 DIR is missing or empty, or an option is wrong.

Examples:
  python parse_test_res.py output/demo6/MTCoOp/rn50_ep50_16shots/NATA
  python parse_test_res.py output/demo6 --format markdown --per-task > table.md
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with the given arguments (default: those of the command line); return its exit status."""
    args = _parser().parse_args(arguments)
    try:
        return report(args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def report(args: argparse.Namespace) -> int:
    """Choose the report that fits the folder and the options, print it and return the exit status."""
    top = args.directory
    children = subfolders(top)
    if is_run(top):
        return report_run(args)
    if not children:
        raise UserError(f"{top} has no run in it; name the folder that holds seed1, seed2, ...")
    holds_runs = any(is_run(child) for child in children)
    if args.multi_exp and holds_runs:
        raise UserError(f"{top} holds runs itself, not experiments; leave out --multi-exp or name the folder above")
    if args.multi_exp:
        return report_experiments(args, children)
    if args.format is None and holds_runs:
        return _nothing(top) if report_group(args, children) is None else 0
    return report_tree(args)


def report_run(args: argparse.Namespace) -> int:
    """Print the figures of the one run that DIR is."""
    try:
        run = read_run(args.directory, keyword=args.keyword, test_log=args.test_log)
    except UserError as error:
        print(f"left out: {args.directory} ({error})")
        return _nothing(args.directory)
    _print_run(run, args.keyword)
    for task in run.tasks:
        print(f"* {task.index} ({task.name}): {'-' if task.metric is None else f'{task.metric:.2f}%'}")
    return 0


def report_group(args: argparse.Namespace, folders: list[Path]) -> MeanStd | None:
    """Print every run of ``folders`` and their mean, in the form of the original parser; None: no usable run."""
    group = read_group(folders, keyword=args.keyword, test_log=args.test_log)
    print(f"Parsing files in {group.folder}")
    for run in group.runs:
        _print_run(run, args.keyword)
    for line in _left_out(group, group.folder):
        print(line)
    overall = mean_std((run.metric for run in group.runs), ci95=args.ci95)
    if overall is None:
        return None
    _print_summary(f"Summary of directory: {group.folder}", {args.keyword: overall})
    tasks = task_means([{task.index: task.metric for task in run.tasks} for run in group.runs], ci95=args.ci95)
    if tasks:
        _print_summary("per task results:", tasks)
    return overall


def report_experiments(args: argparse.Namespace, folders: list[Path]) -> int:
    """Print each experiment (a folder of runs) of ``folders``, then the average of their means."""
    means, empty = [], []
    for folder in folders:
        runs = subfolders(folder)
        overall = report_group(args, runs) if runs else None
        if overall is None:
            empty.append(folder)
        else:
            means.append(overall.mean)
    for folder in empty:
        print(f"left out: {folder} (no run with a usable figure)")
    average = mean_std(means)
    if average is None:
        return _nothing(args.directory)
    print("Average performance")
    print(f"* {args.keyword}: {average.mean:.2f}%")
    return 0


def report_tree(args: argparse.Namespace) -> int:
    """Print a table with one row for every folder of runs below DIR."""
    found = find_groups(args.directory)
    groups = [read_group(runs, keyword=args.keyword, test_log=args.test_log) for runs in found]
    if not groups:
        raise UserError(f"{args.directory} has no run in it or below it: no results.json, no log.txt, no seed folder")
    form = args.format or "text"
    print(group_table(groups, args).render(form), end="")
    # Only a person reads the plain form; in the others a stray line would spoil the file that it is sent to.
    stream = sys.stdout if form == "text" else sys.stderr
    for group in groups:
        for line in _left_out(group, args.directory):
            print(line, file=stream)
    return 0 if any(group.runs for group in groups) else _nothing(args.directory)


def group_table(groups: list[Group], args: argparse.Namespace) -> Table:
    """One row per group: its path below DIR, how many runs count, the overall figure, each task if asked for."""
    means = [
        task_means([{task.name: task.metric for task in run.tasks} for run in group.runs], ci95=args.ci95)
        for group in groups
    ]
    tasks = list(dict.fromkeys(task for each in means for task in each)) if args.per_task else []
    rows = []
    for group, each in zip(groups, means, strict=True):
        below = group.folder.relative_to(args.directory).as_posix()
        path = group.folder.resolve().name if below == "." else below
        overall = mean_std((run.metric for run in group.runs), ci95=args.ci95)
        rows.append([path, len(group.runs), len(group.left_out), overall, *map(each.get, tasks)])
    return Table(["folder", "runs", "left out", args.keyword, *tasks], rows)


def _print_run(run: RunFigures, keyword: str) -> None:
    # The space before the line's end is the original's, too.
    print(f"file: {run.source}. {keyword}: {run.metric:.2f}%. ")


def _print_summary(title: str, figures: Mapping[str | int, MeanStd | None]) -> None:
    print(f"===\n{title}")
    for name, figure in figures.items():
        if figure is None:
            print(f"* {name}: -")
            continue
        gap = f" ({figure.count} of {figure.count + figure.missing} runs)" if figure.missing else ""
        print(f"* {name}: {figure.mean:.2f}% +- {figure.std:.2f}%{gap}")
    print("===")


def _left_out(group: Group, above: Path) -> Iterator[str]:
    """One line for each run of ``group`` that does not count, its path given from the folder ``above``."""
    for name, reason in group.left_out:
        yield f"left out: {(group.folder / name).relative_to(above).as_posix()} ({reason})"


def _nothing(top: Path) -> int:
    print(f"no result: every run in {top} was left out", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("directory", metavar="DIR", type=Path, help="a run, a folder of runs, or a tree of such folders")
    add("--ci95", action="store_true", help="show 1.96 * std / sqrt(n) after +-, not the population standard deviation")
    add("--test-log", action="store_true", help='read logs of evaluations, which have "=> result" and no training')
    add(
        "--keyword",
        default=KEYWORD,
        help=f"which figure to read (default: {KEYWORD}): in a log the name before the colon, such as accuracy in logs "
        "of the official CoOp; in results.json also val, where the validation split was evaluated",
    )
    add("--per-task", action="store_true", help="add a column for each task to the table (a folder of runs always has)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--multi-exp", action="store_true", help="DIR holds experiments, each of them a folder of runs")
    form.add_argument("--format", choices=list(FORMATS), help="print a table in this form (default for a tree: text)")
    return parser


if __name__ == "__main__":
    # A folder's or task's name may hold a character that the terminal cannot show.
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
