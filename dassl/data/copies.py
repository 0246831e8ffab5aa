"""Find copies of pictures: files with equal bytes, or with equal pixels when decoded."""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import islice
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
_REDUCED = 256  # pixels of the shorter side that are enough for that
_NEAR = 12  # how many of the 128 comparisons may differ between pictures that look alike
_NEAREST = 5  # pictures that are compared more closely with one picture
_SMALL_SIDE, _LEVELS = 16, 32  # the closer look: side of the small pictures, and by how many of 255 levels they differ
_BLOCK = 256

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
    """(test image, training image) of a task that look alike: scaled, recompressed, or frames of one film."""
    paths = list(dict.fromkeys(item.impath for items in (split.train, split.test) for item in items))
    marks = dict(zip(paths, in_threads(_marks_of_file, paths, "comparing looks"), strict=True))
    pairs: dict[Pair, None] = {}
    for number in range(len(split.tasks)):
        train, test = (_of_task(items, number) for items in (split.train, split.test))
        pairs.update(dict.fromkeys(look_alike(test, train, marks)))
    return list(pairs)


def _of_task(items: Iterable[Datum], task: int) -> list[str]:
    return [item.impath for item in items if task in dict(item.targets)]


def look_alike(ours: Sequence[str], theirs: Sequence[str], marks: Mapping[str, bytes]) -> list[Pair]:
    """(picture of ``ours``, picture of ``theirs``) that look alike, one for each of ``ours`` that has such a pair.

    Pictures with nearly equal marks are compared as small colour pictures; only these are decoded.

    Args:
        marks: of each picture, see :func:`brightness_marks`; a picture with b"" has no pair.
    """
    candidates = list(_candidates([p for p in ours if marks[p]], [p for p in theirs if marks[p]], marks))
    paths = list(dict.fromkeys(path for pair in candidates for path in pair))
    small = dict(zip(paths, in_threads(_small, paths, "comparing looks"), strict=True))
    found: dict[str, str] = {}
    for one, other in candidates:
        first, second = small[one], small[other]
        if one not in found and first is not None and second is not None and np.abs(first - second).max() <= _LEVELS:
            found[one] = other
    return list(found.items())


def _candidates(ours: Sequence[str], theirs: Sequence[str], marks: Mapping[str, bytes]) -> Iterable[Pair]:
    first, second = (
        np.frombuffer(b"".join(marks[path] for path in paths), np.uint64).reshape(-1, 2) for paths in (ours, theirs)
    )
    for start in range(0, len(first) if len(second) else 0, _BLOCK):
        apart = np.bitwise_count(first[start : start + _BLOCK, None] ^ second).sum(-1, dtype=np.int16)
        for row in np.flatnonzero((apart <= _NEAR).any(1)):
            one, near = ours[start + row], np.flatnonzero(apart[row] <= _NEAR)
            others = [theirs[column] for column in near[np.argsort(apart[row][near], kind="stable")]]
            yield from ((one, other) for other in islice((o for o in others if o != one), _NEAREST))


def brightness_marks(image: Image.Image) -> bytes:
    """16 bytes that are nearly equal for pictures that look alike; b"" for a picture without structure.

    Each bit says whether brightness rises from one point of a grid to the next ("difference hash").
    """
    grey = image.convert("L")
    if min(grey.size) > _REDUCED:
        grey = grey.reduce(min(grey.size) // _REDUCED + 1)
    across = np.asarray(grey.resize((_SIDE + 1, _SIDE)), np.int16)
    down = np.asarray(grey.resize((_SIDE, _SIDE + 1)), np.int16)
    bits = [np.packbits(np.diff(values, axis=axis) > 0) for values, axis in ((across, 1), (down, 0))]
    marks = b"".join(each.tobytes() for each in bits)
    return marks if any(marks) else b""


def _marks_of_file(path: str) -> bytes:
    with suppress(Exception), Image.open(path) as image:
        return brightness_marks(ImageOps.exif_transpose(image))
    return b""


def _small(path: str) -> np.ndarray | None:
    with suppress(Exception), Image.open(path) as image:
        image.draft("RGB", (_SMALL_SIDE * 8, _SMALL_SIDE * 8))
        upright = ImageOps.exif_transpose(image)
        clear = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        return np.asarray(clear.convert("RGBA").resize((_SMALL_SIDE, _SMALL_SIDE)), np.int16)
    return None
