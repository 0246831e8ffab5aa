"""Estimate how long runs of a sweep take, from finished runs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dassl.sweep.plan import Found, Run


class Taken(NamedTuple):
    """Seconds of a finished run: in total, and of training, the only part that grows with shots and epochs."""

    total: float
    train: float


class Estimate(NamedTuple):
    """Estimated seconds of a run; ``scaled``: from runs with other shots or epochs, not from runs of its kind."""

    seconds: float
    scaled: bool = False


@dataclass
class Estimates:
    """Times of finished runs, by the folder that runs of the same kind share."""

    taken: dict[Path, list[Taken]] = field(default_factory=lambda: defaultdict(list))
    _views: dict[Path, int] = field(default_factory=dict)
    _kinds: dict[tuple[object, ...], set[Path]] = field(default_factory=lambda: defaultdict(set))  # finished, by row

    @classmethod
    def of(cls, runs: Iterable["Run"], found: Iterable["Found"]) -> "Estimates":
        """The times of the finished ones among ``runs``; ``found`` is the state of each run's folder."""
        estimates = cls()
        for run, state in zip(runs, found, strict=True):
            result = None if state == "other" else run.result()  # of another config
            if result is not None:
                estimates.add(run, result.seconds)
        return estimates

    def add(self, run: "Run", seconds: Mapping[str, float]) -> None:
        """Add a finished run; ``seconds`` come from its result."""
        if "total" in seconds:
            self.taken[run.kind].append(Taken(seconds["total"], seconds.get("train", 0.0)))
            self._kinds[run.row].add(run.kind)
            self._views_of(run)

    def one(self, run: "Run") -> Estimate | None:
        """The estimate for a run; None if no run of its method on its suite is finished.

        If no run of the same kind is finished, the training time of the kind with the nearest shots and epochs is
        scaled.
        """
        own = self.taken.get(run.kind)
        if own:
            return Estimate(median(taken.total for taken in own))
        views = self._views_of(run)
        ratios = {kind: views / self._views[kind] for kind in self._kinds.get(run.row, ()) if self._views[kind] > 0}
        if views <= 0 or not ratios:  # "all images" is an unknown number
            return None
        nearest = min(ratios, key=lambda kind: abs(log(ratios[kind])))
        parts = self.taken[nearest]
        fixed, train = median(taken.total - taken.train for taken in parts), median(taken.train for taken in parts)
        return Estimate(fixed + train * ratios[nearest], scaled=True)

    def average(self) -> float | None:
        """Mean seconds of the finished runs; None if there are none."""
        known = [taken.total for kind in self.taken.values() for taken in kind]
        return sum(known) / len(known) if known else None

    def work(self, runs: Sequence["Run"]) -> tuple[float, int]:
        """Total seconds of those ``runs`` that can be estimated, and the number of the others."""
        each = [self.one(run) for run in runs]
        return sum(estimate.seconds for estimate in each if estimate), each.count(None)

    def _views_of(self, run: "Run") -> int:
        if run.kind not in self._views:
            self._views[run.kind] = run.views()
        return self._views[run.kind]


def duration(seconds: float) -> str:
    """A readable duration: "40 s", "12 min", "3 h 05 min", "2 d 4 h"."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24} h"
