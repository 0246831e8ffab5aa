"""Read one of a user's own tasks: its images, labels and class names."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dassl.data import Task
from dassl.data.datum import MULTI_METRICS, classes_in, label_set
from dassl.data.own.cells import NO_LABEL, FlagColumns, LabelCells, OneLabel, SeveralLabels
from dassl.data.own.description import ALL_TEST, OwnTask, plain_name
from dassl.data.own.groups import with_groups
from dassl.data.own.listing import Entry, forward_slashes, list_folder, list_table, on_disk, shown, text_form
from dassl.data.own.tested import classes_of_run, lacks_training, task_of_the_run
from dassl.data.tested import is_only_tested
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest
from dassl.utils.texts import is_one_line

logger = logging.getLogger(__name__)


@dataclass
class OwnImage:
    """An image of one or several own tasks.

    Attributes:
        targets: its label in each of its tasks, as in a Datum; tasks are numbered by their place in DATASET.TASKS.
        split: where the data says it.
        groups: its group in each of its tasks that has groups.
    """

    targets: dict[int, int] = field(default_factory=dict)
    split: str = ""
    groups: dict[int, str] = field(default_factory=dict)

    def classes(self, own: Mapping[int, OwnTask] | Mapping[int, Task]) -> list[tuple[int, int]]:
        """Its classes as (task, class); class NO_CLASS stands for none of the classes of a multi-label task."""
        return [
            (number, each)
            for number, label in self.targets.items()
            for each in ((classes_in(label) or (NO_CLASS,)) if own[number].multi else (label,))
        ]


NO_CLASS = -1
Images = dict[str, OwnImage]  # by absolute path


def read_task(described: OwnTask, number: int, root: Path, images: Images) -> Task:
    """Read a task's images into ``images``."""
    name = described.name
    said = tuple(described.classes)  # of a list or a mapping: the labels
    tree = _below(root, described.folder) if described.folder else None
    if tree:
        entries = list_folder(tree, name, classes=said, only_tested=is_only_tested())
    else:
        folder = _below(root, described.image_folder) if described.image_folder else None
        entries = list_table(
            _below(root, described.table),
            name,
            image=described.image,
            labels=_label_cells(described),
            split=described.split,
            images=folder,
            classes=said,
            group=described.group,
        )
    entries = with_groups(entries, described, root, tree)
    if list(described.ratios) == ALL_TEST:
        entries = [replace(entry, split=entry.split or "test") for entry in entries]
    its_run = task_of_the_run(name) if is_only_tested() and lacks_training(entries) else None
    classnames, labels = classes_of_run(described, entries, its_run) if its_run else _classes(described, entries)
    if described.multi:
        enter_sets(entries, number, labels, described, images)
    else:
        _enter(entries, number, labels, described, images)
    return Task(
        name,
        classnames,
        described.metric or (MULTI_METRICS[0] if described.multi else Task.metric),
        described.description,
        described.template or Task.template,
        _class_places(described, entries, classnames, labels),
        described.weight,
        described.multi,
    )


def _label_cells(described: OwnTask) -> LabelCells:
    """How the labels stand in the table of a task."""
    if described.labels:
        return FlagColumns(tuple(map(text_form, described.labels)))
    if described.multi:
        return SeveralLabels(text_form(described.label), described.separator, described.none)
    return OneLabel(text_form(described.label))


def _class_places(
    described: OwnTask, entries: Sequence[Entry], classnames: Sequence[str], labels: Mapping[str, int]
) -> dict[str, str]:
    """The source of each class name: a folder, the first line of a table, or the description."""
    places: dict[str, str] = {}
    for entry in labelled(entries):
        name = classnames[labels[entry.label]]
        place = f"{described.table}, line {entry.line}" if entry.line else f"a folder in {described.folder}"
        renamed = f"the name of label {entry.label!r}, " if name != entry.label else ""
        places.setdefault(name, renamed + place)
    return places


def _below(root: Path, path: str) -> Path:
    """A path of the config without "..", so that an image has the same path in folders and in tables."""
    return Path(on_disk(os.path.abspath(root / Path(forward_slashes(path)).expanduser())))  # noqa: PTH100


