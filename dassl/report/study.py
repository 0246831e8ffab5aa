"""Runs sorted into suites, protocols, methods and shots.

A *suite* is a data set with one backbone (:mod:`dassl.report.suitekeys`). Its runs fall into *grids*, one for each
choice of classes and tasks: all of both, base and new classes, seen and new tasks. A grid has a row for each setting
(:mod:`dassl.report.settings`) and a column for each number of shots; a cell has one :class:`SeedFigure` for each seed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from dassl.report.settings import sort_into_rows, ways_of_training
from dassl.report.suitekeys import Parting, SuiteKey, sort_into_suites, suite_of_broken
from dassl.report.tree import ONE_TASK, Broken, Record, Tree
from dassl.results.methods import read_methods
from dassl.results.tables import ANY_SHOTS

ALL_BUT = "not:"  # DATASET.SUBSAMPLE_TASKS not:task3 takes all tasks except task3
SEEN, UNSEEN = "seen", "unseen"


class Protocol(NamedTuple):
    """What the runs of a grid share: the classes, the tasks and, for a selection of tasks, their role.

    Runs of single tasks belong to the tasks "all", unless they train on one task to test on others.
    """

    classes: str = "all"
    tasks: str = "all"
    role: str = ""


PLAIN = Protocol()


@dataclass(frozen=True)
class SeedFigure:
    """The contribution of one seed to a cell: one run or, if tasks are trained one by one, one run per task.

    Attributes:
        metric: mean over the tasks in percent; if tasks are ``missing``, over those that are there.
        seconds: training time of all runs together; None if unknown.
        missing: tasks without a figure.
        null: the missing tasks that have a run.
    """

    metric: float | None
    tasks: Mapping[str, float | None]
    parameters: int
    seconds: float | None
    missing: tuple[str, ...]
    null: tuple[str, ...]
    records: tuple[Record, ...]


class Mixture(NamedTuple):
    """Runs that should have seen the same images but did not: a text, and the run folders of each side."""

    text: str
    sides: tuple[tuple[Path, ...], ...]


class Aside(NamedTuple):
    """A run that does not count, because another run of its setting and seed does; ``kind`` as in remarks."""

    kind: str
    record: Record
    instead: Record
    text: str


@dataclass
class Grid:
    """The runs of one protocol of a suite.

    Attributes:
        rows: names of the rows; those of methods in the paper come first, in its order.
        flat: rows that do not depend on shots and seeds; their cell is at ANY_SHOTS.
        seeds: all seeds of learning methods in the grid, finished or not.
        tasks: names of all tasks of the runs.
        mixed: by cell, why it has runs but no figure: the runs did not see the same images.
    """

    rows: list[str]
    flat: set[str]
    shots: list[int]
    seeds: list[int]
    tasks: list[str]
    cells: dict[tuple[str, int], dict[int, SeedFigure]] = field(default_factory=dict)
    mixed: dict[tuple[str, int], "Mixture"] = field(default_factory=dict)

    def cell(self, row: str, shots: int) -> Mapping[int, SeedFigure]:
        """The seeds of a cell; a flat row has the same seeds in every column."""
        return self.cells.get((row, ANY_SHOTS if row in self.flat else shots), {})

    def wanted(self, row: str) -> int:
        """The number of seeds expected in a cell of the row; 0 if the row does not depend on the seed."""
        return 0 if row in self.flat else len(self.seeds)

    def values(self, row: str, shots: int, task: str | None = None) -> tuple[dict[int, float], str]:
        """The figures of a cell by seed, for all tasks or one, and what they lack ("4/6 tasks").

        Seeds that lack a task take no part, unless all seeds lack one.
        """
        seeds = self.cell(row, shots)
        if (row, ANY_SHOTS if row in self.flat else shots) in self.mixed:
            return {}, ""
        if task is not None:
            of_task = {seed: each.tasks.get(task) for seed, each in seeds.items()}
            return {seed: metric for seed, metric in of_task.items() if metric is not None}, ""
        known = {seed: each.metric for seed, each in seeds.items() if each.metric is not None}
        whole = {seed: metric for seed, metric in known.items() if not seeds[seed].missing}
        if whole or not known:
            return whole, ""
        fewest = min(len(self.tasks) - len(seeds[seed].missing) for seed in known)
        return known, f"{fewest}/{len(self.tasks)} tasks"


@dataclass
class Suite:
    """All runs of a data set with one backbone.

    Attributes:
        records: the runs that count.
        aside: runs that do not count, because others do.
        names: the row of each run by its folder.
        numbered: the keys of rows that are only numbered.
        partings: runs that look alike but have separate tables; the first suite of each parting lists it.
    """

    key: SuiteKey
    grids: dict[Protocol, Grid]
    records: list[Record]
    broken: list[Broken]
    names: dict[Path, str]
    numbered: dict[str, str]
    aside: list[Aside]
    partings: list[Parting] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The heading of its tables."""
        return self.key.title

    @property
    def plain(self) -> Grid | None:
        """All classes of all tasks: the paper's main table."""
        return self.grids.get(PLAIN)


