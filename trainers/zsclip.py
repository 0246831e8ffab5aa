"""Zero-shot CLIP: hand-written prompts, nothing learned."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from yacs.config import CfgNode

import clip
from dassl.config import PRECISIONS, Key
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics.multilabel import fitted_bias
from dassl.utils.errors import UserError
from trainers.base import PromptTuner

# The seven that CLIP's authors found to be the best subset of their 80 for ImageNet.
SELECTED_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def parse_templates(value: Any) -> tuple[tuple[str, ...], list[str]]:
    """Templates as a yaml list, or as one text with "|" between them; each has "{}" once and no other brace."""
    parts = [part.strip() for part in value.split("|") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        return (), ['expected templates in a list, or in one text with "|" between them']
    wrong = [part for part in parts if part.count("{}") != 1 or set("{}\n") & set(part.replace("{}", "", 1))]
    return tuple(parts), [f'template {part!r} must have "{{}}" for the name exactly once' for part in wrong]


def template_prompts(task: Task, template: str = "") -> list[str]:
    """The template (default: the task's own) filled with each class name of the task ("_" becomes a space)."""
    return [(template or task.template).replace("{}", name.replace("_", " ")) for name in task.classnames]


class TemplateFeatures(nn.Module):
    """Class features of hand-written prompts.

    Args:
        templates: of an ensemble, in addition to each task's own; none: only the task's own.
    """

    def __init__(self, backbone: clip.Backbone, tasks: Sequence[Task], templates: Sequence[str] = ()) -> None:
        super().__init__()
        self._encode = backbone.encode_text
        own = [prompt for task in tasks for prompt in template_prompts(task)]
        others = ([p for task in tasks for p in template_prompts(task, each)] for each in templates)
        self._tokens = [backbone.tokenize(prompts) for prompts in (own, *others)]

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """(C, F), not normalised: the feature of the one prompt, or the mean of the normalised ones of several."""
        if len(self._tokens) == 1:
            return self._encode(self._tokens[0])
        return torch.stack([functional.normalize(self._encode(each).float(), dim=-1) for each in self._tokens]).mean(0)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTuner):
    """CLIP with each task's own template, for all tasks of a suite in one run or, with SUBSAMPLE_TASKS taskN, one."""

    section = "ZSCLIP"
    no_context = "its prompts are hand-written, and nothing is learned"
    config_keys: tuple[Key, ...] = (Key("TRAINER.ZSCLIP.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),)
    trainable = False
    tunes = ()
    unweighted = "it learns nothing"
    multi_label = True

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> nn.Module:
        """The frozen model."""
        return TemplateFeatures(backbone, tasks)

    def learned_modules(self) -> dict[str, nn.Module]:
        """Nothing is learned."""
        return {}

    def put_biases(self, biases: Mapping[int, float]) -> None:
        """Set the biases of multi-label tasks."""
        for number, bias in biases.items():
            assert self.label_bias is not None, "there is a multi-label task"
            self.label_bias.put(number, bias)

    def label_biases(self, found: Mapping[int, tuple[Tensor, Tensor]] | None = None) -> dict[int, float]:
        """The bias of each multi-label task: one number, which changes no mAP."""
        bias = self.label_bias
        if bias is None:
            return {}
        fitted = {number: bias.of_task(number) + fitted_bias(*pair) for number, pair in (found or {}).items()}
        self.put_biases(fitted)
        return {number: bias.of_task(number) for number in bias.numbers}


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Prompt ensemble: a class feature is the mean over templates of the normalised prompt features.

    Templates are each task's own, and those of the config: by default the seven selected for ImageNet
    (Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021), as in CoOp.
    """

    config_keys = (
        Key(
            "TRAINER.ZSCLIP.TEMPLATES",
            SELECTED_TEMPLATES,
            "ZeroshotCLIP2: templates in addition to each task's own",
            parse=parse_templates,
        ),
        Key(
            "TRAINER.ZSCLIP.EXTRA_TEMPLATES",
            (),
            "ZeroshotCLIP2: more templates, separated by vertical bars",
            parse=parse_templates,
        ),
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse an ensemble of one."""
        if not cfg.TRAINER.ZSCLIP.TEMPLATES and not cfg.TRAINER.ZSCLIP.EXTRA_TEMPLATES:
            raise UserError("TRAINER.ZSCLIP.TEMPLATES is empty, so there is no ensemble; use --trainer ZeroshotCLIP")

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> nn.Module:
        """The frozen model."""
        return TemplateFeatures(backbone, tasks, (*self.options.TEMPLATES, *self.options.EXTRA_TEMPLATES))
