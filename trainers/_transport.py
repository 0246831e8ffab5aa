"""Entropic optimal transport between an image's places and a class's prompts.

Letters: b images, c classes, P places of an image, N prompts of a class, F embedding width.
Chen et al., "PLOT: Prompt learning with optimal transport for vision-language models", ICLR 2023, section 3.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

EPSILON = 0.1  # weight of the entropy
TOLERANCE = 0.01
# Iterations between checks for convergence; a check after every one would make a GPU wait.
ROUNDS = (10, 30, 100)

Pair = tuple[Tensor, Tensor]  # normalised features of places (b, P, F) and of prompts (N, c, F)


def transport_cosines(pairs: Pair, steps: Tensor, most: int) -> Tensor:
    """Cosine of an image and a class under their plan, sum over places and prompts of plan * cosine: (b, c) float32.

    The gradient flows through the cosines but not through the plan. ``steps``, ``most``: see :func:`sinkhorn`.
    """
    plan, _ = sinkhorn(transport_kernel(pairs), steps, most)
    return (plan * _cosines(pairs)).sum(dim=(2, 3))


@torch.no_grad()
def sinkhorn(kernel: Tensor, steps: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Transport plans with marginals 1/P for places and 1/N for prompts; the prompts' are met exactly.

    Args:
        kernel: (b, c, P, N) float32.
        steps: (b,) iterations of each image.
        most: iterations that are computed, at least max(steps); those beyond an image's own change nothing.

    Returns:
        The plans (b, c, P, N), and the mean change of each image's scaling of places in every iteration (most, b).
    """
    places, prompts = kernel.shape[2:]
    rows, columns = torch.ones_like(kernel[..., :1]), torch.ones_like(kernel[..., :1, :].mT)
    changes = []
    for step in range(most):
        runs, before = (step < steps).view(-1, 1, 1, 1), rows
        rows = torch.where(runs, 1 / places / (kernel @ columns), rows)
        columns = torch.where(runs, 1 / prompts / (kernel.mT @ rows), columns)
        changes.append((rows - before).abs().mean(dim=(1, 2, 3)))
    return rows * kernel * columns.mT, torch.stack(changes)


@torch.no_grad()
def transport_kernel(pairs: Pair) -> Tensor:
    """exp(-(1 - cosine) / EPSILON), contiguous: (b, c, P, N)."""
    return torch.exp((_cosines(pairs) - 1) / EPSILON).contiguous()


@torch.no_grad()
def steps_needed(blocks: Sequence[Pair], *, together: bool) -> tuple[list[Tensor], int]:
    """Sinkhorn iterations until the mean change is below TOLERANCE, 100 at most.

    Args:
        together: the mean is over all blocks, and all images get the same number; else it is over each image's classes.

    Returns:
        Iterations (b,) of each block, and the ``most`` of them all or a little more.
    """
    steps: list[Tensor] = []
    for most in ROUNDS:
        changes = [_changes(pairs, most) for pairs in blocks]
        if together:
            weights = [pairs[1].shape[1] for pairs in blocks]
            total = sum(w * each.shape[1] for w, each in zip(weights, changes, strict=True))
            sums = (w * each.sum(dim=1, keepdim=True) for w, each in zip(weights, changes, strict=True))
            mean = reduce(torch.add, sums) / total
            changes = [mean.expand_as(each) for each in changes]
        below = [each < TOLERANCE for each in changes]
        steps = [torch.where(each.any(dim=0), each.int().argmax(dim=0) + 1, most) for each in below]
        if bool(torch.cat([each.any(dim=0) for each in below]).all()):
            break
    return steps, most


def _changes(pairs: Pair, most: int) -> Tensor:
    kernel = transport_kernel(pairs)
    return sinkhorn(kernel, torch.full((len(kernel),), most, device=kernel.device), most)[1]


def _cosines(pairs: Pair) -> Tensor:
    return torch.einsum("bpf,ncf->bcpn", *pairs)
