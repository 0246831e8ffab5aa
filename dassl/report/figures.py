"""The figures in the cells of a table: means over seeds, with the number of seeds and what is missing."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from dassl.results.tables import PLUS_MINUS, mean_spread
from dassl.utils.intervals import STD, Interval

BEST, SECOND = 1, 2
_TEXT_MARKS = {0: " ", BEST: "*", SECOND: "_"}


@dataclass(frozen=True)
class Figure:
    """The mean of a cell.

    Attributes:
        spread: the figure after the "±"; None for a single run, which has no spread.
        error: standard error of the mean, from the sample's standard deviation; None for a single run.
        count, wanted: seeds that count, and seeds that are expected.
        gap: what else is missing, such as "4/6 tasks"; such a mean is not comparable with other cells.
        rank: BEST, SECOND or 0.
        interval: the kind of spread.
        digits: decimals that are printed.
    """

    mean: float
    spread: float | None = None
    error: float | None = None
    count: int = 1
    wanted: int = 1
    gap: str = ""
    rank: int = 0
    interval: Interval = STD
    digits: int = 2

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values in csv and json."""
        return "mean", self.interval.column, "runs", "missing"

    @property
    def missing(self) -> str:
        """The text in brackets: "2/3", "4/6 tasks" or both; empty if nothing is missing."""
        seeds = f"{self.count}/{self.wanted}" if self.count < self.wanted else ""
        return ", ".join(filter(None, (seeds, self.gap)))

    def show(self, form: str) -> str:
        """The rounded figure; the best in bold and the second underlined, in text "*" and "_" after the figure."""
        body = f"{self.mean:.{self.digits}f}"
        if self.spread is not None:
            body += f" {PLUS_MINUS[form]} {self.spread:.{self.digits}f}"
        if form == "markdown":
            body = {BEST: f"**{body}**", SECOND: f"<u>{body}</u>"}.get(self.rank, body)
        if form == "latex":
            body = {BEST: rf"\textbf{{{body}}}", SECOND: rf"\underline{{{body}}}"}.get(self.rank, body)
        missing = f" ({self.missing})" if self.missing else ""
        return f"{body}{missing}{_TEXT_MARKS[self.rank] if form == 'text' else ''}"

    def values(self) -> tuple[float, float | None, int, str | None]:
        """Mean, spread, number of seeds, and what is missing."""
        return self.mean, self.spread, self.count, self.missing or None


@dataclass(frozen=True)
class Difference:
    """Our figure minus the published one, in points and, if both spreads are known, in standard errors."""

    columns: ClassVar[tuple[str, ...]] = ("points", "standard errors")
    points: float
    errors: float | None

    def show(self, form: str) -> str:
        """Such as "+0.51 (+1.2 se)"."""
        sign = "$" if form == "latex" else ""
        # Adding 0 turns -0.0 into 0.0.
        errors = "" if self.errors is None else f" ({sign}{round(self.errors, 1) + 0:+.1f}{sign} se)"
        return f"{sign}{round(self.points, 2) + 0:+.2f}{sign}{errors}"

    def values(self) -> tuple[float, float | None]:
        """Points and standard errors."""
        return self.points, self.errors


@dataclass(frozen=True)
class Number:
    """A count with thousands separators."""

    columns: ClassVar[tuple[str, ...]] = ("",)
    value: int

    def show(self, form: str) -> str:
        """Such as 8,390,656."""
        return f"{self.value:,}"

    def values(self) -> tuple[int]:
        """The plain number."""
        return (self.value,)


@dataclass(frozen=True)
class Duration:
    """A time, shown in the unit of its column."""

    columns: ClassVar[tuple[str, ...]] = ("seconds",)
    seconds: float
    unit: str = "s"

    def show(self, form: str) -> str:
        """Such as "56.7 min"."""
        return f"{self.seconds / _UNITS[self.unit]:.1f} {self.unit}"

    def values(self) -> tuple[float]:
        """Seconds."""
        return (self.seconds,)


