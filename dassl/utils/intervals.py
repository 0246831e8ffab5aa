"""The spread after the sign of a mean over runs: a standard deviation, or half of a 95 % interval."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A measure of the spread of a mean.

    Attributes:
        words: for a heading, after "mean ± ".
        column: its name in csv and json.
        half: (population standard deviation, number of runs) -> the spread; None if a single run has none.
    """

    words: str
    column: str
    half: Callable[[float, int], float | None]


def _deviation(std: float, count: int) -> float:
    return std


def _normal(std: float, count: int) -> float | None:
    return 1.96 * std / math.sqrt(count) if count > 1 else None


def _student(std: float, count: int) -> float | None:
    if count < 2:
        return None
    from scipy.special import stdtrit  # slow to import, rarely needed

    # The sample's deviation over sqrt(n) is the population's over sqrt(n - 1).
    return float(stdtrit(count - 1, 0.975)) * std / math.sqrt(count - 1)


STD = Interval("standard deviation (population)", "std", _deviation)
NORMAL = Interval("half of the 95 % interval (1.96 * std / sqrt(n), population)", "ci95", _normal)
STUDENT = Interval("half of the 95 % interval (Student's t, sample)", "ci95_t", _student)
INTERVALS = {"std": STD, "normal": NORMAL, "t": STUDENT}
