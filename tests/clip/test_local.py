"""Local features against open_clip's own global feature and against plain loops over places and heads."""

import pytest
import torch
from torch.nn import functional

import clip
from clip.local import attend_everywhere
from tests.clip.architectures import network, small_backbone
from tests.clip.helpers import random_model

PLACES = {"vit": 4, "rn": 4}


def images_for(backbone, count=3, seed=0):
    side = backbone.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", PLACES)
def test_row_zero_is_the_global_feature(backbones, kind):
    backbone = backbones[kind]
    images = images_for(backbone)
    found = backbone.encode_local(images)
    assert found.shape == (3, 1 + PLACES[kind], backbone.embed_dim)
    torch.testing.assert_close(found[:, 0], backbone.encode_image(images), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[:, 0], found[:, 1], atol=1e-3)


def plain_pool(pool, grid):
    """One image (W, h, w): a query, a head and a key at a time."""
    tokens = torch.cat([grid.mean(dim=(1, 2))[None], grid.flatten(1).T]) + pool.positional_embedding
    width = tokens.shape[1] // pool.num_heads
    answers = []
    for query in tokens:
        parts = []
        for head in range(pool.num_heads):
            own = slice(head * width, (head + 1) * width)
            asked = pool.q_proj(query)[own]
            scores = torch.stack([asked @ pool.k_proj(key)[own] / width**0.5 for key in tokens])
            values = torch.stack([pool.v_proj(value)[own] for value in tokens])
            parts.append((torch.exp(scores) / torch.exp(scores).sum()) @ values)
        answers.append(pool.c_proj(torch.cat(parts)))
    return torch.stack(answers)


def test_every_cell_is_a_query_of_the_attention_pool():
    pool = random_model("rn").visual.attnpool
    grid = torch.randn(2, pool.q_proj.in_features, 2, 2, generator=torch.Generator().manual_seed(1))
    found = attend_everywhere(pool, grid)
    torch.testing.assert_close(found, torch.stack([plain_pool(pool, each) for each in grid]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, 0], pool(grid), rtol=1e-4, atol=1e-5)


def test_every_patch_goes_through_the_last_norm_and_the_projection(backbones):
    """The tower once more, patch by patch at the start and token by token at the end."""
    visual, images = random_model("vit").visual, images_for(backbones["vit"])
    side = visual.patch_size[0]
    for image, found in zip(images, backbones["vit"].encode_local(images), strict=True):
        corners = [(y, x) for y in range(0, image.shape[1], side) for x in range(0, image.shape[2], side)]
        patches = [(visual.conv1.weight * image[:, y : y + side, x : x + side]).sum(dim=(1, 2, 3)) for y, x in corners]
        tokens = torch.stack([visual.class_embedding, *patches]) + visual.positional_embedding
        hidden = visual.transformer(visual.ln_pre(tokens)[None])[0]
        norm = visual.ln_post
        last = [functional.layer_norm(token, token.shape, norm.weight, norm.bias) @ visual.proj for token in hidden]
        torch.testing.assert_close(found, torch.stack(last), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("precision", ["bf16", "amp"])
def test_low_precision_stays_near_and_gives_the_encoders_dtype(model_files, backbones, kind, precision):
    low, _ = clip.load(str(model_files[kind]), precision=precision)
    images = images_for(low)
    found = low.encode_local(images)
    assert found.dtype == low.dtype
    cosine = functional.cosine_similarity(found.float(), backbones[kind].encode_local(images), dim=-1)
    assert cosine.min() > 0.98
    torch.testing.assert_close(found[:, 0].float(), low.encode_image(images).float(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kind", PLACES)
def test_no_gradient_is_kept(backbones, kind):
    assert not backbones[kind].encode_local(images_for(backbones[kind])).requires_grad


PLACES_OF = {"SigLIP": 100, "EVA02": 256, "PE-Core": 576, "MobileCLIP-S": 64, "MobileCLIP-B": 100, "ConvNeXt": 25}


@pytest.mark.parametrize("kind", PLACES_OF)
def test_a_tower_of_timm_has_its_own_feature_and_one_for_each_place(kind):
    backbone = small_backbone(kind)
    images = images_for(backbone, count=2)
    found = backbone.encode_local(images)
    assert backbone.has_places and found.shape == (2, 1 + PLACES_OF[kind], backbone.embed_dim)
    torch.testing.assert_close(found[:, 0], backbone.encode_image(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, 0], network(kind).encode_image(images), rtol=1e-4, atol=1e-5)
    assert found[:, 1:].var(dim=1).amin() > 0


@pytest.mark.parametrize("kind", ["SigLIP", "PE-Core"])
def test_a_place_is_what_the_attention_pool_answers_to_it_alone(kind):
    """The pool over all tokens, with every key but one hidden."""
    visual = network(kind).visual
    trunk, pool = visual.trunk, visual.trunk.attn_pool
    image = images_for(small_backbone(kind), count=1)
    tokens = trunk.forward_features(image)
    place = 7
    column = trunk.num_prefix_tokens + place
    hidden = torch.full((1, 1, 1, tokens.shape[1]), -torch.inf).index_fill(3, torch.tensor([column]), 0)
    answer = visual.head(trunk.head(trunk.fc_norm(pool(tokens, attn_mask=hidden))))
    torch.testing.assert_close(small_backbone(kind).encode_local(image)[:, 1 + place], answer, rtol=1e-4, atol=1e-5)


def test_a_tower_whose_places_are_not_known_says_so():
    backbone = small_backbone("CoCa")
    assert not backbone.has_places
    images = images_for(backbone)
    torch.testing.assert_close(backbone.encode_image(images), network("CoCa").encode_image(images, normalize=False))
