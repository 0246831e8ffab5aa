"""How alike the tasks of a run are: cosines of their contexts, and of the features these are generated from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dassl.engine.contexts import CLASS_PROMPTS, Context
from dassl.engine.trainer import TrainerX
from dassl.utils.errors import UserError


@dataclass(frozen=True, eq=False)
class Similarity:
    """Cosines between the tasks.

    Attributes:
        what: what is compared.
        tasks: names of the T tasks.
        cosines: (T, T) float64.
    """

    what: str
    tasks: list[str]
    cosines: Tensor


def similarities(trainer: TrainerX, contexts: Sequence[Context]) -> list[Similarity]:
    """Cosines of the task features, if there are any, and of the contexts of the class prompts.

    The context of a task is one vector of length M * D; where its classes have contexts of their own, their mean.
    Nothing where tasks share one context.
    """
    names = [task.name for task in trainer.dm.tasks]
    if len(names) < 2:
        return []
    features, found = trainer.task_features(), []
    if features is not None:
        found.append(Similarity("task features", names, cosines(features)))
    own = [[c for c in contexts if c.prompts == CLASS_PROMPTS and c.tasks == (task,)] for task in range(len(names))]
    if all(own):
        means = [torch.stack([c.vectors.flatten() for c in each]).double().mean(dim=0) for each in own]
        of_tasks = all(c.owner == names[c.tasks[0]] for each in own for c in each)
        mean = "" if of_tasks else ", mean over the classes of a task"
        found.append(Similarity(f"{own[0][0].origin} contexts{mean}", names, cosines(torch.stack(means))))
    return found


def cosines(rows: Tensor) -> Tensor:
    """Cosines (N, N) float64 of rows (N, F)."""
    unit = functional.normalize(rows.double(), dim=1)
    return unit @ unit.T


def check_some(found: Sequence[Similarity], trainer: TrainerX) -> None:
    """Refuse to compare where there is nothing to.

    Raises:
        UserError: there is one task, or the tasks share one context.
    """
    if found:
        return
    name, count = trainer.cfg.TRAINER.NAME, len(trainer.dm.tasks)
    why = f"{name} has no one context for each task with these settings" if count > 1 else "the run has one task"
    raise UserError(f"there is no similarity between tasks to show: {why}; choose a run of SoftCPT on a suite")
