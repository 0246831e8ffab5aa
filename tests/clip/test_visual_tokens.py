"""Learned tokens in the image tower: the sequence by hand, without tokens of later blocks, in low precision."""

import pytest
import torch

import clip
from tests.clip.architectures import small_backbone
from tests.clip.helpers import random_model


def plainly(visual, image, tokens, norm_first):
    """The tower of one image (3, H, W), token by token: patches and positions, then block by block."""
    side, found = visual.patch_size[0], []
    for y in range(0, image.shape[1], side):
        for x in range(0, image.shape[2], side):
            patch = image[:, y : y + side, x : x + side]
            found.append((visual.conv1.weight * patch).sum(dim=(1, 2, 3)))
    rows = [
        visual.ln_pre(row + visual.positional_embedding[n]) for n, row in enumerate([visual.class_embedding, *found])
    ]
    own = []
    for number, block in enumerate(visual.transformer.resblocks):
        own = list(tokens[number]) if number < len(tokens) else own
        own = [visual.ln_pre(each) for each in own] if norm_first and number == 0 else own
        out = block(torch.stack([rows[0], *own, *rows[1:]])[None])[0]
        rows, own = [out[0], *out[1 + len(own) :]], list(out[1 : 1 + len(own)])
    return visual.ln_post(rows[0]) @ visual.proj


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_sequence_is_that_of_a_plain_computation(backbones, blocks, again, norm_first):
    backbone, visual = backbones["vit"], random_model("vit").visual
    sizes, side = backbone.tower_sizes, backbone.image_size
    assert (sizes.width, sizes.layers) == (visual.conv1.out_channels, len(visual.transformer.resblocks))
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    tokens = torch.randn(min(blocks, sizes.layers), 3, sizes.width, generator=torch.Generator().manual_seed(2))
    mine, theirs = tokens.clone().requires_grad_(), tokens.clone().requires_grad_()
    found = backbone.encode_with_tokens(images, mine, again=again, norm_first=norm_first)
    expected = torch.stack([plainly(visual, image, theirs, norm_first) for image in images])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5 * float(theirs.grad.abs().max()))
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_computing_blocks_again_gives_the_same_gradients(backbones):
    backbone, gradients = backbones["vit"], []
    images = torch.randn(2, 3, backbone.image_size, backbone.image_size)
    tokens = torch.randn(2, 2, backbone.tower_sizes.width)
    for again in (False, True):
        own = tokens.clone().requires_grad_()
        backbone.encode_with_tokens(images, own, again=again).sum().backward()
        gradients.append(own.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("precision", ["bf16", "amp"])
def test_low_precision_stays_near_fp32_and_gives_fp32_gradients(precision):
    exact, low = (small_backbone("GELU", precision=each) for each in ("fp32", precision))
    images, tokens = torch.randn(2, 3, 32, 32), torch.randn(1, 3, 64)
    own = tokens.clone().requires_grad_()
    found = low.encode_with_tokens(images, own)
    expected = exact.encode_with_tokens(images, tokens)
    assert (found - expected).norm() < 0.05 * expected.norm()
    found.float().sum().backward()
    assert own.grad.dtype == torch.float32 and bool(torch.isfinite(own.grad).all())


@pytest.mark.parametrize("kind", ["SigLIP", "CoCa", "MobileCLIP-B"])
def test_other_towers_are_refused_by_name(kind):
    with pytest.raises(clip.BackboneError, match=f"{kind} takes no learned tokens.* is no ViT of CLIP's form"):
        assert small_backbone(kind).tower_sizes


def test_a_resnet_is_refused_by_name(backbones):
    with pytest.raises(clip.BackboneError, match=r"takes no learned tokens: its image tower \(ModifiedResNet"):
        assert backbones["rn"].tower_sizes
