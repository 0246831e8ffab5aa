"""Cases of the trainers: softcpt/, hard/ and zeroshot/."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import clip
from dassl.config import get_cfg_default, merge_cfg
from dassl.data.columns import class_offsets, task_of_class
from dassl.data.dataset import DATASET_REGISTRY, Suite
from dassl.data.datum import Datum, Task
from dassl.data.loaders import describe
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import task_probabilities
from tests.golden.choices import SEEDS, Choices, average_precision, filled_logits
from tests.golden.report import Case, Mismatch, leaves, leftovers
from trainers._prompts import CTX_STD
from trainers.base import PromptTuner
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
MAP_TOLERANCE = 1e-3  # in %: average precision is about the order of the scores
START_TOLERANCES = {
    "logits": 1e-4,
    "mid": 1e-4,
    "text_features": 1e-4,
    "image_features": 1e-4,
    "loss": 3e-5,
    "probs": 3e-5,
    "map": MAP_TOLERANCE,
    "grad": 5e-5,
}
SCALARS = ("loss", "map")
SAMPLED = ("loss", "map", "probs", "grad")
START = re.compile(r"(sub\.)?(logits$|probs$|(text|image)_features$|mid\.|grad\.)(?!.*selected)")
STATISTICS = "original_init_stats(shape,dtype,mean,std)"
INPUTS = ("arguments.*", "extra_options.*", "trainer", "variant", "batch", "init_from.*", *SEEDS)
LEFT_OUT = {"max_abs_dev_vs_float64.*": "rounding error of the recorded numbers themselves"}
ZEROSHOT_INPUTS = ("key", "variant", "dataset", "task", "class_names")


class FixedData:
    """A data manager of one recorded batch."""

    def __init__(self, tasks: list[Task], batch: dict[str, Any]) -> None:
        self.tasks, self.offsets, self.task_of_class = tasks, class_offsets(tasks), task_of_class(tasks)
        self.multi, self.label_sets = torch.zeros(len(tasks), dtype=torch.bool), None
        self.train_loader_x = self.val_loader = self.test_loader = [batch]

    def attach_encoder(self, encode: Callable[[Tensor], Tensor], encoder_id: str, *, test_rows: int = 0) -> None:
        """The recorded images are encoded anew."""

    def truth(self, batch: dict[str, Any]) -> None:
        """No task is multi-label."""


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
        if f"init.{name}" in values:
            case.close(f"init.{name}", starts[source] if source else parameter, values[f"init.{name}"], 1e-7)
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


def replay_trainer(folder: Path, path: Path, keys: dict[str, Any]) -> Callable[[Case], None]:
    """A case of softcpt/ or hard/, with further config ``keys``."""

    def replay(case: Case) -> None:
        record, values = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        case.expect(record, values, inputs=INPUTS, left_out=LEFT_OUT)
        record["extra_options"] = {**record.get("extra_options", {}), **keys}
        trainer = build(folder, record, "corrected")
        choices = Choices(trainer, record, values)
        choices.compare(trainer, case)
        _compare_build(trainer, path, record, case)
        set_start(trainer, folder, record, values, case)
        _compare_tokens(trainer, values, case)
        with case.part("start"):
            choices.use(trainer, "sub", 0)
            _compare_start(trainer, Recorded(record, values, choices.active), choices, case)
        for track in TOLERANCES:
            if track in record:
                with case.part(track):
                    _compare_training(folder, record, values, track, case)

    return replay


def _compare_build(trainer: PromptTuner, path: Path, record: dict[str, Any], case: Case) -> None:
    """Names, shapes, registered modules, and that our own starting values are distributed as the original's."""
    case.equal("case", path.stem, record["case"])
    learned = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    for name, shape in record["num_learnable"].items():
        case.equal(f"num_learnable.{name}", lambda name=name: list(learned[name].shape), shape)
    modules = {name.split(".")[0] for name in record["num_learnable"]}
    named = [name for name in record.get("registered_modules", []) if name in modules]
    case.equal("registered_modules", sorted(modules & set(trainer.learned_modules())), sorted(named))
    for name, (shape, dtype, mean, std) in record.get(STATISTICS, {}).items():
        with case.part(f"{STATISTICS}.{name}"):
            own = learned[name].detach()
            case.equal(f"shape and type of {name}", [list(own.shape), str(own.dtype)], [shape, dtype])
            drawn = record["init_from"].get(name) is not None
            near = 8 * CTX_STD / own.numel() ** 0.5 if drawn else 1e-6
            alike = abs(own.mean() - mean) < near and abs(own.std() - std) < near
            case.equal(f"{STATISTICS}.{name}", bool(alike), True)


def _compare_tokens(trainer: PromptTuner, values: dict[str, Tensor], case: Case) -> None:
    model = trainer.model
    learners = {
        "task": getattr(model, "task_prompt_learner", None),
        "class": getattr(model, "class_prompt_learner", None),
        "prompt": getattr(model, "prompts", getattr(model, "prompt_learner", None)),
    }
    for kind, learner in learners.items():
        if f"tokens.{kind}" in values:
            case.equal(f"tokens.{kind}", lambda learner=learner: learner.layout.tokens, values[f"tokens.{kind}"])


