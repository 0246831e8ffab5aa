"""ProGrad: the projection, the distance from zero-shot CLIP, one step, and the start from phrases."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import clip
from trainers.prograd import padded_start, project, soft_cross_entropy

KEYS = {
    "trainer": "ProGrad",
    "TRAINER__COOP__N_CTX": 10,
    "TRAINER__COOP__CTX_INIT": True,
    "TRAINER__COOP__PREC": "fp32",
    "OPTIM__WARMUP_EPOCH": 0,
}
TEXTS = [f"a type of pet, a photo of a {name}." for name in ("cat", "dog", "grey parrot")]
TEXTS += [f"a photo of a {name}." for name in ("hammer", "saw", "drill", "file", "rasp")]
NUMBERS = st.lists(st.floats(-4, 4, width=16), min_size=4, max_size=4)


def plain_projection(gradient, guide, weight):
    """The update gradient by the formula, number by number."""
    dot = sum(a * b for a, b in zip(gradient, guide, strict=True))
    norm = math.sqrt(sum(b * b for b in guide))
    if norm == 0 or dot >= 0:
        return gradient
    return [a - weight * dot / norm * b / norm for a, b in zip(gradient, guide, strict=True)]


@pytest.mark.parametrize(("guide", "expected"), [((-1, 1), (0.5, 0.5)), ((1, 1), (1, 0)), ((0, 0), (1, 0))])
def test_what_contradicts_is_dropped(guide, expected):
    found = project(torch.tensor([1.0, 0.0]), torch.tensor(guide).float(), 1.0)
    torch.testing.assert_close(found, torch.tensor(expected).float())


@given(NUMBERS, NUMBERS, st.floats(0, 2))
def test_the_projection_is_that_of_the_formula(gradient, guide, weight):
    mine = project(torch.tensor(gradient).view(2, 2), torch.tensor(guide).view(2, 2), weight)
    expected = torch.tensor(plain_projection(gradient, guide, weight)).view(2, 2)
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


@given(NUMBERS, NUMBERS)
def test_the_whole_projection_never_points_against_the_guide(gradient, guide):
    guide = torch.tensor(guide)
    assert (project(torch.tensor(gradient), guide, 1.0) * guide).sum() >= -1e-4


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_overflow_is_not_hidden(bad):
    assert not torch.isfinite(project(torch.ones(2), torch.tensor([bad, 1.0]), 1.0)).any()


def test_a_distance_that_is_not_finite_stops_the_run(lab, capsys, monkeypatch):
    monkeypatch.setattr("trainers.prograd.soft_cross_entropy", lambda logits, *_, **__: logits.sum() * math.inf)
    assert lab.main(**KEYS) == 2
    assert "the loss is nan at epoch 1, batch 1" in capsys.readouterr().err


def plain_distance(logits, teacher, columns, temperature):
    """Soft cross-entropy by the formula, entry by entry over its own columns."""
    total = 0.0
    for mine, theirs, own in zip(logits.tolist(), teacher.tolist(), columns.tolist(), strict=True):
        kept = [c for c, flag in enumerate(own) if flag]
        p, q = ([math.exp(row[c] / temperature) for c in kept] for row in (theirs, mine))
        total -= sum(a / sum(p) * math.log(b / sum(q)) for a, b in zip(p, q, strict=True))
    return total * temperature**2


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_distance_goes_over_the_classes_of_the_own_task(temperature):
    logits, teacher = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
    columns = torch.tensor([[1, 1, 0, 0, 0]] * 3 + [[0, 0, 1, 1, 1]] * 3).bool()
    found = soft_cross_entropy(logits, teacher, columns, temperature=temperature)
    assert found.item() == pytest.approx(plain_distance(logits, teacher, columns, temperature), rel=1e-4)
    (gradient,) = torch.autograd.grad(found, logits)
    assert torch.isfinite(gradient).all() and not gradient[~columns].any() and gradient[columns].all()


def plain_gradients(lab, layout, context, batch):
    """Gradients (M * D numbers each) of the cross-entropy and of the distance at T = 2, image by image."""
    backbone, _ = clip.load(str(lab.backbone))
    images = torch.nn.functional.normalize(backbone.encode_image(batch["img"]), dim=1)
    teacher = torch.nn.functional.normalize(backbone.encode_text(clip.tokenize(TEXTS)), dim=1)
    trial = context.clone().requires_grad_()
    texts = torch.nn.functional.normalize(backbone.text(layout, trial[None]), dim=1)
    mine, theirs = (backbone.logit_scale * images @ each.T for each in (texts, teacher))
    hard = soft = 0
    for scores, guide, task, label in zip(mine, theirs, batch["task"].tolist(), batch["label"].tolist(), strict=True):
        own = slice(0, 3) if task == 0 else slice(3, 8)
        hard = hard - scores[own].log_softmax(0)[label] / len(images)
        soft = soft - 4 * ((guide[own] / 2).softmax(0) * (scores[own] / 2).log_softmax(0)).sum() / len(images)
    return [torch.autograd.grad(loss, trial, retain_graph=True)[0].flatten().tolist() for loss in (hard, soft)]


@pytest.mark.parametrize("apart", [True, False], ids=["they contradict", "they agree"])
@pytest.mark.parametrize("weight", [1.0, 0.8])
def test_a_step_follows_the_projected_gradient_of_both_losses(lab, weight, apart):
    keys = {"OPTIM__MOMENTUM": 0, "OPTIM__WEIGHT_DECAY": 0, "OPTIM__LR": 0.1, "LOSS__LAMBDA": weight, "LOSS__T": 2}
    trainer = lab.trainer(**KEYS, **keys)
    learner = trainer.model.prompt_learner
    batch = next(iter(trainer.dm.train_loader_x))
    for seed in range(20):
        noise = torch.randn(learner.ctx.shape, generator=torch.Generator().manual_seed(seed))
        gradients = plain_gradients(lab, learner.layout, learner.ctx.detach() + 0.1 * noise, batch)
        if (sum(a * b for a, b in zip(*gradients, strict=True)) < 0) == apart:
            break
    else:
        pytest.fail("no start where the test can tell")
    with torch.no_grad():
        learner.ctx.add_(0.1 * noise)
    before = learner.ctx.detach().clone()
    trainer.forward_backward(batch)
    update = torch.tensor(plain_projection(*gradients, weight)).view_as(before)
    torch.testing.assert_close(before - learner.ctx.detach(), 0.1 * update, rtol=1e-3, atol=1e-5)


def test_a_batch_takes_one_step(lab, monkeypatch):
    trainer = lab.trainer(**KEYS)
    steps = []
    monkeypatch.setattr(trainer.optim, "step", lambda *a, **k: steps.append(1))
    for batch in trainer.dm.train_loader_x:
        trainer.forward_backward(batch)
    assert len(steps) == len(trainer.dm.train_loader_x)


def test_a_gradient_scaler_changes_nothing(lab):
    contexts = []
    for scale in (None, 2.0**12):
        trainer = lab.trainer(**KEYS)
        trainer.scaler = torch.amp.GradScaler("cpu", enabled=scale is not None, init_scale=scale or 1.0)
        for batch in trainer.dm.train_loader_x:
            trainer.forward_backward(batch)
        contexts.append(trainer.model.prompt_learner.ctx.detach())
    torch.testing.assert_close(*contexts, rtol=1e-4, atol=1e-6)


def test_one_task_starts_from_zeros_and_the_tokens_of_its_template(lab):
    trainer = lab.trainer(**KEYS, DATASET__SUBSAMPLE_TASKS="task0")
    context, text = trainer.model.prompt_learner.ctx, trainer.backbone.text
    tokens = clip.tokenize("a type of pet, a photo of a")[0, 1:10]  # nine tokens: the comma is one
    assert context.shape == (10, 128)
    assert not context[0].any()
    torch.testing.assert_close(context[1:], text.token_embedding(tokens))


def test_without_room_for_zeros_it_starts_as_zero_shot_clip(lab):
    keys = {**KEYS, "TRAINER__COOP__N_CTX": 9, "DATASET__SUBSAMPLE_TASKS": "task0"}
    trainer = lab.trainer(**keys)
    torch.testing.assert_close(trainer.model(), trainer.teacher, rtol=1e-4, atol=1e-4)


def test_tasks_of_different_templates_share_a_neutral_start_unless_each_class_has_its_own(lab):
    shared = lab.trainer(**KEYS)
    neutral = padded_start(shared.backbone.text, "a photo of a", 10)
    torch.testing.assert_close(shared.model.prompt_learner.ctx.detach(), neutral)
    own = lab.trainer(**KEYS, TRAINER__COOP__CSC=True).model.prompt_learner.ctx
    pet = padded_start(shared.backbone.text, "a type of pet, a photo of a", 10)
    assert [torch.equal(context, pet) for context in own] == [True] * 3 + [False] * 5
    assert all(torch.equal(context, neutral) for context in own[3:])


def test_words_of_ones_own_and_a_random_start(lab):
    words = lab.trainer(**{**KEYS, "TRAINER__COOP__CTX_INIT": "a_drawing of"})
    start = padded_start(words.backbone.text, "a drawing of", 10)
    assert torch.equal(words.model.prompt_learner.ctx.detach(), start) and not start[:7].any() and start[7:].any()
    random = lab.trainer(**{**KEYS, "TRAINER__COOP__CTX_INIT": False}).model.prompt_learner.ctx
    assert random.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_phrase_without_room_is_refused(lab, capsys):
    keys = {**KEYS, "TRAINER__COOP__N_CTX": 8, "DATASET__SUBSAMPLE_TASKS": "task0"}
    assert lab.main(**keys) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'a type of pet, a photo of a' has 9 tokens but the context has 8 vectors; set TRAINER.COOP.N_CTX" in line
    assert lab.files() == []
