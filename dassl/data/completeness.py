"""Whether a data set is what its name says: published numbers, files that no list has, lists that share images.

Nothing here stops a run. Each function gives a sentence with the numbers, the place and the remedy, or "".
"""

from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

from dassl.data.datum import Datum, Split
from dassl.data.splits import PARTS

OUR_SPLIT = "split_dk_"  # how the names of split files begin that are made here
_SHOWN = 3


def other_numbers(
    name: str, split: Split, *, classes: int, counts: tuple[int, int, int] | None, source: Path | None
) -> str:
    """What differs from the published numbers of classes (0: unknown) and of images (None: unknown).

    Args:
        source: the split file, if there is one.
    """
    found = sum(len(task.classnames) for task in split.tasks)
    sizes = [len(items) for items in split.lists]
    wrong = [f"{found:,} of {classes:,} classes"] if classes and found != classes else []
    if counts and tuple(sizes) != counts:
        numbers = zip(PARTS, sizes, counts, strict=True)
        wrong.append(", ".join(f"{size:,} of {count:,} images for {part}" for part, size, count in numbers))
    if not wrong:
        return ""
    ours = source is not None and source.name.startswith(OUR_SPLIT)
    remedy = f"complete the data and delete {source}, which was made of what was there" if ours else "complete the data"
    return (
        f"data set {name} has {' and '.join(wrong)}, against the published numbers: files are missing, or it is "
        f"another edition or split; {remedy}, or compare with docs/datasets.md"
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
        f"{source}, which was made without them; delete that file to have them split too (figures before and after are "
        "then of different images)"
    )


def unread_split(name: str, read: Path, others: Sequence[Path]) -> str:
    """That other split files lie beside the one that is read."""
    if not others:
        return ""
    unread = " and ".join(str(path) for path in others)
    return f"data set {name}: {read} is read, and {unread} is not; to choose the other, delete or rename {read.name}"


def shared_with_training(name: str, split: Split, source: Path) -> str:
    """How many test images of a split file are training images of the same task."""
    count = len(shared(split.test, split.train))
    if not count:
        return ""
    return (
        f"data set {name}: {count:,} of {len(split.test):,} test images of {source} are training images too, so its "
        "figures are too high; give each image to one list"
    )


def shared(items: Sequence[Datum], others: Sequence[Datum]) -> set[tuple[str, int]]:
    """(path, task) of the entries of ``items`` that are entries of ``others``, too."""
    known = {(item.impath, task) for item in others for task, _ in item.targets}
    return known & {(item.impath, task) for item in items for task, _ in item.targets}


def _some(names: Sequence[str]) -> str:
    return ", ".join(islice(names, _SHOWN)) + (", ..." if len(names) > _SHOWN else "")