def _classes(described: OwnTask, entries: Sequence[Entry]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The class names, and the class number of each label.

    Raises:
        UserError: ``classes`` does not fit the labels, two names read alike, or there are fewer than two classes.
    """
    # A column is a class, whether an image has the label or not.
    found = list(_label_cells(described).columns) if described.labels else sorted({e.label for e in labelled(entries)})
    if isinstance(described.classes, Mapping):
        names = {label: described.classes.get(label, label) for label in found}
        refuse_unknown(described, list(described.classes), found)
    elif described.classes:
        names = {label: label for label in described.classes}
        line = {entry.label: entry.line for entry in reversed(labelled(entries))}
        _refuse_typos(described, found, line)
        refuse_unknown(described, list(names), found)
    else:
        names = {label: label for label in found}
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names.values()))}
    refuse_alike(described, list(numbers))
    return tuple(numbers), {label: numbers[name] for label, name in names.items()}


def _refuse_typos(described: OwnTask, found: Sequence[str], line: Mapping[str, int]) -> None:
    for label in found:
        if label not in described.classes:
            close = nearest(label, described.classes)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "add it to classes, or mend it"
            place = f", line {line[label]}" if line[label] else ""
            raise UserError(
                f"task {described.name!r}: {described.folder or described.table}{place}: label {label!r} is not "
                f"among its classes; {hint}"
            )


def refuse_unknown(described: OwnTask, labels: Sequence[str], found: Sequence[str]) -> None:
    for label in labels:
        if label not in found:
            close = nearest(label, found)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"its labels are {shown(found)}"
            if label.isdecimal() and any(name.isdecimal() and name.startswith("0") for name in found):
                hint += ' (numbers that begin with 0 need quotes in YAML, such as "001")'
            raise UserError(f"task {described.name!r}: no image has the label {label!r} of its classes; {hint}")


def refuse_alike(described: OwnTask, names: Sequence[str]) -> None:
    place = f"task {described.name!r}"
    plain: dict[str, str] = {}
    for name in names:
        if not is_one_line(name) or not plain_name(name):
            raise UserError(f"{place}: class name {name!r} is no line of text; rename it with classes:")
        other = plain.setdefault(plain_name(name), name)
        if other != name:
            raise UserError(
                f"{place}: labels {other!r} and {name!r} read alike; make them equal, or rename one with classes:"
            )
    if len(names) < 2:
        raise UserError(
            f"{place}: {described.folder or described.table} has only the class {names[0]!r}; a task needs two "
            "(name the folder that holds the class folders)"
        )


def _enter(
    entries: Sequence[Entry], number: int, labels: Mapping[str, int], described: OwnTask, images: Images
) -> None:
    """Add a task's entries to the images."""
    repeated = 0
    first: dict[str, Entry] = {}
    for entry in entries:
        earlier = first.setdefault(entry.path, entry)
        image = images.setdefault(entry.path, OwnImage())
        place = f"task {described.name!r}: image {entry.path}"
        if earlier is not entry:
            repeated += 1
            if labels[earlier.label] != labels[entry.label]:
                raise UserError(
                    f"{place} is {earlier.label!r} in line {earlier.line} and {entry.label!r} in line {entry.line}; "
                    "remove one of the lines"
                )
        _set_side(image, number, entry, place)
        image.targets[number] = labels[entry.label]
    if repeated:
        logger.info("Task %r: %d images are listed more than once, with the same label", described.name, repeated)


def _set_side(image: OwnImage, number: int, entry: Entry, place: str) -> None:
    """The split that an entry of a task names, and its group."""
    if entry.split and image.split not in ("", entry.split):
        raise UserError(
            f"{place} is for {entry.split} in line {entry.line}, and elsewhere for {image.split}; an image has one "
            "split for all its tasks"
        )
    image.split = image.split or entry.split
    if entry.group and image.groups.setdefault(number, entry.group) != entry.group:
        raise UserError(
            f"{place} is of the group {image.groups[number]!r} and, in line {entry.line}, of {entry.group!r}; "
            "remove one of the lines"
        )


def labelled(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with a label."""
    return [entry for entry in entries if entry.label != NO_LABEL]


def enter_sets(
    entries: Sequence[Entry], number: int, labels: Mapping[str, int], described: OwnTask, images: Images
) -> None:
    """Add a multi-label task's entries to the images: an image has the labels of all its rows.

    Raises:
        UserError: a row says that an image has no label, and another one gives it some.
    """
    first: dict[str, Entry] = {}
    for entry in entries:
        earlier = first.setdefault(entry.path, entry)
        image = images.setdefault(entry.path, OwnImage())
        place = f"task {described.name!r}: image {entry.path}"
        if (entry.label == NO_LABEL) != (earlier.label == NO_LABEL):
            raise UserError(
                f"{place} has labels in one of the lines {earlier.line} and {entry.line}, and none in the other"
            )
        _set_side(image, number, entry, place)
        its = label_set([labels[entry.label]]) if entry.label != NO_LABEL else 0
        image.targets[number] = image.targets.get(number, 0) | its
    none = sum(entry.label == NO_LABEL for entry in first.values())
    if none:
        logger.info("Task %r: %d of %d images have none of its labels", described.name, none, len(first))
