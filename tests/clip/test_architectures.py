"""Text towers of every kind against open_clip's own forward pass: features, and gradients of the context."""

import copy
import logging

import pytest
import torch

from clip import text
from clip.backbones import Backbone
from clip.columns import ColumnTower
from clip.errors import BackboneError
from clip.facts import facts_of
from clip.openclip import Description, build_network
from clip.precision import choose_precision
from clip.text import POSITIONS
from clip.tokenizer import BytePairs
from tests.clip.architectures import CONFIGS, TREE, network, small_backbone, tokenizer_for
from tests.clip.test_tree import assert_close, gradient

NAMES = ["cat", "tabby_cat", "cat", "Siberian husky, sled dog", "2012 Ford F-450", "2012 Ford Focus", "airport (paved)"]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-5}
N_CTX = 3


def expected_rows(tokenizer, names, position):
    """Ids of the prompts in all columns, written out; -(j+1) stands for context vector j."""
    rows = []
    for name in names:
        text = f"{name.replace('_', ' ')}."
        ids, own = tokenizer.ids(text), len(tokenizer.ids(text[:-1]))
        context = [-(j + 1) for j in range(N_CTX)]
        before = {"end": N_CTX, "middle": N_CTX // 2, "front": 0}[position]
        row = [*tokenizer.start, *context[:before], *ids[:own], *context[before:], *ids[own:], *tokenizer.end]
        rows.append(row + [tokenizer.pad_id] * (tokenizer.length - len(row)))
    return torch.tensor(rows)


def open_clip_features(model, ids, contexts):
    """open_clip's own forward pass, with the context vectors put into what its embedding table returns."""

    def put(module, given, embedded):
        own = contexts.expand(len(ids), -1, -1)
        rows = zip(embedded, ids, own, strict=True)
        vectors = [[c[-i - 1] if i < 0 else e for e, i in zip(r, row.tolist(), strict=True)] for r, row, c in rows]
        return torch.stack([torch.stack(row) for row in vectors])

    table = getattr(model, "text", model).token_embedding
    hook = table.register_forward_hook(put)
    try:
        return model.encode_text(ids.clamp_min(3).where(ids < 0, ids), normalize=False)
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def towers():
    """(network, encoder) by kind and dtype."""

    def both(kind, dtype):
        encoder = copy.deepcopy(small_backbone(kind).text).to(dtype)
        return copy.deepcopy(network(kind)).to(dtype), encoder

    return {(kind, dtype): both(kind, dtype) for kind in CONFIGS for dtype in TOLERANCE}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("position", POSITIONS)
def test_features_and_gradients_equal_those_of_open_clip(towers, kind, dtype, position):
    model, encoder = towers[kind, dtype]
    ids = expected_rows(encoder.tokenizer, NAMES, position)
    for groups in (1, len(NAMES)):
        contexts = torch.randn(groups, N_CTX, encoder.width, dtype=dtype, requires_grad=True)
        mine = encoder(encoder.layout(NAMES, n_ctx=N_CTX, position=position), contexts)
        theirs = open_clip_features(model, ids, contexts)
        assert_close(mine, theirs, TOLERANCE[dtype])
        assert_close(gradient(mine, contexts), gradient(theirs, contexts), TOLERANCE[dtype])


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_tree_is_used_where_it_is_exact_and_the_log_says_why_elsewhere(caplog, kind):
    caplog.set_level(logging.INFO, "clip.text")
    encoder = small_backbone(kind).text
    assert (encoder.encoding == "auto") == (kind in TREE)
    assert len(caplog.records) == (kind not in TREE)


def plain_encoder(kind, **options):
    return copy.deepcopy(small_backbone(kind, **options).text).double()


@pytest.mark.parametrize("kind", ["GELU", "SigLIP", "CoCa"])
@pytest.mark.parametrize("groups", ["one", "some", "own"])
def test_chunks_of_columns_change_nothing(kind, groups):
    whole = plain_encoder(kind, text_encoding="cut")
    parts = copy.deepcopy(whole)
    parts.chunk = 2
    count = {"one": 1, "some": 3, "own": len(NAMES)}[groups]
    contexts = torch.randn(count, N_CTX, whole.width, dtype=torch.float64, requires_grad=True)
    group = torch.tensor([0, 2, 2, 0, 0, 2, 0]) if groups == "some" else None
    rows = torch.tensor([4, 0, 5])
    for chosen in (None, rows):
        own = groups == "own" and chosen is not None
        given = [contexts[rows] if own else contexts for _ in range(2)]
        encoders = zip((parts, whole), given, strict=True)
        mine, theirs = (each(each.layout(NAMES, n_ctx=N_CTX), c, group, rows=chosen) for each, c in encoders)
        assert_close(mine, theirs, 1e-12)
        assert_close(gradient(mine, contexts), gradient(theirs, contexts), 1e-12)
    assert (parts.chunked, whole.chunked) == (2, 0)


def test_prompts_of_one_length_are_encoded_together_without_the_columns_behind(monkeypatch):
    encoder = plain_encoder("CoCa")
    seen = []
    own = ColumnTower.hidden
    monkeypatch.setattr(
        ColumnTower, "hidden", lambda self, ids, *given: seen.append(ids.shape) or own(self, ids, *given)
    )
    long = "2012 Ford F-450 Super Duty crew cab"
    encoder(encoder.layout(["cat", long, "dog"], n_ctx=0))
    short = 4 + 1  # start, name, dot and end, and the token of padding that the class token sees
    assert seen == [(2, short), (1, 2 + len(encoder.tokenizer.ids(f"{long}.")) + 1)]


def test_chunks_of_columns_follow_the_free_memory(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "clip.text")
    encoder = small_backbone("SigLIP").text
    context = torch.randn(1, N_CTX, encoder.width, requires_grad=True)
    sizes = []
    for free in (2**40, 2**21, 0):
        monkeypatch.setattr(text, "free_bytes", lambda device, free=free: free)
        layout = encoder.layout(NAMES, n_ctx=N_CTX)
        encoder(layout, context)
        sizes.append(layout.cut[0].size)
    assert sizes[0] == len(NAMES) > sizes[1] > sizes[2] == 1
    lines = [record.message for record in caplog.records if record.message.startswith("Encoding 7 prompts separately")]
    assert "at once" in lines[0] and f"in chunks of at most {sizes[1]}" in lines[1]


def test_a_cut_that_is_not_exact_is_not_made(caplog):
    caplog.set_level(logging.INFO, "clip.text")
    assert small_backbone("SigLIP", text_encoding="cut").text.encoding == "plain"
    assert "with all 24 columns, because padding reaches its feature" in caplog.text


@pytest.mark.parametrize("kind", CONFIGS)
def test_plain_texts_equal_open_clip(kind):
    backbone = small_backbone(kind)
    tokens = backbone.tokenize([f"a photo of a {name}!" for name in NAMES])
    expected = network(kind).encode_text(tokens, normalize=False)
    torch.testing.assert_close(backbone.encode_text(tokens), expected, rtol=1e-4, atol=1e-4)
    assert backbone.embed_dim == expected.shape[1] and backbone.context_length == tokens.shape[1]


def test_a_text_that_contains_the_padding_token_is_read_as_open_clip_reads_it():
    backbone = small_backbone("CoCa")  # "!" is token 0, which it takes for padding
    tokens = backbone.tokenize(["! and ! again", "again !", "!"])
    expected = network("CoCa").encode_text(tokens, normalize=False)
    torch.testing.assert_close(backbone.encode_text(tokens), expected, rtol=1e-4, atol=1e-5)


def test_the_bias_of_a_sigmoid_is_known():
    assert small_backbone("SigLIP").logit_bias == -10
    assert small_backbone("GELU").logit_bias == 0


def test_a_tower_that_looks_for_another_end_is_refused():
    with pytest.raises(BackboneError, match="reads its feature at token 2, but its tokenizer ends a text with 49407"):
        small_backbone("MetaCLIP 2", tokenizer=BytePairs())


def test_a_tower_without_token_embeddings_is_refused_by_its_name():
    model = torch.nn.Module()
    model.text = torch.nn.Linear(1, 1)
    with pytest.raises(BackboneError, match="text tower Linear takes no embeddings of tokens"):
        facts_of(model)


@pytest.mark.parametrize("precision", ["bf16", "amp"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_every_tower_computes_in_low_precision(kind, precision):
    chosen = choose_precision(precision, torch.device("cpu"))
    built = build_network(
        Description(kind, CONFIGS[kind]), network(kind).state_dict(), source="w.pt", cast_dtype=chosen.cast_dtype
    )
    low = Backbone(built, chosen, name=kind, digest="0", tokenizer=tokenizer_for(kind))
    exact = small_backbone(kind)
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(1, N_CTX, exact.text_width, generator=generator) * 0.1
    found = []
    for each in (low, exact):
        given = context.clone().requires_grad_()
        features = each.text(each.text.layout(NAMES, n_ctx=N_CTX), given).float()
        found.append((features, gradient(features, given)))
    (mine, my_gradient), (theirs, their_gradient) = found
    assert torch.cosine_similarity(mine, theirs).min() > 0.98
    assert torch.cosine_similarity(my_gradient.flatten(), their_gradient.flatten(), dim=0) > 0.9
    images = torch.randn(2, 3, low.image_size, low.image_size, generator=generator)
    seen = [each.encode_image(images).float() for each in (low, exact)]
    assert torch.cosine_similarity(*seen).min() > 0.98
    if low.has_places:
        places = low.encode_local(images).float()
        assert torch.cosine_similarity(places[:, 0], seen[1]).min() > 0.98 and places.isfinite().all()
