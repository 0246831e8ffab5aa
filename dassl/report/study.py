"""Runs sorted into suites, protocols, methods and shots.

A *suite* is a data set with one backbone. Its runs fall into *grids*, one for each choice of classes and tasks: the
plain one, the base and the new classes, the seen and the new tasks. A grid has a row for each method and a column for
each number of shots; a cell has one :class:`SeedFigure` for each seed.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from dassl.report.tree import Broken, Record, Tree, printable
from dassl.utils.methods import read_methods
from dassl.utils.results import PLACES
from dassl.utils.tables import ANY_SHOTS

ALL_BUT = "not:"  # DATASET.SUBSAMPLE_TASKS not:task3 takes all tasks but this one
ONE_TASK = re.compile(r"task(\d+)")
# Keys that tell the cells of a table apart, so that they do not tell methods apart.
CELL_KEYS = {"SEED", "DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES", "DATASET.SUBSAMPLE_TASKS"}
_NAMED_KEYS = 3  # so many differing keys make a readable name

SEEN, UNSEEN = "seen", "unseen"


class Protocol(NamedTuple):
    """What the runs of a grid have in common: the classes, the tasks and, where these are some of all, their role.

    Runs of single tasks belong to the tasks "all", unless the method never saw the others.
    """

    classes: str = "all"
    tasks: str = "all"
    role: str = ""


PLAIN = Protocol()


@dataclass(frozen=True)
class SuiteKey:
    """What makes figures comparable: the data, the backbone and the split that was evaluated."""

    dataset: str
    members: tuple[str, ...]
    backbone: str
    split: str

    @property
    def title(self) -> str:
        """What a heading says."""
        members = f" ({', '.join(self.members)})" if self.members else ""
        return f"{self.dataset}{members}, {self.backbone}" + (f", {self.split} split" if self.split != "test" else "")


@dataclass(frozen=True)
class SeedFigure:
    """What one seed contributes to a cell: one run or, where tasks are trained one by one, one run for each task.

    Attributes:
        metric: mean over the tasks in percent; with ``missing`` ones, over those that are there.
        seconds: training time, of all runs together; None if unknown.
        missing: tasks without a run.
    """

    metric: float | None
    tasks: Mapping[str, float | None]
    parameters: int
    seconds: float | None
    missing: tuple[str, ...]
    records: tuple[Record, ...]


@dataclass
class Grid:
    """The runs of one protocol of a suite.

    Attributes:
        rows: names of the methods, those of the paper first and in its order.
        flat: rows that do not depend on shots and seeds; their cell is at ANY_SHOTS.
        seeds: all seeds that any learning method of the grid was run with, finished or not.
        tasks: names of all tasks that a run of the grid has.
    """

    rows: list[str]
    flat: set[str]
    shots: list[int]
    seeds: list[int]
    tasks: list[str]
    cells: dict[tuple[str, int], dict[int, SeedFigure]] = field(default_factory=dict)

    def cell(self, row: str, shots: int) -> Mapping[int, SeedFigure]:
        """The seeds of a cell; a flat row has the same in every column."""
        return self.cells.get((row, ANY_SHOTS if row in self.flat else shots), {})

    def wanted(self, row: str) -> int:
        """How many seeds a cell of the row should have; 0 if it does not depend on them."""
        return 0 if row in self.flat else len(self.seeds)

    def values(self, row: str, shots: int, task: str | None = None) -> tuple[dict[int, float], str]:
        """The figures of a cell by seed, for all tasks or one, and what is missing in them ("4/6 tasks").

        Seeds that lack a task take no part, unless all of them do.
        """
        seeds = self.cell(row, shots)
        if task is not None:
            return {s: v.tasks[task] for s, v in seeds.items() if v.tasks.get(task) is not None}, ""
        known = {seed: each for seed, each in seeds.items() if each.metric is not None}
        whole = {seed: each.metric for seed, each in known.items() if not each.missing}
        if whole or not known:
            return whole, ""
        fewest = min(len(self.tasks) - len(each.missing) for each in known.values())
        return {seed: each.metric for seed, each in known.items()}, f"{fewest}/{len(self.tasks)} tasks"


@dataclass
class Suite:
    """All runs of a data set with one backbone."""

    key: SuiteKey
    grids: dict[Protocol, Grid]
    records: list[Record]
    broken: list[Broken]
    names: dict[Path, str]
    doubles: list[tuple[Record, Record]]

    @property
    def title(self) -> str:
        """What a heading says."""
        return self.key.title

    @property
    def plain(self) -> Grid | None:
        """All classes of all tasks: the paper's main table."""
        return self.grids.get(PLAIN)


