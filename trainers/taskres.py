"""TaskRes: a learned residual on top of the class features of hand-written prompts.

Yu et al., "Task residual for tuning vision-language models", CVPR 2023.

A strong recent baseline in addition to the paper's table. It needs no validation images (no search over images as in
Tip-Adapter), works on ResNet and ViT and so on the paper's RN50 (PromptSRC, MaPLe and CLIP-LoRA do not), and leaves
both encoders alone, so it runs on stored features and a step costs one matrix product.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

import clip
from dassl.config import PRECISIONS, Key, above
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.published import Published
from trainers.base import PromptTuner
from trainers.zsclip import template_prompts


class ClassResiduals(nn.Module):
    """The learned x (C, F), zero at the start."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.text_feature_residuals = nn.Parameter(torch.zeros(*shape))


class ShiftedFeatures(nn.Module):
    """w_c = w_c^clip + alpha * x_c."""

    base: Tensor

    def __init__(self, base: Tensor, *, scale: float) -> None:
        super().__init__()
        self.register_buffer("base", base, persistent=False)
        self.scale = scale
        self.prompt_learner = ClassResiduals(base.shape)

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """Class features (C, F) float32, not normalised."""
        assert columns is None, "TaskRes has no class sub-sampling"
        return self.base + self.scale * self.prompt_learner.text_feature_residuals


@TRAINER_REGISTRY.register()
class TaskRes(PromptTuner):
    """Loss: the multi-task cross-entropy. The base w^clip is the feature of a task's template, in fp32.

    A residual belongs to one class, so that it says nothing about new classes.
    """

    section = "TaskRes"
    tunes = ()
    no_context = "it learns a residual of each class feature, and its prompts are hand-written"
    config_keys = (
        Key("TRAINER.TaskRes.PREC", "fp32", "precision of the frozen encoders", PRECISIONS),
        Key("TRAINER.TaskRes.RESIDUAL_SCALE", 0.5, "factor of the learned residual (alpha)", check=above(0)),
    )
    published = (
        Published({"TRAINER.TaskRes.RESIDUAL_SCALE": 1.0}, "train_regular.sh", datasets=("OxfordFlowers",)),
        Published({"OPTIM.LR": 2e-4}, "train_regular.sh", datasets=("ImageNet",)),
    )

    @classmethod
    def learned_for(cls, cfg: CfgNode) -> dict[str, str]:
        """A residual belongs to one class."""
        return {"class": cls.__name__}

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> ShiftedFeatures:
        """The template features and their residuals."""
        base = self.template_features([prompt for task in tasks for prompt in template_prompts(task)])
        return ShiftedFeatures(base, scale=self.options.RESIDUAL_SCALE)

    def learned_modules(self) -> dict[str, nn.Module]:
        """One folder, as in the original."""
        return {"prompt_learner": self.model.get_submodule("prompt_learner")}
