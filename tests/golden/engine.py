"""Cases of the engine: evaluator/, labels/, lr/, tokenizer/, transforms/, parse/."""

import contextlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import clip
import parse_test_res
from dassl.config import get_cfg_default, merge_cfg
from dassl.data.datum import Datum, Task
from dassl.data.images import ORIGINAL, read_image
from dassl.data.loaders import describe
from dassl.data.transforms import build_transform
from dassl.evaluation import ClassificationMT
from dassl.optim import learning_rate
from tests.golden.prompts import label_vectors
from tests.golden.report import Case, Mismatch

# open_clip writes the two special tokens differently; their ids are the same.
_SPECIAL = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
Cases = Iterator[tuple[str, Callable[[Case], None]]]


def _evaluator(record: dict[str, Any], values: dict[str, Tensor]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        sizes, name = record["num_classes"], record["name"]
        tasks = [
            Task(task, tuple(f"class {c}" for c in range(size)), metric)
            for task, size, metric in zip(record["task_names"], sizes, record["metric_of_task"], strict=True)
        ]
        evaluator = ClassificationMT(tasks, per_task=record["per_task_result"])
        start = 0
        for size in record["batch_sizes"]:
            rows = slice(start, start + size)
            row, task, label = entries_of(values[f"{name}.labels"][rows], sizes)
            evaluator.process(values[f"{name}.logits"][rows], label, task, row=row)
            start += size
        with _captured("dassl.evaluation") as lines:
            results = evaluator.evaluate()
        case.equal("counts", [score.total for score in evaluator.scores], record["per_task_count"])
        _compare_metrics(evaluator, results, record, lines, case)

    return replay


def _compare_metrics(
    evaluator: ClassificationMT, results: dict[str, Any], record: dict[str, Any], lines: list[str], case: Case
) -> None:
    for score, metric in zip(evaluator.scores, record["per_task_metric"], strict=True):
        if metric is not None:
            case.close(f"metric of {score.task.name}", score.metric, metric, 1e-9)
        elif not score.absent:
            raise Mismatch(f"{score.task.name} was NaN in the original, but no class without images was reported")
    if None in record["per_task_metric"]:
        case.notes.append("the original's NaN for a class without images is left out on purpose")
        return
    case.equal("order of results", list(results), record["result_order"])
    for key, value in record["results"].items():
        case.close(key, results[key], value, 1e-9)
    case.equal("printed text", lines[: record["printed"].count("\n")], record["printed"].splitlines())


def entries_of(labels: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """(row, task, label) of the original's (B, C) label vectors."""
    found = []
    for task, part in enumerate(labels.split(sizes, dim=1)):
        rows = (part != -1).any(dim=1).nonzero().flatten()
        found += [(int(row), task, int(part[row].argmax())) for row in rows]
    return tuple(torch.tensor(sorted(found)).unbind(1))  # type: ignore[return-value]


@contextlib.contextmanager
def _captured(logger: str) -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    source = logging.getLogger(logger)
    level, propagate = source.level, source.propagate
    source.addHandler(handler)
    source.setLevel(logging.INFO)
    source.propagate = False
    try:
        yield lines
    finally:
        source.removeHandler(handler)
        source.setLevel(level)
        source.propagate = propagate


def _labels(content: dict[str, Any]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        for number, example in enumerate(content["examples"]):
            (task, label), *also = zip(example["task"], example["label"], strict=True)
            batch = describe([Datum("image", label, task, tuple(also))], [0])
            case.equal(f"example {number}", label_vectors(batch, content["num_classes"])[0].tolist(), example["vector"])

    return replay


def _rates(content: dict[str, Any], schedule: dict[str, Any]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        cfg = get_cfg_default()
        pairs = {
            "OPTIM.LR": content["base_lr"],
            "OPTIM.WARMUP_CONS_LR": content["warmup_cons_lr"],
            "OPTIM.WARMUP_MIN_LR": content["warmup_min_lr"],
            "OPTIM.GAMMA": content["default_gamma"],
            "OPTIM.MAX_EPOCH": schedule["epochs"],
            "OPTIM.LR_SCHEDULER": "cosine",
            "OPTIM.WARMUP_EPOCH": 1,
            "OPTIM.WARMUP_TYPE": "constant",
            **schedule["options"],
        }
        merge_cfg(cfg, pairs=[str(part) for pair in pairs.items() for part in pair])
        recorded = [*schedule["lr_first_to_last_epoch"], schedule["lr_after"]]
        steps = range(0, len(recorded) * schedule["scheduler_steps_per_epoch"], schedule["scheduler_steps_per_epoch"])
        case.close("lr", [learning_rate(cfg.OPTIM, step) for step in steps], recorded, 1e-12, relative=1e-6)

    return replay


def _tokenizer(content: dict[str, Any], values: dict[str, Tensor]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        texts = [entry["text"] for entry in content["cases"]]
        case.equal("tokens", clip.tokenize(texts), values["tokens"])
        for entry in content["cases"]:
            text = open_clip.decode(torch.tensor(entry["ids"]))
            for ours, original in _SPECIAL.items():
                text = text.replace(ours, original)
            case.equal(f"decoded {entry['text']!r}", text, entry["decoded"])
        for record in content.get("too_long", []):
            _too_long(record, case)

    return replay


def _too_long(record: dict[str, Any], case: Case) -> None:
    text = record["text"]
    try:
        clip.tokenize([text])
    except clip.BackboneError:
        case.equal("too long without truncation", "error", "error")
    else:
        raise Mismatch("a text that is too long was accepted without truncation")
    case.equal("truncated", clip.tokenize([text], truncate=True)[0].tolist(), record["truncated_ids"])


def _transform(
    folder: Path, content: dict[str, Any], image: dict[str, Any], values: dict[str, Tensor]
) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        path = folder / image["file"]
        decoded = values[f"{path.name}.decoded"].numpy()
        mine = read_image(path, ORIGINAL)
        if path.suffix == ".jpg" and not np.array_equal(np.asarray(mine), decoded):
            case.notes.append("compared from the recorded decoding: another JPEG decoder")
            mine = Image.fromarray(decoded)
        case.equal("decoded", np.array_equal(np.asarray(mine), decoded), True)
        for size, tolerance in ((64, 1e-5), (224, 2e-3)):
            recorded = values.get(f"{path.name}.size{size}")
            found = _test_transform(size, content)(mine)
            if recorded is not None:
                case.close(f"size{size}", found, recorded, tolerance)
            if f"size{size}" in image:
                _compare_summary(found, image[f"size{size}"], size, case)

    return replay


def _test_transform(size: int, content: dict[str, Any]) -> Callable[[Image.Image], Tensor]:
    cfg = get_cfg_default()
    mean, std = (",".join(map(str, content[key])) for key in ("mean", "std"))
    pairs = ["INPUT.SIZE", f"{size},{size}", "INPUT.INTERPOLATION", "bicubic", "INPUT.TRANSFORMS", "normalize"]
    merge_cfg(cfg, pairs=[*pairs, "INPUT.PIXEL_MEAN", mean, "INPUT.PIXEL_STD", std])
    return build_transform(cfg, is_train=False)


def _compare_summary(found: Tensor, summary: dict[str, Any], size: int, case: Case) -> None:
    case.equal(f"shape {size}", list(found.shape), summary["shape"])
    # Float32 sums over 3 * size^2 values differ in the last digits with the order of summation.
    case.close(f"sum {size}", found.double().sum(), summary["sum"], 1e-5 * size * size)
    case.close(f"mean {size}", found.double().mean(dim=(1, 2)), summary["mean_per_channel"], 1e-5)
    case.close(f"corner {size}", found[:, 0, 0], summary["corner_tl"], 1e-5)
    case.close(f"centre {size}", found[:, size // 2, size // 2], summary["centre"], 1e-5)


def _parse(folder: Path, record: dict[str, Any]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        printed = io.StringIO()
        before = Path.cwd()
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(printed):
                status = parse_test_res.main(record["arguments"])
        finally:
            os.chdir(before)
        recorded = (folder / record["stdout_file"]).read_text().splitlines()
        mine = printed.getvalue().splitlines()
        case.equal("exit status", status, record["exit_status"])
        if "val_blocks" in record["name"]:
            case.notes.append("per-task lines before the end marker are left out on purpose")
            recorded, mine = ([line for line in lines if "overall_metric" in line] for lines in (recorded, mine))
        case.equal("printed text", mine, recorded)

    return replay


def engine_cases(folder: Path) -> Cases:
    """All cases of evaluator/, labels/, lr/, tokenizer/, transforms/ and parse/."""
    yield from _tabular_cases(folder)
    for path in sorted((folder / "transforms").glob("*.json")):
        content, values = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        for image in content["images"]:
            yield f"transforms/{image['file']}", _transform(path.parent, content, image, values)
    for path in sorted((folder / "parse").glob("*.json")):
        for record in json.loads(path.read_text()):
            yield f"parse/{record['name']}", _parse(path.parent, record)


def _tabular_cases(folder: Path) -> Cases:
    for path in sorted((folder / "evaluator").glob("*.json")):
        values = load_file(path.with_suffix(".safetensors"))
        for record in json.loads(path.read_text()):
            yield f"evaluator/{record['name']}", _evaluator(record, values)
    for path in sorted((folder / "labels").glob("*.json")):
        yield f"labels/{path.stem}", _labels(json.loads(path.read_text()))
    for path in sorted((folder / "lr").glob("*.json")):
        content = json.loads(path.read_text())
        for name, schedule in content["schedules"].items():
            yield f"lr/{name}", _rates(content, schedule)
    for path in sorted((folder / "tokenizer").glob("*.json")):
        values = load_file(path.with_suffix(".safetensors"))
        yield f"tokenizer/{path.stem}", _tokenizer(json.loads(path.read_text()), values)


__all__ = ["engine_cases", "entries_of"]
