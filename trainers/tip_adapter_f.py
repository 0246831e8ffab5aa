"""Tip-Adapter-F: Tip-Adapter whose keys are learned from where the images put them.

Zhang et al., "Tip-Adapter: training-free adaption of CLIP for few-shot classification", ECCV 2022.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dassl.config import Key, above, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from trainers._descent import Room, cosine, descend_along, entropy_slope, shuffled
from trainers._features import Fitted, TaskWork
from trainers.tip_adapter import ImageCache, TipAdapter, class_sums, tip_keys

EPSILON = 1e-4  # of AdamW, as the authors set it


class LearnedCache(ImageCache):
    """An image cache whose keys count as learned."""

    def _add_keys(self, keys: Tensor) -> None:
        self.keys = nn.Parameter(keys)


@TRAINER_REGISTRY.register()
class TipAdapterF(TipAdapter):
    """EPOCHS of AdamW on the keys, each on the next of the VIEWS; alpha and beta have their start values meanwhile.

    The keys of the epoch with the best validation metric are kept, of equal ones the first; then alpha and beta are
    searched. With RECIPE released those of the last epoch are kept, since the authors choose the epoch on test images.
    """

    section = "TIPF"
    config_keys = (
        *tip_keys("TIPF"),
        Key("TRAINER.TIPF.EPOCHS", 20, "epochs", check=at_least(1)),
        Key("TRAINER.TIPF.BATCH", 256, "images in a batch", check=at_least(1)),
        Key("TRAINER.TIPF.LR", 1e-3, "learning rate", check=above(0)),
    )

    def fit_task(self, work: TaskWork, chosen: Mapping[str, float] | None = None) -> Fitted:
        """Learn the keys of a task, then search alpha and beta."""
        alpha, beta = self.search_range(work.index)[0], self.options.BETA
        val, best = Images.of(work, work.val, work.val_label), None
        for epoch, keys in enumerate(self._epochs(work, alpha, beta), 1):
            if chosen or self.released or not work.searches:
                kept = epoch == int((chosen or {"epoch": self.options.EPOCHS})["epoch"])
                best = (0.0, epoch, keys.clone()) if kept else best
                continue
            rate = work.val_rate(cache_logits(val, keys, work.label, alpha=alpha, beta=beta))
            if best is None or rate > best[0]:
                best = (rate, epoch, keys.clone())
        assert best is not None
        found = self.with_search(work, best[2], chosen)
        return replace(found, chosen={"epoch": best[1], **found.chosen})

    def _epochs(self, work: TaskWork, alpha: float, beta: float) -> Iterator[Tensor]:
        """The keys (n, F) after each epoch; they are changed in place."""
        count, options = len(work.label), self.options
        keys = functional.normalize(work.views.mean(dim=0), dim=-1)
        keys.grad = torch.empty_like(keys)
        optimiser = torch.optim.AdamW([keys], lr=options.LR, eps=EPSILON, fused=True)
        orders = shuffled(count, seed=self.cfg.SEED, name=work.task.name)
        steps = -(-count // options.BATCH)
        rates, room = cosine(options.LR, options.EPOCHS * steps), Room(keys)

        def gradients(rows: tuple[int, Tensor]) -> None:
            view, each = rows[0], rows[1].to(keys.device)
            images = Images.of(work, work.views[view, each], work.label[each])
            cache_gradient(images, keys, work.label, alpha=alpha, beta=beta, room=room)

        batches = (
            (epoch % len(work.views), part)
            for epoch, order in zip(range(options.EPOCHS), orders, strict=False)
            for part in order.split(options.BATCH)
        )
        for number in descend_along(optimiser, rates, batches, gradients):
            if number % steps == 0:
                yield keys

    def new_cache(self, tasks: list[Task], text: Tensor, counts: list[int]) -> ImageCache:
        """A cache whose keys are parameters."""
        return LearnedCache(tasks, text, scale=self.backbone.logit_scale, counts=counts)


class Images(NamedTuple):
    """Unit features (b, F), logits (b, C_t) of the class texts, and true classes (b,)."""

    unit: Tensor
    zero_shot: Tensor
    label: Tensor

    @classmethod
    def of(cls, work: TaskWork, features: Tensor, label: Tensor) -> "Images":
        """Images (b, F) of a task."""
        return cls(functional.normalize(features, dim=-1), work.zero_shot(features), label)


def cache_logits(images: Images, keys: Tensor, label: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Logits (b, C_t) of images with keys (n, F) of classes (n,)."""
    gap = (keys @ images.unit.T).sub_(1)
    return images.zero_shot + alpha * class_sums(gap, label, images.zero_shot.shape[1], beta=beta)


def cache_gradient(images: Images, keys: Tensor, label: Tensor, *, alpha: float, beta: float, room: Room) -> None:
    """Put the gradient of the mean cross-entropy into ``keys.grad``; the formula is that of ``cache_logits``."""
    size = len(keys), len(images.label)
    near = torch.mm(keys, images.unit.T, out=room.take("near", *size)).sub_(1).mul_(beta).exp_()
    sums = near.new_zeros(images.zero_shot.shape[1], size[1]).index_add_(0, label, near).T
    slope = entropy_slope(images.zero_shot + alpha * sums, images.label).mul_(alpha * beta)
    near *= torch.index_select(slope.T.contiguous(), 0, label, out=room.take("slope", *size))
    torch.mm(near, images.unit, out=keys.grad)
