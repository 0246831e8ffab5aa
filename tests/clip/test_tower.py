"""Deep rows: what replaces context vectors before a later block, against open_clip's own blocks."""

import copy
from functools import lru_cache
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import CLIP

import clip
from clip.precision import choose_precision
from clip.text import POSITIONS, TextEncoder
from clip.tower import TreeTower
from clip.tree import Deep, Trie
from tests.clip.architectures import CONFIGS, VIT, network, small_backbone
from tests.clip.test_architectures import expected_rows, open_clip_features
from tests.clip.test_tree import assert_close, saved_bytes

NAMES = ["cat", "tabby cat", "cat", "tabby dog", "Siberian husky, sled dog", "2012 Ford F-450", "2012 Ford Focus"]
LAYERS, WIDTH, N_CTX = 5, 32, 3
TOLERANCE = {torch.float64: 1e-11, torch.float32: 5e-5}
TOWERS = {"GELU": {}, "QuickGELU": {"quick_gelu": True}, "layer scale": {"text_cfg": {"ls_init_value": 0.5}}}


@lru_cache(maxsize=len(TOWERS))
def deep_network(kind):
    """A network with a text tower of several blocks; not to be changed."""
    options = copy.deepcopy(TOWERS[kind])
    sizes = {"width": WIDTH, "heads": 2, "layers": LAYERS, "vocab_size": 49408, **options.pop("text_cfg", {})}
    torch.manual_seed(0)
    model = CLIP(embed_dim=24, vision_cfg=VIT, text_cfg=sizes, **options).eval().requires_grad_(False)
    for value in model.parameters():
        value.add_(torch.randn_like(value) * 0.1)
    return model.double()


def encoder_of(model, **options):
    return TextEncoder(model, choose_precision("fp32", torch.device("cpu")), **options).double()


def expected(model, ids, contexts, deep):
    """open_clip's forward pass with rows written over before its blocks: contexts (N, M, D), deep rows (N, m, D)."""
    tower = getattr(model, "text", model).transformer

    def write(rows):
        def hook(block, args):
            hidden = list((args[0] if tower.batch_first else args[0].transpose(0, 1)).unbind(0))
            for number, row in enumerate(ids.tolist()):
                states = list(hidden[number].unbind(0))
                for column, item in enumerate(row):
                    if item < 0 and -item <= rows.shape[1]:
                        states[column] = rows[number, -item - 1]
                hidden[number] = torch.stack(states)
            hidden = torch.stack(hidden)
            return ((hidden if tower.batch_first else hidden.transpose(0, 1)), *args[1:])

        return hook

    hooks = [tower.resblocks[layer].register_forward_pre_hook(write(rows)) for layer, rows in deep.items()]
    try:
        return open_clip_features(model, ids, contexts)
    finally:
        for hook in hooks:
            hook.remove()


def gradients(features, tensors):
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).sin().view_as(features)
    return torch.autograd.grad((features * weights).sum(), tensors)


def draw(*shape, dtype=torch.float64, learned=True):
    return torch.randn(shape, dtype=dtype).requires_grad_(learned)


def assert_equal(mine, theirs, tensors, tolerance):
    assert_close(mine, theirs, tolerance)
    for own, other in zip(gradients(mine, tensors), gradients(theirs, tensors), strict=True):
        assert own.any() and own.dtype == other.dtype
        assert_close(own, other, tolerance)


