"""Cases of the engine: evaluator/, labels/, lr/, tokenizer/, transforms/, parse/."""

import contextlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
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
from dassl.data.columns import task_of_class
from dassl.data.datum import Datum, Task
from dassl.data.images import ORIGINAL, read_image
from dassl.data.loaders import describe
from dassl.data.transforms import build_transform
from dassl.evaluation import ClassificationMT, TaskScore
from dassl.metrics import task_probabilities
from dassl.optim import learning_rate
from tests.golden.prompts import label_vectors
from tests.golden.report import Case, leftovers

# open_clip writes the two special tokens differently; their ids are the same.
_SPECIAL = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
EVALUATOR_INPUTS = ("name", "num_classes", "*_names", "metric_of_task", "batch_sizes", "per_task_result", "l*s")
TOKENIZER_LEFT_OUT = dict.fromkeys(("ftfy", "regex"), "versions of the recording packages")
Cases = Iterator[tuple[str, Callable[[Case], None]]]


def _evaluator(record: dict[str, Any], values: dict[str, Tensor]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        sizes, name = record["num_classes"], record["name"]
        own = {key.removeprefix(f"{name}."): v for key, v in values.items() if key.startswith(f"{name}.")}
        case.expect(record, own, inputs=EVALUATOR_INPUTS)
        tasks = [
            Task(task, tuple(f"class {c}" for c in range(size)), metric)
            for task, size, metric in zip(record["task_names"], sizes, record["metric_of_task"], strict=True)
        ]
        evaluator = ClassificationMT(tasks, per_task=record["per_task_result"])
        start = 0
        for size in record["batch_sizes"]:
            rows = slice(start, start + size)
            row, task, label = entries_of(own["labels"][rows], sizes)
            evaluator.process(own["logits"][rows], label, task, row=row)
            start += size
        with _captured("dassl.evaluation") as lines:
            results = evaluator.evaluate()
        if "scores" in own:
            case.close("scores", lambda: _task_softmax(own["logits"], tasks), own["scores"], 1e-6)
        case.equal("per_task_count", [score.total for score in evaluator.scores], record["per_task_count"])
        _compare_metrics(evaluator, results, record, lines, case)

    return replay


def _compare_metrics(
    evaluator: ClassificationMT, results: dict[str, Any], record: dict[str, Any], lines: list[str], case: Case
) -> None:
    recorded = record["per_task_metric"]
    mine = [None if metric is None and score.absent else score.metric for score, metric in _pairs(evaluator, recorded)]
    case.equal("tasks without a metric", [m is None for m in mine], [m is None for m in recorded])
    given = [(m, theirs) for m, theirs in zip(mine, recorded, strict=True) if theirs is not None]
    case.close("per_task_metric", [m for m, _ in given], [theirs for _, theirs in given], 1e-9)
    case.equal("result_order", list(results), record["result_order"])
    ours, theirs = lines[: record["printed"].count("\n")], record["printed"].splitlines()
    if None in recorded:
        case.leave_out("results.*", "the original's NaN for a class without images, which is left out here")
        ours, theirs = ([line for line in each if _without_mean(line, recorded)] for each in (ours, theirs))
    for key in (name for name in record["results"] if f"results.{name}" in case.expected):
        case.close(f"results.{key}", results[key], record["results"][key], 1e-9)
    case.equal("printed", ours, theirs)


def _pairs(evaluator: ClassificationMT, recorded: list[float | None]) -> Iterator[tuple[TaskScore, float | None]]:
    return zip(evaluator.scores, recorded, strict=True)


def _without_mean(line: str, recorded: list[float | None]) -> bool:
    """Whether a printed line holds neither the mean over tasks nor the metric of a task that was NaN."""
    task = re.match(r"\* task: (\d+) ", line)
    return recorded[int(task[1])] is not None if task else not line.startswith(("* overall_metric", "* average"))


def _task_softmax(logits: Tensor, tasks: Sequence[Task]) -> Tensor:
    owner = task_of_class(tasks)
    return sum(task_probabilities(logits, (owner == t).expand_as(logits)) for t in range(len(tasks)))  # type: ignore


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
        case.expect(content, inputs=("num_classes", "examples.*.task", "examples.*.label"))
        for number, example in enumerate(content["examples"]):
            (task, label), *also = zip(example["task"], example["label"], strict=True)
            batch = describe([Datum("image", label, task, tuple(also))], [0])
            mine = label_vectors(batch, content["num_classes"])[0].tolist()
            case.equal(f"examples.{number}.vector", mine, example["vector"])

    return replay


def _rates(content: dict[str, Any], schedule: dict[str, Any]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        case.expect(schedule, inputs=("epochs", "scheduler_steps_per_epoch", "options.*"))
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
        recorded = {name: schedule[name] for name in ("lr_first_to_last_epoch", "lr_after")}
        case.equal("number of epochs", len(recorded["lr_first_to_last_epoch"]), schedule["epochs"])
        each = schedule["scheduler_steps_per_epoch"]
        rates = [learning_rate(cfg.OPTIM, epoch * each) for epoch in range(schedule["epochs"] + 1)]
        for name, mine in (("lr_first_to_last_epoch", rates[:-1]), ("lr_after", rates[-1])):
            case.close(name, mine, recorded[name], 1e-12, relative=1e-6)

    return replay


def _tokenizer(content: dict[str, Any], values: dict[str, Tensor]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        case.expect(content, values, inputs=("cases.*.text", "too_long.*.text"), left_out=TOKENIZER_LEFT_OUT)
        case.equal("context_length", clip.tokenize(["text"]).shape[1], content["context_length"])
        case.equal("tokens", lambda: clip.tokenize([entry["text"] for entry in content["cases"]]), values["tokens"])
        for number, entry in enumerate(content["cases"]):
            case.equal(f"cases.{number}.ids", partial(_ids, entry["text"]), entry["ids"])
            case.equal(f"cases.{number}.decoded", partial(_decoded, entry["ids"]), entry["decoded"])
        for number, record in enumerate(content.get("too_long", [])):
            text = record["text"]
            case.equal(f"too_long.{number}.without_truncation", partial(_refusal, text), record["without_truncation"])
            mine = partial(lambda text: clip.tokenize([text], truncate=True)[0].tolist(), text)
            case.equal(f"too_long.{number}.truncated_ids", mine, record["truncated_ids"])

    return replay


def _ids(text: str) -> list[int]:
    """Token ids of a text between those of its start and end."""
    row = clip.tokenize([text])[0]
    return row[1 : int(row.nonzero().max())].tolist()


def _decoded(ids: list[int]) -> str:
    text = open_clip.decode(torch.tensor(ids))
    for ours, original in _SPECIAL.items():
        text = text.replace(ours, original)
    return text


def _refusal(text: str) -> str:
    """ "RuntimeError", as in the original, where a text that is too long is refused."""
    try:
        clip.tokenize([text])
    except clip.BackboneError:
        return "RuntimeError"
    return "accepted"


def _transform(
    folder: Path, content: dict[str, Any], image: dict[str, Any], values: dict[str, Tensor]
) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        path = folder / image["file"]
        own = {key.removeprefix(f"{path.name}."): v for key, v in values.items() if key.startswith(f"{path.name}.")}
        case.expect(image, own, inputs=("file",))
        _compare_file(path, image, case)
        decoded = own["decoded"].numpy()
        mine = read_image(path, ORIGINAL)
        if path.suffix == ".jpg" and not np.array_equal(np.asarray(mine), decoded):
            case.notes.append("compared from the recorded decoding: another JPEG decoder")
            mine = Image.fromarray(decoded)
        case.equal("decoded", np.array_equal(np.asarray(mine), decoded), True)
        for size, tolerance in ((64, 1e-5), (224, 2e-3)):
            recorded = own.get(f"size{size}")
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
    flat = found.double().flatten(1)
    mine = {
        "sum": flat.sum(),
        "sum_abs": flat.abs().sum(),
        "mean_per_channel": flat.mean(dim=1),
        "std_per_channel": flat.std(dim=1),
        "corner_tl": found[:, 0, 0],
        "corner_br": found[:, -1, -1],
        "centre": found[:, size // 2, size // 2],
    }
    case.equal(f"size{size}.shape", list(found.shape), summary["shape"])
    for name in (name for name in mine if name in summary):
        # Float32 sums over 3 * size^2 values differ in the last digits with the order of summation.
        case.close(f"size{size}.{name}", mine[name], summary[name], 1e-5 * (size * size if "sum" in name else 1))


def _compare_file(path: Path, image: dict[str, Any], case: Case) -> None:
    """The image file is the recorded one."""
    with Image.open(path) as opened:
        facts = {"mode_in_file": opened.mode, "size_wh": list(opened.size)}
    for name, mine in {**facts, "sha256": sha256(path.read_bytes()).hexdigest()}.items():
        if name in image:
            case.equal(name, mine, image[name])


def _parse(folder: Path, record: dict[str, Any]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        case.expect(record, inputs=("name", "arguments", "working_folder"))
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
        case.equal("exit_status", status, record["exit_status"])
        case.equal("error", status != 0, record["error"] is not None)
        if "val_blocks" in record["name"]:
            case.notes.append("per-task lines before the end marker are left out on purpose")
            recorded, mine = ([line for line in lines if "overall_metric" in line] for lines in (recorded, mine))
        case.equal("stdout_file", mine, recorded)

    return replay


def engine_cases(folder: Path) -> Cases:
    """All cases of evaluator/, labels/, lr/, tokenizer/, transforms/ and parse/."""
    yield from _tabular_cases(folder)
    for path in sorted((folder / "transforms").glob("*.json")):
        content, values = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        for image in content["images"]:
            yield f"transforms/{image['file']}", _transform(path.parent, content, image, values)
        names = [f"{Path(image['file']).name}.*" for image in content["images"]]
        yield from leftovers("transforms/transforms", values, names)
    for path in sorted((folder / "parse").glob("*.json")):
        for record in json.loads(path.read_text()):
            yield f"parse/{record['name']}", _parse(path.parent, record)


def _tabular_cases(folder: Path) -> Cases:
    for path in sorted((folder / "evaluator").glob("*.json")):
        values = load_file(path.with_suffix(".safetensors"))
        records = json.loads(path.read_text())
        for record in records:
            yield f"evaluator/{record['name']}", _evaluator(record, values)
        yield from leftovers(f"evaluator/{path.stem}", values, [f"{record['name']}.*" for record in records])
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
