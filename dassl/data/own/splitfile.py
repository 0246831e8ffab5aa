"""Which split (train, val or test) an image is in: ratios for every class, and a file that remembers the outcome."""

import logging
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dassl.data.own.listing import on_disk, text_form
from dassl.data.places import locked_somewhere, write_json_somewhere
from dassl.data.splits import IF_MEANT, SPLITS
from dassl.utils.digests import ChangedError
from dassl.utils.errors import UserError
from dassl.utils.files import read_json

logger = logging.getLogger(__name__)

Ratios = tuple[float, float, float]
GroupName = tuple[str, str]  # what names the groups of a task, and the name of one

_SEED = 0
_ANEW = "all images split anew (older results are then not comparable)"
_FIRST_NEEDS = (0, 2, 1)  # a class with few images gets one for train, then for test, then for val


@dataclass(frozen=True)
class ClassImages:
    """The images of one class and the shares that the splits get of them."""

    images: Sequence[str]
    ratios: Ratios


def split_sizes(count: int, ratios: Ratios) -> tuple[int, int, int]:
    """Numbers of train, val and test images of a class with ``count`` images.

    Train and val get their rounded shares, test the rest. A split with a share above 0 gets at least one image, in
    the order train, test, val, as long as there are images.
    """
    train = min(round(count * ratios[0]), count)
    val = min(round(count * ratios[1]), count - train)
    sizes = [train, val, count - train - val]
    for place, split in enumerate(_FIRST_NEEDS):
        if sizes[split] == 0 and ratios[split] > 0 and count > place:
            giver = max(range(3), key=lambda other: (sizes[other], _FIRST_NEEDS.index(other)))
            sizes[giver] -= 1
            sizes[split] += 1
    return sizes[0], sizes[1], sizes[2]


@dataclass(frozen=True)
class Together:
    """Images that share a split.

    Attributes:
        images: copies of one picture, which count once, or of one group, where each picture counts.
        group: (what names the groups, name of the group), or None for copies.
    """

    images: Sequence[str]
    group: GroupName | None = None


def assign_splits(
    classes: Sequence[ClassImages],
    known: Mapping[str, str],
    together: Sequence[Together] = (),
    known_groups: Mapping[GroupName, str] | None = None,
) -> dict[str, str]:
    """The split of every image, the known ones included.

    Small classes come first. Each image of a class without a split yet, in an order drawn from the sorted names with a
    fixed seed, goes where the class lacks most. An image of several tasks thus has one split for all of them. Images
    that belong together go together, to the split that one of them has already; of groups the largest go first, and
    every split gets one if there are enough.

    Args:
        together: images that share a split; those that share an image are joined.
        known_groups: splits of groups whose images may all be new.
    """
    splits = dict(known)
    units = _units(together)
    unit_of = {image: unit for unit in units for image in unit.images}
    for unit in units:
        split = unit.split(splits, known_groups or {})
        splits.update({image: split for image in unit.images if split and image not in splits})
    copy_of = {image: each.images[0] for each in together if not each.group for image in each.images}
    pictures = [_pictures(group.images, copy_of) for group in classes]
    for images, ratios in sorted(
        zip(pictures, (group.ratios for group in classes), strict=True), key=lambda pair: len(pair[0])
    ):
        _assign_class(images, ratios, splits, unit_of)
    return splits


def _assign_class(
    images: Sequence[str], ratios: Ratios, splits: dict[str, str], unit_of: Mapping[str, "_Unit"]
) -> None:
    """Give each image of a class a split, with the images that belong to it."""
    have = Counter(splits[image] for image in images if image in splits)
    sizes = split_sizes(len(images), ratios)
    lacking = [size - have[split] for split, size in zip(SPLITS, sizes, strict=True)]
    loose = [image for image in images if image not in splits]
    random.Random(_SEED).shuffle(loose)
    sets: dict[int, list[str]] = {}  # the images of this class in each unit
    for number, image in enumerate(loose):
        sets.setdefault(id(unit_of[image]) if image in unit_of else number, []).append(image)
    grouped = any(unit_of[image].groups for image in images if image in unit_of)
    queue = sorted(sets.values(), key=len, reverse=True)
    for place, members in enumerate(queue):
        number = max(range(3), key=lambda split: (lacking[split], -split))
        if grouped:
            empty = [split for split in _FIRST_NEEDS if ratios[split] > 0 and not have[SPLITS[split]]]
            number = empty[0] if empty and len(queue) - place <= len(empty) else number
        lacking[number] -= len(members)
        have[SPLITS[number]] += len(members)
        for image in members:
            its = unit_of[image].images if image in unit_of else (image,)
            splits.update(dict.fromkeys(its, SPLITS[number]))