class Recorded:
    """The numbers of a case before training. With class sub-sampling ``sub.NAME`` is NAME of the sub-sampled step.

    Where there is no ``sub.NAME``, the loss and what belongs to it (``SAMPLED``) are the step's under their own name.
    """

    def __init__(self, record: dict[str, Any], values: dict[str, Tensor], sampled: bool) -> None:
        scalars = {name: value for name, value in leaves(record).items() if name.removeprefix("sub.") in SCALARS}
        self.numbers = {**scalars, **{name: value for name, value in values.items() if START.match(name)}}
        self.trainer, self.sampled = record["trainer"], sampled

    def is_sampled(self, name: str) -> bool:
        """Whether a recorded number is about the classes of a sub-sampled step."""
        return name.startswith("sub.") or (
            self.sampled and name.split(".")[0] in SAMPLED and f"sub.{name}" not in self.numbers
        )


def _compare_start(trainer: PromptTuner, recorded: Recorded, choices: Choices, case: Case) -> None:
    batch = trainer.dm.train_loader_x[0]
    kept = choices.at("sub", 0) if choices.active else None
    whole = Start(trainer, batch, recorded.trainer, None)
    sampled = Start(trainer, batch, recorded.trainer, kept)
    for name, theirs in recorded.numbers.items():
        start = sampled if recorded.is_sampled(name) else whole
        kind = name.removeprefix("sub.").split(".")[0]
        case.close(name, partial(start.value, name.removeprefix("sub.")), theirs, START_TOLERANCES[kind])


class Start:
    """Our numbers before training, computed when they are asked for; with ``kept`` those of a sub-sampled step."""

    def __init__(self, trainer: PromptTuner, batch: dict[str, Any], name: str, kept: Tensor | None) -> None:
        self._trainer, self._batch, self._name, self._kept = trainer, batch, name, kept

    def value(self, name: str) -> Any:
        """The number that is recorded under a name (without "sub.")."""
        kind, _, rest = name.partition(".")
        if kind == "grad":
            gradient, parameter = self._gradients[rest]
            return torch.zeros_like(parameter) if gradient is None else gradient
        if kind == "mid":
            return self._middle(rest)
        if name == "probs":
            return own_probabilities(self._trainer, self._batch, self._logits, self._name)
        return {
            "logits": lambda: self._logits,
            "loss": lambda: self._loss[0],
            "map": self._average_precision,
            "text_features": lambda: self._text,
            "image_features": lambda: self._trainer.image_features(self._batch),
        }[name]()

    def _middle(self, name: str) -> Tensor | None:
        if name in ("text_features", "image_features"):
            return self.value(name)
        with torch.no_grad():
            tasks, classes = self._trainer.model.name_features()
            found = {"task_features": tasks, "class_features": classes}
            return found[name] if name in found else {"generated_ctx": self._trainer.model.contexts()[0]}[name]

    def _average_precision(self) -> float:
        shown = average_precision(self._trainer, self._batch, self._logits)
        if self._kept is None and self._loss[1]["map"] != shown:
            raise Mismatch(f"the step shows {self._loss[1]['map']}, its logits give {shown}")
        return shown

    @cached_property
    def _text(self) -> Tensor:
        if self._kept is not None:
            return filled_logits(self._trainer, self._batch, self._kept)[0]
        self._trainer.before_test()
        return self._trainer._class_features

    @cached_property
    def _logits(self) -> Tensor:
        if self._kept is not None:
            return filled_logits(self._trainer, self._batch, self._kept)[1]
        self._trainer.before_test()
        return self._trainer.model_inference(self._batch)

    @cached_property
    def _loss(self) -> tuple[Tensor, dict[str, float]]:
        self._trainer.printing = True
        with all_classes(self._trainer, self._kept is None):
            return self._trainer.loss(self._batch)

    @cached_property
    def _gradients(self) -> dict[str, tuple[Tensor | None, Tensor]]:
        self._trainer.model.zero_grad()
        self._loss[0].backward()
        return {name: (parameter.grad, parameter) for name, parameter in self._trainer.model.named_parameters()}


@contextmanager
def all_classes(trainer: PromptTuner, wanted: bool) -> Iterator[None]:
    """Let a step score all classes while this is open."""
    before = trainer.kept_columns
    if wanted:
        trainer.kept_columns = lambda column: None  # type: ignore[method-assign]
    yield
    trainer.kept_columns = before  # type: ignore[method-assign]


def own_probabilities(trainer: PromptTuner, batch: dict[str, Any], logits: Tensor, name: str) -> Tensor:
    """Softmax within every task; columns of tasks that are not in the batch keep their logits (soft context only)."""
    probs = logits.clone()
    present = set(batch["task"].tolist())
    for t in range(len(trainer.dm.tasks)):
        own = trainer.task_of_class == t
        if t in present or name != "MTCoOp":
            probs[:, own] = task_probabilities(logits, own.expand_as(logits))[:, own]
    return probs


