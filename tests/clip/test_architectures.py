"""Text towers of every kind against open_clip's own forward pass: features, and gradients of the context."""

import copy
import logging

import pytest
import torch

from clip.text import POSITIONS
from tests.clip.architectures import CONFIGS, TREE, network, small_backbone
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
