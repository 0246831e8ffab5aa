"""The prefix tree: its plan against prompts written out one by one, its features and gradients against 77 columns."""

import copy
import logging
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import CLIP

import clip
from clip import device, text
from clip.precision import choose_precision, product_dtype
from clip.text import POSITIONS, TextEncoder
from clip.tower import TreeTower, leaf_states
from clip.tree import Trie
from tests.clip.helpers import SIZES, ordinary_text, random_model

END = 9
WORDS = ("cat", "tabby cat", "cat", "Siberian husky, sled dog", "2012 Ford F-450", "2012 Ford Focus", "airport (paved)")
MANY = [f"{word} {number % 7} {'of the north' if number % 3 else ''}" for number in range(6) for word in WORDS]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}
# Sharing: number of contexts and the context of prompt n.
GROUPS = {
    "shared": (1, None),
    "per task": (3, lambda n: n * 3 // len(MANY)),
    "per prompt": (len(MANY), None),
    "mixed, one unused": (4, lambda n: (0, 2, 3)[n % 3]),
}

prompts = st.lists(st.lists(st.integers(-3, 3), max_size=12).map(tuple), min_size=1, max_size=25)


def trie_of(rows):
    """The trie of rows of items, each begun by 7 and ended by END."""
    rows = [(7, *row, END) for row in rows]
    slots = torch.full((len(rows), max(map(len, rows))), 5)
    for target, row in zip(slots, rows, strict=True):
        target[: len(row)] = torch.tensor(row)
    return rows, Trie.of(slots, torch.tensor([len(row) - 1 for row in rows]))


def items_of(plan):
    """A row's token, or -(1 + s) for row s of the contexts."""
    return plan.item.index_copy(0, plan.slot, -1 - plan.source).tolist()


def visible(plan, hidden, number, block):
    """Rows that query ``number`` of a block may look at, in the order of the keys."""
    size = plan.hidden.shape[2]
    path = plan.path.view(len(plan.hidden), -1)[block].tolist()
    keys = [*path, *range(block * size, (block + 1) * size)]
    return [key for key, out in zip(keys, hidden[block, 0, number].tolist(), strict=True) if not out]


@settings(max_examples=60, deadline=None)
@given(prompts, st.sampled_from([8, 16, 64]))
def test_every_row_sees_the_beginning_of_its_prompts_and_nothing_else(rows, block):
    rows, trie = trie_of(rows)
    plan = trie.plan(block)
    items, size = items_of(plan), plan.hidden.shape[2]
    beginnings = {row[: end + 1] for row in rows for end in range(len(row))}
    found = []
    for row in range(plan.nodes):
        seen = visible(plan, plan.hidden, row % size, row // size)
        assert seen[-1] == row and len(seen) == plan.depth[row] + 1
        found.append(tuple(items[key] for key in seen))
    assert sorted(found) == sorted(beginnings)
    for number, row in enumerate(rows):
        assert found[plan.leaf[trie.prompt[number]]] == row


@settings(max_examples=60, deadline=None)
@given(prompts, st.sampled_from([8, 64]))
def test_the_last_layer_asks_for_the_leaves(rows, block):
    _, trie = trie_of(rows)
    plan = trie.plan(block)
    queries, size = plan.query_hidden.shape[2], plan.hidden.shape[2]
    assert torch.equal(plan.query[plan.answer], plan.leaf)
    for leaf, answer in zip(plan.leaf.tolist(), plan.answer.tolist(), strict=True):
        block = answer // queries
        assert block == leaf // size
        seen = visible(plan, plan.query_hidden, answer % queries, block)
        assert seen == visible(plan, plan.hidden, leaf % size, block)
    # Filling rows must see something, or their weights would be no numbers.
    assert not plan.hidden.all(-1).any()
    assert not plan.query_hidden.all(-1).any()


@settings(max_examples=60, deadline=None)
@given(prompts, st.integers(1, 9))
def test_the_largest_part_is_known_beforehand(rows, size):
    _, trie = trie_of(rows)
    assert trie.largest(size) == max(part.plan().nodes for part in trie.cut(size))


@settings(max_examples=60, deadline=None)
@given(prompts, st.data())
def test_selected_prompts_are_the_trie_of_these_prompts(rows, data):
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    some = trie_of(rows)[1].select(torch.tensor(index))
    again = trie_of([rows[i] for i in index])[1]
    for mine, theirs in ((some.keys[some.prompt], again.keys[again.prompt]), (some.end, again.end)):
        width = min(mine.shape[-1], theirs.shape[-1])
        assert torch.equal(mine[..., :width], theirs[..., :width])
    assert some.plan().nodes == again.plan().nodes


def test_shared_beginnings_are_counted_once():
    layout = clip.prompt_layout(["tabby cat", "tabby dog", "dog"], n_ctx=4)
    assert Trie.of(layout.slots, layout.eot, n_ctx=4).plan().nodes == 1 + 4 + 1 + 2 * 3 + 3
    own = Trie.of(layout.slots, layout.eot, n_ctx=4, group=torch.arange(3))
    assert own.plan().nodes == 1 + 3 * 4 + 4 + 4 + 3


@pytest.fixture(scope="module")
def encoders(model_files):
    """For each dtype an encoder that uses the tree and one that runs all columns."""
    tree, plain = (clip.load(str(model_files["vit"]), text_encoding=kind)[0].text for kind in ("auto", "plain"))
    assert (tree.encoding, plain.encoding) == ("auto", "plain")
    single, double = (tree, plain), tuple(copy.deepcopy(encoder).double() for encoder in (tree, plain))
    return {torch.float32: single, torch.float64: double}


def draw_contexts(groups, n_ctx, dtype):
    generator = torch.Generator().manual_seed(groups)
    return torch.randn(groups, n_ctx, 128, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def gradient(features, contexts):
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).sin().view_as(features)
    return torch.autograd.grad((features * weights).sum(), contexts)[0]


def assert_close(mine, theirs, tolerance):
    torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance * max(1.0, theirs.abs().max().item()))


def assert_same(encoders, layout, contexts, group=None, **options):
    tree, plain = encoders[contexts.dtype]
    mine, theirs = tree(layout, contexts, group, **options), plain(layout, contexts, group, **options)
    assert_close(mine, theirs, TOLERANCE[contexts.dtype])
    assert_close(gradient(mine, contexts), gradient(theirs, contexts), TOLERANCE[contexts.dtype])


def sharing(kind, dtype, n_ctx=5):
    groups, owner = GROUPS[kind]
    group = None if owner is None else torch.tensor([owner(n) for n in range(len(MANY))])
    return draw_contexts(groups, n_ctx, dtype), group


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("position", POSITIONS)
def test_tree_equals_77_columns(encoders, position, kind, dtype):
    contexts, group = sharing(kind, dtype)
    assert_same(encoders, clip.prompt_layout(MANY, n_ctx=5, position=position), contexts, group)


@settings(max_examples=25, deadline=None)
@given(st.lists(ordinary_text(12), min_size=1, max_size=6), st.integers(1, 20), st.sampled_from(POSITIONS), st.data())
def test_tree_equals_77_columns_for_any_names(encoders, names, n_ctx, position, data):
    groups = data.draw(st.integers(1, 3))
    group = torch.tensor(data.draw(st.lists(st.integers(0, groups - 1), min_size=len(names), max_size=len(names))))
    contexts = draw_contexts(groups, n_ctx, torch.float64)
    assert_same(encoders, clip.prompt_layout(names, n_ctx=n_ctx, position=position), contexts, group)


@pytest.mark.parametrize("names", [["cat"], ["cat", "cat"], ["cat", "long " * 57], ["long " * 57], ["x", "y"]])
@pytest.mark.parametrize("position", POSITIONS)
def test_single_equal_short_and_filling_names(encoders, names, position):
    layout = clip.prompt_layout(names, n_ctx=16, position=position)
    for groups in {1, len(names)}:
        assert_same(encoders, layout, draw_contexts(groups, 16, torch.float64))


def test_a_context_without_prompts_gets_no_gradient(encoders):
    contexts, group = sharing("mixed, one unused", torch.float64)
    features = encoders[torch.float64][0](clip.prompt_layout(MANY, n_ctx=5), contexts, group)
    assert gradient(features, contexts).abs().amax((1, 2)).bool().tolist() == [True, False, True, True]


@pytest.mark.parametrize("n_ctx", [0, 5])
def test_plain_texts_and_prompts_without_context(encoders, n_ctx):
    tree, plain = encoders[torch.float64]
    layout = clip.prompt_layout(MANY, n_ctx=n_ctx)
    assert_close(tree.encode_tokens(layout.tokens), plain.encode_tokens(layout.tokens), 1e-11)
    if n_ctx == 0:
        assert_close(tree(layout), plain(layout), 1e-11)


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("position", POSITIONS)
def test_some_prompts_equal_77_columns_of_these_prompts(encoders, position, kind):
    layout = clip.prompt_layout(MANY, n_ctx=5, position=position)
    contexts, group = sharing(kind, torch.float64)
    for rows in (torch.tensor([3]), torch.tensor([40, 2, 17, 5, 30]), torch.arange(0, len(MANY), 2)):
        given = contexts.detach()[rows].requires_grad_() if kind == "per prompt" else contexts
        assert_same(encoders, layout, given, group, rows=rows)


@pytest.mark.parametrize("chunk", [1, 4, 1000])
@pytest.mark.parametrize("kind", GROUPS)
def test_chunks_change_nothing(encoders, kind, chunk):
    whole = encoders[torch.float64][0]
    parts = copy.deepcopy(whole)
    parts.chunk = chunk
    layout, again = (clip.prompt_layout(MANY, n_ctx=5, position="middle") for _ in range(2))
    contexts, group = sharing(kind, torch.float64)
    mine, theirs = parts(again, contexts, group), whole(layout, contexts, group)
    assert_close(mine, theirs, 1e-12)
    assert_close(gradient(mine, contexts), gradient(theirs, contexts), 1e-11)
    plans = [spans[-1] for spans in again.known[0].forest.plans]
    assert sum(len(plan.leaf) for plan in plans) == len(layout.known[0].trie.keys)
    assert max(len(plan.leaf) for plan in plans) <= chunk


def saved_bytes(run):
    """Bytes of all tensors that automatic differentiation keeps for a backward pass."""
    kept = {}

    def pack(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    return sum(kept.values()), result


def test_a_tree_and_still_more_a_chunked_one_keep_little(encoders):
    tree, plain = encoders[torch.float32]
    chunked = copy.deepcopy(tree)
    chunked.chunk = 5
    contexts, group = sharing("per task", torch.float32)
    kept = []
    for encoder in (plain, tree, chunked):
        layout = clip.prompt_layout(MANY, n_ctx=5)
        kept.append(saved_bytes(lambda encoder=encoder, layout=layout: encoder(layout, contexts, group))[0])
    assert kept[0] > 10 * kept[1] > 20 * kept[2]
    plan = Trie.of(layout.slots, layout.eot, n_ctx=5, group=group).plan()
    estimate = TreeTower(tree).memory([plan], keep=True)
    assert kept[1] < estimate < 5 * kept[1]


def test_chunks_follow_the_free_memory_and_the_log_says_so(encoders, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "clip.text")
    encoder = encoders[torch.float32][0]
    contexts, group = sharing("per task", torch.float32)
    sizes = []
    for free in (2**40, 2**22, 0):
        monkeypatch.setattr(text, "free_bytes", lambda device, free=free: free)
        layout = clip.prompt_layout(MANY, n_ctx=5)
        for _ in range(2):
            encoder(layout, contexts, group)
        sizes.append(layout.known[0].size)
    different = len(layout.known[0].trie.keys)
    assert sizes[0] == different > sizes[1] > sizes[2] == 1
    lines = [line for line in caplog.text.splitlines() if "with common beginnings joined" in line]
    assert len(lines) == 3
    assert "at once" in lines[0] and f"in chunks of {sizes[1]}" in lines[1]


def test_no_chunk_is_larger_than_what_was_allowed(encoders, monkeypatch):
    encoder, budget = encoders[torch.float32][0], 2**21
    contexts, group = sharing("per task", torch.float32)
    long = " and very much more of the same kind" * 4
    layout = clip.prompt_layout([f"{name}{long if n < 14 else ''}" for n, name in enumerate(MANY)], n_ctx=5)
    monkeypatch.setattr(text, "free_bytes", lambda device: int(budget / text.MEMORY_SHARE))
    encoder(layout, contexts, group)
    (known,) = layout.known
    needs = [TreeTower(encoder).memory(part.spans(), keep=True) for part in known.trie.cut(known.size)]
    assert 1 < known.size < len(known.trie.keys) and budget / 2 < max(needs) <= budget * 1.05
    assert max(needs) > 1.3 * sum(needs) / len(needs)


def test_free_memory_is_known():
    assert 2**20 < device.free_bytes(torch.device("cpu")) < 2**62


def test_plans_are_worked_out_once(encoders, monkeypatch):
    planned = []
    of = Trie.of.__func__
    monkeypatch.setattr(Trie, "of", classmethod(lambda cls, *a, **k: planned.append(1) or of(cls, *a, **k)))
    encoder = encoders[torch.float32][0]
    layout = clip.prompt_layout(MANY, n_ctx=5)
    contexts, group = sharing("per task", torch.float32)
    for rows in (None, None, torch.tensor([1, 2]), None):
        encoder(layout, contexts, group, rows=rows)
    assert len(planned) == 1
    encoder(layout, contexts, group.clone())
    assert len(planned) == 1
    encoder(layout, contexts[:1])
    assert len(planned) == 2


def test_a_changed_assignment_is_noticed(encoders):
    tree, plain = encoders[torch.float64]
    layout = clip.prompt_layout(MANY, n_ctx=5)
    contexts, group = sharing("per task", torch.float64)
    for change in range(7):
        group[change] = (group[change] + 1) % 3
        assert_close(tree(layout, contexts, group), plain(layout, contexts, group), 1e-11)
    assert len(layout.known) == text.REMEMBERED
    assert copy.deepcopy(layout).known == []


def test_a_moved_encoder_takes_its_new_weights(encoders):
    encoder = copy.deepcopy(encoders[torch.float32][0])
    layout = clip.prompt_layout(["cat"], n_ctx=0)
    before = encoder(layout)
    assert encoder.double()(layout).dtype == torch.float64
    assert_close(encoder(layout).float(), before, 1e-5)


@pytest.mark.parametrize("products", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("precision", ["bf16", "amp"])
def test_low_precision_is_as_exact_as_the_plain_way(encoders, model_files, monkeypatch, precision, products):
    monkeypatch.setattr(text, "product_dtype", lambda dtype, device: products)
    layout = clip.prompt_layout(MANY, n_ctx=5)
    contexts, group = sharing("per task", torch.float32)
    exact = encoders[torch.float64][1](layout, contexts.double(), group)
    exact_gradient = gradient(exact, contexts)
    errors = []
    for encoding in ("auto", "plain"):
        options = {"precision": precision, "text_encoding": encoding}
        encoder = clip.load(str(model_files["vit"]), **options)[0].text
        features = encoder(layout, contexts, group)
        assert features.dtype == torch.bfloat16
        grad = gradient(features.double(), contexts)
        assert grad.dtype == torch.float32
        errors.append(
            [(features - exact).norm() / exact.norm(), (grad - exact_gradient).norm() / exact_gradient.norm()]
        )
    for mine, theirs in zip(*errors, strict=True):
        assert 0 < mine < 1.5 * theirs < 0.2


@pytest.mark.parametrize(
    ("architecture", "units", "expected"),
    [("x86_64", True, torch.bfloat16), ("x86_64", False, torch.float32), ("aarch64", False, torch.bfloat16)],
)
def test_bf16_products_are_in_fp32_where_bf16_is_slow(monkeypatch, architecture, units, expected):
    found = {"architecture": architecture, "amx_bf16": units}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert product_dtype(torch.bfloat16, torch.device("cpu")) == expected
    assert product_dtype(torch.bfloat16, torch.device("cuda")) == torch.bfloat16
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert product_dtype(dtype, torch.device("cpu")) == dtype


def other_tower(**text_options):
    torch.manual_seed(0)
    sizes = SIZES["vit"]
    options = {"text_cfg": {**sizes["text_cfg"], **text_options}, "quick_gelu": not text_options}
    return CLIP(**{**sizes, **options}).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"no_causal_mask": True},
            "all 77 columns, because padding reaches its feature: its attention is not causal",
        ),
        ({"block_type": "custom"}, "up to its end: its blocks are not the usual .*CustomResidualAttentionBlock"),
        ({"act_kwargs": {"approximate": "none"}, "norm_kwargs": {"bias": False}}, "another norm"),
    ],
)
def test_other_towers_take_the_plain_path_and_the_log_says_so_once(caplog, options, reason):
    caplog.set_level(logging.INFO)
    model = other_tower(**options)
    encoder = TextEncoder(model, choose_precision("fp32", torch.device("cpu")))
    tokens = clip.tokenize(["a photo of a cat.", "x"])
    for _ in range(2):
        torch.testing.assert_close(encoder.encode_tokens(tokens), model.encode_text(tokens), rtol=1e-5, atol=1e-5)
    layout = clip.prompt_layout(["cat", "tabby cat"], n_ctx=3)
    contexts = draw_contexts(1, 3, torch.float32)
    assert gradient(encoder(layout, contexts), contexts).any()
    said = [record.message for record in caplog.records if "Every prompt" in record.message]
    assert len(said) == 1 and re.search(reason, said[0])


