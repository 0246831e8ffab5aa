"""Low-rank additions: merged and separate forms agree, with open_clip's plain forward and its gradient."""

import copy

import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

import clip
from clip.lora import LowRank, TunedAttention, lacks_attention, merged_copy, shared_copy, tune
from tests.clip.architectures import small_backbone
from tests.clip.helpers import openai_state, random_model

SCALE = 2**-0.5
NAMES = ["a photo of a tabby cat.", "a photo of a dog.", "a photo of a very long name indeed."]


@pytest.fixture
def frozen(tiny_clip):
    return clip.load(str(tiny_clip), head_widths=(64, 64), activation="quickgelu")[0]


def drawn(backbone, *, dropout=0.0, rank=2):
    """A tuned copy whose additions are not 0."""
    tuned, added = tune(backbone, rank, scale=SCALE, dropout=dropout)
    generator = torch.Generator().manual_seed(3)
    for parameter in added.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return tuned, added


def images(count=3):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def plain_model(added):
    """open_clip's own network with the additions written into its weights."""
    model = copy.deepcopy(random_model("vit"))
    for tower, blocks in (("image", model.visual.transformer.resblocks), ("text", model.transformer.resblocks)):
        for block, addition in zip(blocks, added[tower], strict=True):
            weight = block.attn.in_proj_weight.clone()
            width = weight.shape[1]
            for number in range(3):
                product = addition.b[number] @ addition.a[number]
                rows = slice(number * width, (number + 1) * width)
                weight = torch.cat([weight[: rows.start], weight[rows] + SCALE * product, weight[rows.stop :]])
            del block.attn.in_proj_weight
            block.attn.in_proj_weight = weight  # with a gradient to the additions
    return model


def test_features_and_gradients_are_those_of_open_clip_with_other_weights(frozen):
    tuned, added = drawn(frozen)
    model = plain_model(added)
    tokens = frozen.tokenize(NAMES)
    weights = [torch.randn(3, frozen.embed_dim, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    found = []
    for image, text in (
        (tuned.encode_image(images()), tuned.encode_text(tokens)),
        (model.encode_image(images()), model.encode_text(tokens)),
    ):
        loss = (image * weights[0]).sum() + (text * weights[1]).sum()
        found.append((image, text, *torch.autograd.grad(loss, list(added.parameters()))))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.detach().abs().max()))


def test_merged_towers_answer_as_separate_additions_do(frozen):
    tuned, _ = drawn(frozen)
    merged = merged_copy(tuned.visual)
    assert not any(isinstance(each, TunedAttention) for each in merged.modules())
    with torch.no_grad():
        torch.testing.assert_close(merged(images()), tuned.encode_image(images()), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(merged(images()), frozen.encode_image(images()), atol=1e-2)


def test_the_prefix_tree_is_exact_for_merged_weights(frozen):
    tuned, _ = drawn(frozen)
    assert (frozen.text.encoding, tuned.text.encoding) == ("auto", "cut")
    merged = merged_copy(tuned.text)
    merged.encoding = "auto"
    tokens = frozen.tokenize(NAMES)
    with torch.no_grad():
        torch.testing.assert_close(merged.encode_tokens(tokens), tuned.encode_text(tokens), rtol=1e-4, atol=1e-5)


def test_additions_are_nothing_at_the_start(frozen):
    tuned, _ = tune(frozen, 2, scale=SCALE, dropout=0.25)
    with torch.no_grad():
        torch.testing.assert_close(tuned.encode_image(images()), frozen.encode_image(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointing_changes_neither_features_nor_gradients(frozen, dropout):
    found = []
    for again in (False, True):
        tuned, added = drawn(frozen, dropout=dropout)
        tuned.visual.set_grad_checkpointing(again)
        assert not frozen.visual.transformer.grad_checkpointing
        added.train()
        torch.manual_seed(0)
        features = tuned.encode_image(images())
        features.square().sum().backward()
        found.append([features, *(each.grad for each in added["image"].parameters())])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))


def test_texts_in_chunks_have_the_same_gradient(frozen):
    found = []
    for chunk in (0, 1):
        tuned, added = drawn(frozen)
        tuned.text.chunk = chunk
        tuned.encode_text(frozen.tokenize(NAMES)).square().sum().backward()
        assert tuned.text.chunked == chunk
        found.append([each.grad for each in added["text"].parameters()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.detach().abs().max()))


def test_dropout_is_drawn_for_each_map_and_only_in_training():
    addition = LowRank(16, 4, scale=1.0, dropout=0.5, device=torch.device("cpu"))
    for parameter in addition.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    addition.b.data.copy_(addition.b.data[:1].expand(3, -1, -1))
    addition.a.data.copy_(addition.a.data[:1].expand(3, -1, -1))
    x = torch.ones(2, 3, 16)
    torch.manual_seed(0)
    q, k, v = addition(x).chunk(3, dim=-1)
    assert not torch.equal(q, k) and not torch.equal(k, v)
    q, k, v = addition.eval()(x).chunk(3, dim=-1)
    assert torch.equal(q, k) and torch.equal(k, v)
    torch.testing.assert_close(q, functional.linear(x, addition.weight()[:16]))


def test_the_frozen_tensors_are_shared_and_never_written_to(frozen):
    before = {name: (value, value.clone(), value._version) for name, value in frozen.state_dict(keep_vars=True).items()}
    tuned, added = drawn(frozen, dropout=0.25)
    optimiser = torch.optim.AdamW(added.parameters(), lr=0.1)
    (tuned.encode_image(images()).sum() + tuned.encode_text(frozen.tokenize(NAMES)).sum()).backward()
    optimiser.step()
    merged_copy(tuned.visual)
    own = {id(value) for value in added.parameters()}
    shared = {id(value) for value, _, _ in before.values()}
    assert {id(value) for value in tuned.parameters()} - own <= shared
    for value, copied, version in before.values():
        assert torch.equal(value, copied) and value._version == version and not value.requires_grad


def test_a_copy_of_a_module_shares_its_tensors():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    copied = shared_copy(module)
    assert copied[0] is not module[0]
    assert copied[0].weight is module[0].weight and copied[1].running_mean is module[1].running_mean


@pytest.mark.parametrize("kind", ["SigLIP", "MobileCLIP-B"])
def test_a_tower_of_another_library_is_named(kind):
    assert "has no query, key and value maps" in lacks_attention(small_backbone(kind))


def test_a_resnet_is_named(tmp_path):
    save_file(openai_state(random_model("rn")), tmp_path / "rn.safetensors")
    backbone = clip.load(str(tmp_path / "rn.safetensors"), head_widths=(64, 64), activation="quickgelu")[0]
    assert ModifiedResNet.__name__ in lacks_attention(backbone)
