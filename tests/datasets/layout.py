"""Small raw layouts: empty files in the places where images would be, because readers do not open images."""

import json
import os
from pathlib import Path

import pytest

from dassl.config import get_cfg_default, merge_cfg
from dassl.data import build_dataset

CHECKOUT = Path(__file__).resolve().parents[2]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def touch_classes(folder: Path, classes, count: int = 10) -> Path:
    """``count`` images, named a.jpg and so on, in a folder for each class."""
    return touch(folder, *(f"{name}/{chr(97 + k)}.jpg" for name in classes for k in range(count)))


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def load(name: str, root: Path, **dataset):
    """The data set built the way a run builds it."""
    cfg = get_cfg_default()
    cfg.SEED = 1
    cfg.OUTPUT_DIR = str(root / "output")
    merge_cfg(cfg, files=[CHECKOUT / "configs" / "datasets" / f"{name}.yaml"])
    cfg.DATASET.ROOT = str(root)
    for key, value in dataset.items():
        cfg.DATASET[key] = value
    return build_dataset(cfg)


def pairs(items, folder: Path) -> list[tuple[str, int]]:
    """(path relative to ``folder``, label) of each image."""
    return [(os.path.relpath(item.impath, folder), item.label) for item in items]


def reference(name: str):
    """A file of recorded facts; skips the test where it is not there."""
    default = CHECKOUT.parent / "shared" / "reference"
    path = Path(os.environ.get("SOFTCPT_REFERENCE", default)) / name
    if not path.is_file():
        pytest.skip(f"no reference file {path}")
    return json.loads(path.read_text(encoding="utf-8"))