def _compare_training(folder: Path, record: dict[str, Any], values: dict[str, Tensor], track: str, case: Case) -> None:
    recorded = record[track]
    trainer = build(folder, record, "corrected" if track == "plain" else "released")
    set_start(trainer, folder, record, values, case)
    choices = Choices(trainer, record, values)
    for key, mine in (
        ("optimizer_steps_per_batch", trainer.steps_per_batch),
        ("scheduler_steps_per_epoch", trainer.schedule_steps_per_epoch),
    ):
        if key in recorded:
            case.equal(f"{track}.{key}", mine, recorded[key])
    after_tolerance, logits_tolerance = TOLERANCES[track]
    batch = trainer.dm.train_loader_x[0]
    found = train_steps(trainer, batch, choices, track)
    tolerances = {"loss": logits_tolerance if track == "plain" else 1e-3, "map": MAP_TOLERANCE}
    for key in ("loss", "map"):
        if key in recorded:
            case.close(f"{track}.{key}", found[key], recorded[key], tolerances[key])
    case.close(f"{track}.lr", found["lr"], recorded["lr"], 1e-15, relative=1e-9)
    case.close(f"{track}.lr_next", trainer.sched.get_last_lr()[0], recorded["lr_next"], 1e-15, relative=1e-9)
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad:
            case.close(f"{track}.after.{name}", parameter, values[f"{track}.after.{name}"], after_tolerance)
    trainer.before_test()
    logits = f"{track}.logits_after"
    case.close(logits, lambda: trainer.model_inference(batch), values[logits], logits_tolerance)
    for key, mine in after_steps(trainer, batch, choices, track, recorded["loss_after"]).items():
        if f"{track}.{key}" in case.expected:
            case.close(
                f"{track}.{key}", mine, recorded[key], logits_tolerance if key == "loss_after" else MAP_TOLERANCE
            )


def train_steps(trainer: PromptTuner, batch: dict[str, Any], choices: Choices, track: str) -> dict[str, list[float]]:
    """Five steps on one batch: rate, loss and average precision of each."""
    found: dict[str, list[float]] = {"lr": [], "loss": [], "map": []}
    trainer.printing = True
    for epoch in range(STEPS):
        trainer.epoch = epoch
        choices.use(trainer, track, epoch)
        found["lr"].append(trainer.sched.get_last_lr()[0])
        kept = choices.at(track, epoch) if choices.active else None
        sampled = kept is not None and average_precision(trainer, batch, filled_logits(trainer, batch, kept)[1])
        shown = trainer.forward_backward(batch)
        found["loss"].append(float(shown["loss"]))
        found["map"].append(shown["map"] if kept is None else sampled)
        trainer.step_schedule()
    return found


def after_steps(
    trainer: PromptTuner, batch: dict[str, Any], choices: Choices, track: str, recorded: float
) -> dict[str, float]:
    """Loss (and average precision) behind the last step.

    With class sub-sampling a record may have scored a further choice, all classes, or the last choice again: the
    nearest of the three counts.
    """
    kept = [choices.at(track, STEPS), choices.drawn[STEPS] if choices.drawn else None, choices.at(track, STEPS - 1)]
    found = []
    for columns in [None, *(part for part in kept if part is not None)]:
        trainer.kept_columns = lambda column, columns=columns: columns  # type: ignore[method-assign]
        with torch.no_grad():
            loss = float(trainer.loss(batch)[0])
        logits = trainer.model_inference(batch) if columns is None else filled_logits(trainer, batch, columns)[1]
        found.append({"loss_after": loss, "map_after": average_precision(trainer, batch, logits)})
    return min(found, key=lambda each: abs(each["loss_after"] - recorded))


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
        key = f"{record['key']}."
        own = {name.removeprefix(key): value for name, value in values.items() if name.startswith(key)}
        case.expect(record, own, inputs=ZEROSHOT_INPUTS)
        template, replaced = original_template(record["dataset"], record["task"])
        if replaced:
            case.notes.append(f"with the original's wording; ours is {replaced!r}")
        task = Task("task", tuple(record["class_names"]), template=template)
        case.equal("prompts", template_prompts(task), record["prompts"])
        case.equal("tokens", clip.tokenize(template_prompts(task)), own["tokens"])
        whole = build(
            folder, {"trainer": "ZeroshotCLIP", "variant": record["variant"], "batch": batch, "arguments": keys}, ""
        )
        whole.dm.tasks = [task]
        model = whole.build_prompts(whole.backbone, [task])
        features = torch.nn.functional.normalize(model().float(), dim=-1)
        case.close("text_features", features, own["text_features"], 1e-5)
        images = whole.image_features(whole.dm.train_loader_x[0])
        case.close("logits", whole.logits(images, features), own["logits"], 1e-4)

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
        yield from leftovers("zeroshot/zeroshot", values, [f"{record['key']}.*" for record in content["cases"]])
