"""Cases of the trainers: softcpt/, hard/ and zeroshot/."""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import clip
from dassl.config import get_cfg_default, merge_cfg
from dassl.data.dataset import DATASET_REGISTRY, Suite
from dassl.data.datum import Datum, Task
from dassl.data.loaders import describe
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import task_probabilities
from tests.golden.report import Case, Mismatch
from trainers.base import PromptTuner
from trainers.mtcoop import sample_columns
from trainers.zsclip import template_prompts

SECTIONS = {"MTCoOp": "MTCOOP", "MTCoOpHard": "MTCOOPH", "ZeroshotCLIP": "ZSCLIP"}
STEPS = 5
OPTIM = {
    "OPTIM.NAME": "sgd",
    "OPTIM.LR": 0.002,
    "OPTIM.MAX_EPOCH": 50,
    "OPTIM.LR_SCHEDULER": "cosine",
    "OPTIM.WARMUP_EPOCH": 1,
    "OPTIM.WARMUP_TYPE": "constant",
    "OPTIM.WARMUP_CONS_LR": 1e-5,
    "SEED": 1,
    "USE_CUDA": False,
}
TOLERANCES = {"plain": (1e-6, 3e-4), "trainer_loop": (5e-6, 1e-3)}


class FixedData:
    """A data manager of one recorded batch."""

    def __init__(self, tasks: list[Task], batch: dict[str, Any]) -> None:
        self.tasks = tasks
        self.train_loader_x = self.val_loader = self.test_loader = [batch]

    def attach_encoder(self, encode: Callable[[Tensor], Tensor], encoder_id: str, *, test_rows: int = 0) -> None:
        """The recorded images are encoded anew."""


@lru_cache(maxsize=4)
def _problem(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "common/problem.json").read_text())


@lru_cache(maxsize=4)
def _tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def problem_tasks(folder: Path) -> list[Task]:
    """The toy problem's tasks."""
    p = _problem(folder)
    columns = zip(p["task_names"], p["class_names"], p["task_metrics"], strict=True)
    return [Task(name, tuple(classes), metric) for name, classes, metric in columns]


def recorded_batch(folder: Path, batch: str, variant: str) -> dict[str, Any]:
    """A recorded batch in the engine's form; the recorded label vectors must say the same as its items."""
    p, tensors = _problem(folder), _tensors(folder / "common/batch.safetensors")
    items = []
    for number, item in enumerate(p[f"items_{batch}"]):
        (task, label), *also = zip(item["task"], item["label"], strict=True)
        items.append(Datum(f"{batch}{number}", label, task, tuple(also)))
    found = describe(items, range(len(items)))
    sizes = [len(names) for names in p["class_names"]]
    if not torch.equal(label_vectors(found, sizes), tensors[f"labels_{batch}"]):
        raise Mismatch(f"labels of batch {batch}")
    return {**found, "img": tensors[f"images_{batch}.{variant}"]}


def label_vectors(batch: dict[str, Any], sizes: list[int]) -> Tensor:
    """The original's (B, C) label vectors of a batch: -1 outside an image's tasks, 1 at its class, else 0."""
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    first = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
    vectors = torch.full((len(batch["index"]), len(owner)), -1)
    for row, task, label in zip(batch["row"], batch["task"], batch["label"], strict=True):
        vectors[row, owner == task] = 0
        vectors[row, first[task] + label] = 1
    return vectors


def build(folder: Path, record: dict[str, Any], recipe: str) -> PromptTuner:
    """The trainer of a recorded case with its recorded starting values."""
    trainer, variant = record["trainer"], record["variant"]
    section = SECTIONS[trainer]
    backbone = folder / f"common/clip_tiny_{variant}.safetensors"
    size = _problem(folder)["clip_config"][variant]["image_resolution"]
    options = {**recorded_options(record), "PREC": "fp32"}
    if trainer == "MTCoOp":
        options["RECIPE"] = recipe
    settings = {
        **OPTIM,
        "TRAINER.NAME": trainer,
        "MODEL.BACKBONE.NAME": backbone,
        "INPUT.SIZE": f"{size},{size}",
        **{key if "." in key else f"TRAINER.{section}.{key}": value for key, value in options.items()},
    }
    cfg = get_cfg_default()
    merge_cfg(cfg, pairs=[str(part) for pair in settings.items() for part in pair])
    data = FixedData(problem_tasks(folder), recorded_batch(folder, record["batch"], variant))
    return TRAINER_REGISTRY.get(trainer)(cfg, data)


def set_start(
    trainer: PromptTuner, folder: Path, record: dict[str, Any], values: dict[str, Tensor], case: Case
) -> None:
    """Put the recorded starting values into the model; values from words must already be there."""
    starts = _tensors(folder / f"common/init_{record['variant']}.safetensors")
    own = dict(trainer.model.named_parameters())
    learned = sorted(name for name, parameter in own.items() if parameter.requires_grad)
    case.equal("names of learned tensors", learned, sorted(record["num_learnable"]))
    for name, parameter in own.items():
        source = record["init_from"].get(name)
        start = starts[source] if source else values.get(f"init.{name}")
        if start is None:
            raise Mismatch(f"no starting value of {name} is recorded")
        if not source and name in record["init_from"]:
            case.close(f"init.{name}", parameter, start, 1e-7)
        if parameter.shape != start.shape:
            raise Mismatch(f"{name} has shape {tuple(parameter.shape)}, recorded {tuple(start.shape)}")
        with torch.no_grad():
            parameter.copy_(start)