def suites(tree: Tree) -> list[Suite]:
    """Sort the runs of ``tree`` into suites, in the order of their first runs."""
    records, partings = sort_into_suites(tree.records)
    broken: dict[SuiteKey, list[Broken]] = defaultdict(list)
    for each in tree.broken:
        broken[suite_of_broken(each, list(records))].append(each)
    found = [_suite(key, [*own, *_zero_shot(key, own, records)], broken.get(key, [])) for key, own in records.items()]
    for parting in partings:
        first = {folder for folders in parting.runs.values() for folder in folders}
        next(suite for suite in found if first & suite.names.keys()).partings.append(parting)
    return found


def _zero_shot(key: SuiteKey, own: Sequence[Record], known: Mapping[SuiteKey, Sequence[Record]]) -> Iterator[Record]:
    """For evaluations of what others learned: the runs on the same test images that learn nothing."""
    if key.learned_on is None:
        return
    tested = {record.result.test_digest for record in own}
    here = replace(key, learned_on=None, apart=())
    for each, records in known.items():
        if replace(each, apart=()) == here:
            yield from (r for r in records if not r.learns and r.result.test_digest in tested)


def lost(tree: Tree, found: Iterable[Suite]) -> list[Broken]:
    """Runs without a figure that belong to no suite in ``found``."""
    placed = {each.folder for suite in found for each in suite.broken}
    return [each for each in tree.broken if each.folder not in placed]


def _suite(key: SuiteKey, records: list[Record], broken: list[Broken]) -> Suite:
    choices = {(record.label, record.result.mode, record.task_choice) for record in records}
    protocols = {record.folder: _protocols(record, choices) for record in records}
    # For a selection of tasks, only seen or unseen matters, not how many tasks were learned at once.
    whole = [record for record in records if not any(each.role for each in protocols[record.folder])]
    names, numbered = sort_into_rows(records, dict(ways_of_training(whole)))
    aside = list(_doubles(records, names))
    dropped = {each.record.folder for each in aside}
    kept = [record for record in records if record.folder not in dropped]
    by_protocol: dict[Protocol, list[Record]] = defaultdict(list)
    for record in kept:
        for protocol in protocols[record.folder]:
            by_protocol[protocol].append(record)
    grids = {}
    for protocol, members in by_protocol.items():
        unfinished = [each for each in broken if _broken_protocol(each) == protocol[:2]]
        grids[protocol] = _grid([*members, *_untrained(kept, members, protocol)], names, unfinished)
    aside += _unused(kept, names, grids.values())
    return Suite(key, grids, kept, broken, names, numbered, aside)


def _doubles(records: Iterable[Record], names: Mapping[Path, str]) -> Iterator[Aside]:
    """Runs whose setting and seed another folder already has."""
    seen: dict[tuple[object, ...], Record] = {}
    for record in records:
        place = (names[record.folder], *_cell(record), record.classes, record.task_choice, record.result.mode)
        first = seen.setdefault(place, record)
        if first is not record:
            yield _double(record, first)


