"""Low-rank additions to the query, key and value maps of both towers (Hu et al., "LoRA", ICLR 2022).

Letters: B texts or images, L tokens, D width of a tower, R rank.

The frozen weights are never written to: a tower that is tuned is a copy of the modules that shares the frozen tensors,
in which another module stands for each attention.
"""

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from clip.backbones import Backbone

MAPS = 3  # query, key, value
M = TypeVar("M", bound=nn.Module)


class LowRank(nn.Module):
    """x -> scale * drop(x) A_m^T B_m^T for each map m of one attention; 0 at the start.

    Attributes:
        a: (3, R, D), to be drawn by the caller. b: (3, D, R), zero.
        scale: factor of the products.
        dropout: share of the inputs that are set to 0 in training, drawn for each map by itself.
    """

    def __init__(self, width: int, rank: int, *, scale: float, dropout: float, device: torch.device) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(MAPS, rank, width, device=device))
        self.b = nn.Parameter(torch.zeros(MAPS, width, rank, device=device))
        self.scale, self.dropout = scale, dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, 3 D), in the dtype of ``x``."""
        if self.training and self.dropout:
            several = functional.dropout(x.expand(MAPS, *x.shape), self.dropout)
        else:
            several = x.expand(MAPS, *x.shape)
        pairs = zip(several, self.a.to(x.dtype), self.b.to(x.dtype), strict=True)
        return self.scale * torch.cat(
            [functional.linear(functional.linear(each, a), b) for each, a, b in pairs], dim=-1
        )

    def weight(self) -> Tensor:
        """What is added to the stacked weight (3 D, D) of the three maps."""
        return self.scale * (self.b @ self.a).flatten(0, 1)


class TunedAttention(nn.Module):
    """A frozen self-attention of open_clip whose three maps have low-rank additions."""

    def __init__(self, frozen: nn.MultiheadAttention, added: LowRank) -> None:
        super().__init__()
        self.frozen, self.added = frozen, added
        self.num_heads = frozen.num_heads

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """As ``nn.MultiheadAttention`` for tokens (B, L, D) that look at each other.

        Args:
            attn_mask: (L, L), or (B * heads, L, L), added to the scores.
        """
        assert query is key is value and not need_weights, "it is a self-attention"
        x = query if self.frozen.batch_first else query.transpose(0, 1)
        both = functional.linear(x, self.frozen.in_proj_weight, self.frozen.in_proj_bias) + self.added(x)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in both.chunk(MAPS, dim=-1))
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.unflatten(0, (-1, self.num_heads))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        out = self.frozen.out_proj(mixed.transpose(1, 2).flatten(2))
        return (out if self.frozen.batch_first else out.transpose(0, 1)), None

    def merged(self) -> nn.MultiheadAttention:
        """A plain attention with the additions in its own weight."""
        plain = shared_copy(self.frozen)
        weight = self.frozen.in_proj_weight
        plain.in_proj_weight = nn.Parameter(
            (weight + self.added.weight().to(weight.dtype)).detach(), requires_grad=False
        )
        return plain


def lacks_attention(backbone: Backbone) -> str:
    """Why a backbone cannot be tuned in this way; "" if it can."""
    visual: Any = backbone.visual
    if not isinstance(visual, VisionTransformer):
        kind = type(getattr(visual, "trunk", visual)).__name__
        return f"its image tower, a {kind}, has no query, key and value maps in the layout of CLIP's ViT"
    for name, blocks in (("image", visual.transformer.resblocks), ("text", backbone.text.transformer.resblocks)):
        if not all(map(_usual, blocks)):
            return f"the blocks of its {name} tower are not those of CLIP"
    return ""


def _usual(block: nn.Module) -> bool:
    if type(block) is not ResidualAttentionBlock:
        return False
    attention = block.attn
    return type(attention) is nn.MultiheadAttention and attention.in_proj_weight is not None


def shared_copy(module: M) -> M:
    """A copy of the modules with the same tensors: not their values are copied, but the tensors shared."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    for each in module.modules():
        if hasattr(each, "tokenizer"):
            memo[id(each.tokenizer)] = each.tokenizer
        if getattr(each, "_tower", None) is not None:  # derived from the weights, and made again
            memo[id(each._tower)] = None
    return copy.deepcopy(module, memo)


def tune(backbone: Backbone, rank: int, *, scale: float, dropout: float) -> tuple[Backbone, nn.ModuleDict]:
    """A copy of a backbone, with its frozen tensors, whose attentions have low-rank additions.

    Texts then run over the columns of every prompt: the prefix tree has no gradient for weights, and with dropout
    the common beginnings of prompts differ.

    Returns:
        The backbone, and its :class:`LowRank` modules by tower: "image" and "text", each a list over the layers.
    """
    tuned = shared_copy(backbone)
    towers: dict[str, Any] = {"image": tuned.visual.transformer, "text": tuned.text.transformer}
    added = nn.ModuleDict()
    for name, transformer in towers.items():
        additions = nn.ModuleList()
        for block in transformer.resblocks:
            width = block.attn.embed_dim
            device = block.attn.in_proj_weight.device
            addition = LowRank(width, rank, scale=scale, dropout=dropout, device=device)
            block.attn = TunedAttention(block.attn, addition)
            additions.append(addition)
        added[name] = additions
    if tuned.text.encoding == "auto":
        tuned.text.encoding = "cut" if tuned.text.facts.cuttable else "plain"
    return tuned, added


def merged_copy(tower: M) -> M:
    """A copy of a tuned tower of plain modules, with all additions in the weights."""
    plain = shared_copy(tower)
    for block in _tuned_blocks(plain):
        block.attn = block.attn.merged()
    return plain


def _tuned_blocks(tower: nn.Module) -> Iterator[Any]:
    return (each for each in tower.modules() if isinstance(getattr(each, "attn", None), TunedAttention))
