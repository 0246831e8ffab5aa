"""The solver of the published linear probes."""

import numpy as np
import pytest

from trainers._logistic import fit_as_released

# Of scikit-learn 1.2.2 with SciPy 1.10.1, LogisticRegression(C=c, max_iter=1000) on ``waves``:
# (classes, C) -> iterations, the first three weights of the first row, its bias.
RECORDED = {
    (2, 1e-4): (2, [5.77926999e-05, -2.608482e-05, -0.000145405998, -3.76037866e-08]),
    (2, 0.316): (13, [0.18296518, 0.162480737, -0.0253060049, -0.34815652]),
    (2, 100): (25, [1.38238676, 1.88338481, -0.034647106, -4.13629433]),
    (2, 1e6): (18, [5.42440613, 6.50302851, 0.31513739, -11.5789076]),
    (4, 1e-4): (2, [-4.04454768e-05, 7.28954675e-05, 4.10052698e-05, 1.96932216e-07]),
    (4, 0.316): (26, [-0.0996999813, 0.0946764166, 0.0343174946, 0.664825974]),
    (4, 100): (67, [-0.993285618, 0.770675506, 0.245706211, 4.19224795]),
    (4, 1e6): (20, [-0.539397205, 2.23575705, 0.688484277, 11.173044]),
}


def waves(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Six images of 20 features for each class, by formula."""
    number = np.arange(classes * 6 * 20).reshape(-1, 20)
    labels = np.repeat(np.arange(classes), 6)
    features = np.sin(number * 0.7) + np.cos(number**1.5 * 0.01) + 0.3 * np.sin(labels[:, None] * np.arange(1, 21))
    return features, labels


@pytest.mark.parametrize(("classes", "c"), RECORDED)
def test_fits_end_where_those_of_the_old_version_ended(classes, c):
    iterations, values = RECORDED[classes, c]
    weight, bias, steps = fit_as_released(*waves(classes), c, max_iter=1000)
    assert weight.shape == (1 if classes == 2 else classes, 20)
    assert abs(steps - iterations) <= 1  # the last step depends on rounding
    assert [*weight[0, :3], bias[0]] == pytest.approx(values, rel=2e-3, abs=1e-9)
