"""Shared by the methods that fit every task to features of its few images and of its class texts.

One run fits all tasks of a suite, each by itself, as the authors of these methods do with a run per data set. Both
encoders are frozen, so with stored features a fit takes seconds. Settings that a method searches are chosen on the
few-shot validation images that every method has.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import clip
from clip.device import to_device
from dassl.config import PRECISIONS, Key, at_least
from dassl.data.columns import class_offsets
from dassl.data.datum import Task
from dassl.data.loaders import on_host
from dassl.engine.head import Head
from trainers._fitted import FittedTrainer, SplitFeatures, hold_out
from trainers.zsclip import template_prompts

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskWork:
    """All that a fit knows of one task. Features are float32, not normalised, on the device of the run.

    Attributes:
        index: of the task in the suite. task: with the metric that settings are chosen by.
        scale: CLIP's temperature s.
        text: (C_t, F) features of the classes.
        views: (V, n, F) features of the n training images, in V views. label: (n,) their classes.
        val: (m, F) features of the validation images. val_label: (m,) their classes.
    """

    index: int
    task: Task
    scale: float
    text: Tensor
    views: Tensor
    label: Tensor
    val: Tensor
    val_label: Tensor

    @property
    def place(self) -> str:
        """The task, for messages."""
        return f"task {self.index} ({self.task.name})"

    @property
    def searches(self) -> bool:
        """Whether there are validation images to choose settings on."""
        return len(self.val_label) > 0

    def zero_shot(self, features: Tensor) -> Tensor:
        """Logits (b, C_t) of the class texts."""
        return self.scale * functional.normalize(features, dim=-1) @ functional.normalize(self.text, dim=-1).T

    def val_rates(self, hits: Tensor) -> Tensor:
        """The task's metric of G settings in %, (G,) float64 on the CPU.

        Args:
            hits: (m, G) bool, which validation images each setting classifies correctly.
        """
        label = self.val_label.cpu()
        right = torch.zeros(len(self.text), hits.shape[1], dtype=torch.float64).index_add_(
            0, label, hits.cpu().double()
        )
        count = label.bincount(minlength=len(self.text))
        seen = count > 0
        if self.task.metric == "mean_acc":
            return 100 * (right[seen] / count[seen, None]).mean(dim=0)
        return 100 * right.sum(dim=0) / len(label)

    def val_rate(self, logits: Tensor) -> float:
        """The task's metric in %, of logits (m, C_t) of the validation images."""
        return float(self.val_rates((logits.argmax(dim=1) == self.val_label)[:, None]))

    def flat(self) -> tuple[Tensor, Tensor]:
        """Every view as an image of its own: unit features (V n, F) and their classes."""
        return functional.normalize(self.views, dim=-1).flatten(0, 1), self.label.repeat(len(self.views))

    def halves(self) -> "TaskWork":
        """The same task with some of the training images as validation images."""
        rows = torch.arange(len(self.label))
        (kept, label), (held, held_label) = hold_out((rows, self.label.cpu()))
        val, val_label = self.views.mean(dim=0)[held], held_label.to(self.label)
        return replace(self, views=self.views[:, kept], label=label.to(self.label), val=val, val_label=val_label)


@dataclass(frozen=True)
class Fitted:
    """What was fitted to a task.

    Attributes:
        tensors: the task's part of the learned tensors, by name.
        chosen: the settings with which this was fitted, by name.
        rate: the metric of these settings on the validation images, in %; None if nothing was searched.
    """

    tensors: dict[str, Tensor]
    chosen: dict[str, float] = field(default_factory=dict)
    rate: float | None = None


class TaskHeads(nn.Module):
    """The base of what these methods learn: the class texts, and tensors that belong to single tasks.

    Args:
        text: (C, F) features of all classes, not normalised.
        scale: CLIP's temperature s.
    """

    text: Tensor

    def __init__(self, tasks: Sequence[Task], text: Tensor, *, scale: float) -> None:
        super().__init__()
        self.offsets = class_offsets(tasks).tolist()
        self.scale = scale
        self.register_buffer("text", text, persistent=False)

    def columns(self, task: int) -> slice:
        """The classes of a task."""
        return slice(*self.offsets[task : task + 2])

    def own_text(self, task: int) -> Tensor:
        """Normalised text features (C_t, F) of a task."""
        return functional.normalize(self.text[self.columns(task)], dim=-1)

    def put(self, task: int, tensors: Mapping[str, Tensor]) -> None:
        """Store what was fitted to a task."""
        raise NotImplementedError

    def score(self, features: Tensor, task: int) -> Tensor:
        """Logits (b, C_t) float32 of images with features (b, F), not normalised."""
        raise NotImplementedError

    def head(self) -> Head | None:
        """The same scores as a table; None: they are not those of a table."""
        return None


