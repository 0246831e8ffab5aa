"""MaPLe: the tokens of the image tower are linear functions of those of the text tower, block by block.

Khattak et al., "MaPLe: Multi-modal prompt learning", CVPR 2023.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import clip
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from trainers._deep import DeepPrompts, DeepTuner, Tokens, deep_keys
from trainers._prompts import normal_parameter
from trainers.cocoop import keyed_linear


class CoupledTokens(nn.Module):
    """Text tokens of the first n blocks, and a linear layer for each block that makes the image tokens of them.

    ``ctx`` (M, D) and ``proj`` are those of the first block, ``compound_prompts_text`` (n - 1, M, D) and
    ``compound_prompt_projections`` those of the others, whose layers start from equal values as in the original.

    Args:
        start: (M, D), or None for N(0, 0.02^2), from which all other tokens are drawn.
    """

    def __init__(
        self, n_ctx: int, text_width: int, visual_width: int, depth: int, *, seed: int, start: Tensor | None = None
    ) -> None:
        super().__init__()
        key, sizes = "prompt_learner", (text_width, visual_width)
        self.ctx = normal_parameter((n_ctx, text_width), seed=seed, name=f"{key}.ctx")
        if start is not None:
            self.ctx = nn.Parameter(start.clone())
        self.proj = keyed_linear(*sizes, seed=seed, name=f"{key}.proj")
        shape = (depth - 1, n_ctx, text_width)
        self.compound_prompts_text = normal_parameter(shape, seed=seed, name=f"{key}.compound_prompts_text")
        self.compound_prompt_projections = nn.ModuleList(
            keyed_linear(*sizes, seed=seed, name=f"{key}.compound_prompt_projections") for _ in range(depth - 1)
        )

    def forward(self) -> Tokens:
        """(M, D), (n - 1, M, D) and, for the image tower, (n, M, d)."""
        deep = self.compound_prompts_text
        made = [layer(rows) for layer, rows in zip(self.compound_prompt_projections, deep, strict=True)]
        return self.ctx, deep, torch.stack([self.proj(self.ctx), *made])


@TRAINER_REGISTRY.register()
class MaPLe(DeepTuner):
    """Loss: the multi-task cross-entropy. Tokens and linear layers are shared by all classes and tasks of a run."""

    section = "MAPLE"
    multi_label = True
    config_keys = deep_keys("TRAINER.MAPLE.", n_ctx=2)

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> DeepPrompts:
        """The model."""
        sizes = (self.options.N_CTX, backbone.text_width, self.tower.width, self.depth)
        return DeepPrompts(backbone, tasks, self.options, CoupledTokens(*sizes, seed=self.cfg.SEED, start=self.start()))
