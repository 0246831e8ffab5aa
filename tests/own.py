"""Short runs on a user's own tasks, described in a yaml file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.dassl.data.toy import write_image
from tests.lab import Lab


def own_lab(lab: Lab, root: Path) -> Lab:
    """The lab on the pictures in ``root``."""
    return replace(lab, root=root)


def own_file(root: Path, *tasks: dict[str, Any], name: str = "mine.yaml") -> tuple[str, str]:
    """The arguments of train.py that name these tasks."""
    file = root.parent / name
    file.write_text(yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TASKS": list(tasks)}}), encoding="utf-8")
    return "--dataset-config-file", str(file)


def write_pictures(root: Path, names: Sequence[str]) -> None:
    """Noise images with these names below ``root``."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, number)