def test_the_standard_tower_is_not_warned_about(caplog):
    TextEncoder(random_model("vit"), choose_precision("fp32", torch.device("cpu")))
    assert not caplog.records


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_encoding": "tree"}, "'tree'; choose one of auto, cut, plain"),
        ({"text_chunk": -1}, "at once is -1; 0 chooses"),
    ],
)
def test_wrong_options_get_one_line(model_files, options, message):
    with pytest.raises(clip.BackboneError, match=message) as caught:
        clip.load(str(model_files["vit"]), **options)
    assert "\n" not in str(caught.value)


def test_a_tower_of_one_layer(encoders):
    tree, plain = copy.deepcopy(encoders[torch.float64])
    for encoder in (tree, plain):
        del encoder.transformer.resblocks[1:]
        encoder.double()  # what was derived from the other layers is dropped
    for position in POSITIONS:
        contexts, group = sharing("per task", torch.float64)
        layout = clip.prompt_layout(MANY, n_ctx=5, position=position)
        assert_same({torch.float64: (tree, plain)}, layout, contexts, group)


def test_contexts_that_need_no_gradient_keep_nothing(encoders):
    tower = TreeTower(encoders[torch.float32][0])
    layout = clip.prompt_layout(MANY, n_ctx=2)
    plan = Trie.of(layout.slots, layout.eot, n_ctx=2).plan()
    vectors = torch.randn(len(plan.slot), 128)
    for learned, least in ((False, 0), (True, 10**5)):
        kept, hidden = saved_bytes(
            lambda learned=learned: leaf_states([vectors.requires_grad_(learned)], tower, [plan], keep=True)
        )
        assert hidden.requires_grad == learned
        assert (kept > least) if learned else (kept == 0)
