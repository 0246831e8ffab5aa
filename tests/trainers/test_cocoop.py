"""CoCoOp against a loop over images with 77 columns, its chunks, and its blocks of (image, class) pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dassl.data.columns import flat_classnames
from tests.clip.helpers import padded_features, random_model
from trainers._own_task import assemble, own_blocks
from trainers.cocoop import keyed_linear

OPTIONS = {"trainer": "CoCoOp", "TRAINER__COCOOP__N_CTX": 2, "TRAINER__COCOOP__PREC": "fp32"}
SEVERAL = {**OPTIONS, "dataset": "ToyShapes"}  # images that belong to two tasks


def everything(lab, **keys):
    """A trainer and a batch of all its training images."""
    trainer = lab.trainer(**keys, DATALOADER__TRAIN_X__BATCH_SIZE=16)
    (batch,) = trainer.dm.train_loader_x
    return trainer, batch


def gradients(trainer, loss):
    names, parameters = zip(*trainer.model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def plain_logits(trainer, model, features, phrase=""):
    """All classes of all tasks for one image after the other, each prompt over 77 columns."""
    learned = dict(trainer.model.prompt_learner.named_parameters())
    names = flat_classnames(trainer.dm.tasks)
    rows = []
    for feature in features:
        x = feature / feature.norm()
        hidden = (learned["meta_net.linear1.weight"] @ x + learned["meta_net.linear1.bias"]).clamp_min(0)
        shift = learned["meta_net.linear2.weight"] @ hidden + learned["meta_net.linear2.bias"]
        contexts = torch.stack([vector + shift for vector in learned["ctx"]]).expand(len(names), -1, -1)
        text = padded_features(model, names, contexts, phrase=phrase)
        rows.append(trainer.backbone.logit_scale * functional.cosine_similarity(text, x[None]))
    return torch.stack(rows)


@pytest.mark.parametrize("keys", [OPTIONS, SEVERAL, {**OPTIONS, "TRAINER__COCOOP__CTX_INIT": "a photo"}])
def test_loss_gradient_and_scores_equal_a_loop_over_images(lab, keys):
    trainer, batch = everything(lab, **keys)
    logits = plain_logits(
        trainer, random_model("vit"), trainer.image_features(batch), keys.get("TRAINER__COCOOP__CTX_INIT", "")
    )
    offsets = trainer.dm.offsets.tolist()
    entries = list(zip(*(batch[key].tolist() for key in ("row", "task", "label")), strict=True))
    losses = [
        functional.cross_entropy(logits[row, offsets[task] : offsets[task + 1]], torch.tensor(label))
        for row, task, label in entries
    ]
    expected = sum(losses) / len(logits)
    loss, _ = trainer.loss(batch)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    theirs = gradients(trainer, expected)
    for name, mine in gradients(trainer, loss).items():
        torch.testing.assert_close(mine, theirs[name], rtol=1e-3, atol=1e-4 * theirs[name].abs().max().item() + 1e-6)
    with torch.no_grad():
        found = trainer.model_inference(batch)
    own = torch.zeros_like(found, dtype=torch.bool)
    for row, task, _ in entries:
        own[row, offsets[task] : offsets[task + 1]] = True
    torch.testing.assert_close(found[own], logits[own].detach(), rtol=1e-3, atol=1e-3)
    assert found[~own].eq(-torch.inf).all()


@pytest.mark.parametrize("keys", [OPTIONS, SEVERAL], ids=["one task an image", "two tasks"])
@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_chunks_change_nothing(lab, keys, chunk):
    whole, batch = everything(lab, **keys)
    chunked, _ = everything(lab, **keys, TRAINER__COCOOP__CHUNK=chunk)
    mine, theirs = chunked.loss(batch)[0], whole.loss(batch)[0]
    torch.testing.assert_close(mine, theirs)
    expected = gradients(whole, theirs)
    for name, gradient in gradients(chunked, mine).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(chunked.model_inference(batch), whole.model_inference(batch))


def kept_values(trainer, batch):
    """Number of values that the step keeps for its backward pass, and the loss."""
    count = 0

    def pack(tensor):
        nonlocal count
        count += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = trainer.loss(batch)
    return count, loss


def test_chunks_bound_what_is_encoded_and_kept(lab, monkeypatch):
    whole, batch = everything(lab, **OPTIONS)
    chunked, _ = everything(lab, **OPTIONS, TRAINER__COCOOP__CHUNK=6)
    much, _ = kept_values(whole, batch)
    sizes = []
    encoder = chunked.backbone.text
    monkeypatch.setattr(
        encoder,
        "forward",
        lambda layout, *rest: sizes.append(len(layout)) or type(encoder).forward(encoder, layout, *rest),
    )
    little, loss = kept_values(chunked, batch)
    pairs = 6 * 3 + 10 * 5
    assert max(sizes) <= 6
    assert sum(sizes) == pairs
    loss.backward()
    assert sum(sizes) == 2 * pairs
    assert little < much / 10


def test_texts_that_come_again_have_the_layout_they_had(lab, monkeypatch):
    trainer = lab.trainer(**OPTIONS, OPTIM__MAX_EPOCH=4)
    seen = []
    encoder = trainer.backbone.text
    monkeypatch.setattr(
        encoder, "forward", lambda layout, *rest: seen.append(layout) or type(encoder).forward(encoder, layout, *rest)
    )
    trainer.train()
    # One for each task and number of its images in a batch; 5 images in training, up to 16 in a test.
    assert len({id(layout) for layout in seen}) <= 2 * (5 + 2) < len(seen)


def test_the_network_starts_as_torch_starts_it_and_from_the_seed_only():
    layer = keyed_linear(400, 300, seed=1, name="a")
    bound = 400**-0.5
    assert layer.weight.abs().max() <= bound and layer.bias.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert torch.equal(layer.weight, keyed_linear(400, 300, seed=1, name="a").weight)
    assert not torch.equal(layer.weight, keyed_linear(400, 300, seed=2, name="a").weight)
    assert not torch.equal(layer.weight, keyed_linear(400, 300, seed=1, name="b").weight)


REFUSED = {
    "TRAINER.COCOOP.CTX_INIT 'a photo of a' has 4 words": {"TRAINER__COCOOP__CTX_INIT": "a photo of a"},
    "TRAINER.COCOOP.N_CTX is 0: must be at least 1": {"TRAINER__COCOOP__N_CTX": 0},
    "TRAINER.COCOOP.CHUNK is 0: must be at least 1": {"TRAINER__COCOOP__CHUNK": 0},
    "TRAINER.COCOOP.CLASS_TOKEN_POSITION": {"TRAINER__COCOOP__CLASS_TOKEN_POSITION": "middle"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_not_possible_is_refused_in_one_line(lab, capsys, message):
    assert lab.main(**{**OPTIONS, **REFUSED[message]}) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


entries = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12, unique=True)


@settings(max_examples=60, deadline=None)
@given(entries, st.lists(st.integers(1, 6), min_size=4, max_size=4), st.integers(1, 15), st.booleans())
def test_blocks_hold_every_pair_of_an_image_and_a_class_of_its_tasks_once(entries, sizes, pairs, whole_tasks):
    row, task = torch.tensor(entries).unbind(1)
    offsets = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    blocks = own_blocks(row, task, offsets, pairs=pairs, whole_tasks=whole_tasks)
    found = [(r, c) for b in blocks for r in b.rows.tolist() for c in range(b.start, b.stop)]
    assert sorted(found) == sorted((r, c) for r, t in entries for c in range(offsets[t], offsets[t + 1]))
    for block in blocks:
        width = sizes[block.task]
        assert offsets[block.task] <= block.start < block.stop <= offsets[block.task + 1]
        assert block.pairs <= (max(pairs, width) if whole_tasks else pairs)
        assert not whole_tasks or block.stop - block.start == width
    values = [torch.arange(b.start, b.stop) + 100.0 * b.rows[:, None] for b in blocks]
    logits = assemble(blocks, values, (6, offsets[-1]))
    assert all(logits[r, c] == 100 * r + c for r, c in found)
    assert logits.isfinite().sum() == len(found)
