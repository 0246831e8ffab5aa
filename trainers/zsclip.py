"""Zero-shot CLIP: hand-written prompts, nothing learned."""

from collections.abc import Sequence

from torch import Tensor, nn

import clip
from dassl.config import PRECISIONS, Key
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTuner


def template_prompts(task: Task) -> list[str]:
    """The task's template filled with each class name ("_" becomes a space)."""
    return [task.template.replace("{}", name.replace("_", " ")) for name in task.classnames]


class TemplateFeatures(nn.Module):
    """Class features of hand-written prompts."""

    def __init__(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> None:
        super().__init__()
        self._encode = backbone.encode_text
        self._tokens = clip.tokenize([prompt for task in tasks for prompt in template_prompts(task)])

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """(C, F), not normalised."""
        return self._encode(self._tokens)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTuner):
    """CLIP with each task's own template, for all tasks of a suite in one run or, with SUBSAMPLE_TASKS taskN, one."""

    section = "ZSCLIP"
    config_keys = (Key("TRAINER.ZSCLIP.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),)
    trainable = False

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> nn.Module:
        """The frozen model."""
        return TemplateFeatures(backbone, tasks)

    def learned_modules(self) -> dict[str, nn.Module]:
        """Nothing is learned."""
        return {}
