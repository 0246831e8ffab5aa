"""MVLPT: tokens in the image tower that all tasks share (MVPT), or in both towers, made by one network (MUPT).

Shen et al., "Multitask Vision-Language Prompt Tuning", WACV 2024. Its text-only form, MCoOp, is a key of trainer
MTCoOpHard.
"""

import math
from collections.abc import Sequence

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from yacs.config import CfgNode

import clip
from clip.text import POSITIONS
from dassl.config import PRECISIONS, Key, at_least
from dassl.data.columns import flat_classnames
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.contexts import Context, contexts_of
from dassl.utils.errors import UserError
from dassl.utils.tools import derived_seed
from trainers._deep import ImageTokenTuner
from trainers._prompts import ContextPrompts, check_phrase, normal_parameter, uniform_parameter
from trainers._union import UnionTuner, union_key
from trainers.zsclip import parse_templates, template_prompts

MIXTURES = ("released", "mixed", "none")
Tokens = tuple[Tensor | None, Tensor]


class MixingBlock(nn.Module):
    """CLIP's residual block with one head: x + attention(norm(x)), then x + MLP(norm(x)); no mask, no positions.

    Args:
        together: tokens attend to each other; False: each to itself alone, as in the released code, whose block takes
            them for a batch of sequences of one token.
    """

    def __init__(self, width: int, *, together: bool) -> None:
        super().__init__()
        self.together = together
        self.attn = nn.MultiheadAttention(width, 1, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        tokens = tokens[None] if self.together else tokens[:, None]  # (1, n, width): a sequence of n; (n, 1, width)
        normed = self.ln_1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, need_weights=False)[0]
        return (tokens + self.mlp(self.ln_2(tokens))).flatten(0, 1)


