"""Tip-Adapter-F: its steps by torch's own optimiser, its choice of epoch, and its number of values."""

import pytest
import torch
from torch.nn import functional

from tests.trainers.features import double, work
from trainers._descent import Room, shuffled
from trainers.tip_adapter_f import Images, cache_gradient, cache_logits

OPTIONS = {
    "trainer": "TipAdapterF",
    "TRAINER__TIPF__PREC": "fp32",
    "TRAINER__TIPF__VIEWS": 2,
    "TRAINER__TIPF__EPOCHS": 6,
    "TRAINER__TIPF__BATCH": 8,
    "TRAINER__TIPF__LR": 0.05,
    "TRAINER__TIPF__ALPHA": 2.0,
    "TRAINER__TIPF__SEARCH_STEPS": "7,5",
}


def epochs_by_hand(task):
    """The keys after each epoch."""
    keys = torch.nn.Parameter(functional.normalize(task.views.mean(dim=0), dim=-1))
    optimiser = torch.optim.AdamW([keys], lr=0.05, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 6 * 3)
    one_hot = functional.one_hot(task.label, 4).float()
    found = []
    for epoch, order in zip(range(6), shuffled(20, seed=1, name="things"), strict=False):
        for rows in order.split(8):
            image = functional.normalize(task.views[epoch % 2, rows], dim=-1)
            cache = (-(1 - image @ keys.T)).exp() @ one_hot
            logits = task.scale * image @ functional.normalize(task.text, dim=-1).T + 2.0 * cache
            optimiser.zero_grad()
            functional.cross_entropy(logits, task.label[rows]).backward()
            optimiser.step()
            schedule.step()
        found.append(keys.detach().clone())
    return found


def rate(task, keys):
    """The share of validation images that are right with the start values of alpha and beta."""
    image, one_hot = functional.normalize(task.val, dim=-1), functional.one_hot(task.label, 4).float()
    logits = task.scale * image @ functional.normalize(task.text, dim=-1).T + 2.0 * (image @ keys.T - 1).exp() @ one_hot
    return float((logits.argmax(1) == task.val_label).double().mean())


@pytest.mark.parametrize("recipe", ["corrected", "released"])
def test_keys_are_those_of_the_best_epoch_or_as_released_of_the_last(lab, recipe):
    trainer = lab.trainer(**OPTIONS, TRAINER__TIPF__RECIPE=recipe)
    task = work(train=20, val=40, views=2)
    keys = epochs_by_hand(task)
    rates = [rate(task, each) for each in keys]
    best = 6 if recipe == "released" else 1 + rates.index(max(rates))
    found = trainer.fit_task(task)
    assert found.chosen["epoch"] == best
    torch.testing.assert_close(found.tensors["keys"], keys[best - 1], rtol=1e-4, atol=1e-4)
    again = trainer.fit_task(task, found.chosen)
    assert again.chosen == found.chosen and torch.equal(again.tensors["keys"], found.tensors["keys"])
    assert found.tensors["alpha"] == pytest.approx(found.chosen["alpha"])


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 1.0), (0.5, 7.5)])
def test_the_gradient_is_that_of_the_plain_formula(alpha, beta):
    task, room = double(work(train=20, views=2)), Room(torch.zeros(1, dtype=torch.float64))
    keys = functional.normalize(task.views[1], dim=-1).requires_grad_()
    found = keys.detach().clone()
    found.grad = torch.empty_like(found)
    for rows in (torch.arange(0, 12), torch.arange(12, 19)):  # the second batch is smaller than the room
        image = functional.normalize(task.views[0, rows], dim=-1)
        cache = (-beta * (1 - image @ keys.T)).exp() @ functional.one_hot(task.label, 4).double()
        logits = task.scale * image @ functional.normalize(task.text, dim=-1).T + alpha * cache
        keys.grad = None
        functional.cross_entropy(logits, task.label[rows]).backward()
        images = Images.of(task, task.views[0, rows], task.label[rows])
        cache_gradient(images, found, task.label, alpha=alpha, beta=beta, room=room)
        torch.testing.assert_close(found.grad, keys.grad, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(cache_logits(images, found, task.label, alpha=alpha, beta=beta), logits.detach())


def test_a_run_counts_its_keys(lab):
    result = lab.run(**OPTIONS)
    assert result.parameters == 16 * 24  # an entry for each image: 6 pets and 10 tools
