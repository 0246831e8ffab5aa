"""Learned tokens between the class token and the patches of a ViT (VPT; MVLPT's place and rules).

Jia et al., "Visual Prompt Tuning", ECCV 2022. Letters: B images, L blocks, m tokens of a block, d width of the tower.
"""

from dataclasses import dataclass

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clip.errors import BackboneError


@dataclass(frozen=True)
class TowerSizes:
    """Sizes of an image tower that takes tokens: its width d, its blocks L, the side of a patch in pixels."""

    width: int
    layers: int
    patch: int


def tower_sizes(visual: nn.Module, name: str) -> TowerSizes:
    """The sizes of a tower.

    Args:
        name: of the backbone, for the message.

    Raises:
        BackboneError: the tower is no ViT of CLIP's form, whose feature is that of its class token.
    """
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None or visual.pool_type != "tok":
        kind = type(getattr(visual, "trunk", visual)).__name__
        raise BackboneError(
            f"{name} takes no learned tokens: its image tower ({kind}) is no ViT of CLIP's form; choose one such as "
            "ViT-B/16"
        )
    patch = visual.conv1.kernel_size[0]
    return TowerSizes(visual.conv1.out_channels, len(visual.transformer.resblocks), patch)


def encode_with_tokens(
    visual: VisionTransformer, images: Tensor, tokens: Tensor, *, again: bool = False, norm_first: bool = False
) -> Tensor:
    """Image features with learned tokens in the sequence, differentiable in the tokens.

    The tokens enter after positional embeddings and the first norm, so they get neither (``norm_first``: those of the
    first block get the norm). Blocks have no mask, so tokens behind the patches would give the same features. Before
    each block that has tokens of its own these replace what the block before made of the others; later blocks keep what
    is there.

    Args:
        visual: a tower that :func:`tower_sizes` accepts.
        images: (B, 3, H, W) normalised, in the tower's dtype.
        tokens: (n, m, d) for the first n <= L blocks, n at least 1; any floating dtype.
        again: compute the blocks again in the backward pass, which needs less memory; the result is the same.
        norm_first: pass the tokens of the first block through the norm before it, as PromptSRC and MaPLe do.

    Returns:
        (B, F), not L2-normalised.
    """
    x, count = visual._embeds(images), tokens.shape[1]
    assert 0 < len(tokens) <= len(visual.transformer.resblocks), "more tokens than blocks"
    first, patches = x[:, :1], x[:, 1:]
    for number, block in enumerate(visual.transformer.resblocks):
        if number < len(tokens):
            own = tokens[number].to(x.dtype)
            own = visual.ln_pre(own).to(x.dtype) if norm_first and not number else own
            x = torch.cat([first, own.expand(x.shape[0], -1, -1), patches], dim=1)
        x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False) if again else block(x)
        first, patches = x[:, :1], x[:, 1 + count :]
    pooled, _ = visual._pool(x)
    return pooled if visual.proj is None else pooled @ visual.proj


class TokenTower(nn.Module):
    """A tower with learned tokens as one module: images (B, 3, H, W) -> features (B, F)."""

    tokens: Tensor

    def __init__(self, visual: VisionTransformer, tokens: Tensor, *, norm_first: bool = False) -> None:
        super().__init__()
        self.visual, self.norm_first = visual, norm_first
        self.register_buffer("tokens", tokens.detach().clone())

    def forward(self, images: Tensor) -> Tensor:
        """As :func:`encode_with_tokens`."""
        return encode_with_tokens(self.visual, images, self.tokens, norm_first=self.norm_first)
