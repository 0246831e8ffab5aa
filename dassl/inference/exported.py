"""The exported file: its schema, writing, and reading with checks. docs/export.md describes it."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from PIL import ImageColor
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine.head import Cache, Head, score
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path

SCHEMA = "softcpt-classifier/1"
MULTI_SCHEMA = "softcpt-classifier/2"  # has a multi-label task, whose probabilities are no softmax
MULTI = "multi"  # the type of such a task
MAX_HEADER = 16 << 20
_DAMAGED = (OSError, LookupError, TypeError, ValueError, RecursionError, RuntimeError, AttributeError)
LENGTH_OFF = 1e-3  # of a class feature; fp16 features are normalised in fp32
LARGEST = 1e6  # of a value: larger ones overflow in products
JSON_KEYS = ("tasks", "temperature", "backbone", "preprocess_cfg", "reading", "training", "results", "config")
T = TypeVar("T")
_TEXTS = ("format", "schema", "head", "logit_scale", "digest")


@dataclass(frozen=True)
class Exported:
    """The content of an exported file: a head, and the JSON metadata by key."""

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

    def scores(self, features: Tensor, task: int) -> Tensor:
        """Logits (B, C_t) of features (B, F), not normalised, before the temperature."""
        logits = score(features, self.rows(task), self.head, task)
        if self.head.bias is not None:
            logits = logits + self.head.bias[self.offsets[task] : self.offsets[task + 1]]
        return logits

    def logits(self, features: Tensor, task: int) -> Tensor:
        """``scores`` divided by the temperature; :meth:`probabilities` are made of them."""
        return self.scores(features, task) / self.about["temperature"][task]

    def probabilities(self, features: Tensor, task: int) -> Tensor:
        """(B, C_t): the softmax of the logits or, of a multi-label task, their sigmoid."""
        logits = self.logits(features, task)
        return logits.sigmoid() if is_multi(self.about["tasks"][task]) else logits.softmax(dim=1)


def is_multi(task: Mapping[str, Any]) -> bool:
    """Whether an entry of ``tasks`` is a multi-label task."""
    return task.get("type") == MULTI


def schema_of(tasks: Sequence[Mapping[str, Any]]) -> str:
    """The name of the schema: a reader that knows only the first one must not take a softmax."""
    return MULTI_SCHEMA if any(map(is_multi, tasks)) else SCHEMA


def row_name(kind: str) -> str:
    """Name of the tensors with a row for each class."""
    return "class_features" if kind == "cosine" else "weight"


def tensors_of(content: Exported) -> dict[str, Tensor]:
    """The file's tensors by name, one of each kind for each task."""
    head, bounds, found = content.head, content.offsets, {}
    for task, (start, stop) in enumerate(pairwise(bounds)):
        found[f"{row_name(head.kind)}.{task}"] = head.weight[start:stop].clone()
        if head.bias is not None:
            found[f"bias.{task}"] = head.bias[start:stop].clone()
        if head.centers is not None:
            found[f"center.{task}"] = head.centers[task].clone()
        if head.caches is not None:
            cache = head.caches[task]
            found[f"keys.{task}"], found[f"key_class.{task}"] = cache.keys.clone(), cache.label.clone()
            found[f"cache.{task}"] = torch.stack([cache.alpha, cache.beta])
    return found


def preprocessing(said: CfgNode) -> dict[str, Any]:
    """The test transform of a settled node INPUT, in open_clip's form."""
    normal = "normalize" in said.TRANSFORMS
    return {
        "size": list(said.SIZE),
        "mode": "RGB",
        "mean": list(said.PIXEL_MEAN) if normal else [0.0] * 3,
        "std": list(said.PIXEL_STD) if normal else [1.0] * 3,
        "interpolation": said.INTERPOLATION,
        "resize_mode": said.RESIZE,
        "fill_color": 0,
    }


def write_exported(path: Path, content: Exported) -> None:
    """Write the file atomically."""
    head = {"head": content.head.kind, "logit_scale": repr(content.head.scale)}
    write_signed(path, {**head, "schema": schema_of(content.about["tasks"])}, content.about, tensors_of(content))