def suites(tree: Tree) -> list[Suite]:
    """Sort the runs of ``tree``; suites come in the order of their first run."""
    records: dict[SuiteKey, list[Record]] = defaultdict(list)
    broken: dict[SuiteKey, list[Broken]] = defaultdict(list)
    for record in tree.records:
        records[_suite_key(record)].append(record)
    for each in tree.broken:
        broken[_key_of_config(each, list(records))].append(each)
    return [_suite(key, found, broken.get(key, [])) for key, found in records.items()]


def lost(tree: Tree, found: Iterable[Suite]) -> list[Broken]:
    """Runs without a figure that belong to none of the suites ``found``."""
    placed = {each.folder for suite in found for each in suite.broken}
    return [each for each in tree.broken if each.folder not in placed]


def _suite_key(record: Record) -> SuiteKey:
    result = record.result
    return SuiteKey(result.dataset, _members(record.config), _short(result.backbone.name), result.split)


def _key_of_config(broken: Broken, known: Sequence[SuiteKey]) -> SuiteKey:
    """The suite that a run without a figure would belong to; one whose config is unknown may be anywhere."""
    config = broken.config
    name, backbone = str(config.get("DATASET.NAME", "")), _short(str(config.get("MODEL.BACKBONE.NAME", "")))
    split = str(config.get("TEST.SPLIT", "test"))
    for key in known:
        if (key.dataset, key.members, key.backbone) == (name, _members(config), backbone):
            return key
    return SuiteKey(name, _members(config), backbone, split)


