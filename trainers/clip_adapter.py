"""CLIP-Adapter: a small network that shifts the image features of a task towards its class texts.

Gao et al., "CLIP-Adapter: better vision-language models with feature adapters", IJCV 2024.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from yacs.config import CfgNode

from dassl.config import Key, above, at_least, between
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.tools import derived_seed
from trainers._descent import Room, cosine, descend_along, entropy_slope, repeated, shuffled
from trainers._features import FeatureMethod, Fitted, TaskHeads, TaskWork, feature_keys

REDUCTION = 4
WARMUP, MOMENTUM, DECAY = 1e-5, 0.9, 5e-4  # of CoOp's schedule and optimiser


def adapted(features: Tensor, down: Tensor, up: Tensor, *, ratio: float) -> Tensor:
    """ratio * relu(relu(x @ down') @ up') + (1 - ratio) * x: (b, F) -> (b, F)."""
    return ratio * ((features @ down.T).relu() @ up.T).relu() + (1 - ratio) * features


@dataclass(frozen=True)
class Objective:
    """The mean cross-entropy of s cos(adapted x, t).

    Attributes:
        text: (C, F) of unit length. ratio: of the network. scale: s. room: for what a step computes.
    """

    text: Tensor
    ratio: float
    scale: float
    room: Room

    def gradient(self, x: Tensor, label: Tensor, down: Tensor, up: Tensor, *, out: tuple[Tensor, Tensor]) -> None:
        """Put the gradients of a batch, features (b, F) and classes (b,), into ``out``, shaped as ``down`` and ``up``.

        A gradient g with respect to the unit feature u of an adapted image v = |v| u becomes (g - u (u . g)) / |v|.
        """
        count, take = len(x), self.room.take
        hidden = torch.mm(x, down.T, out=take("hidden", count, len(down))).relu_()
        shift = torch.mm(hidden, up.T, out=take("shift", count, len(up))).relu_()
        image = torch.mul(x, 1 - self.ratio, out=take("image", *x.shape)).add_(shift, alpha=self.ratio)
        length = torch.linalg.vector_norm(image, dim=1, keepdim=True)
        along = torch.mm(image, self.text.T, out=take("along", count, len(self.text))).div_(length)
        logits = torch.mul(along, self.scale, out=take("logits", *along.shape))
        slope = entropy_slope(logits, label, out=take("slope", *along.shape)).mul_(self.ratio * self.scale / length)
        back = torch.mm(slope, self.text, out=take("back", *x.shape))
        back.addcmul_(image, slope.mul_(along).sum(dim=1, keepdim=True) / length, value=-1).masked_fill_(shift == 0, 0)
        torch.mm(back.T, hidden, out=out[1])
        below = torch.mm(back, up, out=take("below", *hidden.shape)).masked_fill_(hidden == 0, 0)
        torch.mm(below.T, x, out=out[0])


class Adapters(TaskHeads):
    """logits = s cos(adapted x, t) with a network for each task; zeros, as at the start, are zero-shot CLIP.

    Attributes:
        down: (T, F/4, F). up: (T, F, F/4).
    """

    def __init__(self, tasks: Sequence[Task], text: Tensor, *, scale: float, ratio: float) -> None:
        super().__init__(tasks, text, scale=scale)
        self.ratio, width = ratio, text.shape[1]
        self.down = nn.Parameter(torch.zeros(len(tasks), max(1, width // REDUCTION), width))
        self.up = nn.Parameter(torch.zeros(len(tasks), width, max(1, width // REDUCTION)))

    @torch.no_grad()
    def put(self, task: int, tensors: Mapping[str, Tensor]) -> None:
        """Store the network of a task."""
        self.down[task], self.up[task] = tensors["down"], tensors["up"]

    def score(self, features: Tensor, task: int) -> Tensor:
        """Logits (b, C_t) of images."""
        image = adapted(features, self.down[task], self.up[task], ratio=self.ratio)
        return self.scale * functional.normalize(image, dim=-1) @ self.own_text(task).T


@TRAINER_REGISTRY.register()
class CLIPAdapter(FeatureMethod):
    """EPOCHS of CoOp's optimiser and schedule on the VIEWS, one after another; the last epoch counts."""

    section = "CLIPADAPTER"
    no_context = "it learns a network on image features, and its prompts are hand-written"
    no_table = "it changes image features by a network of each task"
    config_keys = (
        *feature_keys("CLIPADAPTER", views=10),
        Key("TRAINER.CLIPADAPTER.RATIO", 0.2, "share of the network's output in the feature", check=between(0, 1)),
        Key("TRAINER.CLIPADAPTER.EPOCHS", 200, "epochs", check=at_least(1)),
        Key("TRAINER.CLIPADAPTER.BATCH", 32, "images in a batch", check=at_least(1)),
        Key("TRAINER.CLIPADAPTER.LR", 0.002, "learning rate after the first epoch", check=above(0)),
    )

    @classmethod
    def learned_for(cls, cfg: CfgNode) -> dict[str, str]:
        """A network belongs to its task, and fits any class."""
        return {"task": cls.__name__}

    def build_heads(self, tasks: Sequence[Task], text: Tensor) -> Adapters:
        """Zero-shot CLIP."""
        return Adapters(tasks, text, scale=self.backbone.logit_scale, ratio=self.options.RATIO)

    def fit_task(self, work: TaskWork, chosen: Mapping[str, float] | None = None) -> Fitted:
        """Train the network of a task."""
        options, count, width = self.options, len(work.label), work.text.shape[1]
        hidden = max(1, width // REDUCTION)
        down, up = self._first(work, "down", hidden, width), self._first(work, "up", width, hidden)
        slopes = down.grad, up.grad = torch.empty_like(down), torch.empty_like(up)
        room = Room(down)
        objective = Objective(functional.normalize(work.text, dim=-1), options.RATIO, work.scale, room)

        def gradients(rows: tuple[int, Tensor]) -> None:
            view, images = rows[0], rows[1].to(down.device)
            x = room.rows(work.views[view], images)
            objective.gradient(x, work.label[images], down, up, out=slopes)

        size = min(options.BATCH, count)
        orders = shuffled(count, seed=self.cfg.SEED, name=work.task.name)
        batches = (
            (epoch % len(work.views), part)
            for epoch, order in zip(range(options.EPOCHS), orders, strict=False)
            for part in order[: count // size * size].split(size)
        )
        epochs = [WARMUP, *cosine(options.LR, options.EPOCHS)][: options.EPOCHS]
        optimiser = torch.optim.SGD([down, up], lr=options.LR, momentum=MOMENTUM, weight_decay=DECAY, fused=True)
        for _ in descend_along(optimiser, repeated(epochs, count // size), batches, gradients):
            pass
        return Fitted({"down": down, "up": up})

    def _first(self, work: TaskWork, name: str, rows: int, columns: int) -> Tensor:
        """A matrix as PyTorch's linear layer draws it: U(-1/sqrt(columns), 1/sqrt(columns))."""
        generator = torch.Generator().manual_seed(derived_seed(name, self.cfg.SEED, work.task.name))
        drawn = (2 * torch.rand(rows, columns, generator=generator) - 1) / math.sqrt(columns)
        return drawn.to(work.text)
