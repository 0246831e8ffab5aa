"""LP++: the check values of the reference, and the same steps by torch's own optimiser."""

import pytest
import torch
from torch.nn import functional

from tests.trainers.features import work
from trainers.lp_plus_plus import Probe, rates, start, steps

OPTIONS = {"trainer": "LPPlusPlus", "TRAINER__LPPP__PREC": "fp32", "TRAINER__LPPP__STEPS": 30}
X = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
LABEL = torch.tensor([0, 0, 1, 1])
TEXT = torch.tensor([[0.96, 0.28], [0.28, 0.96]])


def test_start_and_step_sizes_are_those_of_the_reference():
    probe = start(X, LABEL, TEXT, torch.zeros(2))
    assert rates(X, X @ TEXT.T) == pytest.approx((5.40541, 0.39744), rel=1e-5)
    torch.testing.assert_close(probe.alpha, torch.tensor([237.0, 237.0]))
    torch.testing.assert_close(probe.weight, torch.tensor([[1.8, 0.6], [0.6, 1.8]]))
    torch.testing.assert_close(
        probe.logits(X, X @ TEXT.T)[:2], torch.tensor([[229.32, 66.96], [223.632, 191.16]]), rtol=1e-6, atol=1e-3
    )


@pytest.mark.parametrize(("accumulate", "last"), [(True, 1.36035), (False, 1.22687)])
def test_the_gradient_of_alpha_is_summed_in_the_released_form_only(accumulate, last):
    probe = Probe(start(X, LABEL, TEXT, torch.zeros(2)).weight, torch.zeros(2), torch.ones(2))
    moves = steps(probe, X, LABEL, TEXT, rate=(0.1, 0.39744), accumulate=accumulate)
    assert next(moves) == pytest.approx(0.332364, abs=1e-6)
    torch.testing.assert_close(probe.weight[0], torch.tensor([1.80535, 0.59465]), rtol=0, atol=1e-5)
    assert probe.alpha.tolist() == [1.0, 1.0]
    for _ in range(9):
        next(moves)
    torch.testing.assert_close(probe.alpha, torch.full((2,), 1.13348), rtol=0, atol=2e-5)
    torch.testing.assert_close(probe.weight[0], torch.tensor([2.01015, 0.38985]), rtol=0, atol=2e-5)
    for _ in range(10):
        next(moves)
    torch.testing.assert_close(probe.alpha, torch.full((2,), last), rtol=0, atol=2e-5)
    torch.testing.assert_close(probe.weight[0], torch.tensor([2.34371, 0.05629]), rtol=0, atol=2e-5)


@pytest.mark.parametrize("accumulate", [True, False])
def test_the_steps_are_those_of_autograd_and_torchs_optimiser(accumulate):
    task = work(train=30)
    x, label = task.flat()
    text = functional.normalize(task.text, dim=-1)
    probe = start(x, label, text, torch.full((4,), 0.1))
    rate = rates(x, x @ text.T)
    weight, bias, alpha = (each.clone().double().requires_grad_() for each in (probe.weight, probe.bias, probe.alpha))
    optimiser = torch.optim.SGD([weight, bias], lr=rate[0], momentum=0.9)
    moves = steps(probe, x, label, text, rate=rate, accumulate=accumulate)
    for number in range(1, 25):
        optimiser.zero_grad()
        logits = x.double() @ weight.T + bias + (x @ text.T).double() * alpha
        functional.cross_entropy(logits, label).backward()
        optimiser.step()
        if number % 10 == 0:
            alpha.data -= rate[1] * alpha.grad
            alpha.grad *= accumulate
        next(moves)
    for mine, theirs in ((probe.weight, weight), (probe.bias, bias), (probe.alpha, alpha)):
        torch.testing.assert_close(mine.double(), theirs.detach(), rtol=1e-3, atol=1e-3)


def test_the_last_of_the_best_steps_is_kept_and_can_be_asked_for(lab):
    trainer = lab.trainer(**OPTIONS)
    task = work(train=20, val=30)
    text, val = (functional.normalize(each, dim=-1) for each in (task.text, task.val))
    x, label = task.flat()
    probe = start(x, label, text, trainer.first_bias(task))
    moves = steps(probe, x, label, text, rate=rates(x, x @ text.T), accumulate=False)
    scores = []
    for _ in range(30):
        next(moves)
        scores.append(float((probe.logits(val, val @ text.T).argmax(1) == task.val_label).double().mean()))
    best = max(number for number, score in enumerate(scores, 1) if score == max(scores))
    found = trainer.fit_task(task)
    assert found.chosen == {"steps": best} and found.rate == pytest.approx(100 * max(scores))
    again = trainer.fit_task(task, found.chosen)
    assert all(torch.equal(again.tensors[name], values) for name, values in found.tensors.items())


def test_a_run_counts_w_b_and_alpha(lab):
    result = lab.run(**OPTIONS)
    assert result.parameters == 8 * (24 + 2)
