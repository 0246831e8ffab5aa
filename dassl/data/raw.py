"""Raw annotation as published (class folders, lists, MATLAB files) and the rules that split it.

Files are sorted, and a generator keyed by the class name shuffles each class, so the split is the same on every machine
and does not depend on the global random state.
"""

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from dassl.data.dataset import DatasetBase
from dassl.data.datum import Datum, Split
from dassl.data.filekinds import IMAGE_ENDINGS
from dassl.utils.errors import UserError

TRAIN_SHARE, VAL_SHARE = 0.5, 0.2  # of a data set without an official split; the rest is for test
HELD_OUT_SHARE = 0.2  # of an official training list, for validation

_KEY = "split 1"
_MANUAL = "see docs/datasets.md for the layout"


class FolderDataset(DatasetBase):
    """A data set with one folder a class and no official split: half of each class is for training, 20 % validation.

    Class attributes:
        skipped: names of folders that are not classes.
        subfolders: folders below the image folder that each hold all classes; each is split, then they are joined.
    """

    skipped: ClassVar[tuple[str, ...]] = ()
    subfolders: ClassVar[tuple[str, ...]] = ("",)

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """Classes in byte order of their folder names."""
        place = cls.image_folder(folder)
        classes: list[str] = []
        lists: tuple[list[Datum], list[Datum], list[Datum]] = ([], [], [])
        for subfolder in cls.subfolders:
            images = class_images(place / subfolder, cls.skipped)
            if classes and list(images) != classes:
                odd = sorted(set(images).symmetric_difference(classes))
                raise UserError(f"{place}: class folder {odd[0]!r} is not in each of {', '.join(cls.subfolders)}")
            classes = list(images)
            groups = {
                f"{subfolder}/{name}": labelled(paths, label) for label, (name, paths) in enumerate(images.items())
            }
            for joined, items in zip(lists, split_classes(groups), strict=True):
                joined += items
        return Split((cls.task(folder, classes),), *lists)

    @classmethod
    def images_on_disk(cls, folder: Path) -> list[str]:
        """Images of all class folders."""
        return images_below([cls.image_folder(folder) / name for name in cls.subfolders], cls.skipped)


class Labels(dict[str, int]):
    """Label of each class name, counted from 0; ``source`` is the file that lists them.

    Raises:
        UserError: on looking up a name that is not listed.
    """

    def __init__(self, names: Iterable[str], source: Path) -> None:
        super().__init__((name, label) for label, name in enumerate(names))
        self.source = source

    def __missing__(self, name: str) -> int:
        raise UserError(f"class {name!r} is not listed in {self.source}; {_MANUAL}")


def class_images(folder: Path, skipped: Sequence[str] = ()) -> dict[str, list[str]]:
    """Image paths of each class folder, sorted; classes in byte order of their names.

    A folder without images is searched, because some archives have an extra folder and some data sets group their
    classes. A class name that occurs again deeper down is a second copy and is left out.

    Raises:
        UserError: the folder does not exist or has no class folder.
    """
    found: dict[str, list[str]] = {}
    level = _listing(folder)[1]
    while level:
        here: dict[str, list[str]] = {}
        deeper = []
        for place in level:
            if place.name in skipped or place.name == "__MACOSX":
                continue
            images, folders = _listing(place)
            if images and place.name not in found:
                here.setdefault(place.name, []).extend(images)
            elif not images:
                deeper += folders
        found.update(here)
        level = deeper
    if not found:
        raise UserError(f"{folder} has no class folders with images in them; {_MANUAL}")
    return {name: sorted(found[name]) for name in sorted(found)}


def images_below(folders: Iterable[Path], skipped: Sequence[str] = ()) -> list[str]:
    """Image paths of all class folders in ``folders``; a missing folder has none."""
    found: list[str] = []
    for folder in folders:
        with suppress(UserError):
            found += [path for paths in class_images(folder, skipped).values() for path in paths]
    return found


def labelled(paths: Iterable[str], label: int, task: int = 0) -> list[Datum]:
    """The images of one class."""
    return [Datum(path, label, task) for path in paths]