some_deep = st.dictionaries(st.integers(1, LAYERS - 1), st.tuples(st.integers(1, 4), st.booleans()), max_size=3)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(sorted(TOWERS)),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=7),
    st.integers(1, 4),
    st.sampled_from(POSITIONS),
    some_deep,
    st.sampled_from([0, 0, 1, 2, 3]),
    st.sampled_from(["auto", "auto", "auto", "plain", "cut"]),
    st.sampled_from(["shared", "own", "groups"]),
    st.booleans(),
    st.data(),
)
def test_deep_rows_equal_those_written_over_in_open_clip(
    kind, names, n_ctx, position, kinds, chunk, encoding, sharing, learned, data
):
    encoder = encoder_of(deep_network(kind), encoding=encoding, chunk=chunk)
    count = len(names)
    groups = {"shared": 1, "own": count, "groups": 2}[sharing]
    group = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    group = group if sharing == "groups" else None
    contexts = draw(groups, n_ctx, WIDTH, learned=learned or not kinds)
    deep = {
        layer: draw(*((count,) if own else ()), min(many, n_ctx), WIDTH) for layer, (many, own) in sorted(kinds.items())
    }
    spread = contexts.expand(count, -1, -1) if group is None else contexts[group]
    rows = data.draw(st.none() | st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True))
    layout, chosen = encoder.layout(names, n_ctx=n_ctx, position=position), slice(None)
    given_contexts, given_deep = contexts, deep
    if rows is not None:
        chosen = torch.tensor(rows)
        given_contexts = contexts[chosen] if sharing == "own" and count > 1 else contexts
        given_deep = {layer: each[chosen] if each.dim() == 3 else each for layer, each in deep.items()}
    mine = encoder(layout, given_contexts, group, rows=None if rows is None else chosen, deep=given_deep)
    ids = torch.nn.functional.pad(layout.slots, (0, 77 - layout.slots.shape[1]))
    below = {layer: each.expand(count, -1, -1)[chosen] for layer, each in deep.items()}
    theirs = expected(deep_network(kind), ids[chosen], spread[chosen], below)
    tensors = [each for each in (contexts, *deep.values()) if each.requires_grad]
    assert_close(mine, theirs, 1e-11)
    pairs = zip(*(torch.autograd.grad(f.sin().sum(), tensors) for f in (mine, theirs)), strict=True)
    for own, other in pairs:
        assert_close(own, other, 1e-10)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
def test_every_kind_of_tower_takes_deep_rows(kind, own, dtype):
    model, encoder = copy.deepcopy(network(kind)).to(dtype), copy.deepcopy(small_backbone(kind).text).to(dtype)
    contexts = draw(1, N_CTX, encoder.width, dtype=dtype)
    deep = draw(*((len(NAMES),) if own else ()), N_CTX, encoder.width, dtype=dtype)
    mine = encoder(encoder.layout(NAMES, n_ctx=N_CTX), contexts, deep={1: deep})
    ids = expected_rows(encoder.tokenizer, NAMES, "end")
    below = {1: deep.expand(len(NAMES), -1, -1)}
    theirs = expected(model, ids, contexts.expand(len(NAMES), -1, -1), below)
    assert_equal(mine, theirs, [contexts, deep], TOLERANCE[dtype])


def spans_of(names, *deep, n_ctx=4, group=None):
    layout = clip.prompt_layout(names, n_ctx=n_ctx)
    return Trie.of(layout.slots, layout.eot, n_ctx=n_ctx, group=group, deep=deep)


def test_shared_deep_rows_keep_the_tree_and_own_ones_let_it_branch_per_prompt():
    names = ["tabby cat", "tabby dog", "dog"]
    joined, apart = 1 + 4 + 1 + 2 * 3 + 3, 1 + 3 * 4 + 4 + 4 + 3
    shared, own = Deep(2, 4, own=False), Deep(3, 4, own=True)
    plans = spans_of(names, shared, own).spans()
    assert [(plan.layer, plan.nodes, plan.same) for plan in plans] == [
        (0, joined, False),
        (2, joined, True),
        (3, apart, False),
    ]
    assert plans[1].hidden is plans[0].hidden and len(plans[1].slot) == 4 and len(plans[2].slot) == 12


def test_shared_deep_rows_join_the_contexts_of_groups_but_not_what_has_read_them():
    trie = spans_of(["cat", "cat"], Deep(1, 4, own=False), group=torch.tensor([0, 1]))
    assert [plan.nodes for plan in trie.spans()] == [1 + 2 * 4 + 2 * 3, 1 + 4 + 2 * 3]


def test_equal_prompts_with_own_rows_are_different():
    trie = spans_of(["cat", "cat"], Deep(1, 4, own=True))
    assert [plan.nodes for plan in trie.spans()] == [1 + 4 + 3, 1 + 2 * 4 + 2 * 3]
    assert len(trie.keys) == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=9), st.integers(1, 9), st.booleans(), st.integers(1, 4))
def test_the_largest_part_with_deep_rows_is_known_beforehand(names, size, own, layer):
    trie = spans_of(names, Deep(layer, 2, own))
    parts = [[plan.nodes for plan in part.spans()] for part in trie.cut(size)]
    means = [ceil((layer * first + (LAYERS - layer) * second) / LAYERS) for first, second in parts]
    assert trie.largest(size, LAYERS) == max(means)


