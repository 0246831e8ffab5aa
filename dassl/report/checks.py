"""What a reader of tables should know: missing runs and seeds, seeds that stand out, runs that do not match."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dassl.report.study import Grid, Protocol, Suite, lost
from dassl.report.tree import Broken, Tree
from dassl.utils.tables import ANY_SHOTS, shots_heading

# A seed stands out when it is this many typical deviations and this many points away from the median of its cell.
OUTLIER_DEVIATIONS = 5.0
OUTLIER_POINTS = 3.0
OUTLIER_TASK_POINTS = 10.0


@dataclass(frozen=True)
class Notice:
    """One thing to know: its kind ("missing seed", ...), the suite (empty: none) and a sentence."""

    kind: str
    suite: str
    text: str


def notices(tree: Tree, suites: Iterable[Suite]) -> list[Notice]:
    """Everything to know about the runs of ``tree``, suite by suite."""
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
    for first, second in suite.doubles:
        text = f"{tree.name(second.folder)} is the same run as {tree.name(first.folder)} and was left out"
        yield Notice("same run twice", title, text)
    for protocol, grid in suite.grids.items():
        for kind, text in (*_missing(grid), *_outliers(grid)):
            yield Notice(kind, title, f"{_protocol_name(protocol)}{text}")
    for kind, text in (*_mismatches(suite), *_own_notices(suite)):
        yield Notice(kind, title, text)


def _no_figure(tree: Tree, broken: Broken, suite: str) -> Notice:
    return Notice("no figure", suite, f"{tree.name(broken.folder)}: {broken.reason}")


def _protocol_name(protocol: Protocol) -> str:
    classes = "" if protocol.classes == "all" else f"{protocol.classes} classes"
    tasks = "" if protocol.tasks == "all" else f"{protocol.role} tasks {protocol.tasks}"
    name = ", ".join(filter(None, (classes, tasks)))
    return name and f"{name}: "


def _missing(grid: Grid) -> Iterator[tuple[str, str]]:
    """Seeds and tasks that other cells of the grid have."""
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
                if each.missing:
                    yield "missing task", f"{where}, seed {seed}: {', '.join(each.missing)}"


def _outliers(grid: Grid) -> Iterator[tuple[str, str]]:
    for task, least in [(None, OUTLIER_POINTS), *((task, OUTLIER_TASK_POINTS) for task in grid.tasks)]:
        for shots in grid.shots:
            found = {row: grid.values(row, shots, task) for row in grid.rows if row not in grid.flat}
            # Means over different tasks lie apart by themselves.
            cells = {row: values for row, (values, gap) in found.items() if not gap}
            for row, seed, value, middle in outliers(cells, least):
                where = f"{row}, {shots_heading(shots)}" + (f", task {task}" if task else "")
                yield "outlier seed", f"{where}: seed {seed} has {value:.2f}, the median is {middle:.2f}"


def outliers(cells: Mapping[str, Mapping[int, float]], least: float) -> Iterator[tuple[str, int, float, float]]:
    """Seeds that lie far from the others of their cell, as (row, seed, value, median of the cell).

    Three values say little about their own spread, so the typical deviation is that of the other rows of ``cells``
    (at the same number of shots), of which the middle one counts.

    Args:
        least: points that a seed must at least be away.
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
    """Runs that should have seen the same but did not."""
    digests = {record.result.backbone.digest for record in suite.records}
    if len(digests) > 1:
        yield "other weights", f"{suite.key.backbone} has {len(digests)} different sets of weights among these runs"
    devices = Counter(record.result.device for record in suite.records if record.result.device)
    if len(devices) > 1:
        names = ", ".join(f"{name} ({_runs(count)})" for name, count in devices.most_common())
        yield "other device", f"training times come from different devices: {names}"
    subsets: dict[tuple[object, ...], dict[str, str]] = defaultdict(dict)
    for record in suite.records:
        result = record.result
        if record.learns and result.subset_digest:
            place = (result.shots, result.seed, record.classes, record.task_choice)
            subsets[place].setdefault(result.subset_digest, suite.names[record.folder])
    for (shots, seed, *_), rows in subsets.items():
        if len(rows) > 1:
            names = " and ".join(sorted(rows.values()))
            yield "other images", f"{shots_heading(shots)}, seed {seed}: {names} saw different images"


def _own_notices(suite: Suite) -> Iterator[tuple[str, str]]:
    """What the runs say themselves, once for all that say the same."""
    texts = Counter(text for record in suite.records for text in record.result.warnings)
    for text, count in texts.items():
        yield "note of a run", f"{text} ({_runs(count)})"


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count > 1)}"
