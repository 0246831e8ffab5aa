"""Deviations of one case, and the line that is printed for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch


class Mismatch(Exception):
    """The case could not be run, or something that must be equal differs."""


@dataclass
class Case:
    """Collects the deviations of one recorded case.

    Attributes:
        name: e.g. "softcpt/NATA".
        worst: (deviation / tolerance, what, deviation, tolerance) of the quantity that used most of its tolerance.
        notes: what a reader should know, e.g. what was left out and why.
    """

    name: str
    worst: tuple[float, str, float, float] = (-1.0, "", 0.0, 0.0)
    count: int = 0
    notes: list[str] = field(default_factory=list)

    def close(self, what: str, mine: object, theirs: object, tolerance: float, *, relative: float = 0.0) -> None:
        """Compare numbers; NaN and different shapes never agree."""
        a, b = _array(mine), _array(theirs)
        if a.shape != b.shape:
            raise Mismatch(f"{what} has shape {a.shape}, recorded {b.shape}")
        allowed = tolerance + relative * np.abs(b)
        gap = np.abs(a - b)
        ratio = float(np.max(np.where(np.isfinite(gap), gap, np.inf) / allowed, initial=0.0))
        self._add(ratio, what, float(np.max(gap, initial=0.0)), float(np.max(allowed, initial=0.0)))

    def equal(self, what: str, mine: object, theirs: object) -> None:
        """Compare things that must be the same."""
        if isinstance(mine, torch.Tensor) or isinstance(theirs, torch.Tensor):
            same = np.array_equal(_array(mine), _array(theirs))
        else:
            same = mine == theirs
        if not same:
            raise Mismatch(f"{what} differs: {str(mine)[:100]!r}, recorded {str(theirs)[:100]!r}")
        self._add(0.0, what, 0.0, 0.0)

    def _add(self, ratio: float, what: str, gap: float, allowed: float) -> None:
        self.count += 1
        self.worst = max(self.worst, (ratio, what, gap, allowed))

    @property
    def passed(self) -> bool:
        """Whether everything stayed within its tolerance, and something was compared at all."""
        return self.count > 0 and self.worst[0] <= 1.0

    def line(self) -> str:
        """One line for people."""
        ratio, what, gap, allowed = self.worst
        figure = f"largest deviation {gap:.1e} of {allowed:.1e} ({what})" if ratio > 0 else "exact"
        notes = f"; {'; '.join(self.notes)}" if self.notes else ""
        return f"{'ok  ' if self.passed else 'FAIL'} {self.name}: {self.count} comparisons, {figure}{notes}"


Replay = Callable[[], Iterator[Case]]


def run_case(name: str, replay: Callable[[Case], None]) -> tuple[bool, str]:
    """Run one case; returns whether it passed, and its line. Whatever goes wrong is that case's failure."""
    case = Case(name)
    try:
        replay(case)
    except Exception as error:
        return False, f"FAIL {name}: {type(error).__name__}: {error}"
    return case.passed, case.line()


def _array(value: object) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)
