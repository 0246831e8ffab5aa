"""A learned table that scores image features."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional

from dassl.utils.errors import UserError


@dataclass(frozen=True)
class Head:
    """Scores features of images with one row for each class, as in the method's evaluation.

    Cosine: ``scale * d(d(x) - center) @ weight.T + bias``, d the L2 normalisation. Linear: ``x @ weight.T + bias``.

    Attributes:
        weight: (C, F) float32; rows of length 1 (or 0) for the cosine.
        scale: in front of the cosine; 1 for a linear head.
        bias: (C,) float32; None: 0.
        centers: (T, F) float32, the point that is subtracted from each task's images; None: the origin.
    """

    kind: Literal["cosine", "linear"]
    weight: Tensor
    scale: float = 1.0
    bias: Tensor | None = None
    centers: Tensor | None = None


def score(features: Tensor, weight: Tensor, head: Head, task: int) -> Tensor:
    """Logits (B, C_t) of features (B, F), not normalised, without the bias."""
    if head.kind == "linear":
        return features @ weight.T
    image = functional.normalize(features, dim=-1)
    if head.centers is not None:
        image = functional.normalize(image - head.centers[task], dim=-1)
    return head.scale * image @ weight.T


def place_cosines(places: Tensor, head: Head, column: Tensor, task: int, *, method: str) -> Tensor:
    """Cosines (B, P) of the places of images with one class of each, seen as :func:`score` sees an image.

    Args:
        places: (B, P, F) not normalised, on the CPU.
        column: (B,) rows of the head, classes of ``task``.
        method: its name, for the message.

    Raises:
        UserError: the head is linear.
    """
    if head.kind == "linear":
        raise UserError(
            f"{method} has weights and biases, no class features that places of an image could be near to; choose a "
            "run of another method"
        )
    seen = functional.normalize(places, dim=-1)
    if head.centers is not None:
        seen = functional.normalize(seen - head.centers[task], dim=-1)
    return (seen @ head.weight[column][..., None]).squeeze(-1)
