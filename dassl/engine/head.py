"""A learned table that scores image features."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from dassl.utils.errors import UserError


@dataclass(frozen=True)
class Head:
    """Scores features of images with one row for each class, as in the method's evaluation.

    Cosine and unit: ``scale * d(d(x) - center) @ weight.T + bias``, d the L2 normalisation. Linear: ``x @ weight.T +
    bias``. With a cache, ``alpha * sum over the keys of a class of exp(-beta (1 - d(x) @ key))`` is added.

    Attributes:
        weight: (C, F) float32; rows of length 1 (or 0) for the cosine, of any length otherwise.
        scale: in front of the product; 1 for a linear head.
        bias: (C,) float32; None: 0.
        centers: (T, F) float32, the point that is subtracted from each task's images; None: the origin.
        caches: of each task; None: there are none.
    """

    kind: Literal["cosine", "linear", "unit"]
    weight: Tensor
    scale: float = 1.0
    bias: Tensor | None = None
    centers: Tensor | None = None
    caches: tuple["Cache", ...] | None = None


@dataclass(frozen=True)
class Cache:
    """Training images that an image is compared with.

    Attributes:
        keys: (n, F) float32. label: (n,) int64, their classes in the task.
        alpha, beta: () float32.
    """

    keys: Tensor
    label: Tensor
    alpha: Tensor
    beta: Tensor

    def scores(self, features: Tensor, classes: int) -> Tensor:
        """What the keys add to the logits (B, C_t) of features (B, F), not normalised."""
        near = torch.exp(self.beta * (functional.normalize(features, dim=-1) @ self.keys.T - 1))
        return self.alpha * near @ functional.one_hot(self.label, classes).to(near)


def score(features: Tensor, weight: Tensor, head: Head, task: int) -> Tensor:
    """Logits (B, C_t) of features (B, F), not normalised, without the bias."""
    if head.kind == "linear":
        return features @ weight.T
    image = functional.normalize(features, dim=-1)
    if head.centers is not None:
        image = functional.normalize(image - head.centers[task], dim=-1)
    logits = head.scale * image @ weight.T
    return logits if head.caches is None else logits + head.caches[task].scores(features, len(weight))


def place_cosines(places: Tensor, head: Head, column: Tensor, task: int, *, method: str) -> Tensor:
    """Cosines (B, P) of the places of images with one class of each, seen as :func:`score` sees an image.

    Args:
        places: (B, P, F) not normalised, on the CPU.
        column: (B,) rows of the head, classes of ``task``.
        method: its name, for the message.

    Raises:
        UserError: the head is none of cosines.
    """
    if head.kind != "cosine":
        raise UserError(
            f"{method} has weights and biases, no class features that places of an image could be near to; choose a "
            "run of another method"
        )
    seen = functional.normalize(places, dim=-1)
    if head.centers is not None:
        seen = functional.normalize(seen - head.centers[task], dim=-1)
    return (seen @ head.weight[column][..., None]).squeeze(-1)
