"""Collect the results of finished runs: tables, curves and a page of one folder or a whole tree."""

import argparse
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TextIO

from dassl.report.backbones import backbone_sheets
from dassl.report.checks import Notice, notice_lines, notices
from dassl.report.folders import differing_settings, notes
from dassl.report.forms import print_form, print_table
from dassl.report.metrics import ACCURACY, METRICS, Metric, lacking, only_accuracy, parse_metrics
from dassl.report.sheets import MAKERS, Options, Sheet, check_comparison, metric_sheets, transfer_sheets
from dassl.report.study import Suite, suites
from dassl.report.tree import KEYWORDS, Tree, read_tree
from dassl.results.record import RunResult
from dassl.results.runs import KEYWORD, Group, RunFigures, find_groups, is_run, read_group, read_run, subfolders
from dassl.results.tables import FORMATS, MeanSpread, Table, mean_spread, task_means
from dassl.utils.cli import Parser, exit_code, shortened
from dassl.utils.errors import UserError
from dassl.utils.intervals import INTERVALS, STD
from dassl.utils.texts import visible_line

DESCRIPTION = """\
Collect the results of finished runs.

DIR may be
  a folder of runs (seed1, seed2, ...)   each run, then mean +- standard deviation over them, overall and per task
  a folder of such folders               with --multi-exp: each folder as above, then the average of their means
  a tree of runs                         the tables of a paper: methods x shots with mean +- standard deviation over
                                         seeds, or (--layout folders) one row for every folder of runs
  one run                                its figures

The tables of a paper are the default if the folders have the scripts' layout, SUITE/TRAINER/.../seed1 with config.yaml
in each run; --layout chooses otherwise. A run is read from its results.json. If there is none, its log.txt is read:
the figures after the line "Finished training" (or "Finish training"); the last of several counts. A run without a
usable figure is left out of the mean and named, with the reason.
"""

_UNITS = {metric.heading: metric.unit for metric in METRICS.values()}

EPILOG = """\
Exit status: 0 figures were printed; 1 every run was left out; 2 DIR is missing or empty, or an option is wrong.

Examples:
  python parse_test_res.py output/demo6/MTCoOp/rn50_ep50_16shots/NATA
  python parse_test_res.py output --format latex > tables.tex
  python parse_test_res.py output --compare paper
  python parse_test_res.py output --base2new --format markdown
  python parse_test_res.py output --plot figures --html report.html

docs/tables.md shows what each option prints.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with the given arguments (default: those of the command line); return its exit status."""
    status: list[int] = []
    return exit_code(lambda: status.append(report(_parser().parse_args(arguments)))) or status[0]


def report(args: argparse.Namespace) -> int:
    """Choose the report for the folder and the options, print it and return the exit status."""
    top = args.directory
    args.metrics = parse_metrics(args.metrics)
    _check_metrics(args)
    children = subfolders(top)
    wants_paper = _wants_paper(args)
    if is_run(top) and not wants_paper:
        return report_run(args)
    if not children and not is_run(top):
        raise UserError(f"{top} has no run in it; name the folder that holds seed1, seed2, ...")
    holds_runs = any(is_run(child) for child in children)
    if args.multi_exp and holds_runs:
        raise UserError(f"{top} holds runs, not experiments; leave out --multi-exp or name the parent folder")
    if args.multi_exp:
        return report_experiments(args, children)
    if args.format is None and holds_runs and not wants_paper:
        return 0 if report_group(args, children).runs else _nothing(top)
    tree = _paper_tree(args, wants_paper)
    return report_tree(args) if tree is None else report_paper(args, tree)


def _check_metrics(args: argparse.Namespace) -> None:
    """Refuse figures besides accuracy if other options exclude them (raise UserError)."""
    if only_accuracy(args.metrics):
        return
    others = {
        f"--{name.replace('_', '-')}": getattr(args, name) for name in ("base2new", "new_tasks", "transfer", "compare")
    }
    others |= {
        "--rows backbone": args.rows == "backbone",
        "--test-log": args.test_log,
        f"--keyword {args.keyword}": args.keyword not in (KEYWORD, "average"),
    }
    for other, given in others.items():
        if given:
            raise UserError(f"--metrics and {other} contradict each other; leave out one of them")


def _check_rows(args: argparse.Namespace) -> None:
    """Refuse other tables beside that of the backbones (raise UserError)."""
    for name in ("base2new", "new_tasks", "transfer", "compare"):
        if getattr(args, name):
            raise UserError(
                f"--rows backbone and --{name.replace('_', '-')} contradict each other; leave out one of them"
            )


