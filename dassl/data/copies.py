"""Find copies of pictures: files with equal bytes, or with equal pixels when decoded."""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from dassl.data.contents import list_key, read_content
from dassl.data.datum import Datum, Split
from dassl.data.threads import in_threads
from dassl.utils.errors import UserError
from dassl.utils.files import read_json, write_json

_ONE_BYTE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # modes with up to 8 bits a channel
_OPAQUE = 255
_SIDE = 8  # of the grid on which brightness is compared
_NEAR = 6  # how many of the 128 comparisons may differ between pictures that look alike
_BLOCK = 1024

Group = list[str]  # images that are the same picture, in the given order
Pair = tuple[str, str]


# -- equal pictures --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Same:
    """Groups of equal images.

    Attributes:
        files: groups of images with equal bytes.
        pictures: groups of images with equal bytes or equal pixels.
        pixels: whether pixels were compared; False: ``pictures`` are the files.
    """

    files: list[Group]
    pictures: list[Group]
    pixels: bool


def same_pictures(paths: Iterable[str], limit: float = float("inf")) -> Same:
    """Find equal files, and images that decode to equal pixels, as a viewer shows them.

    Only files of equal size are read, and only images of equal width and height decoded. Empty, missing and
    unreadable files have no copies.

    Args:
        limit: number of pixels up to which images are decoded; 0: never.
    """
    unique = list(dict.fromkeys(paths))
    files = _divide(_divide([unique], _size, "comparing sizes"), _content, "looking for copies")
    if not limit:
        return Same(files, files, False)
    copies = {path for group in files for path in group[1:]}
    sides: dict[str, Any] = {}
    groups = _divide([[path for path in unique if path not in copies]], _sides, "comparing sizes of images", sides)
    if sum(sides[path][0] * sides[path][1] for group in groups for path in group) > limit:
        return Same(files, files, False)
    whole = {group[0]: group for group in files}
    equal = _divide(groups, _pixel_digest, "comparing images")
    joined = [[path for first in group for path in whole.pop(first, [first])] for group in equal]
    return Same(files, [*joined, *whole.values()], True)


def recorded_pictures(paths: Sequence[str], cache: Path, limit: float) -> Same:
    """``same_pictures`` with a record in the cache folder, which serves as long as no file changes."""
    key = list_key(paths)
    if not key:
        return same_pictures(paths, limit)
    record = cache / "copies" / f"{key}.json"
    with suppress(UserError, TypeError, KeyError):
        content = read_json(record)
        same = Same(content["files"], content["pictures"], content["pixels"])
        if content["limit"] == limit and {path for group in same.files + same.pictures for path in group} <= {*paths}:
            return same
    same = same_pictures(paths, limit)
    write_json(record, {"limit": limit, **asdict(same)}, signed=True)
    return same


def _divide(
    groups: Iterable[Group], key: Callable[[str], Hashable], title: str, known: dict[str, Any] | None = None
) -> list[Group]:
    """Divide each group by a key of its images; an image without an equal, or without a key (None), is left out.

    Args:
        known: receives the keys.
    """
    groups = list(groups)
    paths = [path for group in groups for path in group]
    keys = {} if known is None else known
    keys.update(zip(paths, in_threads(key, paths, title), strict=True))
    divided: defaultdict[Hashable, Group] = defaultdict(list)
    for number, group in enumerate(groups):
        for path in group:
            if keys[path] is not None:
                divided[number, keys[path]].append(path)
    return [group for group in divided.values() if len(group) > 1]


def _size(path: str) -> int | None:
    with suppress(OSError, ValueError):
        return os.stat(path).st_size or None  # noqa: PTH116  (a Path for each of a million images costs seconds)
    return None


def _content(path: str) -> bytes | None:
    return read_content(path)[1] or None


def _sides(path: str) -> tuple[int, int] | None:
    """Width and height, the longer one first, so that a turned picture compares equal."""
    with suppress(Exception), Image.open(path) as image:  # decoders raise nearly anything on damaged bytes
        return max(image.size), min(image.size)
    return None


