"""How long runs of a sweep may take, from those that are finished."""

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
    """Seconds of a finished run: of all of it, and of its training, which alone grows with shots and epochs."""

    total: float
    train: float


class Estimate(NamedTuple):
    """Seconds that a run may take; ``scaled``: by runs with other shots, not by ones of its own kind."""

    seconds: float
    scaled: bool = False


@dataclass
class Estimates:
    """What finished runs took, by the folder that runs of the same kind share."""

    taken: dict[Path, list[Taken]] = field(default_factory=lambda: defaultdict(list))
    _views: dict[Path, int] = field(default_factory=dict)
    _kinds: dict[tuple[object, ...], set[Path]] = field(default_factory=lambda: defaultdict(set))  # finished, by row

    @classmethod
    def of(cls, runs: Iterable["Run"], found: Iterable["Found"]) -> "Estimates":
        """What the finished ones among ``runs`` took; ``found`` is what the folder of each holds."""
        estimates = cls()
        for run, state in zip(runs, found, strict=True):
            result = None if state == "other" else run.result()  # another config says nothing of this one
            if result is not None:
                estimates.add(run, result.seconds)
        return estimates

    def add(self, run: "Run", seconds: Mapping[str, float]) -> None:
        """A run is finished; ``seconds`` are those of its result."""
        if "total" in seconds:
            self.taken[run.kind].append(Taken(seconds["total"], seconds.get("train", 0.0)))
            self._kinds[run.row].add(run.kind)
            self._views_of(run)

    def one(self, run: "Run") -> Estimate | None:
        """What a run like this takes; None: no run of its method on its suite is finished.

        Without a run of the same kind, the training time of the one with the nearest shots and epochs is scaled.
        """
        own = self.taken.get(run.kind)
        if own:
            return Estimate(median(taken.total for taken in own))
        views = self._views_of(run)
        ratios = {kind: views / self._views[kind] for kind in self._kinds.get(run.row, ()) if self._views[kind] > 0}
        if views <= 0 or not ratios:  # the number of all images is not known
            return None
        nearest = min(ratios, key=lambda kind: abs(log(ratios[kind])))
        parts = self.taken[nearest]
        fixed, train = median(taken.total - taken.train for taken in parts), median(taken.train for taken in parts)
        return Estimate(fixed + train * ratios[nearest], scaled=True)

    def average(self) -> float | None:
        """Seconds of an average finished run; None before the first."""
        known = [taken.total for kind in self.taken.values() for taken in kind]
        return sum(known) / len(known) if known else None

    def work(self, runs: Sequence["Run"]) -> tuple[float, int]:
        """Seconds of all ``runs`` that can be estimated, one after the other, and the number of the others."""
        each = [self.one(run) for run in runs]
        return sum(estimate.seconds for estimate in each if estimate), each.count(None)

    def _views_of(self, run: "Run") -> int:
        if run.kind not in self._views:
            self._views[run.kind] = run.views()
        return self._views[run.kind]


def duration(seconds: float) -> str:
    """A length of time for people: "40 s", "12 min", "3 h 05 min", "2 d 4 h"."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24} h"
