"""Logistic regressions of the same images with many values of C.

The minimum is the one that scikit-learn's ``LogisticRegression`` looks for; this is a faster way to it:

- Features are centred and turned to their principal axes, of which there are no more than images. Along each axis
  the curvature is known roughly, so that features on very different scales do not slow the descent.
- The first steps use float32. The last ones, and the decision that it is the minimum, use float64.
- A descent starts on the line through the minima of the two nearest values of C.
"""

from typing import NamedTuple

import numpy as np

from trainers._logistic import GRADIENT
from trainers._quasi_newton import QuasiNewton

CHANGE = 1e-4  # largest relative change of the scores by one more step
ROUNDING = {np.dtype(np.float32): 2e-9, np.dtype(np.float64): 1e-15}  # relative error of a sum of losses


class Solution(NamedTuple):
    """Weights (K, F), or (1, F) for two classes, of which the second has the one score; biases likewise."""

    weight: np.ndarray
    bias: np.ndarray
    converged: bool


class Regression:
    """Minimises sum of cross-entropies + |W|^2 / (2 C) of images with one class each.

    Args:
        x: features (n, F), float64.
        y: labels (n,), 0 to K-1, each at least once.
        factors: (n,), of each image's cross-entropy; None: 1.
        max_iter: limit of the number of steps.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, *, factors: np.ndarray | None = None, max_iter: int) -> None:
        self._y, self._classes, self._max_iter = y, int(y.max()) + 1, max_iter
        self._factors = np.ones(len(y)) if factors is None else factors
        self._mean = np.average(x, axis=0, weights=self._factors)
        centred = x - self._mean
        self._spread, self._axes = principal_axes(centred * np.sqrt(self._factors)[:, None])
        self._z = centred @ self._axes
        self._z32 = self._z.astype(np.float32)
        self._minima: dict[float, np.ndarray] = {}  # (A + 1, K) along the A axes, below it the bias; by log C

    def fit(self, c: float) -> Solution:
        """The minimum for one C; later fits start from it."""
        start = self._start(np.log(c))
        descent, curvature = QuasiNewton(start.astype(np.float32), limit=self._max_iter), self._curvature(start)
        self._descend(descent, self._z32, curvature, c)
        now = self._curvature(descent.point)
        if now < curvature / 2:
            self._descend(descent, self._z32, now, c)
            now = self._curvature(descent.point)
        descent.point = descent.point.astype(np.float64)
        self._descend(descent, self._z, now, c)
        self._minima[np.log(c)] = descent.point
        weight = (self._axes @ descent.point[:-1]).T
        return Solution(weight, descent.point[-1] - weight @ self._mean, descent.steps < self._max_iter)

    def _descend(self, descent: QuasiNewton, z: np.ndarray, curvature: float, c: float) -> None:
        """Descend with features of one precision until one more step would change little and the gradient is small."""
        along = np.append(curvature * self._spread + 1 / c, curvature * self._factors.sum())
        inverse = (1 / along)[:, None].astype(z.dtype)

        def done(point: np.ndarray, gradient: np.ndarray) -> bool:
            if self.size_of_scores(gradient * inverse) > CHANGE * self.size_of_scores(point):
                return False
            return self.largest(gradient) <= GRADIENT

        descent.run(lambda point: self.loss(z, point, 1 / c), done, inverse=inverse, rounding=ROUNDING[z.dtype])

    def _start(self, place: float) -> np.ndarray:
        """A point on the line through the minima of the two nearest values of C; without any, zeros."""
        near = sorted(self._minima, key=lambda each: abs(each - place))[:2]
        if not near:
            return np.zeros((len(self._spread) + 1, self._classes if self._classes > 2 else 1))
        first, last = self._minima[near[0]], self._minima[near[-1]]
        return first if len(near) == 1 else first + (place - near[0]) / (near[1] - near[0]) * (last - first)

    def _curvature(self, point: np.ndarray) -> float:
        """The mean of p (1 - p) over images and classes: of the loss, along a score."""
        chance = np.abs(self._chances(self._z32, point.astype(np.float32))[0])
        return max(float(np.mean(chance * (1 - chance), dtype=np.float64)), 1e-12)

    def _chances(self, z: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (n, K) of the classes, less 1 for the true one, and the cross-entropies (n,).

        Both have a small relative error also where the true class is nearly certain. Two classes have one score.
        """
        chance = z @ point[:-1]
        chance += point[-1]
        if self._classes == 2:
            chance = np.pad(chance, ((0, 0), (1, 0)))
        chance -= chance.max(axis=1, keepdims=True)
        own = np.arange(len(chance)), self._y
        true = chance[own]
        np.exp(chance, out=chance)
        chance[own] = 0
        others = chance.sum(axis=1)
        total = others + np.exp(true)
        chance[own] = -others
        chance /= total[:, None]
        return chance, np.where(true == 0, np.log1p(others), np.log(total) - true)

    def loss(self, z: np.ndarray, point: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        """The loss at a point, and its gradient.

        Args:
            z: the features along the axes, whose precision is that of the computation.
            point: (A + 1, K) or, for two classes, (A + 1, 1).
        """
        chance, losses = self._chances(z, point)
        chance *= self._factors.astype(z.dtype)[:, None]
        chance = chance[:, -point.shape[1] :]
        gradient = np.concatenate([z.T @ chance, chance.sum(axis=0, keepdims=True)])
        gradient[:-1] += z.dtype.type(penalty) * point[:-1]
        total = float(losses.astype(np.float64) @ self._factors)
        return total + 0.5 * penalty * float(np.vdot(point[:-1], point[:-1])), gradient

    def largest(self, gradient: np.ndarray) -> float:
        """The largest component of a gradient in the coordinates of the features."""
        weights = self._axes @ gradient[:-1] + np.outer(self._mean, gradient[-1])
        return float(max(np.abs(weights).max(), np.abs(gradient[-1]).max()))

    def size_of_scores(self, point: np.ndarray) -> float:
        """Root of the sum over images and classes of the squared scores."""
        squares = np.square(point).sum(axis=1)
        return float(np.sqrt(np.append(self._spread, self._factors.sum()) @ squares))


def principal_axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares (A,) along the principal axes of centred features (n, F), and the axes (F, A), A <= min(n, F)."""
    if len(x) >= x.shape[1]:
        spread, axes = np.linalg.eigh(x.T @ x)
    else:
        basis, coordinates = np.linalg.qr(x.T)
        spread, axes = np.linalg.eigh(coordinates @ coordinates.T)
        axes = basis @ axes
    return np.maximum(spread, 0), axes
