"""Minimum of a smooth convex function by the limited-memory BFGS method.

Nocedal: Updating quasi-Newton matrices with limited storage, Mathematics of Computation 35, 1980.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MEMORY = 10  # pairs of a step and the change of the gradient along it
TRIALS = 20  # points that a line search looks at
DECREASE, CURVATURE = 1e-4, 0.9  # Wolfe's conditions for the end of a line search

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]


class Pair(NamedTuple):
    """A step, the change of the gradient along it, and 1 / (step . change)."""

    step: np.ndarray
    change: np.ndarray
    inverse: float


class QuasiNewton:
    """A descent that may continue with another, more precise form of the same function.

    Args:
        point: the start.
        limit: of the number of steps.

    Attributes:
        point: the best one so far. steps: taken so far.
    """

    def __init__(self, point: np.ndarray, *, limit: int) -> None:
        self.point, self.steps, self._limit = point, 0, limit
        self._pairs: list[Pair] = []

    def run(
        self,
        function: Function,
        done: Callable[[np.ndarray, np.ndarray], bool],
        *,
        inverse: np.ndarray | float = 1.0,
        rounding: float,
    ) -> bool:
        """Descend until ``done``.

        Args:
            function: of a point: its value and gradient.
            done: of a point and its gradient.
            inverse: 1 / the function's curvature along each coordinate, roughly.
            rounding: relative error of the value; a step that promises a smaller decrease is not taken.

        Returns:
            Whether it is done; False if the limit of steps or of precision was reached.
        """
        value, gradient = function(self.point)
        while not done(self.point, gradient):
            if self.steps >= self._limit:
                return False
            found = self._step(function, value, gradient, self._direction(gradient, inverse), rounding)
            if found is None:
                return False
            value, gradient = found
        return True

    def _step(
        self, function: Function, value: float, gradient: np.ndarray, direction: np.ndarray, rounding: float
    ) -> tuple[float, np.ndarray] | None:
        """Take a step; returns value and gradient behind it, or None if none is found."""
        slope = float(np.vdot(gradient, direction))
        if -slope <= rounding * abs(value):
            return None
        search = _Bracket(slope)
        for _ in range(TRIALS):
            step = self.point.dtype.type(search.length) * direction
            new_value, new_gradient = function(self.point + step)
            new_slope = float(np.vdot(new_gradient, direction))
            low = new_value <= value + DECREASE * search.length * slope + 100 * rounding * abs(value)
            if low and abs(new_slope) <= -CURVATURE * slope:
                self._remember(step, new_gradient - gradient, search.length * (new_slope - slope))
                self.point = self.point + step
                return new_value, new_gradient
            search.narrow(new_slope, beyond=not low)
        return None

    def _remember(self, step: np.ndarray, change: np.ndarray, product: float) -> None:
        self.steps += 1
        self._pairs.append(Pair(step, change, 1 / product))
        del self._pairs[:-MEMORY]

    def _direction(self, gradient: np.ndarray, inverse: np.ndarray | float) -> np.ndarray:
        """Minus the gradient times the inverse curvature that the pairs show."""
        direction, factors = -gradient, []
        for pair in reversed(self._pairs):
            factors.append(pair.inverse * float(np.vdot(pair.step, direction)))
            direction -= factors[-1] * pair.change
        direction *= inverse
        if self._pairs:
            last = self._pairs[-1]
            direction *= 1 / (last.inverse * float(np.vdot(last.change, inverse * last.change)))
        for pair, factor in zip(self._pairs, reversed(factors), strict=True):
            direction += (factor - pair.inverse * float(np.vdot(pair.change, direction))) * pair.step
        return direction


class _Bracket:
    """Lengths of a line search: 1, then longer until the minimum is passed, then between the last ends.

    Args:
        slope: at length 0, negative.
    """

    def __init__(self, slope: float) -> None:
        self.length = 1.0
        self._near, self._near_slope = 0.0, slope
        self._far: float | None = None
        self._far_slope = 0.0

    def narrow(self, slope: float, *, beyond: bool) -> None:
        """Choose the next length from the slope at this one, which lies ``beyond`` the minimum if the value rose."""
        if slope > 0 or beyond:
            self._far, self._far_slope = self.length, slope
        else:
            self._near, self._near_slope = self.length, slope
        if self._far is None:
            self.length *= 4
            return
        share = 0.5
        if self._far_slope > 0:
            share = min(0.9, max(0.1, self._near_slope / (self._near_slope - self._far_slope)))
        self.length = self._near + share * (self._far - self._near)
