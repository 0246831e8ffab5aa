"""The minimiser of smooth convex functions."""

import numpy as np
import pytest

from trainers._quasi_newton import QuasiNewton


def small(_, gradient):
    """Whether a gradient is nearly zero."""
    return bool(np.abs(gradient).max() < 1e-8)


def bowl(scales, centre):
    """sum of scales * (x - centre)^2 / 2, with its gradient."""
    return lambda x: (0.5 * float(scales @ (x - centre) ** 2), scales * (x - centre))


@pytest.mark.parametrize("scales", [[1.0, 1.0, 1.0], [1e-3, 1.0, 40.0], [1e4, 2e4, 3e4], [1e-4, 2e-4, 3e-4]])
def test_the_minimum_of_a_bowl_is_its_centre(scales):
    centre = np.array([1.0, -2.0, 3.0])
    descent = QuasiNewton(np.zeros(3), limit=100)
    assert descent.run(bowl(np.array(scales), centre), small, rounding=0.0)
    np.testing.assert_allclose(descent.point, centre, atol=1e-4)


def test_known_curvature_leaves_one_step():
    scales, centre = np.geomspace(1e-6, 1e6, 9), np.arange(9.0)
    descent = QuasiNewton(np.zeros(9), limit=100)
    assert descent.run(bowl(scales, centre), small, inverse=1 / scales, rounding=0.0)
    assert descent.steps == 1
    np.testing.assert_allclose(descent.point, centre)


def steep(x):
    """sum of exp(a x) over rows a, less a linear part: flat on one side and very steep on the other."""
    rows = np.array([[5.0, 1.0], [-1.0, 2.0], [0.5, -3.0]])
    with np.errstate(over="ignore", invalid="ignore"):
        high = np.exp(rows @ x)
        return float(high.sum()), high @ rows


def test_a_step_that_goes_too_far_is_shortened():
    descent = QuasiNewton(np.array([1.5, 1.0]), limit=200)
    assert descent.run(steep, small, rounding=0.0)
    assert np.abs(steep(descent.point)[1]).max() < 1e-8


def test_the_value_never_rises():
    seen, descent = [], QuasiNewton(np.array([1.0, -1.0]), limit=1)
    for limit in range(1, 12):
        descent = QuasiNewton(np.array([1.0, -1.0]), limit=limit)
        descent.run(steep, small, rounding=0.0)
        assert descent.steps <= limit
        seen.append(steep(descent.point)[0])
    assert seen == sorted(seen, reverse=True) and seen[0] > seen[-1]


def test_the_limit_of_steps_ends_a_descent():
    scales = np.geomspace(1e-3, 1e3, 30)
    descent = QuasiNewton(np.zeros(30), limit=3)
    assert not descent.run(bowl(scales, np.ones(30)), small, rounding=0.0)
    assert descent.steps == 3


def test_a_decrease_that_rounding_hides_is_not_looked_for():
    asked = []
    centre = np.array([1e-3, 0.0])

    def function(x):
        asked.append(x)
        value, gradient = bowl(np.ones(2), centre)(x)
        return 1.0 + value, gradient

    descent = QuasiNewton(np.zeros(2), limit=50)
    assert not descent.run(function, small, rounding=1e-5)
    assert len(asked) == 1 and descent.steps == 0


def test_a_more_precise_form_goes_on_from_the_steps_so_far():
    scales, centre = np.geomspace(0.1, 10, 8), np.ones(8)
    descent = QuasiNewton(np.zeros(8, dtype=np.float32), limit=50)
    coarse = bowl(scales.astype(np.float32), centre.astype(np.float32))
    descent.run(coarse, lambda _, gradient: bool(np.abs(gradient).max() < 1e-2), rounding=1e-7)
    before = descent.steps
    descent.point = descent.point.astype(np.float64)
    assert descent.run(bowl(scales, centre), small, rounding=0.0)
    alone = QuasiNewton(np.zeros(8), limit=50)
    alone.run(bowl(scales, centre), small, rounding=0.0)
    assert 0 < before < descent.steps <= alone.steps + 2
    np.testing.assert_allclose(descent.point, centre, atol=1e-6)
