"""CLIP-Adapter: a small network that shifts the image features of a task towards its class texts.

Gao et al., "CLIP-Adapter: better vision-language models with feature adapters", IJCV 2024.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from yacs.config import CfgNode

from dassl.config import Key, above, at_least, between
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.tools import derived_seed
from trainers._descent import cosine, descend, repeated, shuffled
from trainers._features import FeatureMethod, Fitted, TaskHeads, TaskWork, feature_keys

REDUCTION = 4
WARMUP, MOMENTUM, DECAY = 1e-5, 0.9, 5e-4  # of CoOp's schedule and optimiser


def adapted(features: Tensor, down: Tensor, up: Tensor, *, ratio: float) -> Tensor:
    """ratio * relu(relu(x @ down') @ up') + (1 - ratio) * x: (b, F) -> (b, F)."""
    return ratio * ((features @ down.T).relu() @ up.T).relu() + (1 - ratio) * features


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
        text = functional.normalize(work.text, dim=-1)

        def loss(rows: tuple[int, Tensor]) -> Tensor:
            view, images = rows[0], rows[1].to(text.device)
            seen = adapted(work.views[view, images], down, up, ratio=options.RATIO)
            return functional.cross_entropy(
                work.scale * functional.normalize(seen, dim=-1) @ text.T, work.label[images]
            )

        size = min(options.BATCH, count)
        orders = shuffled(count, seed=self.cfg.SEED, name=work.task.name)
        batches = (
            (epoch % len(work.views), part)
            for epoch, order in zip(range(options.EPOCHS), orders, strict=False)
            for part in order[: count // size * size].split(size)
        )
        epochs = [WARMUP, *cosine(options.LR, options.EPOCHS)][: options.EPOCHS]
        optimiser = torch.optim.SGD([down, up], lr=options.LR, momentum=MOMENTUM, weight_decay=DECAY)
        for _ in descend(optimiser, repeated(epochs, count // size), batches, loss):
            pass
        return Fitted({"down": down.detach(), "up": up.detach()})

    def _first(self, work: TaskWork, name: str, rows: int, columns: int) -> Tensor:
        """A matrix as PyTorch's linear layer draws it: U(-1/sqrt(columns), 1/sqrt(columns))."""
        generator = torch.Generator().manual_seed(derived_seed(name, self.cfg.SEED, work.task.name))
        drawn = (2 * torch.rand(rows, columns, generator=generator) - 1) / math.sqrt(columns)
        return drawn.to(work.text).requires_grad_()
