"""Groups of images that show one object, patient or burst: what names them, and whether a split divides them."""

import logging
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]  # the only way to see what a pattern repeats
from typing import Any

from dassl.data.images import identity
from dassl.data.own.description import OwnTask
from dassl.data.own.listing import Entry, text_form
from dassl.data.splits import SPLITS
from dassl.utils.errors import UserError

logger = logging.getLogger(__name__)

PARENT = "parent_folder"
_LONGEST = 200  # letters of a pattern
_REPEATS = 4  # each one more multiplies the time of a search by the length of the path
_SECONDS = 20.0  # for all paths of a task
_REPEATED = {_constants.MAX_REPEAT, _constants.MIN_REPEAT, getattr(_constants, "POSSESSIVE_REPEAT", None)}


def is_pattern(group: str) -> bool:
    """Whether the field ``group`` is a pattern on the path."""
    return "(" in group


def with_groups(entries: Sequence[Entry], described: OwnTask, root: Path, folder: Path | None) -> list[Entry]:
    """The entries of a task with their groups; those of a column are there already.

    An empty group is none: such an image stands for itself.

    Args:
        root: the folder below which a pattern searches paths.
        folder: the tree of class folders, if the task has one.

    Raises:
        UserError: ``group`` is no column, pattern or PARENT, or it gives no image a group.
    """
    if not described.group:
        return list(entries)
    place = f"task {described.name!r}: group: {described.group}"
    if any(entry.group is not None for entry in entries):
        grouped = list(entries)
    elif described.group == PARENT:
        grouped = [replace(entry, group=_parent(entry, folder)) for entry in entries]
    else:
        grouped = list(_by_pattern(entries, _compiled(described.group, place), root, place))
    alone = [entry for entry in grouped if not entry.group]
    if len(alone) == len(grouped):
        raise UserError(
            f"{place}: none of {len(grouped)} images has a group, e.g. {identity(alone[0].path, root)}; see "
            "docs/your-own-data.md, or leave group out"
        )
    if alone:
        logger.warning(
            "%s: %d of %d images have no group, e.g. %s; each counts as a group of its own",
            place,
            len(alone),
            len(grouped),
            identity(alone[0].path, root),
        )
    return grouped


def _parent(entry: Entry, folder: Path | None) -> str:
    """The name of the folder of an image; "" if that is the class folder of a tree."""
    parent = Path(entry.path).parent
    above_class = folder / parent.relative_to(folder).parts[0] if folder and entry.split else folder
    return "" if parent.parent == above_class else text_form(parent.name)


def _by_pattern(entries: Sequence[Entry], pattern: re.Pattern[str], root: Path, place: str) -> Iterator[Entry]:
    end = time.monotonic() + _SECONDS
    for entry in entries:
        if time.monotonic() > end:
            raise UserError(f"{place}: the search takes too long; write a simpler pattern with fewer * and +")
        found = pattern.search(text_form(identity(entry.path, root)))
        yield replace(entry, group=(found[1] or "") if found else "")


# -- patterns --------------------------------------------------------------------------------------------------


def _compiled(text: str, place: str) -> re.Pattern[str]:
    """A pattern whose search always ends soon.

    Raises:
        UserError: it is too long, no pattern, has no group, or repeats what is itself repeated.
    """
    if not is_pattern(text):
        raise UserError(
            f"{place}: is neither a column nor {PARENT} nor a pattern with a group in brackets, such as "
            '"(patient[0-9]+)_"'
        )
    if len(text) > _LONGEST:
        raise UserError(f"{place}: the pattern has {len(text)} of {_LONGEST} allowed letters; write a shorter one")
    try:
        pattern, parsed = re.compile(text), _parser.parse(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{place}: is no regular expression ({error}); mend it") from error
    if not pattern.groups:
        raise UserError(f"{place}: the pattern has no group; put brackets around what names the group")
    if _repeats(parsed) > _REPEATS:
        raise UserError(
            f"{place}: the pattern could search for hours, because it repeats what is itself repeated or varies, or "
            f"has more than {_REPEATS} of * and +; write it without, e.g. [a-z_]+ for ([a-z]+_)+"
        )
    return pattern


def _repeats(parsed: Any, inside: bool = False) -> float:
    """Number of parts of a pattern that match texts of several lengths; infinite if one is in a repeated part."""
    total: float = 0
    for code, value in parsed:
        if code in _REPEATED:
            low, high, part = value
            varies = low != high
            total += float("inf") if varies and inside else varies
            total += _repeats(part, inside or high > 1)
        elif code is _constants.BRANCH:
            total += float("inf") if inside else sum(_repeats(part, inside) for part in value[1])
        else:
            total += sum(_repeats(part, inside) for part in _inner(value))
    return total


def _inner(value: Any) -> Iterator[Any]:
    """The patterns in the value of a parsed step."""
    if isinstance(value, _parser.SubPattern):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _inner(part)


# -- splits ----------------------------------------------------------------------------------------------------


def report_divided(described: OwnTask, group_of: Mapping[str, str], splits: Mapping[str, str], remedy: str) -> None:
    """Warn of groups on two sides of the split.

    Args:
        group_of: group of each image of the task that has one, by path.
        splits: split of each image, by path.
        remedy: how all images get new splits.
    """
    sides: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path, group in group_of.items():
        sides[group][splits[path]] += 1
    divided = [group for group, its in sides.items() if len(its) > 1]
    place = f"task {described.name!r}: group: {described.group}"
    if not divided:
        numbers = Counter(split for its in sides.values() for split in its)
        counts = ", ".join(f"{split} {numbers[split]}" for split in SPLITS)
        logger.info("%s: %d groups (%s), none divided", place, len(sides), counts)
        return
    shown = ", ".join(f"{split} {sides[divided[0]][split]}" for split in SPLITS if sides[divided[0]][split])
    logger.warning(
        "%s: %d of %d groups are on two sides of the split, e.g. %r (%s), so a figure may show that the object was "
        "recognised; %s",
        place,
        len(divided),
        len(sides),
        divided[0],
        shown,
        remedy,
    )
