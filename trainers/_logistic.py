"""Logistic regression that stops where the published linear probes stopped.

SoftCPT's and CoOp's probes were fitted with a scikit-learn before 1.4. Its lbfgs minimised the sum of the losses, and
ended at a gradient of 1e-4 or when a step gained less than 2.2e-9 of the objective, as SciPy does by itself. Newer
versions minimise the mean and continue to 64 rounding errors, which no argument changes. At large C, where the minimum
is far away, this leads to other weights and so to another choice of C.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

GRADIENT = 1e-4


def fit_as_released(
    x: np.ndarray, y: np.ndarray, c: float, *, max_iter: int, factors: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Fit sum of cross-entropies + |W|^2 / (2 c) from zeros.

    Args:
        x: features (n, F), float64.
        y: labels (n,), 0 to K-1, each at least once.
        c: inverse penalty; the bias has none.
        factors: (n,), of each image's cross-entropy; None: 1.

    Returns:
        Weights (K, F), or (1, F) for two classes, of which the second has the one score; biases likewise; iterations.
    """
    classes = int(y.max()) + 1
    rows = 1 if classes == 2 else classes
    inputs = np.pad(x, ((0, 0), (0, 1)), constant_values=1)
    truth = np.eye(classes)[y]
    factor = np.ones((len(y), 1)) if factors is None else factors[:, None]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(rows, -1)
        scores = np.pad(inputs @ weights.T, ((0, 0), (classes - rows, 0)))
        logs = log_softmax(scores, axis=1)
        gradient = ((np.exp(logs) - truth) * factor)[:, -rows:].T @ inputs
        gradient[:, :-1] += weights[:, :-1] / c
        return 0.5 / c * np.sum(weights[:, :-1] ** 2) - np.sum(logs * truth * factor), gradient.ravel()

    start = np.zeros(rows * inputs.shape[1])
    options = {"maxiter": max_iter, "gtol": GRADIENT}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    weights = found.x.reshape(rows, -1)
    return weights[:, :-1], weights[:, -1], found.nit