@dataclass(frozen=True, eq=False)
class _Unit:
    """Images that share a split, directly or through others."""

    images: Sequence[str]
    groups: Sequence[GroupName]

    def split(self, splits: Mapping[str, str], groups: Mapping[GroupName, str]) -> str:
        """The known split: of copies that of the first one; of groups train if any is there, else val, else test."""
        found = [splits[image] for image in self.images if image in splits]
        found += [groups[name] for name in self.groups if name in groups]
        if not self.groups:
            return next(iter(found), "")
        return min(found, key=SPLITS.index, default="")


def _units(together: Sequence[Together]) -> list[_Unit]:
    """Join what shares an image."""
    number_of: dict[str, int] = {}  # of an image's unit
    units: dict[int, tuple[list[str], list[GroupName]]] = {}
    for number, each in enumerate(together):
        units[number] = ([], [each.group] if each.group else [])
        for image in each.images:
            other = number_of.get(image, -1)
            if other == -1:
                number_of[image] = number
                units[number][0].append(image)
            elif other != number:
                images, groups = units.pop(other)
                number_of.update(dict.fromkeys(images, number))
                units[number][0].extend(images)
                units[number][1].extend(groups)
    return [_Unit(images, groups) for images, groups in units.values()]


def _pictures(images: Sequence[str], copy_of: Mapping[str, str]) -> list[str]:
    """The sorted images of a class, with one image for each set of copies."""
    first: dict[str, str] = {}
    for image in sorted(images):
        first.setdefault(copy_of.get(image, image), image)
    return list(first.values())


@dataclass(frozen=True)
class Stored:
    """The content of a split file: splits of images, ratios of each source of labels, splits of groups."""

    splits: dict[str, str]
    ratios: dict[str, Ratios]
    groups: dict[GroupName, str]


