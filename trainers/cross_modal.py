"""Cross-modal linear probe: class texts are further training examples of a linear classifier of images.

Lin et al., "Multimodality helps unimodality: cross-modal few-shot learning with multimodal models", CVPR 2023.
"""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from dassl.config import Key, above, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from trainers._descent import cosine, descend, endless_batches
from trainers._features import ClassRows, FeatureMethod, Fitted, TaskWork, feature_keys

WARMUP, WARMUP_RATE = 50, 1e-5
EVERY = 100  # steps between two looks at the validation images
# The authors' search: learning rates, weight decays, batches, and steps of each.
RATES, DECAYS, BATCHES, STEPS = (1e-3, 1e-4), (0.0, 0.01, 1e-4), (8, 32), 12_800


def warmed(rate: float, steps: int) -> list[float]:
    """A linear rise over 50 steps from 1e-5, then half a cosine over the rest."""
    rise = [WARMUP_RATE + (rate - WARMUP_RATE) * step / WARMUP for step in range(min(WARMUP, steps))]
    return rise + cosine(rate, max(steps - WARMUP, 0))


@TRAINER_REGISTRY.register()
class CrossModal(FeatureMethod):
    """Half of each batch are images, half are class texts; all are of unit length, logits are s x . w_c.

    Weights start at the class texts. The best of the looks at the validation images every 100 steps is kept. The
    default has one setting of the authors' search and fewer steps; RECIPE released runs all twelve.
    """

    section = "CMLP"
    no_context = "it learns weights on features of images and of hand-written prompts"
    config_keys = (
        *feature_keys("CMLP", views=0, released="the authors' search over twelve settings, with 12,800 steps each"),
        Key("TRAINER.CMLP.STEPS", 1000, "steps", check=at_least(1)),
        Key("TRAINER.CMLP.LR", 1e-3, "learning rate", check=above(0)),
        Key("TRAINER.CMLP.DECAY", 0.01, "weight decay", check=at_least(0)),
        Key("TRAINER.CMLP.BATCH", 32, "features in a batch", check=at_least(2)),
    )

    def build_heads(self, tasks: Sequence[Task], text: Tensor) -> ClassRows:
        """Zero-shot CLIP."""
        return ClassRows(tasks, text, scale=self.backbone.logit_scale)

    def fit_task(self, work: TaskWork, chosen: Mapping[str, float] | None = None) -> Fitted:
        """Fit with one setting or the best of the search; of equal ones the first."""
        if chosen:
            return self._descend(work, chosen, looks=False)
        options = self.options
        given = {"lr": options.LR, "decay": options.DECAY, "batch": options.BATCH, "steps": options.STEPS}
        tried = [given]
        if self.released and work.searches:
            grid = itertools.product(RATES, DECAYS, BATCHES)
            tried = [{"lr": r, "decay": d, "batch": b, "steps": STEPS} for r, d, b in grid]
        found = [self._descend(work, each, looks=work.searches) for each in tried]
        return max(found, key=lambda fitted: fitted.rate or 0)

    def _descend(self, work: TaskWork, setting: Mapping[str, float], *, looks: bool) -> Fitted:
        """One descent, until its end or, with ``looks``, the best look."""
        x, label = work.flat()
        text = functional.normalize(work.text, dim=-1)
        weight, val = text.clone().requires_grad_(), functional.normalize(work.val, dim=-1)
        classes = torch.arange(len(text), device=x.device)

        def loss(rows: tuple[Tensor, Tensor]) -> Tensor:
            images, texts = (each.to(x.device) for each in rows)
            both = torch.cat([x[images], text[texts]])
            truth = torch.cat([label[images], classes[texts]])
            return functional.cross_entropy(work.scale * both @ weight.T, truth)

        half, total = int(setting["batch"]) // 2, int(setting["steps"])
        draws = [
            endless_batches(count, half, seed=self.cfg.SEED, name=f"{kind} {work.task.name}")
            for kind, count in (("images", len(x)), ("texts", len(text)))
        ]
        optimiser = torch.optim.AdamW([weight], lr=setting["lr"], weight_decay=setting["decay"], fused=True)
        best: Fitted | None = None
        for number in descend(optimiser, warmed(setting["lr"], total), zip(*draws, strict=True), loss):
            last = number == int(setting.get("look", total))
            if not last and not (looks and number % EVERY == 0):
                continue
            rate = work.val_rate(val @ weight.detach().T) if looks else None
            if best is None or (rate or 0) > (best.rate or 0):
                best = Fitted({"weight": work.scale * weight.detach().clone()}, {**setting, "look": number}, rate)
            if "look" in setting and last:
                break
        assert best is not None
        return best
