"""Gradient descent on the features of one task, for the methods that learn by steps."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from dassl.utils.tools import derived_seed

T = TypeVar("T")


def descend(
    optimiser: Optimizer, rates: Iterable[float], batches: Iterable[T], loss: Callable[[T], Tensor]
) -> Iterator[int]:
    """Take a step with each rate and batch; yields the number of steps so far, after each."""
    for number, (rate, batch) in enumerate(zip(rates, batches, strict=False), 1):
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad()
        loss(batch).backward()
        optimiser.step()
        yield number


def cosine(rate: float, steps: int, end: float = 0.0) -> list[float]:
    """Rates of ``steps`` steps that fall from ``rate`` towards ``end`` along half a cosine."""
    return [end + (rate - end) * 0.5 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]


def shuffled(count: int, *, seed: int, name: str) -> Iterator[Tensor]:
    """Endless orders of ``count`` rows, which depend only on the seed and the name."""
    generator = torch.Generator().manual_seed(derived_seed("rows", seed, name))
    while True:
        yield torch.randperm(count, generator=generator)


def endless_batches(count: int, size: int, *, seed: int, name: str) -> Iterator[Tensor]:
    """Batches of rows, order after order; the last rows of an order that fill no batch are left out."""
    size = min(size, count)
    for order in shuffled(count, seed=seed, name=name):
        yield from order[: count // size * size].split(size)


def repeated(rates: Sequence[float], times: int) -> list[float]:
    """Each rate ``times`` times: rates of epochs as rates of steps."""
    return [rate for rate in rates for _ in range(times)]
