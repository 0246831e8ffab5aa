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


def assign_splits(
    classes: Sequence[ClassImages], known: Mapping[str, str], copies: Sequence[Sequence[str]] = ()
) -> dict[str, str]:
    """The split of every image, the known ones included.

    Small classes come first. Each image of a class without a split yet, in an order drawn from the sorted names with a
    fixed seed, goes where the class lacks most. An image of several tasks thus has one split for all of them.

    Args:
        copies: groups of images that are the same picture. They go together, to the split that the first of them with
            a known split has, and count once.
    """
    splits = dict(known)
    together = {image: group for group in copies for image in group}
    for group in copies:
        split = next((splits[image] for image in group if image in splits), "")
        splits.update({image: split for image in group if split and image not in splits})
    pictures = [_pictures(group.images, together) for group in classes]
    for images, ratios in sorted(
        zip(pictures, (group.ratios for group in classes), strict=True), key=lambda pair: len(pair[0])
    ):
        have = Counter(splits[image] for image in images if image in splits)
        sizes = split_sizes(len(images), ratios)
        lacking = [size - have[split] for split, size in zip(SPLITS, sizes, strict=True)]
        loose = [image for image in images if image not in splits]
        random.Random(_SEED).shuffle(loose)
        for image in loose:
            fullest = max(range(3), key=lambda number: (lacking[number], -number))
            lacking[fullest] -= 1
            splits.update(dict.fromkeys(together.get(image, (image,)), SPLITS[fullest]))
    return splits


def _pictures(images: Sequence[str], together: Mapping[str, Sequence[str]]) -> list[str]:
    """The sorted images of a class, with one image for each group of copies."""
    first: dict[str, str] = {}
    for image in sorted(images):
        first.setdefault(together.get(image, (image,))[0], image)
    return list(first.values())


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
        copies: Sequence[Sequence[str]] = (),
        keep: bool = True,
    ) -> dict[str, str]:
        """The split of every image: the stated one, else the stored one, else a new one.

        Args:
            fixed: splits that the data states; these are not stored.
            ratios: of each source of labels that leaves splits open; they must equal the stored ones.
            copies: groups of images that are the same picture and get the same new split.
            keep: write the file; without it nothing is written or logged.

        Raises:
            UserError: the file is damaged or cannot be written, or shares were changed.
        """
        stored, _, splits = self._assign(classes, fixed, ratios, copies)
        if keep and any(self._changes(splits, fixed, stored, classes)):
            # Two runs that add images of different tasks must see each other's entries.
            with locked_somewhere(self.places):
                stored, stored_ratios, splits = self._assign(classes, fixed, ratios, copies)
                self._keep(splits, fixed, stored, classes, {**stored_ratios, **ratios})
        return splits

    def _assign(
        self,
        classes: Sequence[ClassImages],
        fixed: Mapping[str, str],
        ratios: Mapping[str, Ratios],
        copies: Sequence[Sequence[str]],
    ) -> tuple[dict[str, str], dict[str, Ratios], dict[str, str]]:
        """The stored splits and ratios, and the split of every image."""
        stored, stored_ratios = self._read()
        self._refuse_other_ratios(stored_ratios, ratios)
        return stored, stored_ratios, assign_splits(classes, {**stored, **fixed}, copies)

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
        stored: Mapping[str, str],
        classes: Sequence[ClassImages],
        ratios: Mapping[str, Ratios],
    ) -> None:
        """Write new images, drop those that are gone, and log both."""
        named = {image for group in classes for image in group.images}
        new, gone = self._changes(splits, fixed, stored, classes)
        open_splits = {image: split for image, split in splits.items() if image not in fixed and image not in gone}
        if not new and not gone:
            return
        path = self._write(open_splits, ratios)
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

    def _read(self) -> tuple[dict[str, str], dict[str, Ratios]]:
        splits: dict[str, str] = {}
        ratios: dict[str, Ratios] = {}
        for path in reversed(self.places):  # the data folder counts more than its replacement
            if path.is_file():
                content = _content(path)
                _check(content, path)
                splits.update({text_form(image): split for split in SPLITS for image in content[split]})
                ratios.update({source: tuple(shares) for source, shares in content["ratios"].items()})
        return splits, ratios

    def _refuse_other_ratios(self, stored: Mapping[str, Ratios], ratios: Mapping[str, Ratios]) -> None:
        for source, shares in ratios.items():
            if stored.get(source, shares) != shares:
                then, now = ("/".join(f"{share:g}" for share in each) for each in (stored[source], shares))
                path = next(path for path in self.places if path.is_file())
                raise UserError(
                    f"the ratios of {source} are {now}, but its images were split by {then}; restore the old ratios, "
                    f"or delete {path} to have {_ANEW}"
                )

    def _write(self, splits: Mapping[str, str], ratios: Mapping[str, Ratios]) -> Path:
        content: dict[str, Any] = {"ratios": {source: list(shares) for source, shares in sorted(ratios.items())}}
        for split in SPLITS:
            content[split] = sorted(image for image, its in splits.items() if its == split)
        return write_json_somewhere(self.places, content)


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
        if good and len(set(images)) == len(images):
            return
    except (TypeError, KeyError, AttributeError):
        pass
    raise UserError(f"{path} is damaged; delete it to have the images split anew")
