"""The logistic regressions of one task, for the linear probe."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dassl.data.datum import Task
from dassl.evaluation.scores import score_task
from dassl.metrics.weights import balanced_weights
from trainers._logistic import fit_as_released
from trainers._regression import Regression

GRID = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
MAX_ITER = 1000


@dataclass(frozen=True)
class Fit:
    """Weights (C_t, F) and biases (C_t,) of one logistic regression, float64."""

    weight: np.ndarray
    bias: np.ndarray
    converged: bool = True

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Labels (n,) of features (n, F)."""
        return (features @ self.weight.T + self.bias).argmax(axis=1)


class TaskProbe:
    """Logistic regressions of one task; each C is fitted once.

    Args:
        index: of the task in the suite.
        train, val: features (n, F) and labels (n,).
        released: stop the solver where that of the published fits stopped.
    """

    def __init__(
        self,
        index: int,
        task: Task,
        *,
        train: tuple[Tensor, Tensor],
        val: tuple[Tensor, Tensor],
        released: bool = False,
    ) -> None:
        self.index, self.task, self._released = index, task, released
        (self._x, self._y), (self._val_x, self._val_y) = ((x.double().numpy(), y.numpy()) for x, y in (train, val))
        self._fits: dict[float, Fit] = {}

    @cached_property
    def seen(self) -> np.ndarray:
        """Labels that have a training image, ascending."""
        return np.unique(self._y)

    @cached_property
    def weights(self) -> np.ndarray | None:
        """Weight (n,) of each training image in the loss; None: 1."""
        if not self.task.weight:
            return None
        count = torch.bincount(torch.from_numpy(self._y), minlength=len(self.task.classnames))
        return balanced_weights(count).numpy()[self._y]

    @property
    def size(self) -> int:
        """Rough cost of a fit."""
        return self._x.size * len(self.seen)

    @property
    def val_size(self) -> int:
        """Number of validation images."""
        return len(self._val_y)

    @property
    def fits(self) -> bool:
        """Whether there is something to fit."""
        return len(self.seen) > 1

    @property
    def searches(self) -> bool:
        """Whether C makes a difference and there are images to choose it on."""
        return len(self._val_y) > 0 and self.fits

    @property
    def chains(self) -> list[list[float]]:
        """The values of C of the grid, divided into those that are fitted one after another, each from the others."""
        return [[c] for c in GRID] if self._released else [sorted(GRID)]

    def fit(self, c: float) -> Fit:
        """The regression with inverse penalty ``c``; a class without a training image is never predicted."""
        if c not in self._fits:
            self._fits[c] = self._regress(c)
        return self._fits[c]

    def score(self, c: float) -> float:
        """The task's metric on the validation images, in %."""
        confusion = np.zeros((len(self.task.classnames),) * 2, dtype=np.int64)
        np.add.at(confusion, (self._val_y, self.fit(c).predict(self._val_x)), 1)
        metric = score_task(self.index, self.task, confusion).metric
        assert metric is not None, "searches is False without validation images"
        return metric

    def _regress(self, c: float) -> Fit:
        classes = len(self.task.classnames)
        weight, bias = np.zeros((classes, self._x.shape[1])), np.full(classes, -np.inf)
        if len(self.seen) < 2:
            bias[self.seen if len(self.seen) else slice(None)] = 0
            return Fit(weight, bias)
        own_weight, own_bias, converged = self._solve(c)
        # For two classes one score is fitted; the first class has the constant score 0.
        zeros = len(self.seen) - len(own_weight)
        weight[self.seen] = np.pad(own_weight, ((zeros, 0), (0, 0)))
        bias[self.seen] = np.pad(own_bias, (zeros, 0))
        return Fit(weight, bias, converged)

    def _solve(self, c: float) -> tuple[np.ndarray, np.ndarray, bool]:
        """Weights and biases of the classes that have images, and whether the solver converged."""
        if not self._released:
            return self._regression.fit(c)
        weight, bias, steps = fit_as_released(self._x, self._own_labels, c, max_iter=MAX_ITER, factors=self.weights)
        return weight, bias, steps < MAX_ITER

    @cached_property
    def _regression(self) -> Regression:
        return Regression(self._x, self._own_labels, factors=self.weights, max_iter=MAX_ITER)

    @property
    def _own_labels(self) -> np.ndarray:
        """Labels (n,) numbered among the classes that have images."""
        return np.searchsorted(self.seen, self._y)