def _wants_paper(args: argparse.Namespace) -> bool:
    """Whether an option needs the paper's layout.

    Raises:
        UserError: another option contradicts it.
    """
    names = ("base2new", "new_tasks", "transfer", "compare", "plot", "html")
    asked = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name)]
    if args.rows == "backbone":
        _check_rows(args)
        asked.append("--rows backbone")
    if args.layout == "paper":
        asked.append("--layout paper")
    for other, given in {"--multi-exp": args.multi_exp, "--layout folders": args.layout == "folders"}.items():
        if asked and given:
            raise UserError(f"{asked[0]} and {other} contradict each other; leave out one of them")
    for name, given in {"--errors": args.errors, "--root": args.root}.items():
        if given and not args.html:
            raise UserError(f"{name} is about the page; give --html FILE, too")
    if asked and (args.test_log or args.keyword not in KEYWORDS):
        wrong = "--test-log" if args.test_log else f"--keyword {args.keyword}"
        raise UserError(f"{asked[0]} reads results.json, {wrong} is for logs; leave out one of them")
    return bool(asked)


def _paper_tree(args: argparse.Namespace, wants_paper: bool) -> Tree | None:
    """The runs of DIR if they are shown in the paper's layout; else None."""
    if args.layout == "folders" or args.test_log or args.keyword not in KEYWORDS:
        return None
    tree = read_tree(args.directory, keyword=args.keyword)
    if wants_paper and not tree.records:
        raise UserError(f"{args.directory} has no finished run with results.json, which the paper's layout needs")
    return tree if wants_paper or tree.is_ours else None


def report_paper(args: argparse.Namespace, tree: Tree) -> int:
    """Print the tables of a paper, and write figures and page if requested."""
    found = suites(tree)
    if args.compare:
        check_comparison(found)
    options = Options(interval=INTERVALS[args.interval], per_task=args.per_task, metrics=args.metrics)
    sheets = _sheets(args, found, options)
    form = args.format or "text"
    print(print_form(sheets, form), end="")
    records = [(tree.name(record.folder), record.result) for suite in found for record in suite.records]
    remarks = [
        *notices(tree, found),
        *(Notice("no figure of a run", "", line) for line in lacking(records, args.metrics)),
    ]
    stream = sys.stdout if form == "text" else sys.stderr
    if form == "text" and remarks:
        print()
    for line in notice_lines(remarks):
        print(shortened(visible_line(line)), file=stream)
    for hint in _hints(args, found, sheets):
        print(hint, file=stream)
    if args.plot:
        from dassl.report.plots import write_plots

        for path in write_plots(found, args.plot, interval=options.interval):
            print(f"written: {path}", file=sys.stderr)
    if args.html:
        from dassl.report.mistakes_part import Asked
        from dassl.report.page import write_page

        asked = Asked(tuple(args.errors), args.root)
        write_page(args.html, tree, found, remarks, options, compare=bool(args.compare), asked=asked)
        print(f"written: {args.html}", file=sys.stderr)
    return 0


def _sheets(args: argparse.Namespace, found: list[Suite], options: Options) -> list[Sheet]:
    """The requested tables; by default the main ones, or else all that the runs allow."""
    if not only_accuracy(args.metrics):
        return _metric_sheets(args, found, options)
    if args.transfer:
        return _transfer(args, found, options)
    if args.rows == "backbone":
        return _backbones(args, found, options)
    wishes = {"compare": args.compare, "base2new": args.base2new, "new-tasks": args.new_tasks}
    kinds = [kind for kind, wish in wishes.items() if wish] or ["main"]
    sheets = [sheet for kind in kinds for suite in found for sheet in MAKERS[kind](suite, options)]
    if not sheets and kinds == ["main"]:
        sheets = [sheet for kind in MAKERS for suite in found for sheet in MAKERS[kind](suite, options)]
    if not sheets:
        keys = {
            "base2new": "DATASET.SUBSAMPLE_CLASSES base and new",
            "new-tasks": "DATASET.SUBSAMPLE_TASKS base and new",
        }
        needed = " or ".join(keys.get(kind, "all classes and tasks") for kind in kinds)
        raise UserError(f"{args.directory} has no runs for such a table, which needs runs with {needed}")
    return sheets


def _backbones(args: argparse.Namespace, found: list[Suite], options: Options) -> list[Sheet]:
    sheets = list(backbone_sheets(found, options))
    if not sheets:
        raise UserError(
            f"{args.directory} has no runs for --rows backbone, which needs runs with all classes and tasks"
        )
    return sheets


