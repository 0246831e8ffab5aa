"""PLOT's transport plans against numpy, its scores against a loop over pairs, its blocks and its prompts."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import trainers.plot
from dassl.data.columns import flat_classnames
from tests.clip.helpers import padded_features, random_model
from trainers._transport import ROUNDS, sinkhorn, steps_needed, transport_cosines, transport_kernel

OPTIONS = {"trainer": "PLOT", "TRAINER__PLOT__N": 3, "TRAINER__PLOT__N_CTX": 2, "TRAINER__PLOT__PREC": "fp32"}
SEVERAL = {**OPTIONS, "dataset": "ToyShapes"}  # images that belong to two tasks
PLACES = 4  # of the toy backbone


def unit(*shape, seed=0, spread=1.0):
    """Random directions; the smaller ``spread``, the nearer to each other."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(1 + spread * noise, dim=-1)


def plain_sinkhorn(cosines, limit=100):
    """The algorithm in float64 for a list of (P, N) matrices that stop together: plans and number of iterations."""
    kernels = [np.exp(-(1 - np.asarray(each, dtype=np.float64)) / 0.1) for each in cosines]
    rows = [np.ones(k.shape[0]) for k in kernels]
    columns = [np.ones(k.shape[1]) for k in kernels]
    count = 0
    for _ in range(limit):
        before, count = rows, count + 1
        rows = [np.full(len(r), 1 / len(r)) / (k @ c) for k, r, c in zip(kernels, rows, columns, strict=True)]
        columns = [np.full(len(c), 1 / len(c)) / (k.T @ r) for k, r, c in zip(kernels, rows, columns, strict=True)]
        if np.mean([np.abs(r - b).mean() for r, b in zip(rows, before, strict=True)]) < 0.01:
            break
    return [r[:, None] * k * c[None] for r, k, c in zip(rows, kernels, columns, strict=True)], count


def all_cosines(local, text):
    return [(image @ text[:, c].T).numpy() for image in local for c in range(text.shape[1])]


def plans(pairs, together):
    (steps,), most = steps_needed([pairs], together=together)
    return sinkhorn(transport_kernel(pairs), steps, most)[0], steps


@pytest.mark.parametrize("spread", [0.05, 0.5, 2.0])
def test_plans_of_a_batch_equal_a_plain_computation(spread):
    pairs = unit(3, 7, 8, spread=spread), unit(4, 5, 8, seed=1, spread=spread)
    found, steps = plans(pairs, together=True)
    expected, count = plain_sinkhorn(all_cosines(*pairs))
    assert steps.tolist() == [count] * 3
    torch.testing.assert_close(found.flatten(0, 1).double(), torch.tensor(np.stack(expected)), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=2), torch.full((3, 5, 4), 1 / 4))
    torch.testing.assert_close(found.sum(dim=3), torch.full((3, 5, 7), 1 / 7), rtol=0.05, atol=1e-4)


def test_iterations_end_at_different_times_and_never_after_a_hundred():
    counts = set()
    for spread in (0.02, 0.3, 1.0, 3.0):
        pairs = unit(2, 9, 6, spread=spread), unit(3, 4, 6, seed=3, spread=spread)
        _, steps = plans(pairs, together=True)
        assert steps.tolist() == [plain_sinkhorn(all_cosines(*pairs))[1]] * 2
        counts.add(int(steps[0]))
    assert min(counts) <= ROUNDS[0] < max(counts) <= ROUNDS[-1]
    opposite = torch.stack([torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1e-3])])
    _, steps = plans((opposite[None], opposite[:, None]), together=True)
    assert steps.tolist() == [plain_sinkhorn(all_cosines(opposite[None], opposite[:, None]))[1]]


