"""Remarks for the reader of tables: missing runs and seeds, outlier seeds, runs that do not match."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dassl.report.study import Aside, Grid, Protocol, Suite, lost
from dassl.report.suitekeys import Parting
from dassl.report.tree import Broken, Record, Tree
from dassl.results.record import RESULTS_FILE
from dassl.results.tables import ANY_SHOTS, shots_heading

# An outlier seed is at least this many typical deviations and this many points away from the median of its cell.
OUTLIER_DEVIATIONS = 5.0
OUTLIER_POINTS = 3.0
OUTLIER_TASK_POINTS = 10.0
_MOST_LINES = 40  # remarks that are printed; the page has all of them
_SHOWN_RUNS = 4  # runs that are named; the others are counted


@dataclass(frozen=True)
class Notice:
    """One remark: its kind ("missing seed", ...), its suite (empty: none) and a sentence."""

    kind: str
    suite: str
    text: str


def notices(tree: Tree, suites: Iterable[Suite]) -> list[Notice]:
    """All remarks about the runs of ``tree``, suite by suite."""
    found = list(suites)
    lines = [_no_figure(tree, each, "") for each in lost(tree, found)]
    lines += [
        Notice("no figure", "", f"{tree.name(log)}: a log without results.json; see --layout folders")
        for log in tree.logs
    ]
    for suite in found:
        lines += _suite_notices(tree, suite)
    return lines


def _suite_notices(tree: Tree, suite: Suite) -> Iterator[Notice]:
    title = suite.title
    yield from (_no_figure(tree, each, title) for each in suite.broken)
    yield from (_parting(tree, each) for each in suite.partings)
    yield from (_aside(tree, each, title) for each in suite.aside)
    for row, keys in suite.numbered.items():
        yield Notice("setting", title, f"{row}: {keys or 'none of the keys of the other settings'}")
    for protocol, grid in suite.grids.items():
        for kind, text in (*_mixtures(tree, grid), *_missing(grid), *_outliers(grid)):
            yield Notice(kind, title, f"{_protocol_name(protocol)}{text}")
    for kind, text in (*_mismatches(suite), *_own_notices(suite)):
        yield Notice(kind, title, text)


def _no_figure(tree: Tree, broken: Broken, suite: str) -> Notice:
    return Notice("no figure", suite, f"{tree.name(broken.folder)}: {broken.reason}")


def _parting(tree: Tree, parting: Parting) -> Notice:
    sides = "; ".join(f"{name}: {_folders(tree, folders)}" for name, folders in parting.runs.items())
    kind = {"weights": "other weights", "test images": "other images"}[parting.what]
    return Notice(kind, parting.title, f"{len(parting.runs)} sets of {parting.what}, each with its own table: {sides}")


def _aside(tree: Tree, aside: Aside, suite: str) -> Notice:
    mine, other = tree.name(aside.record.folder), tree.name(aside.instead.folder)
    relation = {
        "same run twice": f"{mine} is the same run as {other} (same setting, seed and figures) and was left out",
        "left aside": f"{mine} does not count, because {other} fills its cell",
    }.get(aside.kind, f"{mine} has the same setting and seed as {other} and was left out")
    return Notice(aside.kind, suite, ": ".join(filter(None, (relation, aside.text))))


def _mixtures(tree: Tree, grid: Grid) -> Iterator[tuple[str, str]]:
    for (row, shots), mixture in grid.mixed.items():
        where = row if row in grid.flat else f"{row}, {shots_heading(shots)}"
        sides = "; others: ".join(_folders(tree, side) for side in mixture.sides)
        yield "other images", f"{where}: no mean, because {mixture.text}: {sides}"


def _folders(tree: Tree, folders: Sequence[Path]) -> str:
    names = list(dict.fromkeys(map(tree.name, folders)))
    more = f" and {len(names) - _SHOWN_RUNS} more" if len(names) > _SHOWN_RUNS else ""
    return ", ".join(names[:_SHOWN_RUNS]) + more


def _protocol_name(protocol: Protocol) -> str:
    classes = "" if protocol.classes == "all" else f"{protocol.classes} classes"
    tasks = "" if protocol.tasks == "all" else f"{protocol.role} tasks {protocol.tasks}"
    name = ", ".join(filter(None, (classes, tasks)))
    return name and f"{name}: "


def _missing(grid: Grid) -> Iterator[tuple[str, str]]:
    """Seeds and tasks that a cell lacks and other cells of the grid have."""
    for row in grid.rows:
        for shots in [ANY_SHOTS] if row in grid.flat else grid.shots:
            cell = grid.cell(row, shots)
            where = row if row in grid.flat else f"{row}, {shots_heading(shots)}"
            wanted = [] if row in grid.flat else grid.seeds
            gone = [str(seed) for seed in wanted if seed not in cell or cell[seed].metric is None]
            if gone and len(gone) == len(wanted):
                yield "missing seed", f"{where}: no run"
            elif gone:
                yield "missing seed", f"{where}: seed{'s' * (len(gone) > 1)} {', '.join(gone)}"
            for seed, each in cell.items():
                gone = [task for task in each.missing if task not in each.null]
                if gone:
                    yield "missing task", f"{where}, seed {seed}: {', '.join(gone)}"
                if each.null:
                    yield (
                        "no figure of a task",
                        f"{where}, seed {seed}: {', '.join(each.null)} (null in {RESULTS_FILE})",
                    )


def _outliers(grid: Grid) -> Iterator[tuple[str, str]]:
    for task, least in [(None, OUTLIER_POINTS), *((task, OUTLIER_TASK_POINTS) for task in grid.tasks)]:
        for shots in grid.shots:
            found = {row: grid.values(row, shots, task) for row in grid.rows if row not in grid.flat}
            # Means over different tasks differ anyway.
            cells = {row: values for row, (values, gap) in found.items() if not gap}
            for row, seed, value, middle in outliers(cells, least):
                where = f"{row}, {shots_heading(shots)}" + (f", task {task}" if task else "")
                yield "outlier seed", f"{where}: seed {seed} has {value:.2f}, the median is {middle:.2f}"


def outliers(cells: Mapping[str, Mapping[int, float]], least: float) -> Iterator[tuple[str, int, float, float]]:
    """Seeds far from the others of their cell, as (row, seed, value, median of the cell).

    Three values say little about their spread. The typical deviation is therefore the median of the deviations of the
    other rows of ``cells`` (at the same number of shots).

    Args:
        least: an outlier is more than this many points away.
    """
    variances = {row: statistics.variance(values.values()) for row, values in cells.items() if len(values) > 1}
    for row, values in cells.items():
        if len(values) < 3:
            continue
        typical = statistics.median([each for other, each in variances.items() if other != row] or [0.0])
        middle = statistics.median(values.values())
        for seed, value in values.items():
            if abs(value - middle) > max(least, OUTLIER_DEVIATIONS * math.sqrt(typical)):
                yield row, seed, value, middle


def _mismatches(suite: Suite) -> Iterator[tuple[str, str]]:
    """Runs that should have used the same device or images but did not."""
    devices = Counter(record.result.device for record in suite.records if record.result.device)
    if len(devices) > 1:
        names = ", ".join(f"{name} ({_runs(count)})" for name, count in devices.most_common())
        yield "other device", f"training times come from different devices: {names}"
    sides = Counter(side for record in suite.records if (side := _reduced_to(record)) is not None)
    if len(sides) > 1:
        ways = ", ".join(
            f"{f'reduced to {side} pixels' if side else 'with every pixel'} ({_runs(count)})"
            for side, count in sorted(sides.items())
        )
        yield (
            "other pixels",
            f"large images were read {ways}; figures may differ a little: docs/data.md, INPUT.RESOLUTION",
        )
    subsets: dict[tuple[int, int, str, str], dict[str, str]] = defaultdict(dict)
    for record in suite.records:
        result = record.result
        if record.learns and result.subset_digest:
            place = (result.shots, result.seed, record.classes, record.task_choice)
            subsets[place].setdefault(result.subset_digest, suite.names[record.folder])
    for (shots, seed, *_), rows in subsets.items():
        if len(rows) > 1:
            names = " and ".join(sorted(rows.values()))
            yield "other images", f"{shots_heading(shots)}, seed {seed}: {names} saw different images"
    tests: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for record in suite.records:
        for task in record.result.tasks:
            tests[record.classes, task.name].setdefault(task.total, suite.names[record.folder])
    for (_, name), totals in tests.items():
        if len(totals) > 1:
            counts = ", ".join(f"{total} ({row})" for total, row in totals.items())
            yield "other images", f"task {name} has different numbers of {suite.key.split} images: {counts}"
    if not all(record.config for record in suite.records):
        yield "no config", "runs without config.yaml may have different settings"


def _reduced_to(record: Record) -> int | None:
    """The shorter side to which a run's large images were reduced; 0: they were not; None: it had none."""
    reduction = record.result.reduction
    if reduction is None:
        return 0
    return None if reduction.images == 0 else reduction.side


def _own_notices(suite: Suite) -> Iterator[tuple[str, str]]:
    """The runs' own warnings; each text once, with the number of runs that have it."""
    texts = Counter(text for record in suite.records for text in record.result.warnings)
    for text, count in texts.items():
        yield "note of a run", f"{text} ({_runs(count)})"


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count > 1)}"


def notice_lines(remarks: Sequence[Notice]) -> Iterator[str]:
    """The remarks as lines below printed tables; after ``_MOST_LINES`` lines the rest is only counted."""
    for each in remarks[:_MOST_LINES]:
        if each.kind == "no figure":
            path, _, reason = each.text.partition(": ")
            yield f"left out: {path} ({reason})"
        else:
            yield f"{each.kind}: {f'{each.suite}, ' * bool(each.suite)}{each.text}"
    if len(remarks) > _MOST_LINES:
        yield f"... and {len(remarks) - _MOST_LINES} more remarks, all of them on the page of --html"
