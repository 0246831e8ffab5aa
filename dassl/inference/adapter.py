"""The adapter file: the export of a method that tunes the image tower. docs/export.md describes it."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dassl.data.datum import Task
from dassl.engine.checkpoint import load_learned
from dassl.engine.tasks import task_of
from dassl.inference.exported import LARGEST, MAX_HEADER, checked_about, is_multi, read_signed, write_signed
from dassl.registries import TRAINER_REGISTRY

SCHEMA = "softcpt-adapter/1"
_TEXTS = ("format", "schema", "digest")


@dataclass(frozen=True)
class Adapter:
    """The content of an adapter file.

    Attributes:
        learned: the learned tensors by module and key, joined with a dot.
        about: the JSON metadata by key, as those of an exported classifier; ``tasks`` also have what texts are made of.
    """

    learned: dict[str, Tensor]
    about: dict[str, Any]

    @property
    def tasks(self) -> list[Task]:
        """The tasks, ordered by number."""
        return [_task(each) for each in self.about["tasks"]]

    @property
    def thresholds(self) -> dict[int, float]:
        """The probability from which a class of a multi-label task is predicted, by task."""
        return {number: each["threshold"] for number, each in enumerate(self.about["tasks"]) if is_multi(each)}

    def load_into(self, modules: Mapping[str, nn.Module], path: Path) -> None:
        """Put the learned tensors into the registered modules of a trainer.

        Raises:
            UserError: tensors are missing, too many, or of other shapes.
        """
        rest, modules = dict(self.learned), scoring(modules)
        for name, module in modules.items():
            start, last = f"{name}.", name == list(modules)[-1]
            own = {key: rest.pop(key) for key in self.learned if key.startswith(start)}
            # What belongs to no module is reported with the last one.
            load_learned(
                module, {k.removeprefix(start): v for k, v in (own | (rest if last else {})).items()}, source=path
            )


def scoring(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The registered modules that score images: one with ``only_resumes`` serves an unfinished training alone."""
    return {name: module for name, module in modules.items() if not getattr(module, "only_resumes", False)}


def is_adapter(path: Path) -> bool:
    """Whether a file says that it is an adapter; what is no safetensors file says nothing."""
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(min(length, MAX_HEADER)))
        return str(header["__metadata__"]["schema"]).startswith(SCHEMA.partition("/")[0])
    except (OSError, struct.error, ValueError, LookupError, TypeError, RecursionError):
        return False


def write_adapter(path: Path, adapter: Adapter) -> None:
    """Write the file atomically."""
    write_signed(path, {"schema": SCHEMA}, adapter.about, adapter.learned)


def read_adapter(path: Path) -> Adapter:
    """Read and check a file.

    Raises:
        UserError: it is cut off or damaged, its header is too large, or it is not of this schema.
    """
    return read_signed(path, _content)


def _content(told: dict[str, str], tensors: dict[str, Tensor]) -> Adapter:
    about = checked_about(told, tensors, schemas=(SCHEMA,), texts=_TEXTS)
    name = about["config"].get("TRAINER.NAME")
    if name not in TRAINER_REGISTRY or "image" not in TRAINER_REGISTRY.get(name).tunes:
        raise ValueError(f"its method {name!r} tunes no image tower")
    numbers = [each for each in tensors.values() if each.dtype != torch.bool]
    if not numbers or any(not bool((each.abs() < LARGEST).all()) for each in numbers):
        raise ValueError("its values are not finite numbers")
    adapter = Adapter(tensors, about)
    _ = adapter.tasks
    return adapter


def _task(told: Mapping[str, Any]) -> Task:
    kept = {key: value for key, value in told.items() if key not in ("type", "threshold", "name", "classes")}
    return task_of({**kept, "name": told["name"], "classnames": told["classes"], "multi": is_multi(told)})
