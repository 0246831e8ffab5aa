"""What every miniature is written with: the list of miniatures, class lists, pictures and small files."""

import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps
from scipy.io import savemat

HERE = Path(__file__).resolve().parent
SIDES = (40, 70)  # pixels
# Every so many pictures one is grey, one CMYK and one a palette picture, as happens in the real data sets.
ODD_MODES = {7: "L", 16: "CMYK", 25: "P"}
ODD_EVERY = 29


@dataclass
class Box:
    """A folder that a miniature is written to, and how small it is to be.

    Attributes:
        folder: becomes the data set's folder below the data root.
        per_class: images of a class in each list of images that the raw layout knows.
        classes: how many classes have images, where the format allows fewer; None: all.
        subjects: what the pictures show that were saved so far: path -> subject.
    """

    folder: Path
    per_class: int
    classes: int | None = None
    subjects: dict[str, str] = field(default_factory=dict)

    def some(self, classes: Sequence[Any]) -> list[Any]:
        """The classes that have images: all, or ``classes`` of them spread over the list."""
        chosen = min(self.classes or len(classes), len(classes))
        return [classes[position * len(classes) // chosen] for position in range(chosen)]

    def picture(self, path: str, subject: str) -> None:
        """Save a picture of ``subject``; the file's ending chooses the format. No two are the same."""
        number = len(self.subjects)
        self.subjects[path] = subject
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        image, kind = draw(subject, number), Image.registered_extensions()[target.suffix.lower()]
        mode = ODD_MODES.get(number % ODD_EVERY, "RGB")
        if mode == "L":
            image = ImageOps.autocontrast(image.convert(mode))  # two colours may be one grey, and the picture blank
        # A palette does not fit into a JPEG: such pictures are PNG files with the wrong ending, also in the real data.
        image.convert(mode if kind == "JPEG" or mode != "CMYK" else "RGB").save(target, "PNG" if mode == "P" else kind)

    def class_folders(self, folder: str, classes: Iterable[str], file: str) -> None:
        """``per_class`` pictures in a folder for each class; ``file`` is a pattern of {name} and {number}."""
        for name in classes:
            for number in range(1, self.per_class + 1):
                path = "/".join(filter(None, [folder, name, file.format(name=name, number=number)]))
                self.picture(path, name)

    def text(self, path: str, lines: Iterable[object], *, end: str = "\n") -> None:
        """Write a text file of one item a line."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes("".join(f"{line}{end}" for line in lines).encode())

    def json(self, path: str, value: object) -> None:
        """Write a JSON file."""
        self.text(path, [json.dumps(value)])

    def mat(self, path: str, **arrays: np.ndarray) -> None:
        """Write a MATLAB file of version 5."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        savemat(target, arrays)
        with target.open("r+b") as file:  # the header holds the time of day, and a miniature is always the same
            file.write(b"MATLAB 5.0 MAT-file, a miniature".ljust(116))

    def clutter(self, *paths: str) -> None:
        """Files that stand in the archives and are no images of the data set."""
        for path in paths:
            self.text(path, ["no picture"])


class Writer(Protocol):
    """Writes the raw layout of one data set into a box."""

    def __call__(self, box: Box) -> None: ...


@dataclass(frozen=True)
class Miniature:
    """A data set's folder below the data root and what writes it."""

    folder: str
    write: Writer


MINIATURES: dict[str, Miniature] = {}


def miniature(name: str, folder: str) -> Callable[[Writer], Writer]:
    """Register a function as the writer of data set ``name``."""

    def register(write: Writer) -> Writer:
        MINIATURES[name] = Miniature(folder, write)
        return write

    return register


@lru_cache(maxsize=1)
def _lists() -> dict[str, dict[str, list[Any]]]:
    return json.loads((HERE / "classes.json").read_text(encoding="utf-8"))


def known(name: str, kind: str = "names") -> list[Any]:
    """A list of facts about a data set: "names" in label order, or another kind that ``classes.json`` has."""
    lists = _lists()[name]
    return list(lists.get(kind) or lists["names"])


def draw(subject: str, number: int) -> Image.Image:
    """A wave pattern in two colours that are the subject's own; size and phase change with the number."""
    colours, wave_x, wave_y = _look(subject)
    rng = random.Random(f"{subject}/{number}")
    width, height = rng.randint(*SIDES), rng.randint(*SIDES)
    phase = rng.uniform(0, math.tau)
    angle = wave_x * np.linspace(0, 1, width)[None, :] + wave_y * np.linspace(0, 1, height)[:, None] + phase
    share = (0.5 + 0.5 * np.sin(angle))[:, :, None]
    return Image.fromarray((colours[0] + share * (colours[1] - colours[0])).astype(np.uint8))


@lru_cache(maxsize=4096)
def _look(subject: str) -> tuple[np.ndarray, float, float]:
    rng = random.Random(subject)
    colours = np.array([[rng.randrange(256) for _ in range(3)] for _ in range(2)], dtype=np.float32)
    return colours, rng.uniform(0, 30), rng.uniform(0, 30)
