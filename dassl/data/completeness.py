"""Whether a data set is what its name says: published numbers, files that no list has, lists that share images.

Nothing here stops a run. Each function gives a sentence with the numbers, the place and the remedy, or "".
"""

from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

from dassl.data.datum import Datum, Split
from dassl.data.splits import SPLITS

OUR_SPLIT, COOP_SPLIT = "split_dk_", "split_zhou_"  # how the names of split files begin: of those made here, of CoOp's
_SHOWN = 3


def other_numbers(
    name: str, split: Split, *, tasks: int, classes: int, counts: tuple[int, int, int] | None, source: Path | None
) -> str:
    """What differs from the published numbers of tasks, classes (0: unknown) and images (None: unknown).

    Args:
        source: the split file if it can be made anew from the data; None: it comes from elsewhere, or there is none.
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
    """Which of the images that are ``there`` (absolute paths) stand in no list of the split file ``source``."""
    listed = {item.impath for items in split.lists for item in items}
    new = [path for path in there if path not in listed]
    if not new:
        return ""
    folders = dict.fromkeys(Path(path).parent.name for path in new)
    return (
        f"data set {name}: {len(new):,} images in {len(folders)} class folders ({_some(list(folders))}) are not in "
        f"{source}, which was made without them; {_made_anew(source)} (figures before "
        "and after are then of different images)"
    )


def unread_split(name: str, read: Path, others: Sequence[Path]) -> str:
    """That other split files lie beside the one that is read."""
    if not others:
        return ""
    unread = " and ".join(str(path) for path in others)
    return f"data set {name}: {read} is read, and {unread} is not; to choose the other, rename {read.name}"


def shared_with_training(name: str, split: Split, source: Path) -> str:
    """How many test images of a split file are training images of the same task."""
    count = len(shared(split.test, split.train))
    if not count:
        return ""
    return (
        f"data set {name}: {count:,} of {len(split.test):,} test images of {source} are training images too, so "
        "figures of what is trained on them are too high; give each image to one list"
    )


def shared(items: Sequence[Datum], others: Sequence[Datum]) -> set[tuple[str, int]]:
    """(path, task) of the entries of ``items`` that are entries of ``others``, too."""
    known = {(item.impath, task) for item in others for task, _ in item.targets}
    return known & {(item.impath, task) for item in items for task, _ in item.targets}


def _made_anew(source: Path) -> str:
    """How a split file is replaced; one that somebody made by hand must not be lost."""
    return f"have {source} made anew: delete it, or rename it if it was made by hand"


def _some(names: Sequence[str]) -> str:
    return ", ".join(islice(names, _SHOWN)) + (", ..." if len(names) > _SHOWN else "")
