"""Logistic regressions of the linear probe: the plain formula, and the minimum that scikit-learn finds."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from trainers._regression import Regression, principal_axes


def images(*, classes=4, width=6, count=30, spread=1.0, seed=0):
    """Features (n, F) with a common mean and axes of different sizes, and labels; every class has an image."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=count - classes)])
    sizes = np.geomspace(1, 0.05, width)
    x = 3 + (rng.normal(size=(classes, width))[y] + spread * rng.normal(size=(count, width))) * sizes
    return x, y


def weights(count):
    """Different weights of images."""
    return np.linspace(0.5, 1.5, count)


def plain(regression, point, x, y, factors, c):
    """The formula by torch, in the coordinates of the features: value and gradient along the axes."""
    point = torch.from_numpy(point).requires_grad_()
    weight = torch.from_numpy(regression._axes) @ point[:-1]
    scores = (torch.from_numpy(x) - torch.from_numpy(regression._mean)) @ weight + point[-1]
    scores = functional.pad(scores, (1, 0)) if point.shape[1] == 1 else scores
    losses = functional.cross_entropy(scores, torch.from_numpy(y), reduction="none")
    total = (losses * torch.from_numpy(factors)).sum() + weight.square().sum() / (2 * c)
    total.backward()
    return total.item(), point.grad.numpy()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [30, 5], ids=["more images than features", "fewer"])
@pytest.mark.parametrize("classes", [2, 4])
def test_loss_and_gradient_are_those_of_the_plain_formula(classes, count, weighted):
    x, y = images(classes=classes, count=count)
    factors = weights(count) if weighted else np.ones(count)
    regression = Regression(x, y, factors=factors if weighted else None, max_iter=10)
    rows = min(count, 6)
    point = np.random.default_rng(1).normal(size=(rows + 1, classes if classes > 2 else 1))
    expected = plain(regression, point, x, y, factors, 0.5)
    for precision, rtol in ((np.float64, 1e-10), (np.float32, 1e-4)):
        value, gradient = regression.loss(regression._z.astype(precision), point.astype(precision), 2.0)
        assert value == pytest.approx(expected[0], rel=rtol)
        np.testing.assert_allclose(gradient, expected[1], rtol=rtol, atol=rtol)


def test_a_class_that_is_nearly_certain_has_a_precise_gradient_in_float32():
    x, y = images(spread=0.0)
    regression = Regression(x, y, max_iter=1000)
    weight, bias, _ = regression.fit(1e6)
    point = np.vstack([regression._axes.T @ weight.T, bias + weight @ regression._mean])
    fine, coarse = (regression.loss(regression._z.astype(p), point.astype(p), 0.0) for p in (np.float64, np.float32))
    assert fine[0] < 1e-3
    assert coarse[0] == pytest.approx(fine[0], rel=1e-3)
    np.testing.assert_allclose(coarse[1], fine[1], rtol=1e-2, atol=1e-4 * np.abs(fine[1]).max())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("classes", "count"), [(2, 30), (4, 30), (4, 5)])
@pytest.mark.parametrize("c", [1e-6, 1e-2, 1.0, 1e2, 1e5])
def test_the_minimum_is_that_of_scikit_learn(classes, count, weighted, c):
    x, y = images(classes=classes, count=count)
    factors = weights(count) if weighted else None
    found = Regression(x, y, factors=factors, max_iter=1000).fit(c)
    model = LogisticRegression(C=c, max_iter=100_000, tol=1e-11).fit(x - x.mean(0), y, factors)
    assert found.converged and found.weight.shape == (1 if classes == 2 else classes, 6)
    size = np.abs(model.coef_).max()
    np.testing.assert_allclose(found.weight, model.coef_, rtol=0, atol=3e-3 * size)
    scores = x @ found.weight.T + found.bias
    expected = model.decision_function(x - x.mean(0)).reshape(scores.shape)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=3e-3 * np.abs(expected).max())


def test_the_minimum_does_not_depend_on_the_fits_before():
    x, y = images(count=60, classes=5, width=12)
    order = [1e-4, 1e-2, 1.0, 1e2, 1e4, 10.0, 31.6]
    path, back = Regression(x, y, max_iter=1000), Regression(x, y, max_iter=1000)
    first = {c: path.fit(c) for c in order}
    for c in reversed(order):
        second, alone = back.fit(c), Regression(x, y, max_iter=1000).fit(c)
        for other in (second, alone):
            size = np.abs(alone.weight).max()
            np.testing.assert_allclose(first[c].weight, other.weight, rtol=0, atol=2e-3 * size)


def test_a_fit_starts_near_its_minimum(monkeypatch):
    x, y = images(count=60, classes=5, width=12)
    asked = []
    loss = Regression.loss
    monkeypatch.setattr(Regression, "loss", lambda *given: asked.append(1) or loss(*given))
    path = Regression(x, y, max_iter=1000)
    for c in (1e2, 1e3, 3e2):
        asked.clear()
        path.fit(c)
    warm = len(asked)
    asked.clear()
    Regression(x, y, max_iter=1000).fit(3e2)
    assert warm < len(asked)


def test_a_fit_that_is_cut_off_says_so():
    x, y = images(count=60, classes=5, width=12)
    assert not Regression(x, y, max_iter=2).fit(1e4).converged
    assert Regression(x, y, max_iter=1000).fit(1e4).converged


@pytest.mark.parametrize("count", [40, 7])
def test_principal_axes_hold_all_of_the_features(count):
    x = images(count=count, width=10)[0]
    x = x - x.mean(0)
    spread, axes = principal_axes(x)
    assert axes.shape == (10, min(count, 10))
    np.testing.assert_allclose(axes.T @ axes, np.eye(len(spread)), atol=1e-12)
    np.testing.assert_allclose(x @ axes @ axes.T, x, atol=1e-12)
    np.testing.assert_allclose(np.square(x @ axes).sum(0), spread, atol=1e-10)