def _double(record: Record, first: Record) -> Aside:
    mine, other = record.result, first.result
    equal = [(task.name, task.metric) for task in mine.tasks] == [(task.name, task.metric) for task in other.tasks]
    if equal and mine.metric == other.metric:
        return Aside("same run twice", record, first, "")
    subsets = {mine.subset_digest, other.subset_digest} - {""} if record.learns else set()
    why = "they learned from other images; " if len(subsets) > 1 else ""
    text = f"{why}{mine.metric:.2f} here, {other.metric:.2f} there; find out which is right and delete the other"
    return Aside("OTHER FIGURES OF THE SAME RUN", record, first, text)


def _unused(records: Iterable[Record], names: Mapping[Path, str], grids: Iterable[Grid]) -> Iterator[Aside]:
    """Runs whose cell another run of their row fills."""
    figures = {(place, seed): figure for grid in grids for place, c in grid.cells.items() for seed, figure in c.items()}
    used = {record.folder for grid in grids for c in grid.cells.values() for f in c.values() for record in f.records}
    for record in records:
        if record.folder not in used:
            shots, seed = _cell(record)
            yield Aside("left aside", record, figures[(names[record.folder], shots), seed].records[0], "")


def _cell(record: Record) -> tuple[int, int]:
    return record.result.shots if record.learns else ANY_SHOTS, record.result.seed


def _protocols(record: Record, choices: Set[tuple[str, str, str]]) -> list[Protocol]:
    """The protocols of a run; one that learns nothing may belong to both seen and unseen tasks.

    Args:
        choices: (method, mode, choice of tasks) of all runs of the suite.
    """
    choice = record.task_choice
    if choice == "all" or (ONE_TASK.fullmatch(choice) and not _is_of_new_tasks(record, choices)):
        return [Protocol(record.classes)]
    roles = [SEEN, UNSEEN] if not record.learns else [SEEN] if record.result.mode == "train" else [UNSEEN]
    return [Protocol(record.classes, choice, role) for role in roles]


def _untrained(records: Sequence[Record], members: Sequence[Record], protocol: Protocol) -> Iterator[Record]:
    """For a grid of selected tasks: those tasks' figures from runs of all tasks, or of one, that learn nothing.

    Args:
        records: all runs of the suite.
        members: the runs of the grid; its methods need no other run.
    """
    there = {member.label for member in members}
    wanted = {task.name for member in members for task in member.result.tasks}
    for record in records if protocol.role else ():
        whole = record.task_choice == "all" or ONE_TASK.fullmatch(record.task_choice)
        tasks = tuple(task for task in record.result.tasks if task.name in wanted)
        known = [task.metric for task in tasks if task.metric is not None]
        if whole and known and not record.learns and record.label not in there and record.classes == protocol.classes:
            yield replace(record, result=replace(record.result, tasks=tasks, metric=sum(known) / len(known)))


def _is_of_new_tasks(record: Record, choices: Set[tuple[str, str, str]]) -> bool:
    """Whether a run of a single task belongs to training on some tasks and testing on others."""
    if record.classes != "all" or not record.learns:
        return False
    if record.result.mode == "train":
        return (record.label, "eval", f"{ALL_BUT}{record.task_choice}") in choices
    trained = (choice for label, mode, choice in choices if (label, mode) == (record.label, "train"))
    return any(choice in ("base", "new") or "," in choice for choice in trained)


def _broken_protocol(broken: Broken) -> tuple[str, str]:
    choice = str(broken.config.get("DATASET.SUBSAMPLE_TASKS", "all")).replace(" ", "")
    return str(broken.config.get("DATASET.SUBSAMPLE_CLASSES", "all")), "all" if ONE_TASK.fullmatch(choice) else choice