def recorded_options(record: dict[str, Any]) -> dict[str, Any]:
    """The case's options; the original dropped an own-context flag beside an init phrase, so it is dropped here too."""
    options = {**record["arguments"], **record.get("extra_options", {})}
    shapes = record.get("num_learnable", {})
    for prefix, name in (("TASK_", "task_prompt_learner"), ("CLASS_", "class_prompt_learner"), ("", "prompt_learner")):
        if options.get(f"{prefix}CTX_INIT") and len(shapes.get(f"{name}.ctx", [])) == 2:
            options[f"{prefix}CSC"] = False
    return options


def use_recorded_choice(trainer: PromptTuner, record: dict[str, Any], values: dict[str, Tensor]) -> None:
    """Replace the random class sub-sampling by the recorded choice: classes, masks, or torch's seed."""
    if trainer.kept_columns(torch.zeros(1, dtype=torch.int64)) is None:
        return
    sizes = [len(task.classnames) for task in trainer.dm.tasks]
    parts = [value for key, value in sorted(values.items()) if "selected" in key]
    listed = record.get("selected", [])
    parts += [torch.tensor(part) for part in (listed if listed and isinstance(listed[0], list) else [listed])]
    kept = _global_columns([part for part in parts if part.numel()], sizes)
    if len(kept):
        trainer.kept_columns = lambda column: kept  # type: ignore[method-assign]
    elif "seed" in record:
        generator, rate = torch.Generator().manual_seed(record["seed"]), trainer.options.CLS_SAMPLE_RATE
        trainer.kept_columns = lambda column: sample_columns(column, sizes, rate, generator)  # type: ignore


def _global_columns(parts: list[Tensor], sizes: list[int]) -> Tensor:
    """Columns from one list or mask over all classes, or from one for each task."""
    parts = [part.nonzero().flatten() if part.dtype == torch.bool else part.long().flatten() for part in parts]
    if len(parts) == len(sizes) and all(int(part.max()) < size for part, size in zip(parts, sizes, strict=True)):
        parts = [part + sum(sizes[:t]) for t, part in enumerate(parts)]
    return torch.cat([*parts, torch.zeros(0, dtype=torch.int64)]).unique()


def replay_trainer(folder: Path, path: Path, keys: dict[str, Any]) -> Callable[[Case], None]:
    """A case of softcpt/ or hard/, with further config ``keys``."""

    def replay(case: Case) -> None:
        record, values = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        record["extra_options"] = {**record.get("extra_options", {}), **keys}
        trainer = build(folder, record, "corrected")
        use_recorded_choice(trainer, record, values)
        set_start(trainer, folder, record, values, case)
        _compare_tokens(trainer, values, case)
        _compare_start(trainer, record, values, case)
        for track in TOLERANCES:
            if track in record:
                _compare_training(folder, record, values, track, case)

    return replay


def _compare_tokens(trainer: PromptTuner, values: dict[str, Tensor], case: Case) -> None:
    model = trainer.model
    learners = {
        "task": getattr(model, "task_prompt_learner", None),
        "class": getattr(model, "class_prompt_learner", None),
        "prompt": getattr(model, "prompts", getattr(model, "prompt_learner", None)),
    }
    for kind, learner in learners.items():
        if f"tokens.{kind}" in values:
            case.equal(f"tokens.{kind}", learner.layout.tokens, values[f"tokens.{kind}"])


def _compare_start(trainer: PromptTuner, record: dict[str, Any], values: dict[str, Tensor], case: Case) -> None:
    batch = trainer.dm.train_loader_x[0]
    trainer.before_test()
    logits = trainer.model_inference(batch)
    found = {
        "logits": logits,
        "mid.image_features": trainer.image_features(batch),
        "mid.text_features": trainer._class_features,
        **_middle(trainer),
    }
    for name in (key for key in values if key == "logits" or (key.startswith("mid.") and "selected" not in key)):
        if found.get(name) is None:
            raise Mismatch(f"nothing to compare {name} with")
        case.close(name, found[name], values[name], 1e-4)
    trainer.printing = True
    loss, shown = trainer.loss(batch)
    case.close("loss", loss, record["loss"], 3e-5)
    if trainer.kept_columns(torch.zeros(1, dtype=torch.int64)) is None:
        case.close("probs", _probs(trainer, batch, logits, record), values["probs"], 3e-5)
        case.close("map", shown["map"], record["map"], 1e-3)
    else:
        case.notes.append(
            "probs and map left out: the original fills them with constants for classes it did not encode"
        )
    loss.backward()
    for name, parameter in trainer.model.named_parameters():
        if f"grad.{name}" in values:
            case.close(f"grad.{name}", parameter.grad, values[f"grad.{name}"], 5e-5)


