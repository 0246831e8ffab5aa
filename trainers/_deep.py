"""Learned tokens in the image tower, and before the first blocks of both towers, as PromptSRC and MaPLe have them.

Letters: n depth, M context vectors of width D, m image tokens of width d, F features.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

import clip
from clip.visual_tokens import TokenTower, TowerSizes
from dassl.config import PRECISIONS, Key, at_least
from dassl.data.columns import flat_classnames
from dassl.data.datum import Task
from dassl.engine.contexts import Context, contexts_of
from dassl.utils.errors import UserError
from trainers._prompts import ContextPrompts
from trainers.base import PromptTuner

Tokens = tuple[Tensor, Tensor, Tensor]


def deep_keys(prefix: str, *, n_ctx: int) -> tuple[Key, ...]:
    """The config keys of both methods; ``prefix`` is e.g. "TRAINER.MAPLE."."""
    return (
        Key(f"{prefix}PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        Key(f"{prefix}N_CTX", n_ctx, "learned tokens of a block of the text tower", check=at_least(1)),
        Key(f"{prefix}CTX_INIT", "a photo of a", "first words; those beyond N_CTX stay text; empty: random"),
        Key(
            f"{prefix}DEPTH",
            0,
            "first blocks of both towers that have tokens of their own; 0: three quarters (9 of 12)",
            check=at_least(0),
        ),
    )


def split_phrase(phrase: str, n_ctx: int) -> tuple[str, str]:
    """The first ``n_ctx`` words, from which the context starts, and those behind them, which stay text."""
    words = phrase.replace("_", " ").split()
    return " ".join(words[:n_ctx]), " ".join(words[n_ctx:])


class DeepPrompts(nn.Module):
    """Class features from tokens that are learned in the first blocks of the text tower.

    Args:
        learner: called without arguments it gives the context (M, D), what replaces it before the blocks 2..n
            (n - 1, M, D), and the tokens of the first n blocks of the image tower (n, m, d).
    """

    def __init__(self, backbone: clip.Backbone, tasks: Sequence[Task], options: CfgNode, learner: nn.Module) -> None:
        super().__init__()
        self.prompt_learner = learner
        phrase, behind = split_phrase(options.CTX_INIT, options.N_CTX)
        names = [f"{behind} {name}".strip() for name in flat_classnames(tasks)]
        self.prompts = ContextPrompts(backbone.text, names, n_ctx=options.N_CTX, phrase=phrase)

    def tokens(self) -> Tokens:
        """What the learner gives."""
        return self.prompt_learner()

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """Class features (C, F), not normalised."""
        assert columns is None, "there is no class sub-sampling"
        ctx, deep, _ = self.tokens()
        return self.prompts(ctx[None], deep=dict(enumerate(deep, start=1)))


class ImageTokenTuner(PromptTuner):
    """A method that puts learned tokens into the image tower.

    Attributes:
        norm_first: whether the tokens of the first block pass the norm before it.
    """

    tunes = ("text", "image")
    norm_first = False

    def image_tokens(self) -> Tensor:
        """The tokens (n, m, d) of the first n blocks of the image tower."""
        raise NotImplementedError

    @classmethod
    def check_backbone(cls, backbone: clip.Backbone) -> None:
        """Refuse one without a ViT."""
        _ = backbone.tower_sizes

    def learned_modules(self) -> dict[str, nn.Module]:
        """All of it in one folder, as in the originals."""
        return {"prompt_learner": self.model.get_submodule("prompt_learner")}

    def through_tower(self, images: Tensor) -> Tensor:
        """Features of images beside the learned tokens."""
        again = self.cfg.MODEL.IMAGE_CHECKPOINT and torch.is_grad_enabled()
        return self.backbone.encode_with_tokens(images, self.image_tokens(), again=again, norm_first=self.norm_first)

    def image_module(self) -> nn.Module:
        """The image tower with the learned tokens."""
        return TokenTower(self.backbone.visual, self.image_tokens(), norm_first=self.norm_first)


class DeepTuner(ImageTokenTuner):
    """A method with learned tokens in the first blocks of both towers.

    The tokens of the image tower enter the first block through the norm before it. Before each further block with
    tokens of its own these replace the earlier ones; what the last of them become stays in the sequence.
    """

    norm_first = True
    model: DeepPrompts

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a phrase that is shorter than the context."""
        o = cfg.TRAINER[self.section]
        words = len(split_phrase(o.CTX_INIT, o.N_CTX)[0].split())
        if 0 < words < o.N_CTX:
            raise UserError(
                f"TRAINER.{self.section}.CTX_INIT {o.CTX_INIT!r} has {words} words but the context has {o.N_CTX} "
                f"vectors; set N_CTX to at most {words}, or CTX_INIT to nothing for a random start"
            )

    @property
    def tower(self) -> TowerSizes:
        """The sizes of the image tower."""
        return self.backbone.tower_sizes

    @property
    def depth(self) -> int:
        """n: the key DEPTH, or three quarters of the blocks of the shallower tower."""
        asked, blocks = self.options.DEPTH, min(self.backbone.text.depth, self.tower.layers)
        if asked > blocks:
            raise UserError(
                f"TRAINER.{self.section}.DEPTH is {asked}, but a tower of {self.backbone.name} has {blocks} blocks; "
                f"set it to at most {blocks}, or to 0 for three quarters"
            )
        return asked or max(1, blocks * 3 // 4)

    def start(self) -> Tensor | None:
        """Vectors (M, D) that the context starts from; None: random."""
        phrase, _ = split_phrase(self.options.CTX_INIT, self.options.N_CTX)
        return self.backbone.text.phrase_vectors(phrase).float() if phrase else None

    def image_tokens(self) -> Tensor:
        """Those of the learner."""
        return self.model.tokens()[2]

    def contexts(self) -> list[Context]:
        """The context of the first block."""
        note = "of the first block; later blocks have tokens of their own, which are no embeddings"
        return contexts_of(self.model.tokens()[0], self.dm.tasks, "all", note=note if self.depth > 1 else "")

    def frozen_features(self, batch: dict[str, Any]) -> Tensor:
        """(B, F) float32, those of the frozen image tower without tokens, of the same views; without gradient."""
        with torch.no_grad():
            return self.backbone.encode_image(batch["img"].to(self.device, non_blocking=True)).float()
