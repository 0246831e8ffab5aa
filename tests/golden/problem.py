"""Cases of common/: the toy problem, its batches, its starting values and its networks."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import clip
from tests.golden.prompts import build, own_probabilities, problem_tasks, recorded_batch
from tests.golden.report import Case
from trainers._prompts import CTX_STD

SAME_IMAGES = {"c": "a"}  # the images of batch c are the first ones of batch a


def problem_cases(folder: Path) -> Iterator[tuple[str, Callable[[Case], None]]]:
    """All cases of common/."""
    path = folder / "common/problem.json"
    if not path.is_file():
        return
    content = json.loads(path.read_text())
    yield "common/problem", partial(_problem, folder, content)
    yield "common/batch", partial(_batches, folder, content)
    for variant in content["clip_config"]:
        yield f"common/init_{variant}", partial(_starts, folder, variant)
        yield f"common/clip_tiny_{variant}", partial(_network, folder, variant)


def _problem(folder: Path, content: dict[str, Any], case: Case) -> None:
    case.expect(content, inputs=("task_names", "class_names", "task_metrics", "items_*", "clip_config.*"))
    case.equal("task_types", ["sl"] * len(problem_tasks(folder)), content["task_types"])
    counts = content["name_token_counts"]
    case.equal("name_token_counts.tasks", [_count(task.name) for task in problem_tasks(folder)], counts["tasks"])
    mine = [[_count(name) for name in task.classnames] for task in problem_tasks(folder)]
    case.equal("name_token_counts.classes", mine, counts["classes"])
    for variant, config in content["clip_config"].items():
        with case.part(variant):
            backbone = clip.load(folder / f"common/clip_tiny_{variant}.safetensors")[0]
            found = [backbone.embed_dim, backbone.image_size, backbone.text_width, backbone.context_length]
            names = ("embed_dim", "image_resolution", "transformer_width", "context_length")
            case.equal(f"sizes of {variant}", found, [config[name] for name in names])


def _count(name: str) -> int:
    return clip.token_count(name.replace("_", " "))


def _batches(folder: Path, content: dict[str, Any], case: Case) -> None:
    """Labels say what the items say; our loss on each batch is the README's formula, also where no case uses it."""
    values = load_file(folder / "common/batch.safetensors")
    case.expect(values)
    for name in (key.removeprefix("items_") for key in content if key.startswith("items_")):
        for variant in content["clip_config"]:
            with case.part(f"images_{name}.{variant}"):
                batch = recorded_batch(folder, name, variant)
                case.equal(f"labels_{name}", len(batch["index"]), len(values[f"labels_{name}"]))
                if name in SAME_IMAGES:
                    whole = values[f"images_{SAME_IMAGES[name]}.{variant}"]
                    case.equal(f"images of batch {name}, {variant}", whole[: len(batch["img"])], batch["img"])
                mine, formula = _loss_and_formula(folder, name, variant)
                case.close(f"images_{name}.{variant}", mine, formula, 3e-5)


def _loss_and_formula(folder: Path, name: str, variant: str) -> tuple[float, float]:
    """Our loss of a batch, and the sum over entries of -log of the probability of the true class, over images."""
    options = {"N_CTX": "4", "CSC": "False", "TASK_N_CTX": "4", "TASK_CSC": "False", "PG_TYPE": "lin"}
    trainer = build(folder, {"trainer": "MTCoOp", "variant": variant, "batch": name, "arguments": options}, "corrected")
    batch = trainer.dm.train_loader_x[0]
    trainer.before_test()
    probs = own_probabilities(trainer, batch, trainer.model_inference(batch), "MTCoOp")
    row, _, column = trainer.parse_batch_train(batch)
    with torch.no_grad():
        return float(trainer.loss(batch)[0]), float(-probs[row, column].log().sum() / len(batch["index"]))


def _starts(folder: Path, variant: str, case: Case) -> None:
    """Every starting value is N(0, 0.02^2)."""
    values = load_file(folder / f"common/init_{variant}.safetensors")
    case.expect(values)
    for name, value in values.items():
        near = 6 * CTX_STD / value.numel() ** 0.5
        alike = abs(value.mean()) < near and abs(value.std() - CTX_STD) < near
        case.equal(name, [str(value.dtype), bool(alike)], ["torch.float32", True])


def _network(folder: Path, variant: str, case: Case) -> None:
    """Every recorded tensor is in our network, with its value."""
    values = load_file(folder / f"common/clip_tiny_{variant}.safetensors")
    scalars = ("input_resolution", "context_length", "vocab_size")
    case.expect(values, inputs=("*.num_batches_tracked",))
    backbone = clip.load(folder / f"common/clip_tiny_{variant}.safetensors")[0]
    case.equal("input_resolution", backbone.image_size, int(values["input_resolution"]))
    case.equal("context_length", backbone.context_length, int(values["context_length"]))
    own = sorted(_digest(tensor) for tensor in (*backbone.parameters(), *backbone.buffers()))
    case.equal("vocab_size", any(shape[0] == int(values["vocab_size"]) for shape, _ in own if shape), True)
    case.close("logit_scale", backbone.logit_scale, values["logit_scale"].double().exp(), 1e-4)
    for name, value in values.items():
        if name not in (*scalars, "logit_scale") and name in case.expected:
            case.equal(name, _digest(value) in own, True)


def _digest(tensor: torch.Tensor) -> tuple[tuple[int, ...], float]:
    """Shape and sum of a tensor, which tell it from the others."""
    return tuple(tensor.shape), float(tensor.detach().double().sum())
