"""ProLIP: the last projection of the image tower, fine-tuned on stored features from before it.

Fahes et al., "CLIP's visual embedding projector is a few-shot cornucopia", 2024.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from yacs.config import CfgNode

from clip.projection import last_projection
from dassl.config import Key, above, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.errors import UserError
from trainers._descent import cosine, descend
from trainers._features import FeatureMethod, Fitted, SplitFeatures, TaskHeads, TaskWork, feature_keys

EPSILON = 1e-4  # of Adam, as the authors set it


def project(features: Tensor, weight: Tensor, bias: Tensor, text: Tensor, *, scale: float) -> Tensor:
    """s cos(x @ weight.T + bias, t): (b, W), (F, W), (F,), (C, F) -> (b, C)."""
    image = functional.normalize(features @ weight.T + bias, dim=-1)
    return scale * image @ functional.normalize(text, dim=-1).T


class Projections(TaskHeads):
    """logits = s cos(W x + b, t) with a learned W (F, width) for each task, or one for all.

    Attributes:
        weight: (T, F, width), or (1, F, width); at the start CLIP's own. bias: (F,), CLIP's own.
    """

    bias: Tensor

    def __init__(
        self, tasks: Sequence[Task], text: Tensor, projection: tuple[Tensor, Tensor], *, scale: float, own: bool
    ) -> None:
        super().__init__(tasks, text, scale=scale)
        self.own, (weight, bias) = own, projection
        self.weight = nn.Parameter(weight.repeat(len(tasks) if own else 1, 1, 1))
        self.register_buffer("bias", bias, persistent=False)

    @torch.no_grad()
    def put(self, task: int, tensors: Mapping[str, Tensor]) -> None:
        """Store the projection of a task."""
        self.weight[task if self.own else 0] = tensors["weight"]

    def score(self, features: Tensor, task: int) -> Tensor:
        """Logits (b, C_t) of images with features (b, width) from before the projection."""
        weight = self.weight[task if self.own else 0]
        return project(features, weight, self.bias, self.text[self.columns(task)], scale=self.scale)


@TRAINER_REGISTRY.register()
class ProLIP(FeatureMethod):
    """EPOCHS full-batch steps of Adam on the projection, each on the next of the VIEWS; the last step counts.

    Loss: cross-entropy + |W - W0|^2 / K, K the training images of a class. With SHARED one projection learns from all
    tasks at once: the mean cross-entropy of all images, each among the classes of its task.
    """

    section = "PROLIP"
    no_context = "it learns a projection of image features, and its prompts are hand-written"
    no_table = "it changes the image tower's last projection"
    config_keys = (
        *feature_keys("PROLIP", views=10),
        Key("TRAINER.PROLIP.SHARED", False, "one projection for all tasks, learned from all of them"),
        Key("TRAINER.PROLIP.EPOCHS", 300, "full-batch steps", check=at_least(1)),
        Key("TRAINER.PROLIP.LR", 1e-4, "learning rate at the start of the cosine", check=above(0)),
    )

    @classmethod
    def learned_for(cls, cfg: CfgNode) -> dict[str, str]:
        """A projection belongs to its task, and fits any class; a shared one fits any task."""
        return {} if cfg.TRAINER.PROLIP.SHARED else {"task": "TRAINER.PROLIP.SHARED False"}

    def build_heads(self, tasks: Sequence[Task], text: Tensor) -> Projections:
        """Zero-shot CLIP."""
        own, scale = not self.options.SHARED, self.backbone.logit_scale
        return Projections(tasks, text, self._projection(), scale=scale, own=own)

    def _projection(self) -> tuple[Tensor, Tensor]:
        """Copies of CLIP's weight and bias in float32; the bias is 0 for a ViT."""
        found = last_projection(self.backbone.visual)
        if found is None:
            kind = type(self.backbone.visual).__name__
            raise UserError(
                f"ProLIP tunes the last projection, and the image tower of {self.backbone.name} ({kind}) has none of "
                "CLIP's forms; choose a ResNet or ViT of CLIP"
            )
        weight, bias = found
        return weight.float().clone(), weight.new_zeros(len(weight)).float() if bias is None else bias.float().clone()

    @property
    def encoder_id(self) -> str:
        """Features from before the projection are stored apart."""
        return f"{super().encoder_id}-before-projection"

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width) float32 from before the projection, without gradient."""
        return self.backbone.encode_before_projection(images.to(self.device, non_blocking=True)).float()

    def fit_task(self, work: TaskWork, chosen: Mapping[str, float] | None = None) -> Fitted:
        """Fine-tune the projection of a task."""
        return Fitted({"weight": self._descend([work])})

    def fit(self, train: SplitFeatures, val: SplitFeatures) -> None:
        """Fit task by task, or once to all tasks."""
        if self.options.SHARED:
            self.model.put(0, {"weight": self._descend([work for work in self.works(train, val) if len(work.label)])})
        else:
            super().fit(train, val)

    def _descend(self, works: Sequence[TaskWork]) -> Tensor:
        """The projection (F, width) after the last step."""
        first, bias = (each.to(self.device) for each in self._projection())
        weight = first.clone().requires_grad_()
        count = sum(len(work.label) for work in works)
        strength = sum(len(work.label.unique()) for work in works) / count  # 1 / K

        def loss(view: int) -> Tensor:
            total = strength * (weight - first).square().sum()
            for work in works:
                logits = project(work.views[view], weight, bias, work.text, scale=work.scale)
                total = total + functional.cross_entropy(logits, work.label, reduction="sum") / count
            return total

        options, views = self.options, len(works[0].views)
        optimiser = torch.optim.Adam([weight], lr=options.LR, eps=EPSILON)
        steps = (step % views for step in range(options.EPOCHS))
        for _ in descend(optimiser, cosine(options.LR, options.EPOCHS), steps, loss):
            pass
        return weight.detach()
