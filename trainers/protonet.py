"""ProtoNet without episodes: the mean feature of a class's few images is the class.

Snell, Swersky, Zemel: "Prototypical networks for few-shot learning", NeurIPS 2017. Their network is trained so that the
means become good prototypes. CLIP's image encoder stays frozen here, so there is nothing to train.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import clip
from dassl.config import PRECISIONS, Key, at_least
from dassl.data.columns import task_of_class
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.head import Head
from trainers._fitted import FittedTrainer, SplitFeatures

_log = logging.getLogger(__name__)


class Prototypes(nn.Module):
    """Prototypes (C, F) of unit length (zero for a class without an image), and the origin (T, F) of each task."""

    _owner: Tensor
    prototypes: Tensor
    centers: Tensor

    def __init__(self, tasks: Sequence[Task], embed_dim: int) -> None:
        super().__init__()
        self.register_buffer("_owner", task_of_class(tasks), persistent=False)
        self.register_buffer("prototypes", torch.zeros(len(self._owner), embed_dim))
        self.register_buffer("centers", torch.zeros(len(tasks), embed_dim))

    @torch.no_grad()
    def fit(self, task: int, features: Tensor, label: Tensor, *, center: bool) -> Tensor:
        """Set the prototypes of a task from its images.

        c_k = d(mean of d(x_i - m) over the images i of class k), with m the mean of all x_i, or 0 without ``center``.

        Args:
            features: (n, F) x_i, of unit length. label: (n,) class index inside the task.

        Returns:
            (C_t,) number of images of each class.
        """
        own: Tensor = self._owner == task
        features, label = features.to(self.centers), label.to(own.device)
        if center and len(features):
            self.centers[task] = features.mean(dim=0)
        member = functional.one_hot(label, int(own.sum())).to(features)
        seen = functional.normalize(features - self.centers[task], dim=-1)
        self.prototypes[own] = functional.normalize(member.T @ seen, dim=-1)
        return member.sum(dim=0)

    def forward(self, features: Tensor) -> Tensor:
        """Cosines (B, C) of images with all prototypes, -1 where a class has none; features: (B, F)."""
        image = functional.normalize(features.float(), dim=-1)
        cosines = image.new_empty(len(image), len(self._owner))
        for task, center in enumerate(self.centers):
            own = self._owner == task
            cosines[:, own] = functional.normalize(image - center, dim=-1) @ self.prototypes[own].T
        return cosines.masked_fill(~self.prototypes.any(dim=1), -1.0)


@TRAINER_REGISTRY.register()
class ProtoNet(FittedTrainer):
    """Nearest prototype by cosine, among the classes of an image's own task.

    The images are the K shots that the prompt methods learn from, with the test transform. With VIEWS an image is the
    mean of this many augmented views. CENTER moves the origin to the mean of the task's images (SimpleShot:
    Wang, Chao, Weinberger, van der Maaten, arXiv 1911.04623).
    """

    model: Prototypes
    section = "PROTONET"
    no_context = "its classes are means of image features, without prompts"
    unweighted = "a prototype is the mean of its class, whatever the size of other classes"
    test_rows = 0
    config_keys = (
        Key("TRAINER.PROTONET.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        Key(
            "TRAINER.PROTONET.VIEWS",
            0,
            "augmented views averaged per training image; 0: the test transform",
            check=at_least(0),
        ),
        Key("TRAINER.PROTONET.CENTER", False, "subtract the mean of each task's training images"),
    )

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> Prototypes:
        """Prototypes that are still zero."""
        return Prototypes(tasks, backbone.embed_dim)

    def learned_modules(self) -> dict[str, nn.Module]:
        """The saved module; nothing in it counts as a parameter."""
        return {"prototypes": self.model}

    def fit(self, train: SplitFeatures, val: SplitFeatures) -> None:
        """Set the prototypes of every task."""
        train = replace(train, features=self._seen(train.features))
        for index, task in enumerate(self.dm.tasks):
            counts = self.model.fit(index, *train.of_task(index), center=self.options.CENTER)
            absent = [name for name, count in zip(task.classnames, counts.tolist(), strict=True) if not count]
            if absent:
                _log.warning("task %d (%s): no training image of %s", index, task.name, ", ".join(absent))

    def _seen(self, features: Tensor) -> Tensor:
        """Unit features (n, F) of the training images: the given ones, or the means of VIEWS augmented views."""
        if self.options.VIEWS:
            views = self.augmented_views(self.options.VIEWS)
            features = sum((functional.normalize(view, dim=-1) for view in views), torch.zeros_like(features))
        return functional.normalize(features, dim=-1)

    def head(self) -> Head:
        """Prototypes and centers; the cosine -1 of a class without an image is a bias beside its row of zeros."""
        rows, centers = (each.detach().cpu().float() for each in (self.model.prototypes, self.model.centers))
        scale = self.backbone.logit_scale
        return Head("cosine", rows, scale, torch.where(rows.any(dim=1), 0.0, -scale), centers)

    def before_test(self) -> None:
        """Does nothing: the prototypes are ready."""

    def model_inference(self, batch: dict[str, Any]) -> Tensor:
        """Logits (B, C) of a test batch."""
        return self.backbone.logit_scale * self.model(self.image_features(batch))
