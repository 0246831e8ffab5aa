"""The images of Demo6: what each task looks like, and ``write_demo`` that writes one data set to disk.

Image k of class c of a task depends on (task, class, k) alone. Five tasks are rendered with the nuisance of real
pictures (lamp light, tint, shadows, clutter, rotation, scale, blur, noise); the sixth holds scikit-learn's scans of
handwritten digits, enlarged from 8x8.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dassl.utils.errors import UserError
from dassl.utils.files import temporary_folder, write_error
from datasets._render.canvas import (
    SIZE,
    Placement,
    blurred,
    clouds,
    draw,
    hsv,
    keyed_rng,
    paint,
    pick,
    ramp,
    rotation,
    to_bytes,
)
from datasets._render.fields import ARRANGEMENT_COUNTS, arrangement, pattern, scatter
from datasets._render.outlines import OBJECTS, SIMPLE, Outline, blob

Rng = np.random.Generator

PER_CLASS = {"train": 24, "val": 8, "test": 32}  # images per class in each split
IMAGE_DIR = "images"

# class name -> (hue, saturation, value) ranges
_PAINTS = {
    "red": ((352, 366), (0.7, 0.95), (0.5, 0.9)),
    "orange": ((20, 33), (0.75, 0.95), (0.8, 1.0)),
    "yellow": ((48, 60), (0.6, 0.9), (0.75, 1.0)),
    "green": ((95, 150), (0.4, 0.85), (0.35, 0.8)),
    "blue": ((205, 240), (0.5, 0.9), (0.45, 0.95)),
    "purple": ((268, 292), (0.4, 0.8), (0.35, 0.75)),
    "pink": ((325, 350), (0.25, 0.5), (0.85, 1.0)),
    "brown": ((16, 30), (0.5, 0.75), (0.25, 0.48)),
}
_COUNTS = ("one", "two", "three", "four", "five", "six")
_LAYOUTS = {
    "row": "row",
    "column": "column",
    "diagonal line": "diagonal",
    "ring": "ring",
    "tight cluster": "cluster",
    "square grid": "grid",
    "triangle": "triangle",
    "loose scatter": "scatter",
}
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PATTERNS = ("plain", "striped", "dotted", "checked", "zigzag", "wavy", "gridded", "speckled")


def _any_colour(rng: Rng) -> np.ndarray:
    return hsv(rng.uniform(0, 360), rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.95))


def _table(rng: Rng) -> np.ndarray:
    """A dull, uneven ground (64, 64, 3) for things to lie on."""
    base = hsv(rng.uniform(0, 360), rng.uniform(0.0, 0.2), rng.uniform(0.35, 0.85))
    other = hsv(rng.uniform(0, 360), rng.uniform(0.0, 0.2), rng.uniform(0.35, 0.85))
    kind = rng.integers(3)
    if kind == 0:
        share = clouds(rng, int(rng.integers(3, 10)))
    elif kind == 1:
        share = 0.5 + 0.5 * ramp(rng.uniform(0, 360))[..., None]
    else:
        share = pattern("striped", rng, rng.uniform(10, 24), rng.uniform(0, 180))[..., None] * rng.uniform(0.2, 0.5)
    return base + share * (other - base) * rng.uniform(0.3, 0.9)


def _clutter(image: np.ndarray, rng: Rng, most: int = 3) -> None:
    """Small dull scraps near the border."""
    for _ in range(int(rng.integers(0, most + 1))):
        angle = rng.uniform(0, 2 * np.pi)
        centre = (SIZE / 2 + 30 * np.cos(angle), SIZE / 2 + 30 * np.sin(angle))
        mask, _ = draw(SIMPLE["bar"], Placement(centre, rng.uniform(2, 6), rng.uniform(0, 360)))
        paint(image, mask * 0.7, hsv(rng.uniform(0, 360), rng.uniform(0, 0.2), rng.uniform(0.2, 0.9)))


def _put(image: np.ndarray, parts: Outline, place: Placement, colour: np.ndarray, rng: Rng) -> None:
    """Lay a shaded thing with its shadow on the image."""
    body, detail = draw(parts, place)
    shadow = blurred(np.roll(body, tuple(rng.integers(1, 4, 2).tolist()), (0, 1)), 1.5)
    paint(image, shadow * 0.4, np.zeros(3, np.float32))
    light = (1 + 0.2 * ramp(rng.uniform(0, 360)))[..., None]
    paint(image, body, np.clip(colour * light, 0, 1))
    paint(image, detail, np.clip(colour * light * 0.55, 0, 1))


def _photograph(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Lamp light from one side, a tint, lens blur and sensor noise: (64, 64, 3) uint8."""
    lamp = rng.uniform(0.65, 1.1) * (1 + rng.uniform(0, 0.5) * ramp(rng.uniform(0, 360)))
    tint = rng.uniform(0.82, 1.18, 3).astype(np.float32)
    return to_bytes(
        image * lamp[..., None].astype(np.float32) * tint, rng, rng.uniform(0.02, 0.09), rng.uniform(0, 1.4)
    )