class MixingNetwork(nn.Module):
    """Makes the tokens of both towers from learned ones: linear layers to one width, a block, linear layers back.

    A side that has the width of the block keeps it without linear layers. PyTorch's default starts, which depend only
    on the seed.
    """

    def __init__(self, text_width: int, visual_width: int, width: int, *, together: bool, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed("init", seed, "prompt_learner.mixing"))
            self.text_in, self.visual_in = _linear(text_width, width), _linear(visual_width, width)
            self.block = MixingBlock(width, together=together)
            self.text_out, self.visual_out = _linear(width, text_width), _linear(width, visual_width)

    def forward(self, text: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """(M, D) and (L, m, d) -> the same shapes."""
        tokens = torch.cat([self.text_in(text), self.visual_in(visual.flatten(0, 1))])
        made = self.block(tokens)
        return self.text_out(made[: len(text)]), self.visual_out(made[len(text) :]).view_as(visual)


def _linear(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs)


class SharedTokens(nn.Module):
    """What is learned: ``ctx`` (M, D) of the prompts, ``vpt`` (1, m, d) and ``vpt_deep`` (L - 1, m, d) of the images.

    Args:
        text_width: D. visual_width: d. layers: L, blocks of the image tower.
        patch: side of a patch in pixels.
        phrase: vectors (M, D) that ``ctx`` starts from; None: N(0, 0.02^2).
    """

    def __init__(
        self,
        text_width: int,
        visual_width: int,
        layers: int,
        patch: int,
        options: CfgNode,
        *,
        seed: int,
        phrase: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.vpt_deep: nn.Parameter | None = None
        count = options.VISUAL_N_CTX
        bound = math.sqrt(6 / (3 * patch**2 + visual_width))
        self.ctx: nn.Parameter | None = None
        if options.N_CTX:
            self.ctx = normal_parameter((options.N_CTX, text_width), seed=seed, name="prompt_learner.ctx")
            if phrase is not None:
                self.ctx = nn.Parameter(phrase.float().clone())
        self.vpt = uniform_parameter((1, count, visual_width), bound, seed=seed, name="prompt_learner.vpt")
        if options.VISUAL_DEEP and layers > 1:
            shape = (layers - 1, count, visual_width)
            self.vpt_deep = uniform_parameter(shape, bound, seed=seed, name="prompt_learner.vpt_deep")
        self.mixing: MixingNetwork | None = None
        if options.N_CTX and options.MIX != "none":
            together = options.MIX == "mixed"
            self.mixing = MixingNetwork(text_width, visual_width, options.MIX_WIDTH, together=together, seed=seed)

    def forward(self) -> Tokens:
        """The tokens of the prompts, None or (M, D), and those of the image tower's first blocks, (L or 1, m, d)."""
        visual = self.vpt if self.vpt_deep is None else torch.cat([self.vpt, self.vpt_deep])
        if self.ctx is None or self.mixing is None:
            return self.ctx, visual
        return self.mixing(self.ctx, visual)


class SharedPrompts(nn.Module):
    """Class features from the tokens, or from hand-written prompts where no context is learned (``text``, (C, F))."""

    text: Tensor | None

    def __init__(self, tokens: SharedTokens, prompts: ContextPrompts | None, text: Tensor | None) -> None:
        super().__init__()
        self.prompt_learner, self.prompts = tokens, prompts
        self.register_buffer("text", text, persistent=False)

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """Class features (C, F), not normalised."""
        assert columns is None, "MVLPT has no class sub-sampling"
        if self.prompts is None:
            assert self.text is not None
            return self.text
        ctx, _ = self.prompt_learner()
        return self.prompts(ctx[None])


@TRAINER_REGISTRY.register()
class MVLPT(ImageTokenTuner, UnionTuner):
    """One set of tokens for all tasks of a suite.

    N_CTX 0: MVPT, tokens in the image tower beside hand-written prompts. Else MUPT, tokens in both towers, which a
    small network makes jointly from what is learned (MIX). They stand between the class token and the patches, after
    the first norm, and each block has its own (VISUAL_DEEP).
    """

    section = "MVLPT"
    no_context = "without N_CTX it learns tokens in the image tower only"
    model: SharedPrompts
    config_keys = (
        Key("TRAINER.MVLPT.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        Key("TRAINER.MVLPT.N_CTX", 4, "context vectors of the class prompts; 0: hand-written", check=at_least(0)),
        Key("TRAINER.MVLPT.CTX_INIT", "", "initial words of the context"),
        Key("TRAINER.MVLPT.TOKEN_POSITION", "middle", "position of the name in the class prompts", POSITIONS),
        Key("TRAINER.MVLPT.TEMPLATE", "a photo of a {}.", "hand-written prompt with N_CTX 0; empty: each task's own"),
        Key("TRAINER.MVLPT.VISUAL_N_CTX", 4, "learned tokens per block of the image tower", check=at_least(1)),
        Key("TRAINER.MVLPT.VISUAL_DEEP", True, "own tokens for each block of the image tower, not only the first"),
        Key(
            "TRAINER.MVLPT.MIX",
            "released",
            "the network that makes the tokens of both towers: each token by itself, as in the released code, all "
            "together, or none",
            MIXTURES,
        ),
        Key("TRAINER.MVLPT.MIX_WIDTH", 128, "width of that network", check=at_least(1)),
        union_key("TRAINER.MVLPT."),
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a phrase of another length, and a template that is none."""
        o = cfg.TRAINER.MVLPT
        check_phrase(o.CTX_INIT, o.N_CTX, "TRAINER.MVLPT.CTX_INIT")
        templates, wrong = parse_templates(o.TEMPLATE)
        if wrong or len(templates) > 1:
            raise UserError(f"TRAINER.MVLPT.TEMPLATE {o.TEMPLATE!r}: {(wrong or ['expected one template'])[0]}")

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> SharedPrompts:
        """The tokens, and the prompts that read those of the text."""
        o, tower = self.options, backbone.tower_sizes
        sizes = (backbone.text_width, tower.width, tower.layers, tower.patch)
        phrase = backbone.text.phrase_vectors(o.CTX_INIT) if o.CTX_INIT else None
        tokens = SharedTokens(*sizes, o, seed=self.cfg.SEED, phrase=phrase)
        if not o.N_CTX:
            texts = [prompt for task in tasks for prompt in template_prompts(task, o.TEMPLATE)]
            return SharedPrompts(tokens, None, self.template_features(texts))
        names = flat_classnames(tasks)
        position = {"n_ctx": o.N_CTX, "position": o.TOKEN_POSITION, "phrase": o.CTX_INIT}
        return SharedPrompts(tokens, ContextPrompts(backbone.text, names, **position), None)

    def image_tokens(self) -> Tensor:
        """Those that are learned, or made of them."""
        return self.model.prompt_learner()[1]

    def contexts(self) -> list[Context]:
        """The context that prompts have, of everything."""
        ctx, _ = self.model.prompt_learner()
        return super().contexts() if ctx is None else contexts_of(ctx, self.dm.tasks, "all")