def feature_keys(section: str, *, views: int, released: str = "") -> tuple[Key, ...]:
    """The config keys that all methods on features have.

    Args:
        section: the method's node below TRAINER.
        views: the authors' number of augmented views.
        released: what RECIPE released repeats; "" for a method whose authors choose nothing.
    """
    keys = (
        Key(f"TRAINER.{section}.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        Key(
            f"TRAINER.{section}.VIEWS",
            views,
            "augmented views of each training image; 0: the test transform",
            check=at_least(0),
        ),
    )
    if not released:
        return keys
    return (*keys, Key(f"TRAINER.{section}.RECIPE", "corrected", f"released: {released}", ("corrected", "released")))


class FeatureMethod(FittedTrainer):
    """A method that is fitted to each task of a suite by itself.

    It implements ``build_heads`` and ``fit_task``. Where the validation images of a task are also test images, its
    settings are chosen on a part of its training images instead.
    """

    model: TaskHeads
    test_rows = 0

    @property
    def rate_key(self) -> str:
        """The method's own, if it has one."""
        return f"TRAINER.{self.section}.LR" if "LR" in self.options else super().rate_key

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> TaskHeads:
        """The model, which scores as zero-shot CLIP until it is fitted."""
        prompts = [prompt for task in tasks for prompt in template_prompts(task)]
        return self.build_heads(tasks, self.template_features(prompts))

    def build_heads(self, tasks: Sequence[Task], text: Tensor) -> TaskHeads:
        """The model with the class texts (C, F)."""
        raise NotImplementedError

    def learned_modules(self) -> dict[str, nn.Module]:
        """One folder for all tasks."""
        return {self.section.lower(): self.model}

    def fit_task(self, work: TaskWork, chosen: Mapping[str, float] | None = None) -> Fitted:
        """Fit to the images of a task.

        Args:
            chosen: the settings; None: search them on the validation images, or without these take published ones.
        """
        raise NotImplementedError

    def fit(self, train: SplitFeatures, val: SplitFeatures) -> None:
        """Fit task by task."""
        shared = self.dm.dataset.validated_on_test()
        for work in self.works(train, val):
            if len(work.label):
                self.model.put(work.index, self._fitted(work, shared.get(work.index, 0)).tensors)

    def class_texts(self) -> Tensor:
        """The class texts (C, F) that fits start from; not normalised."""
        return self.model.text

    def works(self, train: SplitFeatures, val: SplitFeatures) -> Iterator[TaskWork]:
        """The tasks one by one; a warning names classes without a training image."""
        text, views = self.class_texts(), self.train_views(train)
        for index, task in enumerate(self.dm.tasks):
            rows, label = replace(train, features=torch.arange(len(train.features))).of_task(index)
            parts = (text[self.model.columns(index)], views[:, rows], label, *val.of_task(index))
            moved = (each.to(self.device) for each in parts)
            work = TaskWork(index, replace(task, metric=self.chosen_by(task)), self.backbone.logit_scale, *moved)
            self._report_absent(work)
            yield work

    def chosen_by(self, task: Task) -> str:
        """The metric by which settings are chosen: the task's, or with RECIPE released that of the authors."""
        return "overall_acc" if self.released else task.metric

    @property
    def released(self) -> bool:
        """Whether the authors' choices are repeated."""
        return self.options.get("RECIPE", "corrected") == "released"

    def train_views(self, train: SplitFeatures) -> Tensor:
        """Features (V, n, F) of the training images: VIEWS augmented views, or the one of the test transform."""
        if not self.options.VIEWS:
            return train.features[None]
        return torch.stack(list(self.augmented_views(self.options.VIEWS)))

    def _fitted(self, work: TaskWork, shared: int) -> Fitted:
        if not shared:
            found = self.fit_task(work)
            self._report(work, found, "val")
            return found
        found = self.fit_task(work.halves())
        if found.chosen:
            how = "a part of its training images is used" if found.rate is not None else "none is used"
            _log.warning("%s: %s of its validation images are test images; %s instead", work.place, f"{shared:,}", how)
        self._report(work, found, "what was held out")
        return self.fit_task(work, found.chosen)

    def _report(self, work: TaskWork, found: Fitted, split: str) -> None:
        """Log what was chosen for a task, and what was missing."""
        if not found.chosen:
            return
        chosen = ", ".join(f"{name} {value:.6g}" for name, value in found.chosen.items())
        if found.rate is not None:
            _log.info("%s: %s; %s %.2f%% on %s", work.place, chosen, work.task.metric, found.rate, split)
        else:
            _log.warning("%s has no validation image to choose settings on; %s is used", work.place, chosen)

    def _report_absent(self, work: TaskWork) -> None:
        counts = work.label.bincount(minlength=len(work.text)).tolist()
        absent = [name for name, count in zip(work.task.classnames, counts, strict=True) if not count]
        if len(absent) == len(counts):
            _log.warning("%s has no training image, so its classes are their texts only", work.place)
        elif absent:
            _log.warning("%s: no training image of %s", work.place, ", ".join(absent))

    def head(self) -> Head:
        """Rows of all classes, and the cache of Tip-Adapter."""
        return self.model.head() or super().head()

    def before_test(self) -> None:
        """Does nothing: the class texts are encoded when the run begins."""

    def model_inference(self, batch: dict[str, Any]) -> Tensor:
        """Logits (B, C) of a test batch, -inf outside the images' own tasks."""
        features = self.image_features(batch)
        logits = features.new_full((len(features), self.model.offsets[-1]), -torch.inf)
        row, task = on_host(batch, "row"), on_host(batch, "task")
        for index in task.unique().tolist():
            rows = to_device(row[task == index].unique(), features.device)
            logits[rows, self.model.columns(index)] = self.model.score(features[rows], index)
        return logits


