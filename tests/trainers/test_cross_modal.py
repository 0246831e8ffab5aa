"""The cross-modal linear probe, step by step, and its search."""

import itertools

import pytest
import torch
from torch.nn import functional

from tests.trainers.features import work
from trainers import cross_modal
from trainers._descent import endless_batches
from trainers.cross_modal import warmed

OPTIONS = {"trainer": "CrossModal", "TRAINER__CMLP__PREC": "fp32", "TRAINER__CMLP__STEPS": 200}


def by_hand(task, *, rate, decay, batch, steps, looks):
    """The weights at each look, by torch's optimiser and scheduler."""
    x, text = (functional.normalize(each, dim=-1) for each in (task.views[0], task.text))
    weight = torch.nn.Parameter(text.clone())
    optimiser = torch.optim.AdamW([weight], lr=rate, weight_decay=decay)
    images = endless_batches(len(x), batch // 2, seed=1, name="images things")
    texts = endless_batches(len(text), batch // 2, seed=1, name="texts things")
    found = {}
    for number, now, rows, classes in zip(range(1, steps + 1), warmed(rate, steps), images, texts, strict=False):
        optimiser.param_groups[0]["lr"] = now
        logits = torch.cat([x[rows] @ weight.T, text[classes] @ weight.T]) * task.scale
        optimiser.zero_grad()
        functional.cross_entropy(logits, torch.cat([task.label[rows], classes])).backward()
        optimiser.step()
        if number in looks:
            found[number] = weight.detach().clone()
    return found


def test_rates_rise_for_fifty_steps_and_fall_along_a_cosine():
    rates = warmed(1e-3, 250)
    assert rates[:2] == pytest.approx([1e-5, 1e-5 + (1e-3 - 1e-5) / 50])
    assert rates[50] == 1e-3 and rates[150] == pytest.approx(5e-4) and len(rates) == 250
    assert len(warmed(1e-3, 20)) == 20


def test_the_best_look_is_kept_and_can_be_asked_for(lab):
    trainer = lab.trainer(**OPTIONS)
    task = work(train=20, val=30)
    looks = by_hand(task, rate=1e-3, decay=0.01, batch=32, steps=200, looks=(100, 200))
    val = functional.normalize(task.val, dim=-1)
    rates = {n: 100 * float(((val @ w.T).argmax(1) == task.val_label).double().mean()) for n, w in looks.items()}
    best = 200 if rates[200] > rates[100] else 100
    found = trainer.fit_task(task)
    assert found.chosen["look"] == best and found.rate == pytest.approx(rates[best])
    torch.testing.assert_close(found.tensors["weight"], task.scale * looks[best], rtol=1e-4, atol=1e-4)
    again = trainer.fit_task(task, found.chosen)
    assert torch.equal(again.tensors["weight"], found.tensors["weight"])


def test_the_released_search_has_the_authors_twelve_settings(lab, monkeypatch):
    monkeypatch.setattr(cross_modal, "STEPS", 100)
    trainer = lab.trainer(**OPTIONS, TRAINER__CMLP__RECIPE="released")
    task = work(train=20, val=30)
    rates = {}
    for rate, decay, batch in itertools.product((1e-3, 1e-4), (0.0, 0.01, 1e-4), (8, 32)):
        (weight,) = by_hand(task, rate=rate, decay=decay, batch=batch, steps=100, looks=(100,)).values()
        hits = (functional.normalize(task.val, dim=-1) @ weight.T).argmax(1) == task.val_label
        rates[rate, decay, batch] = 100 * float(hits.double().mean())
    found = trainer.fit_task(task)
    assert len(rates) == 12
    assert found.rate == pytest.approx(max(rates.values()))
    chosen = tuple(found.chosen[name] for name in ("lr", "decay", "batch"))
    assert rates[chosen] == max(rates.values())


def test_a_run_counts_one_row_for_each_class(lab):
    assert lab.run(**OPTIONS).parameters == 8 * 24
