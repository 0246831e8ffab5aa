"""What is recorded of one case, what of it was compared, and the line that is printed for it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

SHOWN = 6  # failures and names in a line


def leaves(content: Any, prefix: str = "") -> dict[str, Any]:
    """The values below nested dicts and lists of dicts by dotted names: {"a": [{"b": 1}]} -> {"a.0.b": 1}."""
    if isinstance(content, list) and content and all(isinstance(value, dict) for value in content):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        return {prefix: content}
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= leaves(value, f"{prefix}.{name}" if prefix else str(name))
    return found


class Mismatch(Exception):
    """A part of a case cannot be run as it is recorded."""


@dataclass
class Case:
    """Collects the comparisons of one recorded case; one that fails does not end the others.

    Attributes:
        name: e.g. "softcpt/NATA".
        worst: (deviation / tolerance, what, deviation, tolerance) of the quantity that used most of its tolerance.
        notes: what a reader should know of this case.
        failures: what differs or could not be computed.
        left_out: names that are not compared on purpose, by reason.
        expected: names that are recorded and to be compared; ``made``: those that were.
    """

    name: str
    worst: tuple[float, str, float, float] = (-1.0, "", 0.0, 0.0)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    expected: dict[str, None] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    def expect(self, *recorded: Any, inputs: Iterable[str] = (), left_out: Mapping[str, str] | None = None) -> None:
        """Say what is recorded: every name is to be compared, but for ``inputs`` and what is left out (with reasons).

        Both are patterns for dotted names.
        """
        for name in (name for content in recorded for name in leaves(content)):
            if not any(fnmatchcase(name, pattern) for pattern in inputs):
                self.expected[name] = None
        for pattern, reason in (left_out or {}).items():
            self.leave_out(pattern, reason)

    def leave_out(self, pattern: str, reason: str) -> None:
        """Take recorded names out of what is to be compared."""
        for name in [name for name in self.expected if fnmatchcase(name, pattern) and name not in self.made]:
            del self.expected[name]
            self.left_out.setdefault(reason, []).append(name)

    def close(self, what: str, mine: Any, theirs: Any, tolerance: float, *, relative: float = 0.0) -> None:
        """Compare numbers; NaN and different shapes never agree. ``mine`` may be a function that computes them."""
        with self.part(what):
            a, b = _array(_computed(mine)), _array(theirs)
            if a.shape != b.shape:
                raise Mismatch(f"the shape is {a.shape}, recorded {b.shape}")
            allowed = tolerance + relative * np.abs(b)
            gap = np.abs(a - b)
            gap = np.where(np.isfinite(gap), gap, np.inf)
            ratio = float(np.max(gap / allowed, initial=0.0))
            if ratio > 1:
                self.failures.append(f"{what} deviates by {np.max(gap):.1e}, allowed {np.max(allowed):.1e}")
            self._add(ratio, what, float(np.max(gap, initial=0.0)), float(np.max(allowed, initial=0.0)))

    def equal(self, what: str, mine: Any, theirs: Any) -> None:
        """Compare things that must be the same. ``mine`` may be a function that computes them."""
        with self.part(what):
            mine = _computed(mine)
            if isinstance(mine, torch.Tensor) or isinstance(theirs, torch.Tensor):
                same = np.array_equal(_array(mine), _array(theirs))
            else:
                same = mine == theirs
            if not same:
                self.failures.append(f"{what} differs: {str(mine)[:100]!r}, recorded {str(theirs)[:100]!r}")
            self._add(0.0, what, 0.0, 0.0)

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Whatever goes wrong inside is a failure of the case, and the case goes on."""
        try:
            yield
        except Exception as error:
            self.failures.append(f"{what}: {type(error).__name__}: {error}")

    def _add(self, ratio: float, what: str, gap: float, allowed: float) -> None:
        self.expected[what] = None
        self.made.add(what)
        self.worst = max(self.worst, (ratio, what, gap, allowed))

    @property
    def missed(self) -> list[str]:
        """Names that are recorded and were not compared."""
        return [name for name in self.expected if name not in self.made]

    @property
    def passed(self) -> bool:
        """Whether everything recorded was compared and agrees."""
        return bool(self.made) and not self.failures and not self.missed

    def line(self) -> str:
        """One line for people."""
        ratio, what, gap, allowed = self.worst
        parts = [f"{len(self.made)} of {len(self.expected)} comparisons"]
        parts[0] += f", largest deviation {gap:.1e} of {allowed:.1e} ({what})" if ratio > 0 else ", exact"
        if self.passed:
            return f"ok   {self.name}: {'; '.join([*parts, *self.notes])}"
        parts += self.failures[:SHOWN]
        if len(self.failures) > SHOWN:
            parts.append(f"and {len(self.failures) - SHOWN} more")
        if self.missed:
            more = ", ..." if len(self.missed) > SHOWN else ""
            parts.append(f"recorded but not compared: {', '.join(self.missed[:SHOWN])}{more}")
        return f"FAIL {self.name}: {'; '.join([*parts, *self.notes])}"


@dataclass
class Summary:
    """Counts over all cases."""

    cases: int = 0
    agreed: int = 0
    made: int = 0
    expected: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, case: Case) -> None:
        """Count a case."""
        self.cases += 1
        self.agreed += case.passed
        self.made += len(case.made)
        self.expected += len(case.expected)
        self.left_out.update({reason: len(names) for reason, names in case.left_out.items()})

    def lines(self) -> list[str]:
        """Lines for people; the last one says how many cases agree."""
        kept = [f"not compared on purpose: {count} x {reason}" for reason, count in sorted(self.left_out.items())]
        made = f"{self.made} of {self.expected} expected comparisons made"
        return [*kept, made, f"{self.agreed} of {self.cases} cases agree"]


def leftovers(
    name: str, recorded: Iterable[str], patterns: Iterable[str]
) -> Iterator[tuple[str, Callable[[Case], None]]]:
    """A failing case where a file holds names that belong to none of its cases."""
    patterns = list(patterns)
    strange = [key for key in recorded if not any(fnmatchcase(key, pattern) for pattern in patterns)]
    if strange:
        yield name, lambda case: case.expect(dict.fromkeys(strange))


def run_case(name: str, replay: Callable[[Case], None]) -> Case:
    """Run one case. Whatever goes wrong is that case's failure."""
    case = Case(name)
    with case.part("case"):
        replay(case)
    return case


def _computed(value: Any) -> Any:
    return value() if callable(value) else value


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)