def _members(config: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(map(str, config.get("DATASET.MEMBERS") or ()))


def _short(backbone: str) -> str:
    """A backbone may be given as a file; ViT-B/16 is none."""
    path = Path(backbone)
    return printable(path.stem if "/" in backbone and path.suffix else backbone)


def _suite(key: SuiteKey, records: list[Record], broken: list[Broken]) -> Suite:
    names, doubles = _row_names(records)
    dropped = {id(later) for _, later in doubles}
    kept = [record for record in records if id(record) not in dropped]
    by_protocol: dict[Protocol, list[Record]] = defaultdict(list)
    choices = {(record.label, record.result.mode, record.task_choice) for record in kept}
    for record in kept:
        for protocol in _protocols(record, choices):
            by_protocol[protocol].append(record)
    grids = {}
    for protocol, members in by_protocol.items():
        unfinished = [each for each in broken if _broken_protocol(each) == protocol[:2]]
        grids[protocol] = _grid([*members, *_untrained(kept, members, protocol)], names, unfinished)
    return Suite(key, grids, kept, broken, names, doubles)


def _protocols(record: Record, choices: Set[tuple[str, str, str]]) -> list[Protocol]:
    """Where a run belongs; one that learns nothing may stand beside what was seen and beside what was not.

    Args:
        choices: (method, mode, choice of tasks) of all runs of the suite.
    """
    choice = record.task_choice
    if choice == "all" or (ONE_TASK.fullmatch(choice) and not _is_of_new_tasks(record, choices)):
        return [Protocol(record.classes)]
    roles = [SEEN, UNSEEN] if not record.learns else [SEEN] if record.result.mode == "train" else [UNSEEN]
    return [Protocol(record.classes, choice, role) for role in roles]


def _untrained(records: Sequence[Record], members: Sequence[Record], protocol: Protocol) -> Iterator[Record]:
    """For the grid of some tasks: what runs of all tasks, or of one, that learn nothing have for these tasks.

    Args:
        records: all runs of the suite.
        members: those of the grid; a method that is there needs no other run.
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
    """Whether the run of a single task is one half of training on some tasks and testing on others."""
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
    rows = sorted(dict.fromkeys(names[record.folder] for record in records), key=_paper_order)
    flat = {names[record.folder] for record in records if not record.learns}
    learned = [record for record in records if record.learns]
    shots = sorted({record.result.shots for record in learned}, key=lambda each: (each < 0, each)) or [ANY_SHOTS]
    seeds = {record.result.seed for record in learned} | set(_seeds_of(unfinished))
    grid = Grid(rows, flat, shots, sorted(seeds), _task_names(records))
    cells: dict[tuple[str, int], dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        place = (names[record.folder], record.result.shots if record.learns else ANY_SHOTS)
        cells[place][record.result.seed].append(record)
    grid.cells = {
        place: {seed: _gather(found, grid.tasks) for seed, found in sorted(by_seed.items())}
        for place, by_seed in cells.items()
    }
    return grid


def _seeds_of(unfinished: Iterable[Broken]) -> Iterator[int]:
    for each in unfinished:
        if isinstance(each.config.get("SEED"), int) and each.learns:
            yield each.config["SEED"]


def _paper_order(row: str) -> tuple[int, str]:
    """The rows of configs/methods.yaml in its order, a variation behind its method, then all others by name."""
    known = list(read_methods())
    label = row.partition(" [")[0]
    return (known.index(label) if label in known else len(known), row)


def _task_names(records: Sequence[Record]) -> list[str]:
    """All tasks: those of the run with most of them first, then those of runs of one task in the order of numbers."""

    def order(record: Record) -> tuple[int, int]:
        number = ONE_TASK.fullmatch(record.task_choice)
        return -len(record.result.tasks), int(number[1]) if number else 0

    return list(dict.fromkeys(task.name for record in sorted(records, key=order) for task in record.result.tasks))


def _gather(records: Sequence[Record], tasks: Sequence[str]) -> SeedFigure:
    """One seed of a cell out of its runs: a run of all tasks counts before runs of single ones, training before
    evaluation."""
    order = sorted(records, key=lambda record: (record.result.mode != "train", -len(record.result.tasks)))
    single = [record for record in order if ONE_TASK.fullmatch(record.task_choice) and len(record.result.tasks) == 1]
    whole = [record for record in order if record not in single]
    if whole:
        present = {task.name for task in whole[0].result.tasks}
        return _seed_figure(whole[:1], whole[0].result.metric, tuple(task for task in tasks if task not in present))
    by_task = {record.result.tasks[0].name: record for record in reversed(single)}
    parts = [by_task[task] for task in tasks if task in by_task]
    metrics = [part.result.metric for part in parts]
    missing = tuple(task for task in tasks if task not in by_task)
    return _seed_figure(parts, sum(metrics) / len(metrics), missing)


def _seed_figure(parts: Sequence[Record], metric: float | None, missing: tuple[str, ...]) -> SeedFigure:
    times = [part.result.seconds.get("train") for part in parts]
    return SeedFigure(
        metric=metric,
        tasks={task.name: task.metric for part in parts for task in part.result.tasks},
        parameters=sum(part.result.parameters for part in parts),
        seconds=None if None in times else sum(times),
        missing=missing,
        records=tuple(parts),
    )


def _row_names(records: Sequence[Record]) -> tuple[dict[Path, str], list[tuple[Record, Record]]]:
    """The row of each run, and pairs of runs that are the same run twice.

    Runs of one method for the same cell must be one setting. Where their configs differ, the method becomes several
    rows, named after the keys in which they differ, so that no figure is a mean over settings.
    """
    by_label: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_label[_method_name(record)].append(record)
    names: dict[Path, str] = {}
    doubles: list[tuple[Record, Record]] = []
    for label, members in by_label.items():
        keys = _differing_keys(members)
        settings = {record.folder: _setting(record, keys) for record in members}
        shown = _setting_names(list(settings.values()))
        seen: dict[tuple[object, ...], Record] = {}
        for record in members:
            setting = settings[record.folder]
            names[record.folder] = f"{label} [{shown[setting]}]" if keys else label
            first = seen.setdefault((*_place(record), setting), record)
            if first is not record:
                doubles.append((first, record))
    return names, doubles


def _method_name(record: Record) -> str:
    """The label; the evaluation of an epoch that was asked for is another method than that of the last one."""
    epoch = record.result.best_epoch if record.result.mode == "eval" else None
    return record.label if epoch is None else f"{record.label} [epoch {epoch}]"


def _place(record: Record) -> tuple[object, ...]:
    """The cell of a run, and its kind: an evaluation of a trained run stands beside it."""
    result = record.result
    shots = result.shots if record.learns else ANY_SHOTS
    return shots, result.seed, record.classes, record.task_choice, result.mode


def _differing_keys(records: Sequence[Record]) -> list[str]:
    first: dict[tuple[object, ...], Record] = {}
    keys: set[str] = set()
    for record in records:
        other = first.setdefault(_place(record), record)
        if other is not record and other.config and record.config:
            keys |= {k for k in {*other.config, *record.config} if other.config.get(k) != record.config.get(k)}
    return sorted(keys - PLACES - CELL_KEYS)


def _setting(record: Record, keys: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((key, str(record.config.get(key))) for key in keys)


def _setting_names(settings: Sequence[tuple[tuple[str, str], ...]]) -> dict[tuple[tuple[str, str], ...], str]:
    """Short names that tell settings apart: their differing keys if they are few, else a number."""
    different = list(dict.fromkeys(settings))
    if all(len(setting) <= _NAMED_KEYS for setting in different):
        return {each: ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in each) for each in different}
    return {each: f"setting {number}" for number, each in enumerate(different, 1)}
