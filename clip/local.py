"""Features of an image's places, besides its global feature.

Letters: B images, P places, F embedding width. The places of a ResNet are the cells of its last grid (RN50: 7 x 7),
those of a ViT its patches.
"""

from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clip.projection import attended, last_grid, last_tokens


def local_features(visual: ModifiedResNet | VisionTransformer, images: Tensor) -> Tensor:
    """The global feature and one for each place, all in the space of the text features.

    Args:
        visual: the image tower of a CLIP in OpenAI's layout.
        images: (B, 3, H, W) normalised, in the tower's dtype.

    Returns:
        (B, 1 + P, F), not L2-normalised. Row 0 is the tower's own feature; the places follow row by row.
    """
    return _resnet(visual, images) if isinstance(visual, ModifiedResNet) else _vit(visual, images)


def has_places(visual: nn.Module) -> bool:
    """Whether :func:`local_features` knows where the tower's places are."""
    if isinstance(visual, ModifiedResNet):
        return isinstance(visual.attnpool, AttentionPool2d)
    return isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.proj is not None


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