def split_classes(
    groups: Mapping[str, Sequence[Datum]], *, train: float = TRAIN_SHARE, val: float = VAL_SHARE
) -> tuple[list[Datum], list[Datum], list[Datum]]:
    """Split every group: round(train n) images for training, round(val n) for validation, the rest for test.

    Args:
        groups: images by a name that keys the shuffle. Groups keep their order in the three lists.

    Raises:
        UserError: a group is too small to give an image to each list.
    """
    lists: tuple[list[Datum], list[Datum], list[Datum]] = ([], [], [])
    for name, items in groups.items():
        first = round(train * len(items))
        second = first + round(val * len(items))
        if not 0 < first < second < len(items):
            raise UserError(f"class {name.strip('/')!r} has only {len(items)} images; it needs more to be split")
        mixed = shuffled(items, name)
        for joined, chosen in zip(lists, (mixed[:first], mixed[first:second], mixed[second:]), strict=True):
            joined += chosen
    return lists


def hold_out(items: Iterable[Datum]) -> tuple[list[Datum], list[Datum]]:
    """Take a fifth of every class of an official training list for validation: (training, validation).

    Classes are in order of first appearance.
    """
    groups: dict[int, list[Datum]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    train: list[Datum] = []
    val: list[Datum] = []
    for label, group in groups.items():
        mixed = shuffled(group, str(label))
        count = round(HELD_OUT_SHARE * len(group))
        val += mixed[:count]
        train += mixed[count:]
    return train, val


def shuffled(items: Sequence[Datum], key: str) -> list[Datum]:
    """The items in an order that depends only on ``key``."""
    mixed = list(items)
    random.Random(f"{_KEY}\0{key}").shuffle(mixed)
    return mixed


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without blank ones and without space at their ends.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_rows(path: Path, fields: int, separator: str | None = None, *, header: int = 0) -> list[list[str]]:
    """Lines after the first ``header`` ones, cut into ``fields`` fields; the last keeps further separators.

    Raises:
        UserError: the file cannot be read, or a line has fewer fields.
    """
    rows = [line.split(separator, fields - 1) for line in read_lines(path)[header:]]
    for number, row in enumerate(rows, start=1):
        if len(row) != fields:
            raise UserError(f"{path}: entry {number} is {row!r}, but {fields} fields are expected; {_MANUAL}")
    return rows


def read_mat(path: Path, key: str) -> Any:
    """One variable of a MATLAB file as a 1-d array; structures have their fields by name.

    Raises:
        UserError: the file cannot be read, or has no such variable.
    """
    import numpy as np
    from scipy.io import loadmat  # slow to import, rarely needed

    try:
        with path.open("rb") as file:
            return np.atleast_1d(loadmat(file, squeeze_me=True)[key])
    except Exception as error:  # damaged bytes can raise nearly any error
        raise _unreadable(path, error) from error


def label_from_one(number: Any, classes: int, source: Path) -> int:
    """A class number that counts from 1 as a label, which counts from 0.

    Raises:
        UserError: it is not a number from 1 to ``classes``.
    """
    if not str(number).isdecimal() or not 1 <= int(number) <= classes:
        raise UserError(f"{source}: class {str(number)!r} is not a number from 1 to {classes}; fetch the file again")
    return int(number) - 1


def names_in_order(names: Mapping[int, str], path: Path) -> list[str]:
    """Class names by label.

    Raises:
        UserError: labels do not count from 0 without a gap.
    """
    if sorted(names) != list(range(len(names))):
        missing = next(label for label in range(len(names) + 1) if label not in names)
        raise UserError(f"{path}: class {missing + 1} of {max(names, default=0) + 1} is missing; {_MANUAL}")
    return [names[label] for label in range(len(names))]


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} does not exist; put the data set's own annotation there ({_MANUAL})")
    reason = " ".join(str(error).split())
    return UserError(f"{path} cannot be read ({type(error).__name__}: {reason}); fetch it again")


def _listing(folder: Path) -> tuple[list[str], list[Path]]:
    """Images and folders in ``folder`` without hidden ones; the file system is not asked about each image."""
    images: list[str] = []
    folders: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(IMAGE_ENDINGS):
                    images.append(entry.path)
                elif entry.is_dir():
                    folders.append(Path(entry.path))
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read ({error.strerror}); {_MANUAL}") from error
    return images, folders
