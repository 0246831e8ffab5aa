"""The multi-task loss: every entry is scored only against the classes of its own task."""

import torch
from torch import Tensor
from torch.nn import functional


def task_columns(task: Tensor, task_of_class: Tensor) -> Tensor:
    """Which columns belong to an entry's task.

    Args:
        task: (E,) task of each entry.
        task_of_class: (C,) task of each column.

    Returns:
        (E, C) bool.
    """
    return task[:, None] == task_of_class[None, :]


def task_cross_entropy(
    logits: Tensor, column: Tensor, columns: Tensor, *, images: int, weight: Tensor | None = None
) -> Tensor:
    """Summed cross-entropy over the entries' own columns, divided by the number of images.

    L = (1/B) sum_t sum_{i of task t} CE(logits_i[columns of t], y_i). An image that belongs to two tasks is two entries
    but counts once in B. With one task per image this is the mean cross-entropy with all other columns at -inf.

    Args:
        logits: (E, C) float32.
        column: (E,) column of each entry's true class.
        columns: (E, C) bool, the columns an entry is scored against.
        images: B.
        weight: (E,) factor of each entry's cross-entropy; None: 1.
    """
    masked = logits.float().masked_fill(~columns, -torch.inf)
    if weight is None:
        return functional.cross_entropy(masked, column, reduction="sum") / images
    return (functional.cross_entropy(masked, column, reduction="none") * weight).sum() / images
