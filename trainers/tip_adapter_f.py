"""Tip-Adapter-F: Tip-Adapter whose keys are learned from where the images put them.

Zhang et al., "Tip-Adapter: training-free adaption of CLIP for few-shot classification", ECCV 2022.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from dassl.config import Key, above, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from trainers._descent import cosine, descend, shuffled
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
        best: tuple[float, int, Tensor] | None = None
        for epoch, keys in enumerate(self._epochs(work, alpha, beta), 1):
            if chosen or self.released or not work.searches:
                kept = epoch == int((chosen or {"epoch": self.options.EPOCHS})["epoch"])
                best = (0.0, epoch, keys.clone()) if kept else best
                continue
            rate = work.val_rate(_logits(work, work.val, keys, alpha=alpha, beta=beta))
            if best is None or rate > best[0]:
                best = (rate, epoch, keys.clone())
        assert best is not None
        found = self.with_search(work, best[2], chosen)
        return replace(found, chosen={"epoch": best[1], **found.chosen})

    def _epochs(self, work: TaskWork, alpha: float, beta: float) -> Iterator[Tensor]:
        """The keys (n, F) after each epoch."""
        count, options = len(work.label), self.options
        keys = functional.normalize(work.views.mean(dim=0), dim=-1).requires_grad_()
        optimiser = torch.optim.AdamW([keys], lr=options.LR, eps=EPSILON)
        orders = shuffled(count, seed=self.cfg.SEED, name=work.task.name)
        steps = -(-count // options.BATCH)
        rates = cosine(options.LR, options.EPOCHS * steps)

        def loss(rows: tuple[int, Tensor]) -> Tensor:
            view, images = rows[0], rows[1].to(keys.device)
            logits = _logits(work, work.views[view, images], keys, alpha=alpha, beta=beta)
            return functional.cross_entropy(logits, work.label[images])

        batches = (
            (epoch % len(work.views), part)
            for epoch, order in zip(range(options.EPOCHS), orders, strict=False)
            for part in order.split(options.BATCH)
        )
        for number in descend(optimiser, rates, batches, loss):
            if number % steps == 0:
                yield keys.detach()

    def new_cache(self, tasks: list[Task], text: Tensor, counts: list[int]) -> ImageCache:
        """A cache whose keys are parameters."""
        return LearnedCache(tasks, text, scale=self.backbone.logit_scale, counts=counts)


def _logits(work: TaskWork, features: Tensor, keys: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Logits (b, C_t) of images (b, F), with gradient for the keys."""
    gap = keys @ functional.normalize(features, dim=-1).T - 1
    return work.zero_shot(features) + alpha * class_sums(gap, work.label, len(work.text), beta=beta)