_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}


def durations(seconds: Iterable[float | None]) -> list[Duration | None]:
    """A column of times in one unit, for the longest of them; seconds up to an hour if minutes would show 0.0."""
    entries = list(seconds)
    known = [each for each in entries if each] or [0.0]
    longest, in_seconds = max(known), 180 if min(known) >= 3 else 3600
    unit = "ms" if longest < 1 else "s" if longest < in_seconds else "min" if longest < 600 * 60 else "h"
    return [Duration(each, unit) if each else None for each in entries]


def figure(values: Mapping[int, float], wanted: int, *, interval: Interval = STD, gap: str = "") -> Figure | None:
    """The mean of ``values`` (by seed), of which ``wanted`` are expected; None if there are none.

    ``wanted`` 0 means that the method does not depend on the seed, so the spread is 0.
    """
    found = mean_spread(values.values(), interval=interval)
    if found is None:
        return None
    if wanted == 0:
        return Figure(found.mean, 0.0, 0.0, gap=gap, interval=interval)
    if found.count == 1:
        return Figure(found.mean, None, None, 1, wanted, gap, interval=interval)
    deviation = (mean_spread(values.values()) or found).spread or 0.0
    error = deviation / math.sqrt(found.count - 1)
    wanted = max(wanted, found.count)
    return Figure(found.mean, found.spread, error, found.count, wanted, gap, interval=interval)


def average(figures: Sequence[Figure | None], *, wanted: int) -> Figure | None:
    """The mean of ``figures`` over shots; as in the paper's "avg", its spread is the mean of the spreads.

    ``gap`` of the result tells if fewer than ``wanted`` numbers of shots are there. The standard error treats the
    shots as independent.
    """
    known = [each for each in figures if each is not None]
    if not known:
        return None
    spreads = [each.spread for each in known if each.spread is not None]
    errors = [each.error for each in known if each.error is not None]
    shots = f"{len(known)}/{wanted} shots" if len(known) < wanted else ""
    gaps = dict.fromkeys([*(each.gap for each in known), shots])
    return Figure(
        sum(each.mean for each in known) / len(known),
        sum(spreads) / len(spreads) if spreads else None,
        math.sqrt(sum(each**2 for each in errors)) / len(known) if len(errors) == len(known) else None,
        min(each.count for each in known),
        max(each.wanted for each in known),
        ", ".join(filter(None, gaps)),
        interval=known[0].interval,
    )


def ranked(column: Sequence[Figure | None], *, lower: bool = False) -> list[Figure | None]:
    """Mark the best and the second figure of a column; figures that are equal as printed share a mark.

    Means over too few tasks or shots take no part. A single figure has no rank.

    Args:
        lower: the smallest figure is the best.
    """
    rivals = [round(each.mean, each.digits) for each in column if each is not None and not each.gap]
    order = sorted(set(rivals), reverse=not lower)
    if len(rivals) < 2:
        return list(column)
    ranks = dict(zip(order, (BEST, SECOND), strict=False))
    return [
        each if each is None or each.gap else replace(each, rank=ranks.get(round(each.mean, each.digits), 0))
        for each in column
    ]


def difference(ours: Figure | None, theirs: Figure | None) -> Difference | None:
    """Ours minus theirs; None if one is missing or is a mean over too few tasks or shots."""
    if ours is None or theirs is None or ours.gap or theirs.gap:
        return None
    error = None
    if ours.error is not None and theirs.error is not None:
        error = math.hypot(ours.error, theirs.error)
    points = ours.mean - theirs.mean
    return Difference(points, points / error if error else None)


def harmonic(base: float, new: float) -> float:
    """Harmonic mean of the figures on base and new classes (Zhou et al. 2022, CoCoOp)."""
    return 2 * base * new / (base + new) if base + new else 0.0
