"""The last projection of an image tower, into the space of the text features, and the features before it.

Letters: B images, P places, W width before the projection (2048 for RN50, 768 for ViT-B/16), F width after it.
"""

import torch
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional


def last_projection(visual: nn.Module) -> tuple[Tensor, Tensor | None] | None:
    """Weight (F, W) and bias (F,) of the projection of a CLIP in OpenAI's layout; None: the tower has another form."""
    if isinstance(visual, ModifiedResNet) and isinstance(visual.attnpool, AttentionPool2d):
        return visual.attnpool.c_proj.weight, visual.attnpool.c_proj.bias
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.pool_type == "tok":
        return None if visual.proj is None else (visual.proj.T, None)
    return None


def before_projection(visual: nn.Module, images: Tensor) -> Tensor:
    """Features (B, W) before the projection, of a tower that has one: x @ weight.T + bias is its own feature.

    Args:
        images: (B, 3, H, W) normalised, in the tower's dtype.
    """
    if isinstance(visual, ModifiedResNet):
        return attended(visual.attnpool, last_grid(visual, images), places=False)[:, 0]
    assert isinstance(visual, VisionTransformer)
    return last_tokens(visual, images)[:, 0]


def last_grid(visual: ModifiedResNet, images: Tensor) -> Tensor:
    """The last feature map (B, W, h, w) of a ResNet."""
    grid = visual.stem(images)
    for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        grid = stage(grid)
    return grid


def attended(pool: AttentionPool2d, grid: Tensor, *, places: bool) -> Tensor:
    """CLIP's attention pool before its projection: (B, W, h, w) -> (B, 1, W), the answer to the mean token.

    Args:
        places: every token is a query, not only the mean: (B, 1 + P, W).
    """
    cells = grid.flatten(2).transpose(1, 2)
    tokens = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1)
    tokens = tokens + pool.positional_embedding.to(tokens.dtype)
    asked = tokens if places else tokens[:, :1]
    query, key, value = (
        project(seen).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
        for project, seen in ((pool.q_proj, asked), (pool.k_proj, tokens), (pool.v_proj, tokens))
    )
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def last_tokens(visual: VisionTransformer, images: Tensor) -> Tensor:
    """Every token of the last layer of a ViT after its norm, the class token first: (B, 1 + P, W)."""
    last = visual.forward_intermediates(
        images,
        indices=1,
        normalize_intermediates=True,
        intermediates_only=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    return torch.cat([last["image_intermediates_prefix"][0], last["image_intermediates"][0]], dim=1)
