import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import clip
from clip.text import POSITIONS
from tests.clip.helpers import ordinary_text, padded_features, random_model

NAMES = ["cat", "tabby_cat", "Siberian husky, sled dog", "airport_runway (paved)", "2012 Ford F-450 Super Duty"]
GROUPS = {"shared": (1, None), "per task": (2, [0, 0, 1, 1, 1]), "per prompt": (5, None), "any": (3, [2, 0, 0, 2, 1])}
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}

names_of_any_kind = st.lists(ordinary_text(12), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def towers(backbones):
    """Each dtype's backbone beside an independent network with the same weights."""
    double, model = copy.deepcopy(backbones["vit"]).double(), random_model("vit")
    return {torch.float32: (backbones["vit"], model), torch.float64: (double, copy.deepcopy(model).double())}


def draw_contexts(groups, n_ctx, width, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(groups, n_ctx, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def gradient_of(features, contexts):
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    return torch.autograd.grad((features * weights).sum(), contexts)[0]


def assert_equal_to_padded(towers, names, contexts, group, **options):
    backbone, model = towers[contexts.dtype]
    tolerance = TOLERANCE[contexts.dtype]
    layout = clip.prompt_layout(names, n_ctx=contexts.shape[1], **options)
    features = backbone.text(layout, contexts, group)
    spread = contexts[group] if group is not None else contexts.expand(len(names), -1, -1)
    expected = padded_features(model, names, spread, **options)
    torch.testing.assert_close(features, expected, rtol=tolerance, atol=tolerance)
    ours, theirs = gradient_of(features, contexts), gradient_of(expected, contexts)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sharing", GROUPS)
@pytest.mark.parametrize("position", POSITIONS)
def test_cut_equals_77_columns(towers, position, sharing, dtype):
    groups, group = GROUPS[sharing]
    contexts = draw_contexts(groups, 5, 128, dtype)
    group = None if group is None else torch.tensor(group)
    assert_equal_to_padded(towers, NAMES, contexts, group, position=position)


@settings(max_examples=25, deadline=None)
@given(names_of_any_kind, st.integers(1, 20), st.sampled_from(POSITIONS), st.data())
def test_cut_equals_77_columns_for_any_names(towers, names, n_ctx, position, data):
    groups = data.draw(st.integers(1, 3))
    group = torch.tensor(data.draw(st.lists(st.integers(0, groups - 1), min_size=len(names), max_size=len(names))))
    contexts = draw_contexts(groups, n_ctx, 128, torch.float64)
    assert_equal_to_padded(towers, names, contexts, group, position=position)


@pytest.mark.parametrize("position", POSITIONS)
def test_name_that_fills_the_context(towers, position):
    contexts = draw_contexts(1, 16, 128, torch.float64)
    assert_equal_to_padded(towers, ["cat", "long " * 57], contexts, None, position=position)


@pytest.mark.parametrize("position", POSITIONS)
def test_phrase_with_more_tokens_than_words(towers, position):
    phrase = "a_type of pet, a photo of a"
    contexts = draw_contexts(2, 8, 128, torch.float64)
    group = torch.tensor([0, 1, 1, 0, 1])
    assert_equal_to_padded(towers, NAMES, contexts, group, position=position, phrase=phrase)
    layout = clip.prompt_layout(["cat"], n_ctx=8, phrase=phrase)
    # The comma makes nine tokens of eight words: the last word stays text.
    assert layout.slots[0].tolist() == [49406, *range(-1, -9, -1), 320, 2368, 269, 49407]


@settings(max_examples=60, deadline=None)
@given(names_of_any_kind, st.integers(0, 24), st.sampled_from(POSITIONS))
def test_layout_keeps_every_token_and_slot(names, n_ctx, position):
    layout = clip.prompt_layout(names, n_ctx=n_ctx, position=position)
    assert layout.slots.shape == (len(names), int(layout.eot.max()) + 1)
    assert torch.equal(layout.eot, layout.tokens.argmax(1))
    for tokens, slots, eot in zip(layout.tokens.tolist(), layout.slots.tolist(), layout.eot.tolist(), strict=True):
        assert slots[0] == 49406 and slots[eot] == 49407 and not any(slots[eot + 1 :])
        assert [slot for slot in slots if slot < 0] == [-(j + 1) for j in range(n_ctx)]
        literal = [slot for slot in slots[1 : eot + 1] if slot >= 0]
        assert literal == tokens[1 + n_ctx : eot + 1]


def test_positions_by_hand():
    arranged = {p: clip.prompt_layout(["tabby_cat"], n_ctx=3, position=p).slots[0].tolist() for p in POSITIONS}
    assert arranged == {
        "end": [49406, -1, -2, -3, 36145, 2368, 269, 49407],
        "middle": [49406, -1, 36145, 2368, -2, -3, 269, 49407],
        "front": [49406, 36145, 2368, -1, -2, -3, 269, 49407],
    }


def test_name_that_shares_a_token_with_the_dot():
    slots = clip.prompt_layout(["(paved)"], n_ctx=1, position="front").slots[0]
    tokens = clip.tokenize("(paved).")[0]
    assert slots.tolist() == [*tokens[:4].tolist(), -1, 49407]


@pytest.mark.parametrize("position", POSITIONS)
def test_name_with_an_end_token_ends_there(position):
    layout = clip.prompt_layout(["cat <|endoftext|> dog"], n_ctx=2, position=position)
    assert layout.eot.tolist() == [4] == layout.tokens.argmax(1).tolist()
    assert sorted(layout.slots[0].tolist()) == [-2, -1, 2368, 49406, 49407]
    assert layout.slots[0, -1] == 49407


def test_without_context_the_text_is_the_bare_name():
    layout = clip.prompt_layout(["tabby_cat"], n_ctx=0)
    assert torch.equal(layout.tokens, clip.tokenize("tabby cat."))


def test_selected_prompts_have_the_same_features(backbones):
    text = backbones["vit"].text
    contexts = draw_contexts(5, 4, 128, torch.float32)
    layout, index = clip.prompt_layout(NAMES, n_ctx=4), torch.tensor([3, 0])
    some = text(layout.select(index), contexts[index])
    torch.testing.assert_close(some, text(layout, contexts)[index], rtol=1e-5, atol=1e-5)


def test_plain_texts_equal_open_clip(backbones):
    texts = ["a photo of a cat.", "x", "a rather long text, " * 5]
    tokens = clip.tokenize(texts)
    for kind, backbone in backbones.items():
        features = backbone.encode_text(tokens)
        assert not features.requires_grad
        torch.testing.assert_close(features, random_model(kind).encode_text(tokens), rtol=1e-5, atol=2e-5)


def test_prompts_without_context_equal_plain_texts(backbones):
    text = backbones["rn"].text
    layout = clip.prompt_layout(NAMES, n_ctx=0)
    plain = text.encode_tokens(clip.tokenize([f"{name.replace('_', ' ')}." for name in NAMES]))
    assert torch.equal(text(layout), plain)
    assert torch.equal(text(layout, torch.empty(1, 0, 64)), plain)


def test_phrase_vectors_are_embeddings_of_the_first_tokens(backbones):
    vectors = backbones["vit"].text.phrase_vectors("a_photo of, a")
    embeddings = random_model("vit").token_embedding.weight
    assert torch.equal(vectors, embeddings[[320, 1125, 539, 267]])
    assert not vectors.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_ctx": 4, "position": "back"}, "'back'; choose one of end, middle, front"),
        ({"n_ctx": 4, "phrase": "a photo of"}, "'a photo of' has 3 words, but there are 4 context vectors"),
        ({"n_ctx": 73}, "'tabby cat' has 78 tokens with 73 context words"),
    ],
)
def test_wrong_prompts_get_one_line(options, message):
    with pytest.raises(clip.BackboneError, match=message) as caught:
        clip.prompt_layout(["cat", "tabby_cat"], **options)
    assert "\n" not in str(caught.value)


def test_contexts_of_another_length_are_refused(backbones):
    layout = clip.prompt_layout(["cat"], n_ctx=4)
    for contexts in (None, torch.zeros(1, 3, 128)):
        with pytest.raises(AssertionError, match="context vectors for prompts with 4"):
            backbones["vit"].text(layout, contexts)
