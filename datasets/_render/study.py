"""Pictures of tasks on which training recipes are chosen: no other figure of this project is measured on them.

Three suites of small tasks, each as a user would describe own tasks: *pieces* on a table (shape, size and place of one
thing), *surfaces* (direction and contrast of stripes, tone of the ground), and *scans* (scikit-learn's handwritten
digits that Demo6 does not show: which digit, and whether it is even).
"""

import csv
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dassl.utils.files import temporary_folder
from datasets._render.canvas import SIZE, Placement, clouds, draw, hsv, keyed_rng, paint, ramp, to_bytes
from datasets._render.fields import pattern
from datasets._render.outlines import SIMPLE
from datasets._render.suite import PER_CLASS, classnames, render

Labels = dict[str, str]
Picture = tuple[np.ndarray, Labels]

_SPLITS = {"train": 160, "val": 80, "test": 160}  # pictures of a suite
_FIRST_SCAN = sum(PER_CLASS.values())  # Demo6 has those before
_SHAPES = ("disc", "square", "triangle", "star", "cross", "heart", "hoop", "moon")
_SIZES = {"small": (5, 8), "medium": (11, 15), "large": (20, 25)}
_PLACES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
_DIRECTIONS = {"upright": 0, "slanting": 45, "level": 90}
_CONTRASTS = {"faint": (0.12, 0.2), "strong": (0.6, 0.9)}
_TONES = {"dark": (0.1, 0.3), "bright": (0.7, 0.95)}
SUITES: Mapping[str, Mapping[str, str]] = {  # column of the table -> what the task is about
    "pieces": {"shape": "shape of the piece", "size": "size of the piece", "place": "side where the piece lies"},
    "surfaces": {"direction": "direction of the stripes", "contrast": "contrast of the stripes", "tone": "ground tone"},
    "scans": {"digit": "handwritten number", "parity": "even or odd number"},
}


def _piece(rng: np.random.Generator, chosen: random.Random) -> Picture:
    labels = {
        "shape": chosen.choice(_SHAPES),
        "size": chosen.choice(list(_SIZES)),
        "place": chosen.choice(list(_PLACES)),
    }
    radius = rng.uniform(*_SIZES[labels["size"]])
    away = (SIZE / 2 - radius) * rng.uniform(0.75, 1.0)
    x, y = (SIZE / 2 + away * part + rng.normal(0, 2) for part in _PLACES[labels["place"]])
    image = hsv(rng.uniform(0, 360), rng.uniform(0, 0.2), rng.uniform(0.4, 0.9)) + clouds(rng, 6) * 0.15
    mask, _ = draw(SIMPLE[labels["shape"]], Placement((x, y), radius, rng.normal(0, 15)))
    paint(image, mask, hsv(rng.uniform(0, 360), rng.uniform(0.4, 0.9), rng.uniform(0.1, 0.6)))
    return _seen(image, rng), labels


def _surface(rng: np.random.Generator, chosen: random.Random) -> Picture:
    kinds: dict[str, Mapping[str, object]] = {"direction": _DIRECTIONS, "contrast": _CONTRASTS, "tone": _TONES}
    labels = {kind: chosen.choice(list(values)) for kind, values in kinds.items()}
    angle = _DIRECTIONS[labels["direction"]] + rng.normal(0, 7)
    ground = hsv(rng.uniform(0, 360), rng.uniform(0, 0.4), rng.uniform(*_TONES[labels["tone"]]))
    change = rng.uniform(*_CONTRASTS[labels["contrast"]]) * (1 if labels["tone"] == "dark" else -1)
    field = pattern("striped", rng, rng.uniform(8, 20), angle)[..., None]
    return _seen(ground + field * change + clouds(rng, 4) * 0.1, rng), labels


def _seen(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture under a lamp from one side, with noise."""
    lamp = (1 + rng.uniform(0, 0.3) * ramp(rng.uniform(0, 360)))[..., None]
    return to_bytes(np.clip(image, 0, 1) * lamp.astype(np.float32), rng, rng.uniform(0.02, 0.07), rng.uniform(0, 1))


def _pictures(suite: str) -> Iterator[Picture]:
    """The pictures of a suite; each depends on the suite and its number alone."""
    drawn = {"pieces": _piece, "surfaces": _surface}
    for number in range(sum(_SPLITS.values())):
        chosen = random.Random(f"{suite} {number}")
        if suite in drawn:
            yield drawn[suite](keyed_rng("study", suite, number), chosen)
        else:
            names = classnames("DemoDigits")
            name = names[number % len(names)]
            labels = {"digit": name, "parity": ("even", "odd")[names.index(name) % 2]}
            yield render("DemoDigits", name, _FIRST_SCAN + number // len(names)), labels


def tasks(suite: str) -> dict[str, Any]:
    """The config of a suite, as a yaml file of own tasks has it; its paths start at the folder of the suites."""
    described = [
        {"name": name, "table": f"{suite}/{suite}.csv", "label": column} for column, name in SUITES[suite].items()
    ]
    return {"DATASET": {"NAME": "MyTasks", "TASKS": described}}


def write_study(folder: Path) -> None:
    """Write the pictures and tables of all suites below ``folder``, those that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for suite, columns in SUITES.items():
        if (folder / suite).is_dir():
            continue
        place = temporary_folder(folder / suite)
        splits = [split for split, count in _SPLITS.items() for _ in range(count)]
        with (place / f"{suite}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["image", "split", *columns])
            table.writeheader()
            for number, (split, (pixels, labels)) in enumerate(zip(splits, _pictures(suite), strict=True)):
                Image.fromarray(pixels).save(place / f"{number:03}.png", compress_level=1)
                table.writerow({"image": f"{number:03}.png", "split": split, **labels})
        place.chmod(0o755)
        place.rename(folder / suite)