def _middle(trainer: PromptTuner) -> dict[str, Tensor | None]:
    if not hasattr(trainer.model, "name_features"):
        return {}
    with torch.no_grad():
        tasks, classes = trainer.model.name_features()
        return {
            "mid.task_features": tasks,
            "mid.class_features": classes,
            "mid.generated_ctx": trainer.model.contexts()[0],
        }


def _probs(trainer: PromptTuner, batch: dict[str, Any], logits: Tensor, record: dict[str, Any]) -> Tensor:
    """Softmax within every task; columns of tasks that are not in the batch keep their logits (soft context only)."""
    probs = logits.clone()
    present = set(batch["task"].tolist())
    for t in range(len(trainer.dm.tasks)):
        own = trainer.task_of_class == t
        if t in present or record["trainer"] != "MTCoOp":
            probs[:, own] = task_probabilities(logits, own.expand_as(logits))[:, own]
    return probs


def _compare_training(folder: Path, record: dict[str, Any], values: dict[str, Tensor], track: str, case: Case) -> None:
    recorded = record[track]
    trainer = build(folder, record, "corrected" if track == "plain" else "released")
    set_start(trainer, folder, record, values, case)
    if "optimizer_steps_per_batch" in recorded:
        case.equal(f"{track} steps", trainer.steps_per_batch, recorded["optimizer_steps_per_batch"])
        case.equal(f"{track} schedule", trainer.schedule_steps_per_epoch, recorded["scheduler_steps_per_epoch"])
    after_tolerance, logits_tolerance = TOLERANCES[track]
    batch = trainer.dm.train_loader_x[0]
    rates, losses = [], []
    use_recorded_choice(trainer, record, values)
    for epoch in range(STEPS):
        trainer.epoch = epoch
        rates.append(trainer.sched.get_last_lr()[0])
        losses.append(trainer.forward_backward(batch)["loss"].item())
        trainer.step_schedule()
    case.close(f"{track}.loss", losses, recorded["loss"], 1e-3 if track == "trainer_loop" else 3e-4)
    case.close(f"{track}.loss_after", trainer.loss(batch)[0], recorded["loss_after"], logits_tolerance)
    case.close(f"{track}.lr", rates, recorded["lr"], 1e-15, relative=1e-9)
    case.close(f"{track}.lr_next", trainer.sched.get_last_lr()[0], recorded["lr_next"], 1e-15, relative=1e-9)
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad:
            case.close(f"{track}.after.{name}", parameter, values[f"{track}.after.{name}"], after_tolerance)
    trainer.before_test()
    case.close(
        f"{track}.logits_after", trainer.model_inference(batch), values[f"{track}.logits_after"], logits_tolerance
    )


def original_template(dataset: str, task: int | None) -> tuple[str, str]:
    """The template that the original gives a task of a data set, and ours where that is another one on purpose."""
    kind = DATASET_REGISTRY.get(dataset)
    if issubclass(kind, Suite):
        kind = DATASET_REGISTRY.get(kind.members[task or 0])
    ours = kind.task_template(task or 0) if hasattr(kind, "task_template") else kind.template
    original = kind.released_template or ours
    return original, ours if original != ours else ""


def replay_zeroshot(
    folder: Path, record: dict[str, Any], batch: str, values: dict[str, Tensor], keys: dict[str, Any]
) -> Callable[[Case], None]:
    """A case of zeroshot/: our template of the data set, our prompts, our features; with further config ``keys``."""

    def replay(case: Case) -> None:
        template, replaced = original_template(record["dataset"], record["task"])
        if replaced:
            case.notes.append(f"with the original's wording; ours is {replaced!r}")
        task = Task("task", tuple(record["class_names"]), template=template)
        case.equal("prompts", template_prompts(task), record["prompts"])
        case.equal("tokens", clip.tokenize(template_prompts(task)), values[f"{record['key']}.tokens"])
        whole = build(
            folder, {"trainer": "ZeroshotCLIP", "variant": record["variant"], "batch": batch, "arguments": keys}, ""
        )
        whole.dm.tasks = [task]
        model = whole.build_prompts(whole.backbone, [task])
        features = torch.nn.functional.normalize(model().float(), dim=-1)
        case.close("text_features", features, values[f"{record['key']}.text_features"], 1e-5)
        images = whole.image_features(whole.dm.train_loader_x[0])
        case.close("logits", whole.logits(images, features), values[f"{record['key']}.logits"], 1e-4)

    return replay


def trainer_cases(folder: Path, **keys: object) -> Iterator[tuple[str, Callable[[Case], None]]]:
    """All cases of softcpt/, hard/ and zeroshot/; ``keys`` are config keys with "__" for the dots."""
    keys = {name.replace("__", "."): value for name, value in keys.items()}
    for kind in ("softcpt", "hard"):
        for path in sorted((folder / kind).glob("*.json")):
            yield f"{kind}/{path.stem}", replay_trainer(folder, path, keys)
    path = folder / "zeroshot/zeroshot.json"
    if path.is_file():
        content, values = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        for record in content["cases"]:
            yield f"zeroshot/{record['key']}", replay_zeroshot(folder, record, content["batch"], values, keys)