class SplitFile:
    """A JSON file with the split of every image that the data itself leaves open.

    Args:
        places: the file, and its replacement if that is read-only.
        root: folder that the names of images are relative to.
    """

    def __init__(self, places: tuple[Path, Path], root: Path) -> None:
        self.places, self.root = places, root

    def complete(
        self,
        classes: Sequence[ClassImages],
        fixed: Mapping[str, str],
        ratios: Mapping[str, Ratios],
        *,
        together: Sequence[Together] = (),
        keep: bool = True,
    ) -> dict[str, str]:
        """The split of every image: the stated one, else the stored one, else a new one.

        Args:
            fixed: splits that the data states; these are not stored.
            ratios: of each source of labels that leaves splits open; they must equal the stored ones.
            together: images that get the same new split.
            keep: write the file; without it nothing is written or logged.

        Raises:
            UserError: the file is damaged or cannot be written, or shares were changed.
        """
        stored, splits = self._assign(classes, fixed, ratios, together)
        changed = any(self._changes(splits, fixed, stored.splits, classes))
        if keep and (changed or _groups_of(together, splits, fixed).items() - stored.groups.items()):
            # Two runs that add images of different tasks must see each other's entries.
            with locked_somewhere(self.places):
                stored, splits = self._assign(classes, fixed, ratios, together)
                groups = {**stored.groups, **_groups_of(together, splits, fixed)}
                self._keep(splits, fixed, stored, classes, Stored({}, {**stored.ratios, **ratios}, groups))
        return splits

    def _assign(
        self,
        classes: Sequence[ClassImages],
        fixed: Mapping[str, str],
        ratios: Mapping[str, Ratios],
        together: Sequence[Together],
    ) -> tuple[Stored, dict[str, str]]:
        """What is stored, and the split of every image."""
        stored = self._read()
        self._refuse_other_ratios(stored.ratios, ratios)
        return stored, assign_splits(classes, {**stored.splits, **fixed}, together, stored.groups)

    def _changes(
        self,
        splits: Mapping[str, str],
        fixed: Mapping[str, str],
        stored: Mapping[str, str],
        classes: Sequence[ClassImages],
    ) -> tuple[set[str], set[str]]:
        """New images, which the file does not name yet, and images of the file that are gone."""
        named = {image for group in classes for image in group.images}
        gone = {image for image in stored if image not in named and not os.path.exists(on_disk(str(self.root / image)))}  # noqa: PTH110
        return splits.keys() - fixed.keys() - gone - stored.keys(), gone

    def _keep(
        self,
        splits: Mapping[str, str],
        fixed: Mapping[str, str],
        before: Stored,
        classes: Sequence[ClassImages],
        after: Stored,
    ) -> None:
        """Write new images and groups, drop images that are gone, and log both.

        Args:
            after: the ratios and groups to write.
        """
        stored = before.splits
        named = {image for group in classes for image in group.images}
        new, gone = self._changes(splits, fixed, stored, classes)
        open_splits = {image: split for image, split in splits.items() if image not in fixed and image not in gone}
        if not new and not gone and after.groups == before.groups:
            return
        path = self._write(open_splits, after)
        if not new and not gone:
            return
        if not stored:
            logger.info("Wrote the split to %s", path)
            return
        # A class without stored images belongs to another task or is new: no earlier figure includes it.
        older = any(new & set(group.images) and stored.keys() & set(group.images) for group in classes)
        logger.log(
            logging.WARNING if older or gone else logging.INFO,
            "%s: %d images keep their split, %d new ones got one, %d are gone%s",
            path,
            len(named & stored.keys()),
            len(new),
            len(gone),
            "; earlier runs had other images, so compare only runs from now on" if older or gone else "",
        )

    def _read(self) -> Stored:
        stored = Stored({}, {}, {})
        for path in reversed(self.places):  # the data folder counts more than its replacement
            if path.is_file():
                content = _content(path)
                _check(content, path)
                stored.splits.update({text_form(image): split for split in SPLITS for image in content[split]})
                stored.ratios.update({source: tuple(shares) for source, shares in content["ratios"].items()})
                for kind, groups in content.get("groups", {}).items():
                    stored.groups.update({(kind, text_form(name)): split for name, split in groups.items()})
        return stored

    def _refuse_other_ratios(self, stored: Mapping[str, Ratios], ratios: Mapping[str, Ratios]) -> None:
        for source, shares in ratios.items():
            if stored.get(source, shares) != shares:
                then, now = ("/".join(f"{share:g}" for share in each) for each in (stored[source], shares))
                path = next(path for path in self.places if path.is_file())
                raise UserError(
                    f"the ratios of {source} are {now}, but its images were split by {then}; restore the old ratios, "
                    f"or delete {path} to have {_ANEW}"
                )

    def _write(self, splits: Mapping[str, str], after: Stored) -> Path:
        content: dict[str, Any] = {"ratios": {source: list(shares) for source, shares in sorted(after.ratios.items())}}
        for split in SPLITS:
            content[split] = sorted(image for image, its in splits.items() if its == split)
        for (kind, name), split in sorted(after.groups.items()):
            content.setdefault("groups", {}).setdefault(kind, {})[name] = split
        return write_json_somewhere(self.places, content)


def _groups_of(
    together: Sequence[Together], splits: Mapping[str, str], fixed: Mapping[str, str]
) -> dict[GroupName, str]:
    """The split of each group on one side of it, unless the data states it; new images of the group follow it."""
    found: dict[GroupName, str] = {}
    for each in together:
        sides = {splits[image] for image in each.images}
        if each.group and len(sides) == 1 and not all(image in fixed for image in each.images):
            found[each.group] = sides.pop()
    return found


def _content(path: Path) -> Any:
    try:
        return read_json(path)
    except ChangedError as error:
        raise ChangedError(path, f"put it back from a copy, or delete it to have {_ANEW}; {IF_MEANT}") from error


def _check(content: Any, path: Path) -> None:
    try:
        images = [image for split in SPLITS for image in content[split]]
        shares = [share for three in content["ratios"].values() for share in three]
        good = all(type(image) is str for image in images) and all(type(share) in (int, float) for share in shares)
        groups = content.get("groups", {}).values()
        good = good and all(split in SPLITS for its in groups for split in its.values())
        if good and len(set(images)) == len(images):
            return
    except (TypeError, KeyError, AttributeError):
        pass
    raise UserError(f"{path} is damaged; delete it to have the images split anew")
