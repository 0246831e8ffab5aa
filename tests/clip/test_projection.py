"""Features before the last projection: projected, they are the tower's own."""

import pytest
import torch
from torch import nn

from clip.projection import before_projection, last_projection


@pytest.mark.parametrize("kind", ["vit", "rn"])
def test_projected_features_are_the_towers_own(backbones, kind):
    backbone = backbones[kind]
    side = backbone.image_size
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    weight, bias = last_projection(backbone.visual)
    found = backbone.encode_before_projection(images)
    assert found.shape == (3, weight.shape[1]) and weight.shape[0] == backbone.embed_dim
    assert torch.equal(found, before_projection(backbone.visual, images))
    projected = found @ weight.T + (0 if bias is None else bias)
    torch.testing.assert_close(projected, backbone.encode_image(images), rtol=1e-4, atol=1e-5)


def test_a_tower_of_another_form_has_none():
    assert last_projection(nn.Linear(2, 2)) is None
