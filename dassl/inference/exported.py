"""The exported file: its schema, writing, and reading with suspicion. docs/export.md describes it."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dassl.engine.head import Head, score
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path

SCHEMA = "softcpt-classifier/1"
MAX_HEADER = 16 << 20
_JSON = ("tasks", "temperature", "backbone", "preprocess_cfg", "reading", "training", "results", "config")
_TEXTS = ("format", "schema", "head", "logit_scale", "digest")


@dataclass(frozen=True)
class Exported:
    """The content of an exported file: a head, and what is known of it (the metadata that are JSON, by their key)."""

    head: Head
    about: dict[str, Any]

    @property
    def offsets(self) -> list[int]:
        """First row of each task in the head, and the number of rows."""
        offsets = [0]
        for task in self.about["tasks"]:
            offsets.append(offsets[-1] + len(task["classes"]))
        return offsets

    def rows(self, task: int) -> Tensor:
        """Rows (C_t, F) of a task."""
        return self.head.weight[self.offsets[task] : self.offsets[task + 1]]

    def logits(self, features: Tensor, task: int) -> Tensor:
        """Logits (B, C_t) of features (B, F), not normalised, divided by the temperature."""
        logits = score(features, self.rows(task), self.head, task)
        if self.head.bias is not None:
            logits = logits + self.head.bias[self.offsets[task] : self.offsets[task + 1]]
        return logits / self.about["temperature"][task]


def row_name(kind: str) -> str:
    """Name of the tensors that have a row for each class."""
    return "class_features" if kind == "cosine" else "weight"


def tensors_of(content: Exported) -> dict[str, Tensor]:
    """{name: tensor} of the file, one of each kind for each task."""
    head, bounds, found = content.head, content.offsets, {}
    for task, (start, stop) in enumerate(pairwise(bounds)):
        found[f"{row_name(head.kind)}.{task}"] = head.weight[start:stop].clone()
        if head.bias is not None:
            found[f"bias.{task}"] = head.bias[start:stop].clone()
        if head.centers is not None:
            found[f"center.{task}"] = head.centers[task].clone()
    return found


def write_exported(path: Path, content: Exported) -> None:
    """Write the file; it appears whole."""
    told = {key: json.dumps(content.about[key], ensure_ascii=False, sort_keys=True) for key in _JSON}
    told |= {"format": "pt", "schema": SCHEMA, "head": content.head.kind, "logit_scale": repr(content.head.scale)}
    tensors = tensors_of(content)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {**told, "digest": content_digest(told, tensors)})


def content_digest(told: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the metadata but the digest, and over names, dtypes, shapes and bytes of the tensors."""
    kept = {key: value for key, value in told.items() if key != "digest"}
    digest = sha256(json.dumps(kept, sort_keys=True, ensure_ascii=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_exported(path: Path) -> Exported:
    """Read and check a file.

    Raises:
        UserError: it is cut, damaged, too large in its header, or not of this schema.
    """
    _check_header(path)
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        return _content(told, tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is no exported classifier, or is damaged ({text}); export the run again") from error


def _check_header(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; check the path") from error
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
    if length > min(MAX_HEADER, size - 8):
        raise UserError(f"{path} is cut or no safetensors file (header of {length:,} bytes); export the run again")


def _content(told: dict[str, str], tensors: dict[str, Tensor]) -> Exported:
    _expect(told.get("schema") == SCHEMA, f"its schema is {told.get('schema')!r}, this version reads {SCHEMA!r}")
    lacks = [key for key in (*_JSON, *_TEXTS) if key not in told]
    _expect(not lacks, f"it lacks the metadata {', '.join(lacks)}")
    _expect(told["digest"] == content_digest(told, tensors), "its content does not have the digest that it names")
    about = {key: json.loads(told[key]) for key in _JSON}
    kind, scale, tasks = told["head"], float(told["logit_scale"]), about["tasks"]
    _expect(kind in ("cosine", "linear") and 0 < scale < 1e6, "its head is unknown")
    _expect(bool(tasks) and all(_names(each) for each in tasks), "its tasks have no names")
    temperature = about["temperature"]
    _expect(len(temperature) == len(tasks) and all(0 < each < 1e6 for each in temperature), "its temperatures")
    weight = _rows(tensors, row_name(kind), len(tasks))
    bias, centers = _rows(tensors, "bias", len(tasks)), _rows(tensors, "center", len(tasks))
    assert_shapes(tasks, weight, bias, centers)
    head = Head(kind, torch.cat(weight), scale, torch.cat(bias) if bias else None, stacked(centers))
    return Exported(head, about)


def stacked(centers: Sequence[Tensor]) -> Tensor | None:
    """Centers (T, F) of the tasks; None without."""
    return torch.stack(list(centers)) if centers else None


def assert_shapes(
    tasks: Sequence[dict[str, Any]], weight: Sequence[Tensor], bias: Sequence[Tensor], centers: Sequence[Tensor]
) -> None:
    """Raise ValueError where a tensor does not fit the classes, or is not finite (a bias may be -inf)."""
    _expect(len(weight) == len(tasks), "it has no table for each task")
    for number, task in enumerate(tasks):
        shape, width = (len(task["classes"]), weight[0].shape[-1]), weight[0].shape[-1:]
        _expect(tuple(weight[number].shape) == shape, f"the table of task {number} does not fit its classes")
        _expect(not bias or bias[number].shape == shape[:1], f"the bias of task {number} does not fit its classes")
        _expect(not centers or centers[number].shape == width, f"the center of task {number} has another width")
    good = all(each.isfinite().all() for each in (*weight, *centers)) and not any(each.isnan().any() for each in bias)
    _expect(
        good and all(each.dtype == torch.float32 for each in (*weight, *bias, *centers)), "its values are no numbers"
    )


def _rows(tensors: dict[str, Tensor], name: str, tasks: int) -> list[Tensor]:
    found = [tensors[f"{name}.{task}"] for task in range(tasks) if f"{name}.{task}" in tensors]
    _expect(len(found) in (0, tasks), f"it has {name} of some tasks only")
    return found


def _names(task: Any) -> bool:
    return bool(task["classes"]) and all(isinstance(each, str) for each in (task["name"], *task["classes"]))


def _expect(good: bool, what: str) -> None:
    if not good:
        raise ValueError(what)
