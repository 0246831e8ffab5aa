"""One temperature for the logits of a task, which makes their softmax a better probability and changes no prediction.

Guo, Pleiss, Sun, Weinberger: "On calibration of modern neural networks", ICML 2017, section 4.2.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

LOWEST, HIGHEST = 0.01, 100.0  # a temperature outside says that there is nothing to fit to


def fit_temperature(logits: Tensor, label: Tensor) -> float | None:
    """The temperature T that minimises the mean negative log-likelihood of softmax(logits / T).

    L-BFGS over log T in float64. The likelihood has one optimum, since its negative logarithm is convex in 1 / T.

    Args:
        logits: (n, C_t); -inf for a class that is never predicted.
        label: (n,) true class of each image. Images whose true class is never predicted have no say.

    Returns:
        None where no temperature between LOWEST and HIGHEST is the best: without images, where every image is
        classified correctly (the smaller T, the better), and where equal scores are better (the larger T, the better).
    """
    logits, label = _usable(logits.detach().double().cpu(), label.cpu())
    if not has_optimum(logits, label):
        return None
    never = logits.isneginf()
    scores = logits.masked_fill(never, 0.0)
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_t], max_iter=100, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        scaled = scores / log_t.clamp(math.log(LOWEST), math.log(HIGHEST)).exp()
        value = functional.cross_entropy(scaled.masked_fill(never, -torch.inf), label)
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    temperature = math.exp(float(log_t.detach()))
    return temperature if LOWEST < temperature < HIGHEST else None


def _usable(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The images whose true class can be predicted."""
    good = logits.gather(1, label[:, None])[:, 0].isfinite() if len(label) else torch.zeros(0, dtype=torch.bool)
    return logits[good], label[good]


def has_optimum(logits: Tensor, label: Tensor) -> bool:
    """Whether the likelihood of (n, C_t) logits falls both for very small and for very large temperatures."""
    if not len(label):
        return False
    true = logits.gather(1, label[:, None])[:, 0]
    some_wrong = bool((logits.amax(dim=1) > true).any())
    never = logits.isneginf()
    average = logits.masked_fill(never, 0.0).sum(dim=1) / (~never).sum(dim=1)
    return some_wrong and float((true - average).mean()) > 0
