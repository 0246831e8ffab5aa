"""The problem of the recorded methods: one task, one batch, and starting values, all drawn from fixed seeds."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

NAMES = ("tabby_cat", "Siberian husky, sled dog", "red-eyed tree frog", "pug", "British Shorthair")
LABELS = (3, 0, 1, 4, 2, 0, 3)
TEMPLATE = "a photo of a {}, a type of pet."
SIZE = {"vit": 32, "rn": 64}
STEPS = 4


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a network whose weights float16 holds exactly, since the originals round them to it."""
    return {key: value.half().float() if value.is_floating_point() else value for key, value in state.items()}


def images(variant: str) -> Tensor:
    """(7, 3, S, S) noise, taken as normalised images."""
    shape = (len(LABELS), 3, SIZE[variant], SIZE[variant])
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def start(case: str, name: str, shape: Sequence[int]) -> Tensor:
    """Starting value of a learned tensor, N(0, 0.02^2) by case and name."""
    seed = int.from_bytes(sha256(f"{case} {name}".encode()).digest()[:4])
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def probe_features(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 8) and labels (n,) of four classes that overlap: 16 images each to train, 4 in val, 25 in test."""
    count = {"train": 16, "val": 4, "test": 25}[part]
    centres = np.random.default_rng(5).normal(size=(4, 8))
    labels = np.repeat(np.arange(4), count)
    noise = np.random.default_rng([56, count]).normal(size=(len(labels), 8))
    return (centres[labels] + 1.5 * noise).astype(np.float32), labels
