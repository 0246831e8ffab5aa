"""The metrics of one task."""

from dataclasses import dataclass, field

import numpy as np

from dassl.data.datum import Task
from dassl.metrics.quality import Quality


@dataclass(frozen=True)
class TaskScore:
    """Metrics of one task.

    Attributes:
        confusion: (C_t, C_t) counts, rows are the true classes.
        metric: the task's metric in %, None when it has no image or one without a prediction.
        absent: names of the classes without an image; they are left out of mean_acc.
        lost: number of images whose logits are not finite, and so without a prediction; not in ``confusion``.
        class_totals: (C_t,) images of each class, with the lost ones.
        quality: the figures beside the metric; empty where images are lost.
        uncalibrated: the same with a temperature of 1.
    """

    index: int
    task: Task
    confusion: np.ndarray
    metric: float | None
    absent: tuple[str, ...]
    lost: int = 0
    class_totals: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    quality: Quality = field(default_factory=Quality)
    uncalibrated: Quality = field(default_factory=Quality)

    @property
    def total(self) -> int:
        """Number of images of the task."""
        return int(self.confusion.sum()) + self.lost

    @property
    def correct(self) -> np.ndarray:
        """(C_t,) hits of each class."""
        return self.confusion.diagonal()

    @property
    def recalls(self) -> dict[str, float]:
        """Accuracy in % per class that has images."""
        per_class = self.confusion.sum(axis=1) if self.confusion.size else self.class_totals
        return {n: 100.0 * h / k for n, h, k in zip(self.task.classnames, self.correct, per_class, strict=True) if k}

    @property
    def mean_acc(self) -> float | None:
        """Mean of ``recalls``; None without an image."""
        return sum(self.recalls.values()) / len(self.recalls) if self.recalls else None


def score_task(index: int, task: Task, confusion: np.ndarray, lost: np.ndarray | None = None) -> TaskScore:
    """Compute a task's metric from its confusion matrix.

    overall_acc = 100 * hits / images; mean_acc = mean of the per-class accuracy over the classes that have images.

    Args:
        lost: (C_t,) images of each class without a prediction; a task with one has no metric.
    """
    lost = np.zeros(len(confusion), np.int64) if lost is None else lost
    per_class = confusion.sum(axis=1) + lost
    absent = tuple(name for name, count in zip(task.classnames, per_class, strict=True) if count == 0)
    metric: float | None = None
    if per_class.sum() and not lost.any():
        seen = per_class > 0
        hits = confusion.diagonal()
        recall = hits[seen] / per_class[seen]
        metric = 100.0 * float(recall.mean() if task.metric == "mean_acc" else hits.sum() / per_class.sum())
    return TaskScore(index, task, confusion, metric, absent, int(lost.sum()), per_class)
