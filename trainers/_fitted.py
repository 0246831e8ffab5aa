"""Methods that are fitted to features of frozen encoders: no optimiser, no schedule, one "epoch"."""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.utils.errors import UserError
from trainers.base import PromptTuner

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitFeatures:
    """Features of the n images of a split, and the E (image, task) entries that their labels make.

    Attributes:
        features: (n, ...) float32 on the CPU, as ``image_features`` gives them (not normalised).
        row: (E,) image of each entry. task: (E,) its task. label: (E,) its class index inside the task.
    """

    features: Tensor
    row: Tensor
    task: Tensor
    label: Tensor

    def of_task(self, task: int) -> tuple[Tensor, Tensor]:
        """Features (n_t, ...) and labels (n_t,) of one task; both are empty when it has no image."""
        own = self.task == task
        return self.features[self.row[own]], self.label[own]


class FittedTrainer(PromptTuner):
    """A method that is fitted once to the features of the few-shot images.

    It implements ``fit``, ``build_prompts`` and ``learned_modules``. Training is one epoch whatever OPTIM.MAX_EPOCH
    says: gather features, fit, save, test. A run that was interrupted after the fit only tests. What ``fit`` puts into
    the registered modules is saved and loaded by ``--eval-only``; parameters with ``requires_grad`` are counted.
    """

    tunes = ()
    unweighted = "its fit has no weights"
    encoding = 0.0  # seconds in which this session gathered features

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse starting weights, which a fit cannot use."""
        if cfg.MODEL.INIT_WEIGHTS:
            raise UserError(
                f"MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS}: {cfg.TRAINER.NAME} is fitted, without starting weights; "
                "leave the key out, or evaluate the folder with --eval-only --model-dir"
            )

    @classmethod
    def learned_for(cls, cfg: CfgNode) -> dict[str, str]:
        """What is fitted to images of a class belongs to that class."""
        return {"class": cfg.TRAINER.NAME}

    def build_model(self) -> None:
        """The model, with a single epoch."""
        super().build_model()
        self.max_epoch = 1

    def register_learned(self, modules: dict[str, nn.Module]) -> None:
        """Register the modules without an optimiser."""
        for name, module in modules.items():
            self.register_model(name, module)

    def fit(self, train: SplitFeatures, val: SplitFeatures) -> None:
        """Compute the learned tensors in place. ``val`` has no entry if the data set has no validation images."""
        raise NotImplementedError

    def run_epoch(self, bar: tqdm) -> None:
        """Gather the features and fit."""
        started, self.encoding = time.monotonic(), 0.0
        train, val = (self.gather(self.dm.plain_loader(split)) for split in ("train", "val"))
        self.fit(train, val)
        _log.info(
            "Fitted to the features of %d train and %d val images (encoding %.1f s, fit %.1f s)",
            *(len(train.features), len(val.features), self.encoding, time.monotonic() - started - self.encoding),
        )
        bar.update(bar.total or 0)

    def augmented_views(self, count: int) -> Iterator[Tensor]:
        """Features (n, ...) of the training images with the training transform, in one view after another."""
        loader = self.dm.plain_loader("train", augmented=True)
        for view in range(count):
            loader.set_epoch(view)
            yield self.gather(loader).features

    @torch.no_grad()
    def gather(self, batches: Iterable[dict[str, Any]]) -> SplitFeatures:
        """Features and entries of some batches, in their order.

        Raises:
            UserError: a feature is not a finite number.
        """
        started = time.monotonic()
        features, entries, count = [], [], 0
        for batch in batches:
            features.append(self.image_features(batch).float().cpu())
            if not (good := features[-1].isfinite().flatten(1).all(dim=1)).all():
                first = batch["impath"][int((~good).nonzero()[0])]
                remedy = "the backbone's weights are damaged" if self.precision == "fp32" else "use PREC fp32"
                raise UserError(f"the feature of {first} is not finite (precision {self.precision}); {remedy}")
            entries.append(torch.stack([batch["row"] + count, batch["task"], batch["label"]]).cpu())
            count += len(features[-1])
        self.encoding += time.monotonic() - started
        if not features:
            none = torch.zeros(0, dtype=torch.int64)
            return SplitFeatures(torch.zeros(0, self.backbone.embed_dim), none, none, none)
        return SplitFeatures(torch.cat(features), *torch.cat(entries, dim=1))


def hold_out(images: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Divide the training images (n, F), (n,) of a task into those to fit to and those to choose C on.

    Each class with two or more images holds out a quarter, at least one: its last images in the order of the draw.
    """
    features, label = images
    held = torch.zeros(len(label), dtype=torch.bool)
    for each in label.unique():
        own = (label == each).nonzero().flatten()
        held[own[len(own) - max(len(own) // 4, int(len(own) > 1)) :]] = True
    return (features[~held], label[~held]), (features[held], label[held])