def _pixel_digest(path: str) -> bytes | None:
    """A digest of the picture that a viewer shows: upright, with its transparency, whatever the format."""
    with suppress(Exception), Image.open(path) as image:
        shown = ImageOps.exif_transpose(image)
        if shown.mode in _ONE_BYTE:
            shown = shown.convert("RGBA" if shown.has_transparency_data else "RGB")
        if shown.mode == "RGBA" and shown.getchannel("A").getextrema()[0] == _OPAQUE:
            shown = shown.convert("RGB")
        return blake2b(f"{shown.mode} {shown.size}".encode() + shown.tobytes(), digest_size=32).digest()
    return None


# -- what copies mean for a split --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Doubles:
    """Copies in a split that make a figure wrong.

    Attributes:
        leaked: (test image, training image) of a task.
        labels: (image, image) with different labels in a task.
    """

    leaked: list[Pair] = field(default_factory=list)
    labels: list[Pair] = field(default_factory=list)


def doubles(split: Split, groups: Iterable[Group], *, for_testing: bool = False) -> Doubles:
    """Compare the images of each task with one another; the same path is the same picture.

    Args:
        for_testing: the data set is only for testing, and its training list is its test list on purpose.
    """
    first = {path: group[0] for group in groups for path in group}
    found = Doubles()
    labels: dict[tuple[int, str], tuple[int, str]] = {}
    for item in (item for items in split.lists for item in items):
        for task, label in item.targets:
            other, path = labels.setdefault((task, first.get(item.impath, item.impath)), (label, item.impath))
            if other != label:
                found.labels.append((item.impath, path))
    if not for_testing:
        trained = dict(_by_picture(reversed(split.train), first))
        leaked = {path: trained[key] for key, path in _by_picture(split.test, first) if key in trained}
        found.leaked.extend(leaked.items())
    return found


def _by_picture(items: Iterable[Datum], first: Mapping[str, str]) -> Iterable[tuple[tuple[int, str], str]]:
    for item in items:
        for task, _ in item.targets:
            yield (task, first.get(item.impath, item.impath)), item.impath


# -- pictures that look alike ----------------------------------------------------------------------------------


def near_pairs(split: Split) -> list[Pair]:
    """(test image, training image) of a task that look alike: scaled, recompressed, or frames of one film.

    It compares whether brightness rises from one point of a grid to the next ("difference hash"). Pictures without
    structure on that grid are left out.
    """
    paths = list(dict.fromkeys(item.impath for items in (split.train, split.test) for item in items))
    hashes = {
        path: bits for path, bits in zip(paths, in_threads(_slopes, paths, "comparing looks"), strict=True) if bits
    }
    pairs: dict[Pair, None] = {}
    for number in range(len(split.tasks)):
        train, test = (_hashed(items, number, hashes) for items in (split.train, split.test))
        pairs.update(dict.fromkeys(_close(test, train, hashes)))
    return list(pairs)


def _hashed(items: Iterable[Datum], task: int, hashes: Mapping[str, tuple[int, int]]) -> list[str]:
    return [item.impath for item in items if item.impath in hashes and task in dict(item.targets)]


def _close(test: Sequence[str], train: Sequence[str], hashes: Mapping[str, tuple[int, int]]) -> Iterable[Pair]:
    ours, theirs = (np.array([hashes[path] for path in paths], np.uint64).reshape(-1, 2) for paths in (test, train))
    for start in range(0, len(ours) if len(theirs) else 0, _BLOCK):
        apart = np.bitwise_count(ours[start : start + _BLOCK, None] ^ theirs).sum(-1, dtype=np.int64)
        nearest = apart.argmin(1)
        for row in np.flatnonzero(apart.min(1) <= _NEAR):
            yield test[start + row], train[nearest[row]]


def _slopes(path: str) -> tuple[int, int] | None:
    with suppress(Exception), Image.open(path) as image:
        grey = ImageOps.exif_transpose(image).convert("L")
        across = np.asarray(grey.resize((_SIDE + 1, _SIDE)), np.int16)
        down = np.asarray(grey.resize((_SIDE, _SIDE + 1)), np.int16)
        bits = [np.packbits(np.diff(values, axis=axis) > 0) for values, axis in ((across, 1), (down, 0))]
        first, second = (int.from_bytes(each.tobytes(), "big") for each in bits)
        return (first, second) if first or second else None
    return None
