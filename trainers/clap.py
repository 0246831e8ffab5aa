"""CLAP: a linear probe that starts at the class texts and is held near them, class by class.

Silva-Rodriguez et al., "A closer look at the few-shot adaptation of large vision-language models", CVPR 2024.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from dassl.config import Key, above, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.head import Head
from trainers._descent import Room, cosine, descend_along, entropy_slope, repeated, shuffled
from trainers._features import ClassRows, FeatureMethod, Fitted, TaskWork, feature_keys

WARMUP = 1e-5  # rate of the first epoch
MOMENTUM = 0.9


def multipliers(x: Tensor, label: Tensor, text: Tensor, *, scale: float) -> Tensor:
    """l_c (C,): the mean over the images of class c of its zero-shot probability; 1 for a class without an image.

    Args:
        x: (n, F) of unit length. label: (n,). text: (C, F), not normalised.
    """
    found = (scale * x @ functional.normalize(text, dim=-1).T).softmax(dim=1).gather(1, label[:, None]).squeeze(1)
    count = label.bincount(minlength=len(text))
    sums = found.new_zeros(len(text)).index_add_(0, label, found)
    return torch.where(count > 0, sums / count.clamp(min=1), 1.0)


@dataclass(frozen=True)
class Objective:
    """Cross-entropy of s cos(x, w_c), plus the mean over classes of l_c |w_c - t_c|^2.

    Attributes:
        text: t (C, F). held: l (C,). scale: s. room: for what a step computes.
    """

    text: Tensor
    held: Tensor
    scale: float
    room: Room

    @cached_property
    def pull(self) -> tuple[Tensor, Tensor]:
        """The second term's gradient is the first of these (C, 1) times w, less the second (C, F)."""
        strength = 2 / len(self.held) * self.held[:, None]
        return strength, strength * self.text

    def gradient(self, weight: Tensor, x: Tensor, label: Tensor, *, out: Tensor) -> None:
        """Put the gradient of a batch, unit features (b, F) and classes (b,), into ``out`` (C, F).

        The cross-entropy's gradient g with respect to the unit rows u = w / |w| becomes (g - u (u . g)) / |w|.
        """
        strength, anchor = self.pull
        length = torch.linalg.vector_norm(weight, dim=1)
        size = len(x), len(weight)
        along = torch.mm(x, weight.T, out=self.room.take("along", *size)).div_(length)
        logits = torch.mul(along, self.scale, out=self.room.take("logits", *size))
        slope = entropy_slope(logits, label, out=self.room.take("slope", *size)).mul_(self.scale / length)
        torch.mm(slope.T, x, out=out)
        radial = (slope.mul_(along).sum(dim=0) / length)[:, None]
        out.addcmul_(strength - radial, weight).sub_(anchor)


class ClassFeatures(ClassRows):
    """logits = s cos(x, w_c); w starts at the class texts, which are not normalised."""

    def __init__(self, tasks: Sequence[Task], text: Tensor, *, scale: float) -> None:
        super().__init__(tasks, text, scale=scale)
        self.weight = nn.Parameter(text.clone())

    def rows(self, task: int) -> tuple[Tensor, Tensor | None]:
        """Unit rows of a task times s."""
        return self.scale * functional.normalize(self.weight[self.columns(task)], dim=-1), None

    def head(self) -> Head:
        """Class features."""
        return Head("cosine", functional.normalize(self.weight.detach().cpu().float(), dim=-1), self.scale)


@TRAINER_REGISTRY.register()
class CLAP(FeatureMethod):
    """EPOCHS of gradient descent on the VIEWS augmented views of all images, of which an epoch takes one n-th part.

    Needs no validation images: the last step counts. CONSTRAINT none leaves out the second term (ZS-LP).
    """

    section = "CLAP"
    no_context = "it learns class features, and its prompts are hand-written"
    config_keys = (
        *feature_keys("CLAP", views=20),
        Key("TRAINER.CLAP.CONSTRAINT", "l2", "what holds class features near their texts; none: ZS-LP", ("l2", "none")),
        Key("TRAINER.CLAP.EPOCHS", 300, "epochs", check=at_least(1)),
        Key("TRAINER.CLAP.BATCH", 256, "views in a batch", check=at_least(1)),
        Key("TRAINER.CLAP.LR", 0.1, "learning rate after the first epoch", check=above(0)),
    )

    def build_heads(self, tasks: Sequence[Task], text: Tensor) -> ClassFeatures:
        """Zero-shot CLIP."""
        return ClassFeatures(tasks, text, scale=self.backbone.logit_scale)

    def fit_task(self, work: TaskWork, chosen: Mapping[str, float] | None = None) -> Fitted:
        """Descend from the class texts."""
        options, (x, label) = self.options, work.flat()
        held = multipliers(x, label, work.text, scale=work.scale) * (options.CONSTRAINT == "l2")
        weight, room = work.text.clone(), Room(work.text)
        slope = weight.grad = torch.empty_like(weight)
        objective = Objective(work.text, held, work.scale, room)

        def gradients(rows: Tensor) -> None:
            rows = rows.to(x.device)
            objective.gradient(weight, room.rows(x, rows), label[rows], out=slope)

        steps = max(1, len(work.label) // options.BATCH)
        epochs = [WARMUP, *cosine(options.LR, options.EPOCHS)][: options.EPOCHS]
        optimiser = torch.optim.SGD([weight], lr=options.LR, momentum=MOMENTUM, fused=True)
        for _ in descend_along(optimiser, repeated(epochs, steps), self._batches(work, len(x), steps), gradients):
            pass
        return Fitted({"weight": weight})

    def _batches(self, work: TaskWork, pool: int, steps: int) -> Iterator[Tensor]:
        """The first ``steps`` batches of each order of the views."""
        size = min(self.options.BATCH, pool)
        for order in shuffled(pool, seed=self.cfg.SEED, name=work.task.name):
            yield from order[: steps * size].split(size)
