"""Multi-task evaluation: keeps one prediction per (image, task) entry with its probability, never the logits."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.data.columns import class_offsets, task_of_class
from dassl.data.datum import Task
from dassl.evaluation.multilabel import LabelCollector, LabelScores, MultiLabelScore, score_labels
from dassl.evaluation.scores import TaskScore, score_task
from dassl.metrics import task_columns
from dassl.metrics.multilabel import FIXED_THRESHOLD
from dassl.metrics.quality import Quality, mean_quality, quality
from dassl.utils.registry import Registry

EVALUATOR_REGISTRY: Registry = Registry("evaluator")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entries:
    """What was predicted for E (image, task) entries.

    Attributes:
        image: (E,) place of the image in its split.
        task, label: (E,) the task and the true class inside it.
        predicted: (E,) the predicted class inside the task; -1 where the logits are not finite.
        log_true, log_predicted: (E,) float32 log-probabilities of the two classes among those of the task: the
            logarithm of the softmax of its logits, divided by its temperature.
        raw_true, raw_predicted: (E,) the same with a temperature of 1.
    """

    image: np.ndarray
    task: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    log_true: np.ndarray
    log_predicted: np.ndarray
    raw_true: np.ndarray
    raw_predicted: np.ndarray

    @property
    def lost(self) -> np.ndarray:
        """(E,) whether there is no prediction."""
        return self.predicted < 0

    def take(self, chosen: np.ndarray) -> "Entries":
        """Some of the entries, by a mask or by their numbers."""
        return Entries(*(getattr(self, each.name)[chosen] for each in fields(self)))


@EVALUATOR_REGISTRY.register()
class ClassificationMT:
    """Accuracy of every task and its unweighted mean over tasks.

    Args:
        tasks: the tasks, in class order of the logits.
        per_task: log a line per task.
        per_class: log the recall of every class.
    """

    def __init__(self, tasks: Sequence[Task], *, per_task: bool = True, per_class: bool = False) -> None:
        self.tasks = list(tasks)
        self._per_task, self._per_class = per_task, per_class
        self._task_of_class = task_of_class(self.tasks)
        self._first = class_offsets(self.tasks)  # column of each task's first class
        self._multi = torch.tensor([task.multi for task in self.tasks])
        self.scores: list[TaskScore] = []
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._seen: list[tuple[Tensor, ...]] = []
        self._images = 0
        self._temperatures: list[float] | None = None
        self._thresholds: dict[int, float] = {}
        self._labels = LabelCollector(self.tasks)
        self.entries = self._entries()

    def calibrate(self, temperatures: Sequence[float]) -> None:
        """Divide the logits of the T tasks by these until the next ``reset``; no prediction changes."""
        self._temperatures = list(temperatures)

    def decide(self, thresholds: Mapping[int, float]) -> None:
        """The probabilities from which multi-label tasks predict a label, by task, until the next ``reset``."""
        self._thresholds = dict(thresholds)

    def process(
        self,
        logits: Tensor,
        label: Tensor,
        task: Tensor,
        *,
        row: Tensor | None = None,
        index: Tensor | None = None,
        truth: Tensor | None = None,
    ) -> None:
        """Take the logits of a batch.

        Args:
            logits: (B, C).
            label: (E,) class index inside the task.
            task: (E,) task of each entry.
            row: (E,) image of each entry; None when entry i is image i.
            index: (B,) place of each image in its split; None when images come in its order.
            truth: (E, C) bool, the classes of entries of multi-label tasks; None if no task is.
        """
        device = logits.device
        self._task_of_class, self._first = self._task_of_class.to(device), self._first.to(device)
        label, task, row = label.to(device), task.to(device), None if row is None else row.to(device)
        image = torch.arange(self._images, self._images + len(logits)) if index is None else index
        self._images += len(logits)
        image = image.to(device) if row is None else image.to(device)[row]
        entries = logits if row is None else logits[row]
        if truth is not None:
            self._labels.add(entries, truth.to(device), task, image)
            single = ~self._multi.to(device)[task]
            entries, label, task, image = entries[single], label[single], task[single], image[single]
        masked = entries.float().masked_fill(~task_columns(task, self._task_of_class), -torch.inf)
        predicted, top = masked.argmax(dim=1), masked.amax(dim=1)
        true = masked.gather(1, (self._first[task] + label)[:, None])[:, 0]
        # What a softmax divides by, in place: a copy of all logits costs more than their exponentials.
        below = masked.sub_(top[:, None])
        scaled = None if self._temperatures is None else self._scaled(below, task).exp().sum(dim=1)
        total = below.exp_().sum(dim=1)
        self._seen.append((image, task, label, predicted, true, top, total, total if scaled is None else scaled))

    def _scaled(self, logits: Tensor, task: Tensor) -> Tensor:
        """Logits (E, C) divided by the temperatures of their tasks."""
        return logits / logits.new_tensor(self._temperatures)[task][:, None]

    def _entries(self) -> Entries:
        """What was predicted for all entries so far."""
        if not self._seen:
            return Entries(*[np.zeros(0, np.int64)] * 4, *[np.zeros(0, np.float32)] * 4)
        columns = (torch.cat([part.cpu() for part in parts]).numpy() for parts in zip(*self._seen, strict=True))
        image, task, label, predicted, true, top, total, calibrated = columns
        # -inf is a class that is never predicted; a NaN, which the largest value then is, or inf is no score at all.
        predicted = np.where(np.isfinite(top), predicted - self._first.cpu().numpy()[task], -1)
        with np.errstate(invalid="ignore"):
            gap, raw, log = true - top, -np.log(total), -np.log(calibrated)
            scaled = gap if self._temperatures is None else gap / np.array(self._temperatures, np.float32)[task]
            return Entries(image, task, label, predicted, scaled + log, log, gap + raw, raw)

    @property
    def overall(self) -> float | None:
        """Mean over the tasks with images in %; None when there is none, or an image without a prediction."""
        values = [score.metric for score in self.scores if score.metric is not None]
        return sum(values) / len(values) if values and not any(score.lost for score in self.scores) else None

    @property
    def overall_quality(self) -> Quality:
        """Mean of each figure over the tasks with images; None where one of them has none."""
        return mean_quality([score.quality for score in self.scores if score.total])

    def evaluate(self) -> dict[str, float | None]:
        """Log the results; returns "metric" (``overall``) and, with per-task lines, "pertask_metric"."""
        self.entries, self._seen = self._entries(), []
        self.scores = [self._score(number, task) for number, task in enumerate(self.tasks)]
        self._log(self.overall)
        return {"metric": self.overall, **({"pertask_metric": self.overall} if self._per_task else {})}

    def labels_of(self, number: int) -> LabelScores:
        """The scores of a multi-label task, in the order of the split."""
        found = self._labels.scores(number)
        return found.take(np.argsort(found.image, kind="stable"))

    def _score(self, number: int, task: Task) -> TaskScore:
        if task.multi:
            return score_labels(number, task, self.labels_of(number), self._thresholds.get(number, FIXED_THRESHOLD))
        size = len(task.classnames)
        confusion, lost = np.zeros((size, size), dtype=np.int64), np.zeros(size, dtype=np.int64)
        own = self.entries.take(self.entries.task == number)
        seen = own.take(~own.lost)
        np.add.at(confusion, (seen.label, seen.predicted), 1)
        np.add.at(lost, own.label[own.lost], 1)
        score = score_task(number, task, confusion, lost)
        if score.lost or not score.total:
            return score
        correct = seen.label == seen.predicted
        found = quality(confusion, seen.log_true, seen.log_predicted, correct)
        if self._temperatures is None:
            return replace(score, quality=found, uncalibrated=found)
        before = quality(confusion, seen.raw_true, seen.raw_predicted, correct)
        return replace(score, quality=found, uncalibrated=before)

    def _log(self, overall: float | None) -> None:
        _log.info("=> result")
        _log.info("* total: %s", f"{sum(score.total for score in self.scores):,}")
        _log.info("* overall_metric: %s", _percent(overall))
        for score in self.scores:
            if self._per_task:
                name = f"{score.index} ({score.task.name})"
                _log.info("* task: %s\ttotal: %s\tmetric: %s", name, f"{score.total:,}", _percent(score.metric))
        if self._per_task:
            _log.info("* average: %s", _percent(overall))
        for score in self.scores:
            self._log_classes(score)

    def _log_classes(self, score: TaskScore) -> None:
        if score.absent:
            what = f"has no image of {', '.join(score.absent)}" if score.total else "has no image at all"
            _log.warning("task %d (%s) %s; left out of the mean", score.index, score.task.name, what)
        if score.lost:
            _log.warning(
                "task %d (%s): %d of %d images have logits that are not finite (NaN or infinite), so there is no "
                "figure; use PREC fp32, and check weights and learned tensors",
                score.index,
                score.task.name,
                score.lost,
                score.total,
            )
        if isinstance(score, MultiLabelScore) and score.metric is not None:
            _log.info(
                "task %d (%s): mAP %s, micro F1 %s, macro F1 %s at threshold %.4g",
                score.index,
                score.task.name,
                *map(_percent, (score.metric, score.micro_f1, score.quality.macro_f1)),
                score.threshold,
            )
        if score.task.weight and score.metric is not None:
            figures = _percent(score.mean_acc), _percent(score.quality.macro_f1)
            _log.info(
                "task %d (%s): mean accuracy of its classes %s, macro F1 %s", score.index, score.task.name, *figures
            )
        if score.quality.impossible:
            _log.warning(
                "task %d (%s): %d of %d images are of a class that is never predicted, so there is no NLL; leave the "
                "class out, or give it training images",
                score.index,
                score.task.name,
                score.quality.impossible,
                score.total,
            )
        if self._per_class and not score.lost:
            for name, recall in score.recalls.items():
                _log.info("* class: %s (%s)\tacc: %.2f%%", name, score.task.name, recall)


@EVALUATOR_REGISTRY.register()
class Classification(ClassificationMT):
    """The single-task evaluator of old config files; a data set with one task is a suite of one."""


def build_evaluator(cfg: CfgNode, tasks: Sequence[Task]) -> ClassificationMT:
    """The evaluator that TEST.EVALUATOR names."""
    kind = EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
    return kind(tasks, per_task=cfg.TEST.PER_TASK_RESULT, per_class=cfg.TEST.PER_CLASS_RESULT)


def _percent(value: float | None) -> str:
    return "nan%" if value is None else f"{value:.2f}%"
