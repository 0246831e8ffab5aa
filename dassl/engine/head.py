"""A learned table that scores image features."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional


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
