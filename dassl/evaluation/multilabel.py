"""What an evaluation keeps of multi-label tasks: all scores of an image, because its labels are decided afterwards."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dassl.data.columns import class_offsets
from dassl.data.datum import Task
from dassl.evaluation.scores import TaskScore
from dassl.metrics.multilabel import (
    FIXED_THRESHOLD,
    average_precisions,
    f1_scores,
    mean_average_precision,
    probabilities,
)
from dassl.metrics.quality import Quality


@dataclass(frozen=True)
class LabelScores:
    """The scores of the n images of a multi-label task.

    Attributes:
        image: (n,) place of each image in its split.
        logits: (n, C_t) float32. truth: (n, C_t) bool.
    """

    image: np.ndarray
    logits: np.ndarray
    truth: np.ndarray

    @property
    def lost(self) -> np.ndarray:
        """(n,) whether there is no prediction. -inf is a label that is never predicted; NaN and inf are no scores."""
        return np.logical_not((self.logits < np.inf).all(axis=1))

    def take(self, chosen: np.ndarray) -> "LabelScores":
        """Some of the images, by a mask or by their numbers."""
        return LabelScores(self.image[chosen], self.logits[chosen], self.truth[chosen])


@dataclass(frozen=True)
class MultiLabelScore(TaskScore):
    """Metrics of a multi-label task; ``metric`` is its mAP.

    ``confusion`` is empty, ``class_totals`` counts the images with each class, ``recalls`` are those at the threshold.

    Attributes:
        images: number of images.
        hits: (C_t,) images with the class of which it is predicted.
        precisions: average precision of each class in %; None for one that no image has.
        micro_f1: in %, at the threshold; the macro F1 is in ``quality``.
        threshold: labels with at least this probability are predicted.
    """

    images: int = 0
    hits: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    precisions: tuple[float | None, ...] = ()
    micro_f1: float | None = None
    threshold: float = FIXED_THRESHOLD

    @property
    def total(self) -> int:
        """Number of images of the task."""
        return self.images

    @property
    def correct(self) -> np.ndarray:
        """(C_t,) images of each class of which it is predicted."""
        return self.hits


def score_labels(index: int, task: Task, scores: LabelScores, threshold: float) -> MultiLabelScore:
    """The figures of a multi-label task; a task with an image without a prediction has none."""
    count = scores.truth.sum(axis=0)
    absent = tuple(name for name, n in zip(task.classnames, count, strict=True) if not n)
    lost, size = int(scores.lost.sum()), len(task.classnames)
    plain = {"lost": lost, "class_totals": count, "images": len(scores.image), "threshold": threshold}
    confusion = np.zeros((0, 0), np.int64)
    if lost or not len(scores.image):
        hits = np.zeros(size, np.int64)
        return MultiLabelScore(index, task, confusion, None, absent, hits=hits, **plain)
    predicted = probabilities(scores.logits) >= threshold
    precisions = average_precisions(scores.logits.astype(np.float64), scores.truth)
    micro, macro = f1_scores(predicted, scores.truth)
    found = Quality(macro_f1=macro)
    return MultiLabelScore(
        index,
        task,
        confusion,
        mean_average_precision(precisions),
        absent,
        quality=found,
        uncalibrated=found,
        hits=(predicted & scores.truth).sum(axis=0),
        precisions=tuple(precisions),
        micro_f1=micro,
        **plain,
    )


class LabelCollector:
    """Collects the scores of the multi-label tasks of a suite, batch by batch."""

    def __init__(self, tasks: list[Task]) -> None:
        self._offsets = class_offsets(tasks).tolist()
        self._parts: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {n: [] for n, t in enumerate(tasks) if t.multi}

    def add(self, logits: Tensor, truth: Tensor, task: Tensor, image: Tensor) -> None:
        """Take the entries of multi-label tasks among E entries.

        Args:
            logits: (E, C). truth: (E, C) bool. task: (E,). image: (E,) place in the split.
        """
        for number, parts in self._parts.items():
            own, columns = task == number, slice(*self._offsets[number : number + 2])
            parts.append((image[own].cpu(), logits[own, columns].float().cpu(), truth[own, columns].cpu()))

    def scores(self, number: int) -> LabelScores:
        """All scores of a task so far."""
        size = self._offsets[number + 1] - self._offsets[number]
        none = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, size), torch.zeros(0, size, dtype=torch.bool))
        image, logits, truth = (torch.cat(each).numpy() for each in zip(none, *self._parts[number], strict=True))
        return LabelScores(image, logits, truth)
