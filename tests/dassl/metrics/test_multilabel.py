"""Loss and figures of multi-label tasks, against computations that are as plain as their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from dassl.metrics.multilabel import (
    Asymmetric,
    average_precisions,
    best_threshold,
    f1_scores,
    fitted_bias,
    mean_average_precision,
    multi_label_loss,
    probabilities,
)


@st.composite
def problems(draw, most_classes=5):
    """Logits (n, C) and truth (n, C) bool."""
    count, classes = draw(st.integers(1, 12)), draw(st.integers(1, most_classes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    logits = draw(st.sampled_from([0.1, 2.0, 10.0])) * torch.randn(count, classes, generator=generator)
    truth = torch.rand(count, classes, generator=generator) < draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    return logits, truth


def columns_of(truth, keep):
    generator = torch.Generator().manual_seed(keep)
    return torch.rand(truth.shape, generator=generator) < 0.7


def slow_loss(logits, truth, columns, images, gamma_pos=0.0, gamma_neg=0.0, clip=0.0):
    """The definition, one label of one image at a time, in float64."""
    total = logits.new_zeros((), dtype=torch.float64)
    for n, c in zip(*columns.nonzero(as_tuple=True), strict=True):
        p = torch.sigmoid(logits[n, c].double())
        if truth[n, c]:
            total = total - (1 - p) ** gamma_pos * torch.log(p)
        else:
            below = torch.relu(p - clip)
            total = total - below**gamma_neg * torch.log(1 - below)
    return total / images


def loss_and_gradient(function, logits):
    logits = logits.clone().requires_grad_()
    loss = function(logits)
    if loss.requires_grad:
        loss.backward()
    return float(loss), torch.zeros_like(logits) if logits.grad is None else logits.grad


LOSSES = [(0.0, 0.0, 0.0), (0.0, 4.0, 0.05), (1.0, 4.0, 0.05), (2.0, 1.0, 0.0)]


@pytest.mark.parametrize(("gamma_pos", "gamma_neg", "clip"), LOSSES)
@given(problem=problems(), keep=st.integers(0, 99))
@settings(max_examples=40)
def test_both_losses_are_what_their_definitions_say(gamma_pos, gamma_neg, clip, problem, keep):
    logits, truth = problem
    columns, images = columns_of(truth, keep), len(truth)
    kind = Asymmetric(gamma_neg, gamma_pos, clip) if gamma_pos or gamma_neg else None
    mine = loss_and_gradient(lambda z: multi_label_loss(z, truth, columns, images=images, asymmetric=kind), logits)
    slow = loss_and_gradient(lambda z: slow_loss(z, truth, columns, images, gamma_pos, gamma_neg, clip), logits)
    assert mine[0] == pytest.approx(slow[0], rel=1e-4, abs=1e-5)
    torch.testing.assert_close(mine[1], slow[1], rtol=1e-3, atol=1e-5)


@given(problems())
def test_without_exponents_the_asymmetric_loss_is_the_binary_cross_entropy(problem):
    logits, truth = problem
    everything = torch.ones_like(truth)
    losses = [
        multi_label_loss(logits, truth, everything, images=1, asymmetric=each) for each in (None, Asymmetric(0, 0, 0))
    ]
    torch.testing.assert_close(*losses)


def test_sure_labels_give_finite_losses_and_gradients():
    logits, truth = torch.tensor([[200.0, -200.0, 200.0, -200.0]]), torch.tensor([[True, True, False, False]])
    for kind in (None, Asymmetric(4, 0, 0.05), Asymmetric(4, 1, 0.05), Asymmetric(1, 1, 0)):
        loss, gradient = loss_and_gradient(
            lambda z, kind=kind: multi_label_loss(z, truth, torch.ones_like(truth), images=1, asymmetric=kind), logits
        )
        assert math.isfinite(loss) and torch.isfinite(gradient).all()


@given(problems())
def test_the_fitted_bias_is_the_best_one(problem):
    logits, truth = problem
    bias = fitted_bias(logits, truth)
    wanted = (truth.sum().item() + 0.5) / (truth.numel() + 1)
    assert torch.sigmoid(logits.double() - bias).mean().item() == pytest.approx(wanted, abs=1e-6)


def plain_precision(scores, truth):
    """Average precision of one class: sum of (change of recall) x precision over the distinct scores."""
    found, before = 0.0, 0
    for least in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= least
        hits = (truth & chosen).sum()
        found += (hits - before) / truth.sum() * hits / chosen.sum()
        before = hits
    return 100 * found


@given(problems())
@settings(max_examples=50)
def test_the_mean_average_precision_is_that_of_the_definition(problem):
    scores, truth = problem[0].double().round(decimals=1).numpy(), problem[1].numpy()
    seen = [c for c in range(truth.shape[1]) if truth[:, c].any()]
    mine = average_precisions(scores, truth)
    assert [each is None for each in mine] == [c not in seen for c in range(truth.shape[1])]
    plain = [plain_precision(scores[:, c], truth[:, c]) for c in seen]
    assert [mine[c] for c in seen] == pytest.approx(plain)
    assert mean_average_precision(mine) == (pytest.approx(np.mean(plain)) if seen else None)


def test_a_class_that_is_never_predicted_has_the_precision_of_guessing():
    scores, truth = (
        np.array([[-np.inf], [-np.inf], [-np.inf], [-np.inf]]),
        np.array([[True], [False], [False], [False]]),
    )
    assert average_precisions(scores, truth) == [25.0]


@given(problems())
@settings(max_examples=50)
def test_f1_is_that_of_scikit_learn(problem):
    truth, predicted = problem[1].numpy(), problem[0].numpy() > 0
    seen = truth.any(axis=0)
    micro, macro = f1_scores(predicted, truth)
    if not seen.any():
        assert (micro, macro) == (None, None)
        return
    assert micro == pytest.approx(100 * f1_score(truth.ravel(), predicted.ravel(), zero_division=0))
    each = [f1_score(truth[:, c], predicted[:, c], zero_division=0) for c in np.flatnonzero(seen)]
    assert macro == pytest.approx(100 * np.mean(each))


@given(problems())
@settings(max_examples=50)
def test_no_threshold_is_better(problem):
    chances, truth = probabilities(problem[0].round(decimals=1)), problem[1].numpy()
    best = best_threshold(chances, truth)
    if not truth.any():
        assert best is None
        return
    others = [f1_scores(chances >= least, truth)[0] for least in chances.ravel()]
    assert f1_scores(chances >= best, truth)[0] == pytest.approx(max(others))
    assert 0 < best < 1


def test_of_equal_thresholds_the_middle_one_counts():
    chances, truth = np.array([[0.9, 0.2]]), np.array([[True, False]])
    assert best_threshold(chances, truth) == pytest.approx(0.55)