def _object(name: str, rng: Rng) -> np.ndarray:
    image = _table(rng)
    _clutter(image, rng)
    place = Placement(tuple(rng.uniform(26, 38, 2)), rng.uniform(14, 25), rng.normal(0, 14), rng.random() < 0.5)
    _put(image, OBJECTS[name](rng, True), place, _any_colour(rng), rng)
    return _photograph(image, rng)


def _colour(name: str, rng: Rng) -> np.ndarray:
    image = _table(rng)
    _clutter(image, rng)
    parts = blob(rng) if rng.random() < 0.5 else OBJECTS[pick(rng, OBJECTS)](rng, True)
    place = Placement(tuple(rng.uniform(24, 40, 2)), rng.uniform(11, 23), rng.uniform(0, 360))
    _put(image, parts, place, hsv(*(rng.uniform(*limits) for limits in _PAINTS[name])), rng)
    return _photograph(image, rng)


def _surface(name: str, rng: Rng) -> np.ndarray:
    light = hsv(rng.uniform(0, 360), rng.uniform(0, 0.6), rng.uniform(0.6, 0.95))
    dark = hsv(rng.uniform(0, 360), rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.5))
    if rng.random() < 0.5:
        light, dark = dark, light
    field = pattern(name, rng, rng.uniform(6, 24), rng.uniform(0, 360))[..., None]
    image = light + field * (dark - light) * rng.uniform(0.25, 0.8)
    image = image * (0.7 + 0.6 * clouds(rng, int(rng.integers(3, 6))))
    _clutter(image, rng, 4)
    return _photograph(image, rng)


def _count(name: str, rng: Rng) -> np.ndarray:
    image = _table(rng)
    colour, kind = _any_colour(rng), pick(rng, ("blob", "blob", "disc", "square", "star", "hexagon"))
    _clutter(image, rng, 4)
    for x, y in scatter(_COUNTS.index(name) + 1, rng, 0.62, 0.72):
        parts = blob(rng, 0.12) if kind == "blob" else SIMPLE[kind]
        place = Placement((32 + 32 * x, 32 + 32 * y), rng.uniform(4.5, 9), rng.uniform(0, 360))
        _put(image, parts, place, np.clip(colour * rng.uniform(0.75, 1.25), 0, 1), rng)
    return _photograph(image, rng)


def _layout(name: str, rng: Rng) -> np.ndarray:
    image = _table(rng)
    colour, kind, shape = _any_colour(rng), _LAYOUTS[name], pick(rng, ("blob", "disc", "square", "diamond"))
    count = int(pick(rng, ARRANGEMENT_COUNTS.get(kind, (3, 4, 5))))
    places = arrangement(kind, count, rng, 0.07) @ rotation(rng.normal(0, 8)) * 30 + 32 + rng.uniform(-3, 3, 2)
    _clutter(image, rng, 4)
    for x, y in places:
        parts = blob(rng) if shape == "blob" else SIMPLE[shape]
        _put(image, parts, Placement((x, y), rng.uniform(3.6, 5.6), rng.uniform(0, 360)), colour, rng)
    return _photograph(image, rng)


