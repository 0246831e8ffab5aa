"""A step of the released code, for comparison: written independently from its formula, in its order.

All 77 columns of every prompt go through the tower as (77, N, D), with torch's attention layer and one mask for all;
the embeddings of literal tokens are looked up once, and a step inserts the context vectors between them. Gradients
come from automatic differentiation. Class names are encoded again for each batch of an evaluation.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional

from clip.text import PromptLayout, TextEncoder
from trainers._prompts import EncoderModule
from trainers.base import PromptTuner


class _Block(nn.Module):
    """A residual block over (L, N, D): attention, then the MLP with x * sigmoid(1.702 x)."""

    def __init__(self, block: ResidualAttentionBlock, mask: Tensor) -> None:
        super().__init__()
        ours = block.attn
        self.attention = nn.MultiheadAttention(ours.embed_dim, ours.num_heads)
        self.attention.load_state_dict(ours.state_dict())
        self.attention.to(ours.in_proj_weight.dtype)
        self.norm_1, self.norm_2 = block.ln_1, block.ln_2
        self.up, self.down = block.mlp.c_fc, block.mlp.c_proj
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        """(L, N, D) -> (L, N, D)."""
        h = _norm(self.norm_1, x)
        x = x + self.attention(h, h, h, need_weights=False, attn_mask=self.mask)[0]
        h = self.up(_norm(self.norm_2, x))
        return x + self.down(h * torch.sigmoid(1.702 * h))


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Compute in fp32 for every precision."""
    return functional.layer_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps).to(
        x.dtype
    )


class OriginalText(nn.Module):
    """Replaces a :class:`TextEncoder`: called with a layout, contexts and the context of each prompt.

    Args:
        text: our encoder, whose weights and precision it uses.
    """

    encoding = "original"
    causal_mask: Tensor

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        self.dtype = text.transformer.get_cast_dtype()
        mask = text.causal_mask.to(self.dtype)
        self.register_buffer("causal_mask", text.causal_mask, persistent=False)
        self.token_embedding, self.positional_embedding = text.token_embedding, text.positional_embedding
        self.blocks = nn.Sequential(*[_Block(block, mask) for block in text.transformer.resblocks])
        self.ln_final, self.text_projection = text.ln_final, text.text_projection
        self.phrase_vectors = text.phrase_vectors
        self.requires_grad_(False)
        self._known: dict[int, tuple[PromptLayout, Tensor, Tensor]] = {}

    def forward(
        self,
        layout: PromptLayout,
        contexts: Tensor | None = None,
        group: Tensor | None = None,
        *,
        rows: Tensor | None = None,
        deep: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        """Features (N, F); the context vectors directly follow the start token. See :class:`TextEncoder`."""
        assert rows is None and not deep, "the released code encodes all classes, with context in the first block only"
        first, rest = self._literals(layout)
        parts = [first, rest]
        if contexts is not None:
            chosen = contexts if group is None else contexts[group]
            parts.insert(1, chosen.expand(len(layout), -1, -1).to(self.dtype))
        x = torch.cat(parts, dim=1) + self.positional_embedding.to(self.dtype)
        x = self.blocks(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = _norm(self.ln_final, x)
        assert isinstance(self.text_projection, Tensor), "as in CLIP's own text towers"
        return x[torch.arange(len(x)), layout.eot] @ self.text_projection

    def _literals(self, layout: PromptLayout) -> tuple[Tensor, Tensor]:
        """Embeddings of the start token and of the tokens after the context, looked up once per layout."""
        known = self._known.get(id(layout))
        if known is None:
            embedded = self.token_embedding(layout.tokens).to(self.dtype)  # all 77 columns
            known = self._known[id(layout)] = (layout, embedded[:, :1], embedded[:, 1 + layout.n_ctx :])
        return known[1:]


def as_released(trainer: PromptTuner) -> PromptTuner:
    """A SoftCPT trainer that encodes texts in the released order, and images without our optimisations.

    Its image tower has channels-first weights and does not change the batches.
    """
    text = OriginalText(trainer.backbone.text)
    for module in trainer.model.modules():
        if isinstance(module, EncoderModule):
            module.hold(text)
    trainer.image_features = _image_features(trainer)
    return trainer


def _image_features(trainer: PromptTuner) -> Callable[[dict[str, Any]], Tensor]:
    # A copy, because all trainers of a process share the backbone.
    visual = copy.deepcopy(trainer.backbone.visual).to(memory_format=torch.contiguous_format)

    @torch.no_grad()
    def encode(batch: dict[str, Any]) -> Tensor:
        if "feat" in batch:
            return batch["feat"].to(trainer.device)
        return visual(batch["img"].to(trainer.device, visual.conv1.weight.dtype)).float()

    return encode
