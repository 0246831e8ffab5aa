"""Own tasks of which another site has test images and nothing else: their classes are those of the run."""

import logging
from collections.abc import Mapping, Sequence

from dassl.data import Task
from dassl.data.own.cells import NO_LABEL
from dassl.data.own.description import OwnTask
from dassl.data.own.listing import Entry, shown
from dassl.data.tested import tasks_of_the_run
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest

logger = logging.getLogger(__name__)


def lacks_training(entries: Sequence[Entry]) -> bool:
    """Whether the data says of every image that it is no training image."""
    return all(entry.split in ("val", "test") for entry in entries)


def task_of_the_run(name: str) -> Task | None:
    """The task of this name in the run that is evaluated; None with a warning where it has another one."""
    known = {task.name: task for task in tasks_of_the_run()}
    if known and name not in known:
        logger.warning(
            "task %r is none of the run's (%s): its classes are those that have images; if it is meant to be one of "
            "them, give it that name",
            name,
            shown(list(known)),
        )
    return known.get(name)


def classes_of_run(described: OwnTask, entries: Sequence[Entry], run: Task) -> tuple[tuple[str, ...], dict[str, int]]:
    """The classes of the run in its order, and the number of each label that has images.

    Raises:
        UserError: a label is no class of the run.
    """
    renamed = described.classes if isinstance(described.classes, Mapping) else {}
    found = sorted({entry.label for entry in entries if entry.label != NO_LABEL})
    names = {label: renamed.get(label, label) for label in found}
    place = f"task {described.name!r}: {described.folder or described.table}"
    foreign = [name for name in names.values() if name not in run.classnames]
    if foreign:
        close = nearest(foreign[0], run.classnames)
        hint = f"is {foreign[0]!r} meant to be {close[0]!r}? " if close else ""
        raise UserError(
            f"{place}: {shown(foreign)} is no class of the run, which has {shown(run.classnames)}; {hint}rename it "
            "with classes:, or move its images away"
        )
    lacking = [name for name in run.classnames if name not in names.values()]
    if lacking:
        logger.warning(
            "%s: %d of the run's %d classes have no image for testing: %s; the figure says nothing about them",
            place,
            len(lacking),
            len(run.classnames),
            shown(lacking),
        )
    numbers = {name: number for number, name in enumerate(run.classnames)}
    return run.classnames, {label: numbers[name] for label, name in names.items()}
