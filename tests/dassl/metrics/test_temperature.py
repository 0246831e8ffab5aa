"""The temperature, against a bounded search over one number."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from dassl.metrics.temperature import HIGHEST, LOWEST, fit_temperature, has_optimum


def loss(temperature, logits, label):
    """Mean negative log-likelihood in NumPy."""
    return -log_softmax(logits / temperature, axis=1)[np.arange(len(label)), label].mean()


def searched(logits, label):
    """The best temperature by another method, over the logarithm."""
    found = minimize_scalar(
        lambda x: loss(math.exp(x), logits, label),
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return math.exp(found.x)


@st.composite
def problems(draw):
    """Logits (n, C) of any scale and labels that agree with them more or less."""
    images, classes = draw(st.integers(1, 30)), draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    label = generator.integers(0, classes, images)
    logits = generator.normal(size=(images, classes)) + draw(st.floats(0, 3)) * np.eye(classes)[label]
    return draw(st.floats(0.1, 30)) * logits, label


@given(problems())
def test_it_is_the_best_there_is(problem):
    logits, label = problem
    found = fit_temperature(torch.from_numpy(logits), torch.from_numpy(label))
    best = searched(logits, label)
    if found is None:
        right = (logits.argmax(axis=1) == label).all()
        at_the_end = min(best / LOWEST, HIGHEST / best) < 1.01
        guess = loss(HIGHEST, logits, label) <= loss(best, logits, label) + 1e-6
        assert right or at_the_end or guess
    else:
        assert loss(found, logits, label) <= loss(best, logits, label) + 1e-9
        assert found == pytest.approx(best, rel=1e-3) or loss(found, logits, label) == pytest.approx(
            loss(best, logits, label), abs=1e-9
        )


@given(problems(), st.floats(0.5, 2))
def test_it_scales_with_the_logits(problem, factor):
    logits, label = (torch.from_numpy(each) for each in problem)
    one, other = fit_temperature(logits, label), fit_temperature(factor * logits, label)
    if one is not None and other is not None:
        assert other == pytest.approx(factor * one, rel=1e-3)


def test_too_sure_scores_get_a_high_temperature_and_unsure_ones_a_low_one():
    label = torch.tensor([0, 0, 0, 1])
    scores = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0]])  # right three times of four: log 3 apart
    for factor in (0.1, 1.0, 20.0):
        assert fit_temperature(factor * scores, label) == pytest.approx(factor / math.log(3), rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "label"),
    [
        (torch.zeros(0, 3), []),
        (torch.tensor([[2.0, 1], [0, 1]]), [0, 1]),  # all right: the smaller, the better
        (torch.tensor([[2.0, 1], [0, 1]]), [1, 0]),  # all wrong: the larger, the better
        (torch.zeros(4, 3), [0, 1, 2, 0]),  # no temperature makes a difference
        (torch.tensor([[-math.inf, 1.0]]), [0]),  # the true class is never predicted
        (torch.tensor([[5e4, 0.0], [5e4, 0.0], [5e4, 0.0], [5e4, 0.0]]), [0, 0, 0, 1]),  # the best is above HIGHEST
    ],
)
def test_where_no_temperature_is_the_best_there_is_none(logits, label):
    assert fit_temperature(logits, torch.tensor(label, dtype=torch.int64)) is None


def test_a_class_that_is_never_predicted_has_no_say():
    label = torch.tensor([0, 0, 0, 1])
    scores = torch.tensor([[1.0, 0, -math.inf]] * 4)
    assert fit_temperature(scores, label) == pytest.approx(1 / math.log(3), rel=1e-6)
    more = torch.cat([scores, torch.tensor([[1.0, 0, -math.inf]])])
    assert fit_temperature(more, torch.tensor([0, 0, 0, 1, 2])) == pytest.approx(1 / math.log(3), rel=1e-6)


def test_an_optimum_needs_a_mistake_and_more_than_guesses():
    right = torch.tensor([[1.0, 0]])
    assert not has_optimum(right, torch.tensor([0]))
    assert not has_optimum(right, torch.tensor([1]))
    assert has_optimum(right.repeat(3, 1), torch.tensor([0, 0, 1]))


def test_it_works_where_gradients_are_off():
    with torch.no_grad():
        assert fit_temperature(torch.tensor([[1.0, 0]] * 4), torch.tensor([0, 0, 0, 1])) is not None
