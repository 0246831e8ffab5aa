"""The number format in which the frozen encoders compute."""

import logging
from dataclasses import dataclass
from typing import Any

import torch

from clip.errors import BackboneError

LOW_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = ("fp32", "fp16", "bf16", "amp")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Precision:
    """How the encoders compute on one kind of device.

    Attributes:
        name: the precision in force, one of ``PRECISIONS``.
        weights: dtype of the convolution, linear, attention and projection weights. Parameters of norm layers and
            embedding tables always stay in fp32, as in OpenAI's half-precision models.
        features: dtype of the features that come out.
        device_type: "cpu", "cuda", ...
    """

    name: str
    weights: torch.dtype
    features: torch.dtype
    device_type: str

    @property
    def cast_dtype(self) -> torch.dtype | None:
        """The low-precision dtype of the weights, None where they are fp32."""
        return None if self.weights == torch.float32 else self.weights

    def autocast(self) -> torch.autocast:
        """Context in which the encoders run; it also switches off a caller's own autocast."""
        enabled = self.name == "amp"
        return torch.autocast(self.device_type, dtype=self.features if enabled else None, enabled=enabled)


def product_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The format for products of ``dtype``: fp32 on an x86 CPU without matrix units, which is slow in bf16."""
    if device.type != "cpu" or dtype != torch.bfloat16:
        return dtype
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.float32 if known.get("architecture") == "x86_64" and not known.get("amx_bf16") else dtype


def choose_precision(name: str, device: torch.device) -> Precision:
    """Resolve the precision ``name`` on ``device``.

    A CPU has no fast and complete fp16 kernels: fp16 becomes fp32, and the log says so. "amp" keeps fp32 weights
    under autocast, in fp16 on CUDA devices and in bf16 elsewhere.

    Raises:
        BackboneError: an unknown name.
    """
    if name not in PRECISIONS:
        raise BackboneError(f"unknown precision {name!r}; choose one of {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        logger.warning("precision fp16 is not supported on a CPU: the encoders run in fp32")
        name = "fp32"
    weights = LOW_DTYPES.get(name, torch.float32)
    autocast_dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    return Precision(name, weights, autocast_dtype if name == "amp" else weights, device.type)