def _transfer(args: argparse.Namespace, found: list[Suite], options: Options) -> list[Sheet]:
    sheets = list(transfer_sheets(found, options))
    if not sheets:
        raise UserError(
            f"{args.directory} has no runs for --transfer, which needs runs trained on one suite and their evaluations "
            "(--eval-only --model-dir) on others"
        )
    return sheets


def _metric_sheets(args: argparse.Namespace, found: list[Suite], options: Options) -> list[Sheet]:
    sheets = [sheet for suite in found for sheet in metric_sheets(suite, options)]
    if not sheets:
        raise UserError(f"{args.directory} has no runs for --metrics, which needs runs with all classes and tasks")
    return sheets


def _hints(args: argparse.Namespace, found: list[Suite], sheets: list[Sheet]) -> Iterator[str]:
    """Options that show runs of DIR that are in none of the printed tables."""
    titles = {sheet.title for sheet in sheets}
    for kind in ("base2new", "new-tasks"):
        others = [sheet for suite in found for sheet in MAKERS[kind](suite, Options(interval=INTERVALS[args.interval]))]
        if others and not titles & {sheet.title for sheet in others}:
            yield f"more tables: --{kind}"
    if not args.transfer and any(suite.key.learned_on for suite in found):
        yield "more tables: --transfer"


def report_run(args: argparse.Namespace) -> int:
    """Print the figures of DIR, which is a run."""
    try:
        run = read_run(args.directory, keyword=args.keyword, test_log=args.test_log)
    except UserError as error:
        print(f"left out: {args.directory} ({error})")
        return _nothing(args.directory)
    _print_run(run, args.keyword)
    for task in run.tasks:
        print(f"* {task.index} ({task.name}): {'-' if task.metric is None else f'{task.metric:.2f}%'}")
    for metric in args.metrics:
        if metric is not ACCURACY and run.result is not None:
            _print_tasks(run.result, metric)
    if run.remark:
        print(f"several logs: {run.remark}")
    _print_lines(notes([run]), _lacking([run], args))
    return 0


def _print_tasks(result: RunResult, metric: Metric) -> None:
    """Print a figure of one run: the mean over its tasks, then each task."""
    figures = {metric.heading: metric.of_tasks(result.tasks)}
    figures |= {f"{metric.heading}, {task.index} ({task.name})": metric.of_tasks([task]) for task in result.tasks}
    for name, value in figures.items():
        print(f"* {name}: {'-' if value is None else f'{value:.{metric.digits}f}{metric.unit}'}")


def report_group(args: argparse.Namespace, folders: list[Path]) -> Group:
    """Print every run of ``folders`` and, if they have the same setting, their mean, in the original's form."""
    group = _read(args, folders)
    print(f"Parsing files in {group.folder}")
    for run in group.runs:
        _print_run(run, args.keyword)
    _print_lines(_group_remarks(group, group.folder))
    overall = _group_mean(group, args)
    if overall is not None:
        interval = INTERVALS[args.interval]
        # The line is the original's, so it explains "+-" only if the interval is another one.
        meaning = "" if interval is STD else f" (+-: {interval.words})"
        _print_summary(f"Summary of directory: {group.folder}{meaning}", _means(group, args))
        tasks = task_means([{task.index: task.metric for task in run.tasks} for run in group.runs], interval=interval)
        if tasks and ACCURACY in args.metrics:
            _print_summary("per task results:", tasks)
        for metric in (each for each in args.metrics if each is not ACCURACY):
            names = {task.index: task.name for run in group.runs for task in run.tasks}
            by_task = {index: _metric_mean(group, metric, args, task=name) for index, name in names.items()}
            _print_summary(f"per task results, {metric.heading}:", by_task, unit=metric.unit)
    _print_lines(notes(group.runs), _lacking(group.runs, args))
    return group


def report_experiments(args: argparse.Namespace, folders: list[Path]) -> int:
    """Print each experiment (a folder of runs) of ``folders``, then the average of their means."""
    means: dict[str, list[float | None]] = {name: [] for name in _names(args)}
    empty = []
    for folder in folders:
        runs = subfolders(folder)
        group = report_group(args, runs) if runs else Group(folder)
        overall = _group_mean(group, args)
        if overall is None:
            reason = "its runs have different settings" if group.mixed else "no run with a usable figure"
            empty.append(f"left out: {folder} ({reason})")
        else:
            for name, figure in _means(group, args).items():
                means[name].append(None if figure is None else figure.mean)
    _print_lines(empty)
    if not any(means.values()):
        return _nothing(args.directory)
    print("Average performance")
    for (name, values), metric in zip(means.items(), args.metrics, strict=True):
        average = mean_spread(values)
        gap = f" ({average.count} of {len(values)})" if average and average.missing else ""
        print(f"* {name}: {'-' if average is None else f'{average.mean:.{metric.digits}f}{metric.unit}{gap}'}")
    return 0


