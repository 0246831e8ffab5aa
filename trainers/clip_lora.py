"""CLIP-LoRA: low-rank additions to the attention of both towers, hand-written prompts.

Zanella and Ben Ayed, "Low-rank few-shot adaptation of vision-language models", CVPR workshops 2024.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import clip
from clip.lora import LowRank, lacks_attention, merged_copy, tune
from clip.text import PromptLayout
from dassl.config import PRECISIONS, Key, above, at_least, between
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.published import Published
from dassl.optim.lr_scheduler import learning_rate
from dassl.utils.errors import UserError
from dassl.utils.tools import derived_seed
from trainers._prompts import EncoderModule, uniform_parameter
from trainers.base import PromptTuner
from trainers.zsclip import template_prompts

_log = logging.getLogger(__name__)


def draw_start(added: nn.ModuleDict, seed: int) -> None:
    """Draw each A from U(-1/sqrt(D), 1/sqrt(D)), which is Kaiming's with sqrt(5); by tower and layer."""
    for name, module in added.named_modules():
        if isinstance(module, LowRank):
            bound = module.a.shape[-1] ** -0.5
            module.a.data.copy_(uniform_parameter(module.a.shape, bound, seed=seed, name=f"lora.{name}"))


class TunedTexts(EncoderModule):
    """Class features of hand-written prompts by a text tower with learned additions.

    Attributes:
        lora: the additions of both towers.
    """

    def __init__(self, backbone: clip.Backbone, added: nn.ModuleDict, tasks: Sequence[Task]) -> None:
        super().__init__(backbone.text)
        self.lora = added
        tokens = backbone.tokenize([prompt for task in tasks for prompt in template_prompts(task)])
        ends = backbone.text.facts.ends(tokens)
        self.layout = PromptLayout(tokens, tokens, ends, 0).to(backbone.text.device)

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """Class features (C, F), or (K, F) of ``columns``, not normalised."""
        return self.encoder(self.layout, rows=columns)


@TRAINER_REGISTRY.register()
class CLIPLoRA(PromptTuner):
    """Loss: the multi-task cross-entropy. The last step counts; nothing is chosen on validation images.

    The rate falls along a cosine with every step, from OPTIM.LR to MIN_LR.
    """

    section = "CLIPLORA"
    multi_label = True
    tunes = ("text", "image")
    no_context = "it learns additions to the weights of both towers, and its prompts are hand-written"
    config_keys = (
        Key("TRAINER.CLIPLORA.PREC", "amp", "precision of the frozen encoders", PRECISIONS),
        Key("TRAINER.CLIPLORA.RANK", 2, "rank of each addition", check=at_least(1)),
        Key("TRAINER.CLIPLORA.ALPHA", 1.0, "an addition is multiplied by ALPHA / sqrt(RANK)", check=above(0)),
        Key("TRAINER.CLIPLORA.DROPOUT", 0.25, "share of inputs set to 0 in training", check=between(0, 0.99)),
        Key("TRAINER.CLIPLORA.MIN_LR", 1e-6, "rate at the end of the cosine", check=at_least(0)),
    )
    published = (Published({}, "lora.py", per_shot={"OPTIM.MIN_STEPS": 500}),)

    @classmethod
    def check_backbone(cls, backbone: clip.Backbone) -> None:
        """Refuse towers without q, k and v in CLIP's layout."""
        if reason := lacks_attention(backbone):
            raise UserError(f"CLIPLoRA cannot tune {backbone.name}: {reason}; choose a ViT, such as ViT-B/16")

    def _load_backbone(self) -> clip.Backbone:
        """A copy of the frozen backbone, with its tensors and the additions."""
        frozen, o = super()._load_backbone(), self.options
        scale = o.ALPHA / math.sqrt(o.RANK)
        tuned, self._added = tune(frozen, o.RANK, scale=scale, dropout=o.DROPOUT)
        tuned.visual.set_grad_checkpointing(self.cfg.MODEL.IMAGE_CHECKPOINT)
        if frozen.text.encoding == "auto":
            _log.info(
                "Every prompt is encoded separately: with dropout its tokens differ from those of other prompts, and "
                "the prefix tree has no gradient for weights"
            )
        return tuned

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> TunedTexts:
        """The additions at their start, and the prompts."""
        draw_start(self._added, self.cfg.SEED)
        return TunedTexts(backbone, self._added, tasks)

    def learned_modules(self) -> dict[str, nn.Module]:
        """The additions."""
        return {"lora": self.model.get_submodule("lora")}

    def kept_columns(self, column: Tensor) -> Tensor | None:
        """The classes of the tasks in the batch: the loss has no others."""
        if self.dm.label_sets is not None:
            return None
        owner = self.dm.task_of_class
        kept = torch.isin(owner, owner[column].unique())
        return None if kept.all() else kept.nonzero().squeeze(1)

    def gradients(self, batch: dict[str, Any]) -> dict[str, Tensor | float]:
        """As for every method; the dropout of a step depends only on the seed, the epoch and its number."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derived_seed("dropout", self.cfg.SEED, self.epoch, self.batch_index))
            return super().gradients(batch)

    def model_update(self) -> None:
        """A step with the rate of its place in the training."""
        assert self.optim is not None
        for group in self.optim.param_groups:
            group["lr"] = self.rate()
        super().model_update()

    def rate(self) -> float:
        """The learning rate of the present step."""
        cfg, lowest = self.cfg.OPTIM, self.options.MIN_LR
        place = self.epoch + self.batch_index / max(1, len(self.dm.train_loader_x))
        scheduled = learning_rate(cfg, place, epochs=self.max_epoch)
        return lowest + (1 - lowest / cfg.LR) * scheduled if lowest < cfg.LR else scheduled

    def image_module(self) -> nn.Module:
        """The image tower with the additions in its weights."""
        merged = merged_copy(self.backbone.visual)
        merged.set_grad_checkpointing(False)
        return merged

    def local_features(self, images: Tensor) -> Tensor:
        """Those of the tuned tower."""
        return self.encode_places(self.backbone, images.to(self.device))
