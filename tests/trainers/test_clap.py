"""CLAP: the check values of the reference, and the schedule."""

import pytest
import torch
from torch.nn import functional

from tests.trainers.features import double, work
from trainers._descent import Room
from trainers.clap import Objective, multipliers

OPTIONS = {"trainer": "CLAP", "TRAINER__CLAP__PREC": "fp32", "TRAINER__CLAP__EPOCHS": 4, "TRAINER__CLAP__VIEWS": 2}
TEXT = torch.tensor([[3.0, 4.0], [4.0, 3.0]])
X = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]])
LABEL = torch.tensor([0, 0, 1, 1])


def test_multipliers_are_mean_probabilities_of_the_true_class():
    torch.testing.assert_close(multipliers(X, LABEL, TEXT, scale=10.0), torch.full((2,), 0.35895), rtol=0, atol=1e-5)
    assert multipliers(X[:2], LABEL[:2], TEXT, scale=10.0)[1] == 1


def plain_loss(weight, x, label, text, held, *, scale):
    """The formula."""
    logits = scale * x @ functional.normalize(weight, dim=-1).T
    return functional.cross_entropy(logits, label) + (held * (weight - text).square().sum(dim=1)).mean()


def gradient(weight, x, label, text, held, *, scale):
    """The gradient by which a fit descends."""
    found = torch.empty_like(weight)
    objective = Objective(text, held, scale, Room(weight))
    for _ in range(2):  # the second time in used memory
        objective.gradient(weight.detach(), x, label, out=found)
    return found


def test_loss_and_gradient_are_those_of_the_reference():
    weight = TEXT + torch.tensor([[0.1, -0.2], [0.0, 0.3]])
    held = multipliers(X, LABEL, TEXT, scale=10.0)
    assert plain_loss(weight, X, LABEL, TEXT, held, scale=10.0).item() == pytest.approx(1.112734, abs=1e-6)
    assert plain_loss(weight, X, LABEL, TEXT, 0 * held, scale=10.0).item() == pytest.approx(1.087608, abs=1e-6)
    expected = torch.tensor([[-0.36116, 0.25213], [0.30836, -0.26608]])
    found = gradient(weight, X, LABEL, TEXT, held, scale=10.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("constraint", [0.0, 1.0])
def test_the_gradient_is_that_of_the_plain_formula(constraint):
    task = double(work(train=30, classes=5))
    x, label = task.flat()
    held = constraint * multipliers(x, label, task.text, scale=5.0)
    weight = (task.text + 0.3 * torch.randn(5, 6, dtype=torch.float64)).requires_grad_()
    plain_loss(weight, x, label, task.text, held, scale=5.0).backward()
    found = gradient(weight, x, label, task.text, held, scale=5.0)
    torch.testing.assert_close(found, weight.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("train", "views", "steps", "size"), [(10, 20, 1, 200), (160, 3, 1, 256), (600, 2, 2, 256)])
def test_an_epoch_has_as_many_batches_as_the_images_without_views(lab, monkeypatch, train, views, steps, size):
    trainer = lab.trainer(**OPTIONS)
    task = work(train=train, views=views)
    seen = []
    plain = Objective.gradient
    monkeypatch.setattr(
        Objective, "gradient", lambda self, w, x, y, out: seen.append(len(x)) or plain(self, w, x, y, out=out)
    )
    trainer.fit_task(task)
    assert seen == [size] * (4 * steps)


def test_a_fit_is_plain_gradient_descent_with_the_authors_rates(lab):
    trainer = lab.trainer(**OPTIONS)
    task = work(train=12)
    x, label = task.flat()
    held = multipliers(x, label, task.text, scale=5.0)
    weight = torch.nn.Parameter(task.text.clone())
    optimiser = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 4)
    for epoch in range(4):
        optimiser.zero_grad()
        logits = 5.0 * x @ functional.normalize(weight, dim=-1).T
        far = [h * (w - t).pow(2).sum() for h, w, t in zip(held, weight, task.text, strict=True)]
        (functional.cross_entropy(logits, label) + sum(far) / 4).backward()
        if epoch == 0:
            optimiser.param_groups[0]["lr"] = 1e-5
            optimiser.step()
            optimiser.param_groups[0]["lr"] = 0.1
        else:
            optimiser.step()
            schedule.step()
    torch.testing.assert_close(trainer.fit_task(task).tensors["weight"], weight.detach(), rtol=1e-4, atol=1e-5)


def test_without_constraint_it_is_zs_lp_and_no_validation_image_is_used(lab):
    task = work(train=40)
    held, free = (
        lab.trainer(kind, **OPTIONS, TRAINER__CLAP__CONSTRAINT=kind).fit_task(task) for kind in ("l2", "none")
    )
    far = [(found.tensors["weight"] - task.text).norm() for found in (held, free)]
    assert far[0] < far[1]
    assert (held.chosen, held.rate) == ({}, None)


def test_a_run_counts_one_row_for_each_class(lab):
    result = lab.run(**OPTIONS)
    assert result.parameters == 8 * 24


def test_a_rate_that_is_too_large_is_refused_by_its_key(lab, capsys):
    keys = {"TRAINER__CLAP__LR": 1e30, "TRAINER__CLAP__PREC": "fp32", "TRAINER__CLAP__VIEWS": 1}
    assert lab.main(trainer="CLAP", INPUT__NO_TRANSFORM=True, TRAINER__CLAP__EPOCHS=5, **keys) == 2
    assert "lower TRAINER.CLAP.LR" in capsys.readouterr().err
