"""A softmax over the classes of all tasks in training, as in MVLPT; tests stay within the task."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dassl.config import Key
from dassl.data.datum import Task
from trainers.base import PromptTuner, Scores

_log = logging.getLogger(__name__)


def names_in_several(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """The class names that stand in several tasks (CLIP ignores case and blanks), with the names of these tasks."""
    found: dict[str, list[str]] = {}
    for task in tasks:
        for name in {" ".join(each.lower().replace("_", " ").split()) for each in task.classnames}:
            found.setdefault(name, []).append(task.name)
    return {name: where for name, where in found.items() if len(where) > 1}


def union_key(prefix: str) -> Key:
    """The config key; ``prefix`` is e.g. "TRAINER.MVLPT."."""
    return Key(f"{prefix}UNION", False, "softmax over the classes of all tasks in training, as in MVLPT")


class UnionTuner(PromptTuner):
    """A prompt tuner with the key UNION."""

    def build_model(self) -> None:
        """Warn of class names that UNION makes rivals although they are equal."""
        super().build_model()
        shared = names_in_several(self.dm.tasks) if self.options.UNION else {}
        if shared:
            name, tasks = next(iter(shared.items()))
            _log.warning(
                "TRAINER.%s.UNION: %d class names stand in several tasks (%r in %s); the softmax over all tasks "
                "makes them rivals with equal features; rename them in `classes`, or set UNION False",
                self.section,
                len(shared),
                name,
                " and ".join(tasks),
            )

    def cross_entropy(self, scores: Scores) -> tuple[Tensor, dict[str, float]]:
        """With UNION, every column is a rival."""
        if self.options.UNION:
            scores = replace(scores, columns=torch.ones_like(scores.columns))
        return super().cross_entropy(scores)