def _grid(records: list[Record], names: Mapping[Path, str], unfinished: list[Broken]) -> Grid:
    rows = sorted(dict.fromkeys(names[record.folder] for record in records), key=paper_order)
    flat = {names[record.folder] for record in records if not record.learns}
    learned = [record for record in records if record.learns]
    shots = sorted({record.result.shots for record in learned}, key=lambda each: (each < 0, each)) or [ANY_SHOTS]
    seeds = {record.result.seed for record in learned} | set(_seeds_of(unfinished))
    grid = Grid(rows, flat, shots, sorted(seeds), _task_names(records))
    cells: dict[tuple[str, int], dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        column, seed = _cell(record)
        cells[names[record.folder], column][seed].append(record)
    grid.cells = {
        place: {seed: _gather(found, grid.tasks) for seed, found in sorted(by_seed.items())}
        for place, by_seed in cells.items()
    }
    grid.mixed = {place: mixture for place, cell in grid.cells.items() if (mixture := _mixture(place[1], cell))}
    return grid


def _mixture(shots: int, cell: Mapping[int, SeedFigure]) -> Mixture | None:
    """Why the runs of a cell cannot be averaged; None if they can."""
    subsets: dict[object, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    tests: dict[str, dict[tuple[int, int], list[Record]]] = defaultdict(lambda: defaultdict(list))
    for seed, each in cell.items():
        for record in each.records:
            if record.learns and record.result.subset_digest:
                # "all images" are the same for all seeds.
                subsets[seed if shots > 0 else ""][record.result.subset_digest].append(record)
            for task in record.result.tasks:
                tests[task.name][task.total, task.classes].append(record)
    for by_subset in subsets.values():
        if len(by_subset) > 1:
            return _sides("its runs learned from other images", by_subset.values())
    for name, sides in tests.items():
        if len(sides) > 1:
            counts = ", ".join(f"{total} of {classes} classes" for total, classes in sides)
            return _sides(f"its runs were tested on other images of task {name} ({counts})", sides.values())
    return None


def _sides(text: str, sides: Iterable[Sequence[Record]]) -> Mixture:
    return Mixture(text, tuple(tuple(record.folder for record in side) for side in sides))


def _seeds_of(unfinished: Iterable[Broken]) -> Iterator[int]:
    for each in unfinished:
        if isinstance(each.config.get("SEED"), int) and each.learns:
            yield each.config["SEED"]


def paper_order(row: str) -> tuple[int, str]:
    """Sort key: the rows of configs/methods.yaml in its order, a variation after its method, then others by name."""
    known = list(read_methods())
    label = row.partition(" [")[0]
    return (known.index(label) if label in known else len(known), row)


def _task_names(records: Sequence[Record]) -> list[str]:
    """All tasks: first those of the run with the most tasks, then those of runs of one task, by number."""

    def order(record: Record) -> tuple[int, int]:
        number = ONE_TASK.fullmatch(record.task_choice)
        return -len(record.result.tasks), int(number[1]) if number else 0

    return list(dict.fromkeys(task.name for record in sorted(records, key=order) for task in record.result.tasks))


def _gather(records: Sequence[Record], tasks: Sequence[str]) -> SeedFigure:
    """One seed of a cell from its runs: runs of all tasks count before runs of one, training before evaluation."""
    order = sorted(records, key=lambda record: (record.result.mode != "train", -len(record.result.tasks)))
    single = [record for record in order if record.is_of_one_task]
    whole = [record for record in order if record not in single]
    if whole:
        return _seed_figure(whole[:1], whole[0].result.metric, tasks)
    by_task = {record.result.tasks[0].name: record for record in reversed(single)}
    parts = [by_task[task] for task in tasks if task in by_task]
    metrics = [part.result.metric for part in parts if part.result.metric is not None]
    return _seed_figure(parts, fmean(metrics) if metrics else None, tasks)


def _seed_figure(parts: Sequence[Record], metric: float | None, tasks: Sequence[str]) -> SeedFigure:
    present = {task.name: task.metric for part in parts for task in part.result.tasks}
    # A run may have only the mean of its validation split.
    null = [task for task in present if present[task] is None] if any(v is not None for v in present.values()) else []
    times = [part.result.seconds.get("train") for part in parts]
    known = [each for each in times if each is not None]
    return SeedFigure(
        metric=metric,
        tasks=present,
        parameters=sum(part.result.parameters for part in parts),
        seconds=sum(known) if len(known) == len(times) else None,
        missing=tuple(task for task in tasks if task not in present or task in null),
        null=tuple(null),
        records=tuple(parts),
    )
