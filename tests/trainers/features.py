"""Random features of a task, for the tests of methods on stored features."""

from dataclasses import replace

import torch

from dassl.data.datum import Task
from trainers._features import TaskWork


def work(*, classes=4, width=6, train=8, val=9, views=1, metric="overall_acc", scale=5.0, seed=0):
    """A task of random features."""
    draw = torch.Generator().manual_seed(seed)
    text, images = (torch.randn(n, width, generator=draw) for n in (classes, val))
    seen = torch.randn(views, train, width, generator=draw)
    label = torch.randint(classes, (train,), generator=draw)
    val_label = torch.randint(classes, (val,), generator=draw)
    task = Task("things", tuple(f"thing {c}" for c in range(classes)), metric=metric)
    return TaskWork(0, task, scale, text, seen, label, images, val_label)


def double(task):
    """The same task in float64, for gradients to many digits."""
    return replace(task, text=task.text.double(), views=task.views.double(), val=task.val.double())
