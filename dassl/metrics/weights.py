"""Weights of classes in the loss, for tasks whose classes differ in size (``weight: balanced``)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dassl.data.columns import class_offsets
from dassl.data.datum import Datum, Task


def balanced_weights(count: Tensor) -> Tensor:
    """Weights (C_t,) float64 of the classes of a task with n_c training images each, n in all.

    w_c = n / (K n_c), K the classes that have images, as in scikit-learn's ``class_weight="balanced"``. Every class
    then has the same share of the loss, and the mean weight over the training images is 1, so that the loss keeps its
    size. A class without an image has weight 0.
    """
    seen = count > 0
    inverse = torch.where(seen, count.double(), torch.inf).reciprocal()
    return inverse * (count.sum().double() / seen.sum().clamp_min(1))


def class_weights(tasks: Sequence[Task], train: Sequence[Datum]) -> Tensor | None:
    """Weights (C,) float32 of all classes, 1 in tasks that ask for none; None if no task asks for any.

    Args:
        train: the training images that are used, after the few-shot draw.
    """
    if not any(task.weight for task in tasks):
        return None
    offsets = class_offsets(tasks).tolist()
    count = torch.zeros(offsets[-1], dtype=torch.int64)
    for item in train:
        for number, label in item.targets:
            if tasks[number].weight:
                count[offsets[number] + label] += 1
    weights = torch.ones(offsets[-1], dtype=torch.float64)
    for task, (start, stop) in zip(tasks, pairwise(offsets), strict=True):
        if task.weight:
            weights[start:stop] = balanced_weights(count[start:stop])
    return weights.float()