@pytest.mark.parametrize("value", [-0.9, 0.0, 0.3])
def test_equal_cosines_give_a_uniform_plan_and_their_value(value):
    """49 places and N prompts: plan 1 / (49 N) everywhere, so the logit is s times the value."""
    places = torch.tensor([1.0, 0.0]).expand(2, 49, 2)
    prompts = torch.tensor([value, (1 - value**2) ** 0.5]).expand(4, 3, 2)
    found, steps = plans((places, prompts), together=True)
    torch.testing.assert_close(found, torch.full((2, 3, 49, 4), 1 / (49 * 4)))
    torch.testing.assert_close(transport_cosines((places, prompts), steps, 10), torch.full((2, 3), value))


def test_images_of_a_test_stop_by_themselves():
    local = torch.cat([unit(1, 7, 8, spread=0.05), unit(1, 7, 8, seed=5, spread=2.0)])
    text = unit(4, 5, 8, seed=1)
    together, apart = plans((local, text), together=False)
    assert apart[0] != apart[1]
    for index, plan in enumerate(together):
        expected, count = plain_sinkhorn(all_cosines(local[index : index + 1], text))
        assert int(apart[index]) == count
        torch.testing.assert_close(plan.double(), torch.tensor(np.stack(expected)), rtol=1e-3, atol=1e-6)


def test_the_plan_has_no_gradient_of_its_own():
    local, text = unit(2, 5, 6), unit(3, 4, 6, seed=2).requires_grad_()
    (steps,), most = steps_needed([(local, text)], together=True)
    plan, _ = sinkhorn(transport_kernel((local, text)), steps, most)
    (gradient,) = torch.autograd.grad(transport_cosines((local, text), steps, most).sum(), text)
    expected = sum(plan[b, :, p, :].T[..., None] * local[b, p] for b in range(2) for p in range(5))
    torch.testing.assert_close(gradient, expected)


def everything(lab, **keys):
    """A trainer and a batch of all its training images."""
    trainer = lab.trainer(**keys, DATALOADER__TRAIN_X__BATCH_SIZE=16)
    (batch,) = trainer.dm.train_loader_x
    return trainer, batch


def plain_text(trainer, position, csc):
    """(N, C, F), each prompt over 77 columns."""
    names, model = flat_classnames(trainer.dm.tasks), random_model("vit")
    contexts = trainer.model.prompt_learner.ctx
    own = contexts if csc else contexts[:, None].expand(-1, len(names), -1, -1)
    return torch.stack([padded_features(model, names, each, position=position) for each in own])