def report_tree(args: argparse.Namespace) -> int:
    """Print a table with one row for every folder of runs below DIR."""
    found = find_groups(args.directory)
    groups = [_read(args, runs) for runs in found]
    if not groups:
        raise UserError(f"{args.directory} has no run in it or below it: no results.json, no log.txt, no seed folder")
    form = args.format or "text"
    percent = ", ".join(name for name, metric in zip(_names(args), args.metrics, strict=True) if metric.unit)
    start = f"{percent} in %, mean" if percent else "mean"
    title = f"{start} ± {INTERVALS[args.interval].words} over the runs of a folder"
    print(print_table(title, group_table(groups, args), form), end="")
    # Only the text form is for people; in the others, extra lines would break the file.
    stream = sys.stdout if form == "text" else sys.stderr
    for group in groups:
        _print_lines(_group_remarks(group, args.directory), stream=stream)
    runs = [run for group in groups for run in group.runs]
    _print_lines(notes(runs), _lacking(runs, args), stream=stream)
    return 0 if any(group.runs for group in groups) else _nothing(args.directory)


def group_table(groups: list[Group], args: argparse.Namespace) -> Table:
    """One row per group: its path below DIR, its numbers of runs, the overall figures, each task if requested."""
    interval = INTERVALS[args.interval]
    by_task = [
        task_means([{task.name: task.metric for task in run.tasks} for run in group.runs], interval=interval)
        for group in groups
    ]
    tasks = list(dict.fromkeys(task for each in by_task for task in each)) if args.per_task else []
    rows = []
    for group, each in zip(groups, by_task, strict=True):
        below = group.folder.relative_to(args.directory).as_posix()
        path = group.folder.resolve().name if below == "." else below
        cells: list[MeanSpread | None] = []
        for metric in args.metrics if tasks else ():
            usual = metric is ACCURACY
            own = each if usual else {task: _metric_mean(group, metric, args, task=task) for task in tasks}
            cells += [None if group.mixed else own.get(task) for task in tasks]
        rows.append([path, len(group.runs), len(group.left_out), *_means(group, args).values(), *cells])
    names = [task if metric is ACCURACY else f"{task} {metric.heading}" for metric in args.metrics for task in tasks]
    return Table(["folder", "runs", "left out", *_names(args), *names], rows)


def _print_run(run: RunFigures, keyword: str) -> None:
    # The original also has the space at the end.
    print(f"file: {run.source}. {keyword}: {run.metric:.2f}%. ")


def _print_summary(
    title: str, figures: Mapping[str, MeanSpread | None] | Mapping[int, MeanSpread | None], *, unit: str = "%"
) -> None:
    print(f"===\n{title}")
    for name, figure in figures.items():
        if figure is None:
            print(f"* {name}: -")
            continue
        gap = f" ({figure.count} of {figure.count + figure.missing} runs)" if figure.missing else ""
        sign, digits = _UNITS.get(str(name), unit), figure.digits
        spread = "" if figure.spread is None else f" +- {figure.spread:.{digits}f}{sign}"
        print(f"* {name}: {figure.mean:.{digits}f}{sign}{spread}{gap}")
    print("===")


def _print_lines(*lines: Iterable[str], stream: TextIO | None = None) -> None:
    for line in chain(*lines):
        print(shortened(visible_line(line)), file=stream)


def _read(args: argparse.Namespace, folders: list[Path]) -> Group:
    group = read_group(folders, keyword=args.keyword, test_log=args.test_log)
    group.mixed = differing_settings(group.runs, keyword=args.keyword)
    return group


def _group_mean(group: Group, args: argparse.Namespace) -> MeanSpread | None:
    """The mean over the runs of a group; None if there is none, or if their settings differ."""
    return None if group.mixed else mean_spread((run.metric for run in group.runs), interval=INTERVALS[args.interval])


def _names(args: argparse.Namespace) -> list[str]:
    """The names of the figures; accuracy has its keyword."""
    return [args.keyword if metric is ACCURACY else metric.heading for metric in args.metrics]


def _means(group: Group, args: argparse.Namespace) -> dict[str, MeanSpread | None]:
    """The means over the runs of a group, of each requested figure."""
    usual = _group_mean(group, args)
    found = (usual if metric is ACCURACY else _metric_mean(group, metric, args) for metric in args.metrics)
    return dict(zip(_names(args), found, strict=True))