class ClassRows(TaskHeads):
    """Heads that score the unit feature of an image with one row of numbers for each class, and its bias.

    Attributes:
        weight: (C, F), at the start s times the class texts, so that logits are those of zero-shot CLIP.
    """

    weight: Tensor

    def __init__(self, tasks: Sequence[Task], text: Tensor, *, scale: float) -> None:
        super().__init__(tasks, text, scale=scale)
        self.weight = nn.Parameter(scale * functional.normalize(text, dim=-1))

    @torch.no_grad()
    def put(self, task: int, tensors: Mapping[str, Tensor]) -> None:
        """Store what was fitted to a task."""
        for name, values in tensors.items():
            getattr(self, name)[self.columns(task)] = values

    def rows(self, task: int) -> tuple[Tensor, Tensor | None]:
        """Rows (C_t, F) and biases (C_t,) of a task; None: 0."""
        return self.weight[self.columns(task)], None

    def head(self) -> Head:
        """Rows and biases of all tasks."""
        parts = [self.rows(task) for task in range(len(self.offsets) - 1)]
        rows = torch.cat([each for each, _ in parts]).detach().cpu().float()
        biases = [bias.detach().cpu().float() for _, bias in parts if bias is not None]
        return Head("unit", rows, bias=torch.cat(biases) if biases else None)

    def score(self, features: Tensor, task: int) -> Tensor:
        """Logits (b, C_t): d(x) @ rows.T + bias."""
        rows, bias = self.rows(task)
        logits = functional.normalize(features, dim=-1) @ rows.T
        return logits if bias is None else logits + bias


class CachedImages(TaskHeads):
    """Heads with a tensor that has a row for each (training image, task) entry, those of a task side by side.

    Args:
        counts: entries of each task.

    Attributes:
        keys: (N, F), of unit length where they are fitted.
        label: (N,) class of each row inside its task. count: (T,) rows of each task.
    """

    keys: Tensor
    label: Tensor
    count: Tensor

    def __init__(self, tasks: Sequence[Task], text: Tensor, *, scale: float, counts: Sequence[int]) -> None:
        super().__init__(tasks, text, scale=scale)
        self.register_buffer("label", torch.zeros(sum(counts), dtype=torch.int64))
        self.register_buffer("count", torch.tensor(counts, dtype=torch.int64))
        self._add_keys(torch.zeros(sum(counts), text.shape[1]))

    def _add_keys(self, keys: Tensor) -> None:
        self.register_buffer("keys", keys)

    def rows(self, task: int) -> slice:
        """The rows of a task."""
        bounds = [0, *self.count.cumsum(0).tolist()]
        return slice(*bounds[task : task + 2])

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """Take the number of rows from a checkpoint, which is known in a run only."""
        if (label := state.get("label")) is not None and label.dim() == 1:
            self.label = self.label.new_zeros(len(label))
            self._add_keys(self.keys.new_zeros(len(label), self.keys.shape[1]))
