"""The predictions of a trainer's last evaluation."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from dassl.data.images import identity
from dassl.evaluation.multilabel import MultiLabelScore
from dassl.metrics.multilabel import probabilities
from dassl.results.predictions import PredictedImage, PredictedLabel
from dassl.utils.privacy import without_home

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX


def predicted_images(trainer: "TrainerX") -> Iterator[PredictedImage]:
    """A row for each image of TEST.SPLIT and task it belongs to, in the order of the split."""
    data, found = trainer.dm.dataset, trainer.evaluator.entries
    items = {"train": data.train_x, "val": data.val, "test": data.test}[trainer.cfg.TEST.SPLIT]
    root, tasks = data.root, trainer.dm.tasks
    found = found.take(np.argsort(found.image, kind="stable"))
    true, predicted = (np.exp(each.astype(np.float64)).tolist() for each in (found.log_true, found.log_predicted))
    numbers = (each.tolist() for each in (found.image, found.task, found.label, found.predicted))
    for image, task, label, chosen, p, q in zip(*numbers, true, predicted, strict=True):
        names = tasks[task].classnames
        place = shown_path(items[image].impath, root)
        if chosen < 0:
            yield PredictedImage(place, tasks[task].name, names[label], "", None, None)
        else:
            yield PredictedImage(place, tasks[task].name, names[label], names[chosen], p, q)


def predicted_labels(trainer: "TrainerX") -> Iterator[PredictedLabel]:
    """A row for each image of TEST.SPLIT, multi-label task it belongs to, and class of that task."""
    data, evaluator = trainer.dm.dataset, trainer.evaluator
    items = {"train": data.train_x, "val": data.val, "test": data.test}[trainer.cfg.TEST.SPLIT]
    for score in evaluator.scores:
        if not isinstance(score, MultiLabelScore):
            continue
        found, task = evaluator.labels_of(score.index), score.task
        chances, lost = probabilities(found.logits), found.lost.tolist()
        for image, truth, row, gone in zip(
            found.image.tolist(), found.truth.tolist(), chances.tolist(), lost, strict=True
        ):
            place = shown_path(items[image].impath, data.root)
            for name, true, p in zip(task.classnames, truth, row, strict=True):
                predicted, chance = (None, None) if gone else (p >= score.threshold, p)
                yield PredictedLabel(place, task.name, name, true, predicted, chance, score.threshold)


def shown_path(path: str, root: object) -> str:
    """A path below the data root, or without the home folder."""
    below = identity(path, str(root))
    return without_home(below) if below == path else below