@lru_cache(maxsize=1)
def _scans() -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """scikit-learn's 1797 scans (8x8, 0..16) and, per digit, their numbers in a fixed shuffled order."""
    from sklearn.datasets import load_digits  # slow to import, and only this task needs it

    bunch = load_digits()
    order = [np.flatnonzero(bunch.target == digit) for digit in range(10)]
    return bunch.images, tuple(keyed_rng("digits", d).permutation(numbers) for d, numbers in enumerate(order))


def scan_number(name: str, k: int) -> int:
    """Which of scikit-learn's scans is image ``k`` of the digit called ``name``."""
    return int(_scans()[1][_DIGITS.index(name)][k])


def _digit(name: str, k: int) -> np.ndarray:
    scan = _scans()[0][scan_number(name, k)]
    ink = Image.fromarray(np.uint8(255 - scan * (255 / 16))).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(ink.convert("RGB"))


_RENDERERS: dict[str, tuple[tuple[str, ...], Callable[[str, Rng], np.ndarray]]] = {
    "DemoObjects": (tuple(OBJECTS), _object),
    "DemoColours": (tuple(_PAINTS), _colour),
    "DemoPatterns": (_PATTERNS, _surface),
    "DemoCounts": (_COUNTS, _count),
    "DemoLayouts": (tuple(_LAYOUTS), _layout),
}
MEMBERS = ("DemoDigits", *_RENDERERS)


def classnames(name: str) -> tuple[str, ...]:
    """Class names of the data set ``name``, in label order."""
    return _DIGITS if name == "DemoDigits" else _RENDERERS[name][0]


def render(name: str, classname: str, k: int) -> np.ndarray:
    """Image ``k`` of a class: (64, 64, 3) uint8."""
    if name == "DemoDigits":
        return _digit(classname, k)
    return _RENDERERS[name][1](classname, keyed_rng(name, classname, k))


def split(name: str) -> dict[str, list[tuple[str, int, str]]]:
    """The split of the data set ``name`` in CoOp's published format: split -> [(path below images, label, class)]."""
    parts: dict[str, list[tuple[str, int, str]]] = {part: [] for part in PER_CLASS}
    for label, classname in enumerate(classnames(name)):
        for part, k in _numbers():
            parts[part].append((f"{classname.replace(' ', '_')}/{k:03d}.png", label, classname))
    return parts


def _numbers() -> Iterator[tuple[str, int]]:
    k = 0
    for part, count in PER_CLASS.items():
        for _ in range(count):
            yield part, k
            k += 1


def write_demo(name: str, folder: Path | str) -> None:
    """Write the data set ``name`` into ``folder``: ``images/<class>/<k>.png`` and ``split_zhou_<name>.json``.

    Everything is written beside ``folder`` first and renamed at the end, so a killed run leaves no half data set; of
    two processes that write at once one wins, and the other's copy, which is the same, is dropped.

    Raises:
        UserError: the folder cannot be written, no space is left, or something else is in its place.
    """
    folder = Path(folder)
    temporary = None
    try:
        temporary = temporary_folder(folder)
        _write_images(name, temporary)
        temporary.chmod(0o755)
        _move(temporary, folder, split_file(name))
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def split_file(name: str) -> str:
    """Name of the split file of the data set ``name``."""
    return f"split_zhou_{name}.json"


def _write_images(name: str, folder: Path) -> None:
    parts = split(name)
    items = [item for part in parts.values() for item in part]
    for path, _, classname in tqdm(items, desc=f"writing {name}", leave=False, disable=not sys.stderr.isatty()):
        target = folder / IMAGE_DIR / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render(name, classname, int(target.stem))).save(target, compress_level=1)
    (folder / split_file(name)).write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")


def _move(source: Path, folder: Path, proof: str) -> None:
    """Rename ``source`` to ``folder``; a whole copy that is there already stays."""
    try:
        source.rename(folder)
    except OSError as error:
        if (folder / proof).exists():
            return
        if folder.exists():
            raise UserError(
                f"{folder} is in the way of a demo data set; move it away, or choose another folder"
            ) from error
        raise
