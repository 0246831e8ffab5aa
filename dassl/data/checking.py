"""Check every picture before a run: whether it is readable, shows anything, and differs from the others."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import cast

import numpy as np
from PIL import Image

from dassl.data.contents import DigestIndex, file_key, open_index, read_content, short_digest
from dassl.data.copies import brightness_marks
from dassl.data.images import AS_SEEN, Decoded, Reading, decode, full_size, is_turned
from dassl.data.reduced import ReducedImages
from dassl.data.threads import in_threads
from dassl.utils.errors import UserError
from dassl.utils.files import file_state

READABLE, BLANK, DARK, CLIPPED, UNREADABLE = "", "blank", "dark", "clipped", "unreadable"
_LOOKS = (READABLE, BLANK, DARK, CLIPPED)
_FEW_LEVELS = 3  # of 255; the eye sees no difference
_DARK_LEVELS = 16  # the most that 12-bit pictures reach in a 16-bit file
_SAMPLE = (32, 32)
_PIXELS_BYTES = 16
_STEPS = 255  # of a share in the cache
_FACTS = Struct("<II?B16s")  # size, turned, clear, marks
_RULES = b"2"  # increased when pictures are checked in another way
_SHOWN = 3
_FEWEST = 4  # fewest pictures of which "most are equal" says anything


@dataclass(frozen=True, slots=True)
class Look:
    """Findings about a decoded picture.

    Attributes:
        kind: READABLE, BLANK (all pixels look alike), DARK (a deep grey picture that uses only
            the lowest sixteenth of its scale), CLIPPED (much of a deep picture is outside its scale), UNREADABLE.
        reason: of an unreadable picture, with the remedy.
        pixels: digest of size and pixels; b"" of an unreadable picture.
        size: width and height as stored.
        turned: the camera noted that the picture is to be turned.
        clear: share of the picture that is transparent, from 0 to 1.
        marks: see :func:`dassl.data.copies.brightness_marks`; b"" of a blank picture.
        reduced: whether it was reduced to ``Reading.shortest``.
    """

    kind: str
    reason: str = ""
    pixels: bytes = b""
    size: tuple[int, int] = (0, 0)
    turned: bool = False
    clear: float = 0
    marks: bytes = b""
    reduced: bool = False


def check_images(paths: Sequence[str], cache: Path | None = None, reading: Reading = AS_SEEN) -> list[tuple[str, str]]:
    """The unreadable images as (path, reason), in the order of ``paths``; see :func:`look_at`."""
    return [(path, look.reason) for path, look in look_at(paths, cache, reading).items() if look.kind == UNREADABLE]


def look_at(
    paths: Sequence[str],
    cache: Path | None = None,
    reading: Reading = AS_SEEN,
    reduced: ReducedImages | None = None,
) -> dict[str, Look]:
    """Decode every image once, in threads, and describe it.

    Args:
        cache: folder that remembers readable pictures by their content; only new, changed and unreadable files
            are decoded.
        reduced: stores the reduced images among those that are decoded.

    Returns:
        path -> findings, in the order of ``paths``.
    """
    paths = list(dict.fromkeys(paths))
    with open_index(cache, "files") as files, open_index(cache, "pictures") as pictures:
        contents = files.find([file_key(path) for path in paths])
        found = dict(zip(paths, _known(contents, pictures, reading), strict=True))
        unknown = [path for path, look in found.items() if look is None]
        looks = in_threads(lambda path: _look(path, pictures, reading, reduced), unknown, "checking images")
        for path, (key, content, look) in zip(unknown, looks, strict=True):
            files.put(key, content)
            if look.kind != UNREADABLE:
                pictures.put(_picture_key(content, reading), _pack(look))
                pictures.put(_facts_key(content, reading), _pack_facts(look))
            found[path] = look
    return {path: look for path, look in found.items() if look is not None}


def look_within(
    paths: Sequence[str],
    cache: Path | None,
    reading: Reading,
    reduced: ReducedImages | None = None,
    *,
    images: float,
    pixels: float,
) -> dict[str, Look]:
    """As :func:`look_at`, but empty if there are more images, or more pixels in all, than stated."""
    paths = list(dict.fromkeys(paths))
    if len(paths) > images:
        return {}
    with open_index(cache, "files") as files, open_index(cache, "pictures") as pictures:
        known = _known(files.find([file_key(path) for path in paths]), pictures, reading)
    total = sum(look.size[0] * look.size[1] for look in known if look)
    unknown = [path for path, look in zip(paths, known, strict=True) if look is None]
    for size in in_threads(_stored_size, unknown if pixels < math.inf else [], "comparing sizes of images"):
        total += size[0] * size[1]
        if total > pixels:
            break
    return look_at(paths, cache, reading, reduced) if total <= pixels else {}


def _stored_size(path: str) -> tuple[int, int]:
    with suppress(Exception), Image.open(path) as image:
        return image.size
    return 0, 0


def remarks(
    splits: Mapping[str, Sequence[str]], looks: Mapping[str, Look], reading: Reading, told: Collection[str] = ()
) -> list[str]:
    """A sentence for each property of a run's pictures that makes its figures doubtful.

    Args:
        splits: paths of the readable pictures of "train", "val" and "test".
        told: pictures whose blemishes have been told.
    """
    untold = {split: [path for path in paths if path not in told] for split, paths in splits.items()}
    alike = [_alike(split, paths, looks) for split, paths in splits.items()]
    return [*blemishes(untold, looks, reading), *(text for text in alike if text)]


def blemishes(splits: Mapping[str, Sequence[str]], looks: Mapping[str, Look], reading: Reading) -> list[str]:
    """A sentence for each of the kinds BLANK, DARK and CLIPPED that occurs."""
    told = [_some(kind, splits, looks, reading) for kind in (BLANK, DARK, CLIPPED)]
    return [text for text in told if text]


def _some(kind: str, splits: Mapping[str, Sequence[str]], looks: Mapping[str, Look], reading: Reading) -> str:
    of = {split: [path for path in dict.fromkeys(paths) if looks[path].kind == kind] for split, paths in splits.items()}
    paths = list(dict.fromkeys(path for some in of.values() for path in some))
    if not paths:
        return ""
    total = len({path for paths in splits.values() for path in paths})
    counts = ", ".join(f"{split} {len(some)}" for split, some in of.items())
    what = {
        BLANK: "are blank: all their pixels have one colour",
        DARK: "are nearly black: their deep greys use less than a sixteenth of the scale of their files",
        CLIPPED: "have much outside the scale from black to white (0 to 65,535, or 0 to 1 in floating point)",
    }[kind]
    remedy = "bring them to that scale and save them as PNG"
    if kind == BLANK:
        other = "white" if reading.ground is None else "grey"
        remedy = f"replace them, or if they are transparent lay them on another ground, e.g. INPUT.BACKGROUND {other}"
    elif kind == DARK:
        remedy = "scale them to 16 bits"
    return f"{len(paths)} of {total} pictures ({counts}) {what}, e.g. {', '.join(paths[:_SHOWN])}; {remedy}"


def _alike(split: str, paths: Sequence[str], looks: Mapping[str, Look]) -> str:
    """A sentence if most pictures of a split have the same pixels; blank ones are reported apart."""
    paths = list(dict.fromkeys(paths))
    counts = Counter(looks[path].pixels for path in paths if looks[path].kind != BLANK)
    pixels, count = counts.most_common(1)[0] if counts else (b"", 0)
    if len(paths) < _FEWEST or count <= len(paths) / 2:
        return ""
    shown = [path for path in paths if looks[path].pixels == pixels][:_SHOWN]
    return (
        f"{count} of {len(paths)} {split} pictures have the same pixels, e.g. {', '.join(shown)}; "
        "a figure on them means little: check that the right files lie there"
    )


def _look(
    path: str, pictures: DigestIndex, reading: Reading, reduced: ReducedImages | None
) -> tuple[bytes, bytes, Look]:
    """The key and the digest of a file, and its look, which is decoded unless its content is known."""
    state = file_state(path)
    key, content = read_content(path)
    (known,) = _known([content], pictures, reading)
    if known:
        return key, content, known
    try:
        decoded = decode(path, reading)
    except UserError as error:
        return key, content, Look(UNREADABLE, str(error).removeprefix(f"cannot read image {path}: "))
    look = _describe(path, decoded)
    if state != file_state(path):  # it may have been hashed in one state and decoded in another
        return b"", b"", look
    if reduced:
        reduced.put(key, reading, decoded.image)
    return key, content, look


def _kind(decoded: Decoded) -> str:
    image = decoded.image
    if decoded.clipped:
        return CLIPPED
    # For most pictures a few pixels show that they are not blank.
    if all(_levels(each) <= _FEW_LEVELS for each in (image.resize(_SAMPLE, Image.Resampling.NEAREST), image)):
        return BLANK
    deep = decoded.mode.startswith(("I", "F"))
    return DARK if deep and max(high for _, high in _extrema(image)) <= _DARK_LEVELS else READABLE


def _extrema(image: Image.Image) -> tuple[tuple[float, float], ...]:
    """The smallest and largest value of each channel of an RGB picture."""
    return cast("tuple[tuple[float, float], ...]", image.getextrema())


def _levels(image: Image.Image) -> float:
    """The largest difference between two pixels in a channel."""
    return max(high - low for low, high in _extrema(image))


def _describe(path: str, decoded: Decoded) -> Look:
    kind, image = _kind(decoded), decoded.image
    size, turned, clear = image.size, False, 0.0
    with suppress(Exception), Image.open(path) as stored:  # the decoded picture no longer tells these
        size, turned, clear = stored.size, is_turned(stored), _clear_share(stored)
    return Look(
        kind,
        pixels=short_digest(repr(image.size).encode(), image.tobytes()),
        size=size,
        turned=turned,
        clear=clear,
        marks=b"" if kind == BLANK else brightness_marks(image),
        reduced=full_size(image) != image.size,
    )


def _clear_share(image: Image.Image) -> float:
    """Share of a picture that is transparent, in steps of 1/255; a picture with anything transparent has one."""
    if not image.has_transparency_data:
        return 0
    if image.mode.startswith("I"):
        return 1 / _STEPS
    opaque = np.asarray(image.convert("RGBA").getchannel("A"))
    return math.ceil((_STEPS - float(opaque.mean())) * (1 - 1e-9)) / _STEPS


def _picture_key(content: bytes, reading: Reading) -> bytes:
    return short_digest(_RULES, content, f"{reading.name} {reading.max_pixels}".encode()) if content else b""


def _facts_key(content: bytes, reading: Reading) -> bytes:
    key = _picture_key(content, reading)
    return short_digest(key, b"facts") if key else b""


def _known(contents: Sequence[bytes | None], pictures: DigestIndex, reading: Reading) -> list[Look | None]:
    """What the table knows about the pictures with these contents; it has two rows for each."""
    rows = pictures.find([_picture_key(content or b"", reading) for content in contents])
    facts = pictures.find([_facts_key(content or b"", reading) for content in contents])
    return [_unpack(row, its) if row and its else None for row, its in zip(rows, facts, strict=True)]


def _pack(look: Look) -> bytes:
    return bytes([_LOOKS.index(look.kind)]) + look.pixels + bytes([look.reduced])


def _pack_facts(look: Look) -> bytes:
    return _FACTS.pack(*look.size, look.turned, round(look.clear * _STEPS), look.marks)


def _unpack(row: bytes, facts: bytes) -> Look:
    width, height, turned, clear, marks = _FACTS.unpack(facts[: _FACTS.size])
    end = 1 + _PIXELS_BYTES
    kind, pixels, marks = _LOOKS[row[0]], row[1:end], marks if any(marks) else b""
    return Look(kind, "", pixels, (width, height), turned, clear / _STEPS, marks, bool(row[end]))