def test_what_needs_no_gradient_is_not_kept():
    encoder = encoder_of(deep_network("GELU"))
    kept = []
    for learned, layer in ((True, 4), (False, 4), (False, 1)):
        layout = encoder.layout(NAMES, n_ctx=N_CTX)
        contexts, deep = draw(1, N_CTX, WIDTH, learned=learned), {layer: draw(len(NAMES), N_CTX, WIDTH)}
        kept.append(saved_bytes(lambda c=contexts, d=deep, x=layout: encoder(x, c, deep=d))[0])
        estimate = TreeTower(encoder).memory(layout.known[0].forest.plans[0], keep=True)
        assert kept[-1] < estimate
    assert kept[1] < kept[0] / 2 and kept[1] < kept[2] / 3


def test_no_chunk_with_deep_rows_is_larger_than_what_was_allowed():
    budget = 2**21
    encoder = encoder_of(deep_network("GELU"), memory=budget)
    names = [f"{name} {number}" for number in range(20) for name in NAMES]
    layout = encoder.layout(names, n_ctx=N_CTX)
    encoder(layout, draw(1, N_CTX, WIDTH), deep={2: draw(len(names), N_CTX, WIDTH)})
    (known,) = layout.known
    needs = [TreeTower(encoder).memory(part.spans(), keep=True) for part in known.trie.cut(known.size)]
    assert 1 < known.size < len(names) and budget / 2 < max(needs) <= budget * 1.1


def test_plans_with_deep_rows_are_worked_out_once_and_others_anew():
    encoder = encoder_of(deep_network("GELU"))
    layout, contexts = encoder.layout(NAMES, n_ctx=N_CTX), draw(1, N_CTX, WIDTH)
    shared, own = draw(N_CTX, WIDTH), draw(len(NAMES), N_CTX, WIDTH)
    for deep in ({2: shared}, {2: shared}, {2: own}, {3: own}, {2: shared[:2]}, None, {}):
        encoder(layout, contexts, deep=deep)
    assert [known.deep for known in layout.known] == [
        (Deep(2, 3, own=True),),
        (Deep(3, 3, own=True),),
        (Deep(2, 2, own=False),),
        (),
    ]


def test_deep_rows_in_low_precision_are_as_exact_as_the_plain_way():
    contexts, deep = draw(1, N_CTX, WIDTH, dtype=torch.float32), draw(len(NAMES), N_CTX, WIDTH, dtype=torch.float32)
    exact_encoder = encoder_of(deep_network("GELU"))
    layout = exact_encoder.layout(NAMES, n_ctx=N_CTX)
    exact = exact_encoder(layout, contexts, deep={2: deep})
    wanted = gradients(exact, [contexts, deep])
    errors = []
    for encoding in ("auto", "plain"):
        precision = choose_precision("amp", torch.device("cpu"))
        encoder = TextEncoder(copy.deepcopy(deep_network("GELU")).float(), precision, encoding=encoding)
        features = encoder(encoder.layout(NAMES, n_ctx=N_CTX), contexts, deep={2: deep})
        found = gradients(features.double(), [contexts, deep])
        assert all(each.dtype == torch.float32 for each in found)
        pairs = zip((features, *found), (exact, *wanted), strict=True)
        errors.append([((a - b).norm() / b.norm()).item() for a, b in pairs])
    for mine, theirs in zip(*errors, strict=True):
        assert 0 < mine < 1.5 * theirs < 0.3


@pytest.mark.parametrize("encoding", ["auto", "plain"])
@pytest.mark.parametrize(
    ("layer", "count", "message"),
    [
        (0, 2, "before block 1, but the text tower has 5 blocks; choose one of 2 to 5"),
        (5, 2, "before block 6, but the text tower has 5 blocks"),
        (2, 4, "4 learned rows before block 3 replace context vectors, but a prompt has 3"),
    ],
)
def test_deep_rows_that_do_not_fit_get_one_line(encoding, layer, count, message):
    encoder = encoder_of(deep_network("GELU"), encoding=encoding)
    layout = encoder.layout(NAMES, n_ctx=N_CTX)
    with pytest.raises(clip.BackboneError, match=message) as caught:
        encoder(layout, draw(1, N_CTX, WIDTH), deep={layer: draw(count, WIDTH)})
    assert "\n" not in str(caught.value)
