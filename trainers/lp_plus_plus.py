"""LP++: a linear probe whose class rows are a learned vector and a learned multiple of the class text.

Huang et al., "LP++: a surprisingly strong linear probe for few-shot CLIP", CVPR 2024.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dassl.config import Key, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.tools import derived_seed
from trainers._features import ClassRows, FeatureMethod, Fitted, TaskWork, feature_keys

MOMENTUM = 0.9
EVERY = 10  # steps between two updates of alpha
START = 250.0  # alpha at the start, times the mean cosine of images with their own texts


@dataclass
class Probe:
    """The state of one fit: w (C, F), b (C,), a (C,)."""

    weight: Tensor
    bias: Tensor
    alpha: Tensor

    def logits(self, x: Tensor, near: Tensor) -> Tensor:
        """x . w_c + b_c + a_c near_c, with near = x @ t.T: (n, F), (n, C) -> (n, C)."""
        return x @ self.weight.T + self.bias + near * self.alpha


def start(x: Tensor, label: Tensor, text: Tensor, bias: Tensor) -> Probe:
    """The authors' start: w the sum of the class's images, and one alpha for all classes."""
    count = label.bincount(minlength=len(text))
    own = (x * text[label]).sum(dim=1)
    means = (own.new_zeros(len(text)).index_add_(0, label, own) / count)[count > 0]
    weight = x.new_zeros(text.shape).index_add_(0, label, x)
    return Probe(weight, bias, (START * means.mean()).expand(len(text)).clone())


def rates(x: Tensor, near: Tensor) -> tuple[float, float]:
    """Step sizes of w and alpha: 4 n / lambda_max(x' x) and n / (4 max_c sum_i near_ic^2)."""
    gram = x.T @ x if x.shape[1] < len(x) else x @ x.T
    largest = torch.linalg.eigvalsh(gram.double())[-1]
    return float(4 * len(x) / largest), float(len(x) / (4 * near.square().sum(dim=0).max()))


def steps(
    probe: Probe, x: Tensor, label: Tensor, text: Tensor, *, rate: tuple[float, float], accumulate: bool
) -> Iterator[float]:
    """Endless steps of gradient descent with momentum on (w, b), and of plain descent on alpha every tenth step.

    Args:
        probe: changed in place.
        accumulate: alpha moves by the sum of all gradients since the start, as in the released code, which never
            clears it; otherwise by the sum of the last ten.

    Yields:
        The loss before each step, after the step.
    """
    near, truth = x @ text.T, functional.one_hot(label, len(text)).to(x)
    speed, drift = [torch.zeros_like(each) for each in (probe.weight, probe.bias)], torch.zeros_like(probe.alpha)
    number = 0
    while True:
        number += 1
        logs = functional.log_softmax(probe.logits(x, near), dim=1)
        slope = (logs.exp() - truth) / len(x)
        drift += (slope * near).sum(dim=0)
        for value, moved, gradient in zip(
            (probe.weight, probe.bias), speed, (slope.T @ x, slope.sum(dim=0)), strict=True
        ):
            value -= rate[0] * moved.mul_(MOMENTUM).add_(gradient)
        if number % EVERY == 0:
            probe.alpha -= rate[1] * drift
            drift *= accumulate
        yield float(-(logs * truth).sum() / len(x))


class TextProbe(ClassRows):
    """logits = d(x) . (w_c + a_c d(t_c)) + b_c, at the start zero-shot CLIP: w and b zero, a = s."""

    def __init__(self, tasks: Sequence[Task], text: Tensor, *, scale: float) -> None:
        super().__init__(tasks, text, scale=scale)
        self.weight = nn.Parameter(torch.zeros_like(text))
        self.bias = nn.Parameter(torch.zeros(len(text)))
        self.alpha = nn.Parameter(torch.full((len(text),), float(scale)))

    def rows(self, task: int) -> tuple[Tensor, Tensor | None]:
        """Rows and biases of a task."""
        own = self.columns(task)
        return self.weight[own] + self.alpha[own, None] * self.own_text(task), self.bias[own]


@TRAINER_REGISTRY.register()
class LPPlusPlus(FeatureMethod):
    """STEPS full-batch steps with step sizes from the data; the step with the best validation metric is kept.

    A step is chosen among all, of equal ones the last. Without validation images the last step counts.
    """

    section = "LPPP"
    no_context = "it learns weights on image features and multiples of hand-written prompts"
    config_keys = (
        *feature_keys(
            "LPPP",
            views=1,
            released="alpha moves by the sum of all gradients, and the step is chosen by overall accuracy",
        ),
        Key("TRAINER.LPPP.STEPS", 300, "steps of gradient descent", check=at_least(1)),
    )

    def build_heads(self, tasks: Sequence[Task], text: Tensor) -> TextProbe:
        """Zero-shot CLIP."""
        return TextProbe(tasks, text, scale=self.backbone.logit_scale)

    @torch.no_grad()
    def fit_task(self, work: TaskWork, chosen: Mapping[str, float] | None = None) -> Fitted:
        """Descend, and keep the best or the given step."""
        x, label = work.flat()
        text, val = (functional.normalize(each, dim=-1) for each in (work.text, work.val))
        probe = start(x, label, text, self.first_bias(work))
        val_near, rate = val @ text.T, rates(x, x @ text.T)
        last = int(chosen["steps"]) if chosen else self.options.STEPS
        best = Fitted(self._tensors(probe), {"steps": 0}) if last == 0 else None
        moves = steps(probe, x, label, text, rate=rate, accumulate=self.released)
        for number, _ in zip(range(1, last + 1), moves, strict=False):
            score = work.val_rate(probe.logits(val, val_near)) if chosen is None and work.searches else None
            if number == last if score is None else best is None or score >= (best.rate or 0):
                best = Fitted(self._tensors(probe), {"steps": number}, score)
        assert best is not None
        return best

    def first_bias(self, work: TaskWork) -> Tensor:
        """The start of b, drawn from U(-1/sqrt(F), 1/sqrt(F)) as by PyTorch's linear layer."""
        generator = torch.Generator().manual_seed(derived_seed("bias", self.cfg.SEED, work.task.name))
        bound = 1 / math.sqrt(work.text.shape[1])
        return ((2 * torch.rand(len(work.text), generator=generator) - 1) * bound).to(work.text)

    @staticmethod
    def _tensors(probe: Probe) -> dict[str, Tensor]:
        return {name: getattr(probe, name).clone() for name in ("weight", "bias", "alpha")}