def write_signed(path: Path, texts: dict[str, str], about: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write tensors with metadata, texts and JSON, and a digest of all of it."""
    told = {key: json.dumps(about[key], ensure_ascii=False, sort_keys=True) for key in JSON_KEYS}
    told |= {"format": "pt", **texts}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {**told, "digest": content_digest(told, tensors)})


def content_digest(told: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the metadata except the digest, and the tensors' names, dtypes, shapes and bytes."""
    kept = {key: value for key, value in told.items() if key != "digest"}
    digest = sha256(json.dumps(kept, sort_keys=True, ensure_ascii=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_exported(path: Path) -> Exported:
    """Read and check a file.

    Raises:
        UserError: it is cut off or damaged, its header is too large, or it is not of this schema.
    """
    return read_signed(path, _content)


def read_signed(path: Path, parse: Callable[[dict[str, str], dict[str, Tensor]], T]) -> T:
    """What ``parse`` makes of the metadata and the tensors of a file.

    Raises:
        UserError: the file is cut off or damaged, its header is too large, or ``parse`` finds it wrong.
    """
    _check_header(path)
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        return parse(told, tensors)
    except (*_DAMAGED, SafetensorError) as error:
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
        raise UserError(f"{path} is cut off or no safetensors file (header of {length:,} bytes); export the run again")


def _content(told: dict[str, str], tensors: dict[str, Tensor]) -> Exported:
    about = checked_about(told, tensors, schemas=(SCHEMA, MULTI_SCHEMA), texts=_TEXTS)
    kind, scale, tasks = _head_kind(told["head"]), float(told["logit_scale"]), about["tasks"]
    _expect(0 < scale < 1e6, "its head is unknown")
    weight = _rows(tensors, row_name(kind), len(tasks))
    bias, centers = _rows(tensors, "bias", len(tasks)), _rows(tensors, "center", len(tasks))
    assert_shapes(tasks, weight, bias, centers)
    if kind == "cosine":
        _check_lengths(weight)
    caches = _caches(tasks, tensors, weight[0].shape[1])
    head = Head(kind, torch.cat(weight), scale, torch.cat(bias) if bias else None, stacked(centers), caches)
    return Exported(head, about)


def checked_about(
    told: dict[str, str], tensors: dict[str, Tensor], *, schemas: Sequence[str], texts: Sequence[str]
) -> dict[str, Any]:
    """The JSON metadata of a file; raises ValueError and others if they are not as this program writes them."""
    _expect(told.get("schema") in schemas, f"its schema is {told.get('schema')!r}, this version reads {schemas}")
    lacks = [key for key in (*JSON_KEYS, *texts) if key not in told]
    _expect(not lacks, f"it lacks the metadata {', '.join(lacks)}")
    _expect(told["digest"] == content_digest(told, tensors), "its content does not match its digest")
    about = {key: json.loads(told[key]) for key in JSON_KEYS}
    _check_kinds(about)
    tasks, temperature = about["tasks"], about["temperature"]
    _expect(bool(tasks) and all(_names(each) for each in tasks), "its tasks have no names")
    _expect(len(temperature) == len(tasks) and all(1e-3 < each < 1e3 for each in temperature), "its temperatures")
    return about


def _head_kind(name: str) -> Literal["cosine", "linear", "unit"]:
    kinds: tuple[Literal["cosine", "linear", "unit"], ...] = ("cosine", "linear", "unit")
    _expect(name in kinds, "its head is unknown")
    return kinds[kinds.index(name)]


def _caches(tasks: Sequence[dict[str, Any]], tensors: dict[str, Tensor], width: int) -> tuple[Cache, ...] | None:
    """The caches of the tasks, checked; None if there are none."""
    keys, label, pair = (_rows(tensors, name, len(tasks)) for name in ("keys", "key_class", "cache"))
    _expect(len(keys) == len(label) == len(pair), "it lacks a part of its caches")
    for number, task in enumerate(tasks[: len(keys)]):
        mine, theirs, two = keys[number], label[number], pair[number]
        _expect(mine.dim() == 2 and mine.shape[1] == width, f"the keys of task {number} have another width")
        _expect(
            theirs.dtype == torch.int64 and theirs.shape == mine.shape[:1], f"the keys of task {number} have no classes"
        )
        _expect(bool(((theirs >= 0) & (theirs < len(task["classes"]))).all()), f"a key of task {number} has no class")
        _expect(two.dtype == torch.float32 and tuple(two.shape) == (2,), f"task {number} has no alpha and beta")
        _expect(bool((two.abs() < LARGEST).all()), "its alpha or beta is not a finite number")
        _expect(mine.dtype == torch.float32, "its keys are no float32")
        _expect(bool((mine.abs() < LARGEST).all()), "its keys are not finite numbers")
    return tuple(Cache(k, c, *p) for k, c, p in zip(keys, label, pair, strict=True)) if keys else None


def _check_kinds(about: dict[str, Any]) -> None:
    """Raise ValueError if metadata have another type than this program writes."""
    for key in ("backbone", "preprocess_cfg", "reading", "config"):
        _expect(isinstance(about[key], dict), f"its {key} is not an object")
    for key in ("tasks", "temperature"):
        _expect(isinstance(about[key], list), f"its {key} is not a list")
    _expect(all(isinstance(each, int | float) for each in about["temperature"]), "its temperatures are not numbers")
    for each in about["tasks"]:
        good = not is_multi(each) or (type(each.get("threshold")) is float and 0 <= each["threshold"] <= 1)
        _expect(good and each.get("type", MULTI) == MULTI, "the type or the threshold of a task")
    names = [each["name"] for each in about["tasks"]]
    _expect(len({str(name) for name in names}) == len(names), "two of its tasks have the same name")
    backbone, reading = about["backbone"], about["reading"]
    _expect(all(isinstance(backbone.get(key), str) for key in ("name", "digest")), "its backbone has no name or digest")
    reading.setdefault("shortest", 0)  # of an older version
    entries = {"background", "orientation", "max_pixels", "shortest"}
    _expect(reading.keys() == entries, "its reading has other entries")
    _expect(isinstance(reading["background"], str), "the background of its reading is not a colour")
    _expect(reading["background"] == "original" or len(ImageColor.getrgb(reading["background"])) == 3, "its background")
    _expect(reading["orientation"] in ("upright", "original"), "the orientation of its reading")
    _expect(type(reading["max_pixels"]) is int and reading["max_pixels"] > 0, "the max_pixels of its reading")
    _expect(type(reading["shortest"]) is int and reading["shortest"] >= 0, "the shortest of its reading")


def _check_lengths(weight: Sequence[Tensor]) -> None:
    lengths = torch.cat(list(weight)).norm(dim=1)
    _expect(bool(((lengths == 0) | ((lengths - 1).abs() < LENGTH_OFF)).all()), "its class features are not normalised")


def stacked(centers: Sequence[Tensor]) -> Tensor | None:
    """Centers (T, F) of the tasks; None if there are none."""
    return torch.stack(list(centers)) if centers else None


def assert_shapes(
    tasks: Sequence[dict[str, Any]], weight: Sequence[Tensor], bias: Sequence[Tensor], centers: Sequence[Tensor]
) -> None:
    """Raise ValueError if a tensor does not match the classes, or is not finite (a bias may be -inf)."""
    _expect(len(weight) == len(tasks), "it has no table for each task")
    _expect(all(each.dim() == 2 for each in weight), "a table is not a matrix")
    for number, task in enumerate(tasks):
        shape, width = (len(task["classes"]), weight[0].shape[-1]), weight[0].shape[-1:]
        _expect(tuple(weight[number].shape) == shape, f"the table of task {number} does not match its classes")
        _expect(not bias or bias[number].shape == shape[:1], f"the bias of task {number} does not match its classes")
        _expect(not centers or centers[number].shape == width, f"the center of task {number} has another width")
    bounded = all(bool((each.abs() < LARGEST).all()) for each in (*weight, *centers))
    # A class that is never predicted has the bias -inf; a task with nothing else has no answer.
    biased = all(bool((each < LARGEST).all()) and bool((each > -LARGEST).any()) for each in bias)
    _expect(
        bounded and biased and all(each.dtype == torch.float32 for each in (*weight, *bias, *centers)),
        "its values are not finite numbers",
    )


def _rows(tensors: dict[str, Tensor], name: str, tasks: int) -> list[Tensor]:
    found = [tensors[f"{name}.{task}"] for task in range(tasks) if f"{name}.{task}" in tensors]
    _expect(len(found) in (0, tasks), f"it has {name} for some tasks only")
    return found


def _names(task: Any) -> bool:
    classes = task["classes"]
    texts = isinstance(classes, list) and all(isinstance(each, str) and each for each in (task["name"], *classes))
    return texts and bool(classes)


def _expect(good: bool, what: str) -> None:
    if not good:
        raise ValueError(what)
