"""Features of an image's places, besides its global feature.

Letters: B images, P places, W width of a tower, F embedding width. The places of a convolutional tower are the cells of
its last grid (RN50: 7 x 7), those of a ViT its patches.
"""

from typing import Any

import torch
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from clip.projection import attended, last_grid, last_tokens

POOLS = ("token", "map", "avg")


def local_features(visual: nn.Module, images: Tensor) -> Tensor:
    """The global feature and one for each place, all in the space of the text features.

    Args:
        visual: an image tower with places (``has_places``).
        images: (B, 3, H, W) normalised, in the tower's dtype.

    Returns:
        (B, 1 + P, F), not L2-normalised. Row 0 is the tower's own feature; the places follow row by row.
    """
    if isinstance(visual, ModifiedResNet):
        return _resnet(visual, images)
    return _vit(visual, images) if isinstance(visual, VisionTransformer) else _timm(visual, images)


def has_places(visual: nn.Module) -> bool:
    """Whether :func:`local_features` knows where the tower's places are."""
    if isinstance(visual, ModifiedResNet):
        return isinstance(visual.attnpool, AttentionPool2d)
    if isinstance(visual, VisionTransformer):
        return visual.attn_pool is None and visual.proj is not None and visual.pool_type == "tok"
    return isinstance(visual, TimmModel) and _kind(visual) != ""


def attend_everywhere(pool: AttentionPool2d, grid: Tensor) -> Tensor:
    """Attention pool with every token as a query; CLIP itself uses only the mean token.

    This is what PLOT calls local features (Chen et al., "PLOT: Prompt learning with optimal transport for
    vision-language models", ICLR 2023): each place attends to all, and goes through the output projection.

    Args:
        grid: (B, W, h, w) the last feature map.

    Returns:
        (B, 1 + h*w, F), the answer to the mean token first.
    """
    return pool.c_proj(attended(pool, grid, places=True))


def _resnet(visual: ModifiedResNet, images: Tensor) -> Tensor:
    return attend_everywhere(visual.attnpool, last_grid(visual, images))


def _vit(visual: VisionTransformer, images: Tensor) -> Tensor:
    """Every token of the last layer through the norm and the projection that CLIP applies to the class token.

    The patch tokens were never trained for this space. It is the plain counterpart of ``attend_everywhere`` for towers
    without an attention pool, and our choice.
    """
    return last_tokens(visual, images) @ visual.proj


def _kind(visual: TimmModel) -> str:
    """Whether a tower of timm ends in "tokens" or in a "grid" of cells that it pools itself; "": neither is known."""
    trunk: Any = visual.trunk
    if "pool" in visual.head._modules:  # open_clip's own pools, which have a position for each cell
        return ""
    if isinstance(trunk, TimmViT | Eva):
        return "tokens" if trunk.global_pool in POOLS else ""
    head = getattr(trunk, "head", None)
    pooled = hasattr(head, "global_pool") and getattr(head, "input_fmt", "NCHW") == "NCHW"
    return "grid" if pooled else ""


def _timm(visual: TimmModel, images: Tensor) -> Tensor:
    """The tower's own head, applied to each place as if the image had no other.

    Under an attention pool (SigLIP, PE-Core) a place is its value, through the pool's own projection and MLP: what the
    pool would answer if it looked at this place alone. It is the counterpart of ``attend_everywhere`` for pools with
    one learned query, and our choice, as for ViTs without a pool.
    """
    trunk: Any = visual.trunk
    features = trunk.forward_features(images)
    whole = visual.head(trunk.forward_head(features))[:, None]
    if _kind(visual) == "grid":
        cells = features.flatten(2).transpose(1, 2)
        alone = trunk.forward_head(cells.flatten(0, 1)[:, :, None, None])
    else:
        places = features[:, trunk.num_prefix_tokens :]
        cells, alone = places, places.flatten(0, 1)
        alone = alone if trunk.attn_pool is None else trunk.attn_pool(alone[:, None])
        alone = trunk.head(trunk.head_drop(trunk.fc_norm(alone)))
    return torch.cat([whole, visual.head(alone).unflatten(0, cells.shape[:2])], dim=1)