KINDS = {
    "shared": (OPTIONS, "end"),
    "two tasks an image": (SEVERAL, "end"),
    "middle": ({**OPTIONS, "TRAINER__PLOT__CLASS_TOKEN_POSITION": "middle"}, "middle"),
    "front, own contexts": (
        {**OPTIONS, "TRAINER__PLOT__CSC": True, "TRAINER__PLOT__CLASS_TOKEN_POSITION": "front"},
        "front",
    ),
    "global": ({**OPTIONS, "TRAINER__PLOT__GLOBAL_LOGITS": True}, "end"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_equal_a_loop_over_pairs(lab, kind):
    keys, position = KINDS[kind]
    trainer, batch = everything(lab, **keys)
    raw = plain_text(trainer, position, trainer.options.CSC)
    text, features = functional.normalize(raw, dim=-1), functional.normalize(trainer.image_features(batch), dim=-1)
    assert features.shape[1] == 1 + PLACES
    offsets = trainer.dm.offsets.tolist()
    entries = list(zip(*(batch[key].tolist() for key in ("row", "task", "label")), strict=True))
    pairs = [(r, c) for r, t, _ in entries for c in range(offsets[t], offsets[t + 1])]
    cosines = {(r, c): features[r, 1:] @ text[:, c].T for r, c in pairs}
    found, _ = plain_sinkhorn([each.detach() for each in cosines.values()])
    scores = {p: (torch.tensor(t).float() * cosines[p]).sum() for p, t in zip(cosines, found, strict=True)}
    if kind == "global":
        mean = functional.normalize(raw.mean(dim=0), dim=-1)
        scores = {(r, c): score + features[r, 0] @ mean[c] for (r, c), score in scores.items()}
    losses = []
    for row, task, label in entries:
        logits = torch.stack([scores[row, c] for c in range(offsets[task], offsets[task + 1])])
        losses.append(functional.cross_entropy(trainer.backbone.logit_scale * logits[None], torch.tensor([label])))
    expected = sum(losses) / len(features)
    loss, _ = trainer.loss(batch)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-3)
    ctx = trainer.model.prompt_learner.ctx
    mine, theirs = (torch.autograd.grad(each, ctx)[0] for each in (loss, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=2e-3 * theirs.abs().max().item())


@pytest.mark.parametrize("keys", [OPTIONS, SEVERAL], ids=["one task an image", "two tasks"])
def test_blocks_change_nothing(lab, monkeypatch, keys):
    trainer, batch = everything(lab, **keys)
    ctx = trainer.model.prompt_learner.ctx

    def outcome():
        loss, _ = trainer.loss(batch)
        trainer.before_test()
        with torch.no_grad():
            return loss.detach(), torch.autograd.grad(loss, ctx)[0], trainer.model_inference(batch)

    whole = outcome()
    blocks = []
    block_logits = trainer.block_logits
    monkeypatch.setattr(trainer, "block_logits", lambda f, b: blocks.append(len(b)) or block_logits(f, b))
    monkeypatch.setattr(trainers.plot, "VALUES_AT_ONCE", 6 * 3 * PLACES)
    for mine, theirs in zip(outcome(), whole, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert min(blocks) >= 6


def test_a_test_score_does_not_depend_on_the_images_beside_it(lab):
    trainer, batch = everything(lab, **OPTIONS)
    features = trainer.encode_images(batch["img"])
    trainer.before_test()
    with torch.no_grad():
        together = trainer.own_logits(features, batch)
        for index in (0, 7):
            alone = {"row": torch.tensor([0]), "task": batch["task"][index : index + 1]}
            torch.testing.assert_close(trainer.own_logits(features[index : index + 1], alone)[0], together[index])


def test_stored_features_are_local_ones_and_stand_apart_from_others(lab):
    trainer = lab.trainer(**OPTIONS, DATALOADER__FEATURES="on")
    batch = next(iter(trainer.dm.test_loader))
    images = next(iter(lab.trainer(**OPTIONS).dm.test_loader))["img"]
    torch.testing.assert_close(batch["feat"], trainer.backbone.encode_local(images), rtol=1e-4, atol=1e-5)
    plain = lab.trainer(trainer="ProtoNet", DATALOADER__FEATURES="on", TRAINER__PROTONET__PREC="fp32")
    assert next(iter(plain.dm.test_loader))["feat"].dim() == 2
    assert lab.run(**OPTIONS, DATALOADER__FEATURES="on").metric == lab.run("images", **OPTIONS).metric


def test_contexts_start_from_their_phrases(lab):
    keys = {**OPTIONS, "TRAINER__PLOT__CTX_INIT": "a photo; my_picture ;some art"}
    for csc in (False, True):
        trainer = lab.trainer(**keys, TRAINER__PLOT__CSC=csc)
        ctx = trainer.model.prompt_learner.ctx
        expected = torch.stack([trainer.backbone.text.phrase_vectors(p) for p in ("a photo", "my picture", "some art")])
        assert ctx.shape == ((3, 8, 2, 128) if csc else (3, 2, 128))
        assert torch.equal(ctx, (expected[:, None] if csc else expected).expand_as(ctx))


REFUSED = {
    "TRAINER.PLOT.CTX_INIT 'a photo': TRAINER.PLOT.N is 3": "a photo",
    "TRAINER.PLOT.CTX_INIT 'a photo; a photo; some art': TRAINER.PLOT.N is 3": "a photo; a photo; some art",
    "TRAINER.PLOT.CTX_INIT 'a photo of' has 3 words": "a photo of; my picture; some art",
}


@pytest.mark.parametrize("message", REFUSED)
def test_phrases_that_do_not_fit_are_refused_in_one_line(lab, capsys, message):
    assert lab.main(**OPTIONS, TRAINER__PLOT__CTX_INIT=REFUSED[message]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
