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

    def gradients(batch: T) -> None:
        optimiser.zero_grad()
        loss(batch).backward()

    return descend_along(optimiser, rates, batches, gradients)


def descend_along(
    optimiser: Optimizer, rates: Iterable[float], batches: Iterable[T], gradients: Callable[[T], None]
) -> Iterator[int]:
    """As ``descend``, with a function that puts the gradients of a batch into the parameters' ``grad``."""
    for number, (rate, batch) in enumerate(zip(rates, batches, strict=False), 1):
        for group in optimiser.param_groups:
            group["lr"] = rate
        gradients(batch)
        optimiser.step()
        yield number


class Room:
    """Memory that is used again for the same purpose in every step, since new pages cost more than the arithmetic."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor (shape) for a purpose; its numbers are those of the last use."""
        count = math.prod(shape)
        if name not in self._kept or len(self._kept[name]) < count:
            self._kept[name] = self._like.new_empty(count)
        return self._kept[name][:count].view(shape)

    def rows(self, table: Tensor, rows: Tensor) -> Tensor:
        """The given rows (b,) of a table (n, F)."""
        return torch.index_select(table, 0, rows, out=self.take("rows", len(rows), table.shape[1]))


def entropy_slope(logits: Tensor, truth: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Gradient of the mean cross-entropy with respect to the logits (b, C), for true classes (b,)."""
    slope = torch.softmax(logits, dim=1, out=out)
    slope[torch.arange(len(truth), device=truth.device), truth] -= 1
    return slope.div_(len(truth))


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
