"""Whether a data set is complete and its split sound: published numbers, unlisted files, lists that share images.

Nothing here stops a run. Each function returns a sentence with numbers, place and remedy, or "".
"""

from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

from dassl.data.datum import Datum, Split
from dassl.data.splits import SPLITS

OUR_SPLIT, COOP_SPLIT = "split_dk_", "split_zhou_"  # prefixes of split files: those made here, CoOp's
_SHOWN = 3


def other_numbers(
    name: str, split: Split, *, tasks: int, classes: int, counts: tuple[int, int, int] | None, source: Path | None
) -> str:
    """Differences from the published numbers of tasks, classes (0: unknown) and images (None: unknown).

    Args:
        source: the split file if the data can make it again; None: it comes from elsewhere, or there is none.
    """
    found = len({pair for items in split.lists for item in items for pair in item.targets})
    known = ((len(split.tasks), tasks, "tasks"), (found, classes, "classes"))
    wrong = [f"{number:,} of {wanted:,} {what}" for number, wanted, what in known if wanted and number != wanted]
    sizes = tuple(len(items) for items in split.lists)
    if counts and sizes != counts:
        numbers = zip(SPLITS, sizes, counts, strict=True)
        wrong.append(", ".join(f"{size:,} of {count:,} images for {name}" for name, size, count in numbers))
    if not wrong:
        return ""
    remedy = f", or complete the data and {_made_anew(source)}" if source else ""
    return (
        f"data set {name} has {' and '.join(wrong)}, against the published numbers: files are missing, or it is "
        f"another edition or split; compare with docs/datasets.md{remedy}"
    )


def left_out(name: str, split: Split, there: Collection[str], source: Path) -> str:
    """Images that are ``there`` (absolute paths) and in no list of the split file ``source``."""
    listed = {item.impath for items in split.lists for item in items}
    new = [path for path in there if path not in listed]
    if not new:
        return ""
    folders = dict.fromkeys(Path(path).parent.name for path in new)
    return (
        f"data set {name}: {len(new):,} images in {len(folders)} class folders ({_some(list(folders))}) are not in "
        f"{source}, which was made without them; {_made_anew(source)} (figures before "
        "and after are then on different images)"
    )


def unread_split(name: str, read: Path, others: Sequence[Path]) -> str:
    """Other split files beside the one that is read."""
    if not others:
        return ""
    unread = " and ".join(str(path) for path in others)
    return f"data set {name}: {read} is read, and {unread} is not; to choose the other, rename {read.name}"


def shared_with_training(name: str, split: Split, source: Path) -> str:
    """Test images of a split file that are also training images of the same task."""
    count = len(shared(split.test, split.train))
    if not count:
        return ""
    return (
        f"data set {name}: {count:,} of {len(split.test):,} test images of {source} are training images too, so "
        "figures on this split are too high; give each image to one list"
    )


def shared(items: Sequence[Datum], others: Sequence[Datum]) -> set[tuple[str, int]]:
    """(path, task) of the entries that ``items`` and ``others`` share."""
    known = {(item.impath, task) for item in others for task, _ in item.targets}
    return known & {(item.impath, task) for item in items for task, _ in item.targets}


def _made_anew(source: Path) -> str:
    """How to replace a split file without losing one that was made by hand."""
    return f"have {source} made again: delete it, or rename it if it was made by hand"


def _some(names: Sequence[str]) -> str:
    return ", ".join(islice(names, _SHOWN)) + (", ..." if len(names) > _SHOWN else "")
