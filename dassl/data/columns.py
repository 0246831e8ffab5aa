"""The class axis of a suite: task 0's classes first, then task 1's, and so on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dassl.data.datum import Task


def class_offsets(tasks: Sequence[Task]) -> Tensor:
    """(T+1,) int64; task t owns the columns from offsets[t] up to offsets[t+1]."""
    return torch.tensor([0, *(len(task.classnames) for task in tasks)]).cumsum(0)


def task_of_class(tasks: Sequence[Task]) -> Tensor:
    """(C,) int64, the task of each column."""
    return torch.repeat_interleave(torch.arange(len(tasks)), class_offsets(tasks).diff())


def flat_classnames(tasks: Sequence[Task]) -> list[str]:
    """The C class names in column order."""
    return [name for task in tasks for name in task.classnames]