def _metric_mean(
    group: Group, metric: Metric, args: argparse.Namespace, *, task: str | None = None
) -> MeanSpread | None:
    """Like :func:`_group_mean`, for another figure, over all tasks or for one."""
    if group.mixed:
        return None
    results = [run.result.tasks if run.result else () for run in group.runs]
    values = [metric.of_tasks(each for each in tasks if task in (None, each.name)) for tasks in results]
    found = mean_spread(values, interval=INTERVALS[args.interval])
    return found and replace(found, digits=metric.digits)


def _lacking(runs: Iterable[RunFigures], args: argparse.Namespace) -> Iterator[str]:
    """Lines that name the runs that lack a requested figure."""
    top = args.directory
    places = [(run.source.parent.relative_to(top).as_posix(), run.result) for run in runs]
    return lacking([(top.name if name == "." else name, result) for name, result in places], args.metrics)


def _group_remarks(group: Group, above: Path) -> Iterator[str]:
    """Remarks about the runs of a group, with paths relative to the folder ``above``."""
    for name, reason in group.left_out:
        yield f"left out: {(group.folder / name).relative_to(above).as_posix()} ({reason})"
    for run in group.runs:
        yield from _remarks(run, run.source.parent.relative_to(above).as_posix())
    if group.mixed:
        place = group.folder.relative_to(above).as_posix()
        yield f"no mean: {'the' if place == '.' else f'{place}, whose'} runs have different settings: {group.mixed}"


def _remarks(run: RunFigures, name: str) -> Iterator[str]:
    """Remarks on the log that a figure is from, and on tasks without a figure."""
    if run.remark:
        yield f"several logs: {name}: {run.remark}"
    lacking = [task.name for task in run.tasks if task.metric is None]
    if lacking:
        yield f"no figure of a task: {name}: {', '.join(lacking)}"


def _nothing(top: Path) -> int:
    print(f"no result: every run in {top} was left out", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="parse_test_res.py", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add("directory", metavar="DIR", type=Path, help="a run, a folder of runs, or a tree of such folders")
    add(
        "--interval",
        choices=list(INTERVALS),
        default="std",
        help="the spread after +-: the population's standard deviation (std, the default), or half of the 95 %% "
        "interval, as 1.96 * std / sqrt(n) (normal; for three seeds 2.7 times narrower than t) or by Student's t",
    )
    add("--ci95", dest="interval", action="store_const", const="normal", help="the same as --interval normal")
    add("--test-log", action="store_true", help='read logs of evaluations, with "=> result" and without training')
    add(
        "--keyword",
        default=KEYWORD,
        help=f"figure to read (default: {KEYWORD}): in a log the name before the colon, such as accuracy in logs of "
        "the official CoOp; in results.json also val, if the validation split was evaluated",
    )
    add(
        "--metrics",
        default=ACCURACY.key,
        metavar="NAME,...",
        help=f"figures to print, from {', '.join(METRICS)} (default: {ACCURACY.key}); only results.json has the others",
    )
    add("--per-task", action="store_true", help="also show each task (always shown for a folder of runs)")
    add(
        "--rows",
        choices=("method", "backbone"),
        default="method",
        help="methods x shots (default), or backbones x methods, a table for each number of shots",
    )
    add("--layout", choices=("auto", "paper", "folders"), default="auto", help="methods x shots, or one row per folder")
    add("--base2new", action="store_true", help="tables of base classes, new classes and their harmonic mean")
    add("--new-tasks", action="store_true", help="tables of tasks trained on and tasks never seen")
    add("--transfer", action="store_true", help="tables of what was learned on one suite and tested on others")
    add("--compare", choices=("paper",), help="compare with the published figures")
    add("--plot", type=Path, metavar="PATH", help="draw accuracy over shots and cost: .png, .pdf, .svg, or a folder")
    add("--html", type=Path, metavar="FILE", help="write one page with tables, curves, mistakes, configs and remarks")
    add(
        "--errors",
        type=Path,
        metavar="RUN",
        action="append",
        default=[],
        help="show the mistakes of this run on the page; may be given several times (default: a typical seed of the "
        "best method of each suite)",
    )
    add("--root", type=Path, metavar="DATA", help="folder that holds the data folders, for thumbnails on the page")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--multi-exp", action="store_true", help="DIR holds experiments, each a folder of runs")
    form.add_argument("--format", choices=list(FORMATS), help="print tables in this format (default for a tree: text)")
    return parser


if __name__ == "__main__":
    # A folder's or task's name may contain a character that the terminal cannot show.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
