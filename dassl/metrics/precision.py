"""Micro-averaged precision of a batch, the training metric that the original logs as "map"."""

import math

import torch
from torch import Tensor


def task_probabilities(logits: Tensor, columns: Tensor) -> Tensor:
    """Softmax of each row over its own columns; zero elsewhere. (E, C), (E, C) bool -> (E, C)."""
    return torch.softmax(logits.float().masked_fill(~columns, -torch.inf), dim=1)


def micro_average_precision(logits: Tensor, column: Tensor, columns: Tensor) -> float:
    """Average precision in % over all (entry, own column) pairs taken together.

    Args:
        logits: (E, C).
        column: (E,) column of the true class.
        columns: (E, C) bool, columns of the entry's task.

    Returns:
        NaN when a logit is not finite.
    """
    from sklearn.metrics import average_precision_score

    scores = task_probabilities(logits, columns)[columns]
    if not torch.isfinite(scores).all():
        return math.nan
    truth = torch.zeros_like(columns)
    truth[torch.arange(len(column), device=column.device), column] = True
    return 100.0 * float(average_precision_score(truth[columns].cpu().numpy(), scores.detach().cpu().numpy()))
