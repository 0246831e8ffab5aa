"""The published figures (Ding et al. 2024), for comparison."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dassl.report.figures import Figure, average

SOURCE = Path(__file__).with_name("paper_results.csv")
SEEDS = 3
BACKBONE = "RN50"
AVERAGE = "avg"


@dataclass
class PublishedRow:
    """A method on a suite: trainable parameters, training time in seconds and figures by shots."""

    parameters: int | None = None
    seconds: float | None = None
    figures: dict[int, Figure] = field(default_factory=dict)
    average: Figure | None = None

    def figure(self, shots: int) -> Figure | None:
        """The figure for a number of shots; zero-shot CLIP has the same figure for all of them."""
        return self.figures.get(shots) if self.figures else self.average


@lru_cache(maxsize=1)
def published() -> dict[str, dict[str, PublishedRow]]:
    """All rows by suite (as DATASET.NAME) and label."""
    lines = [line for line in SOURCE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    suites: dict[str, dict[str, PublishedRow]] = {}
    for entry in csv.DictReader(lines):
        rows = suites.setdefault(entry["suite"].replace("-", ""), {})
        row = rows.setdefault(entry["method"], PublishedRow())
        row.parameters = int(entry["trainable_params"]) if entry["trainable_params"] else None
        row.seconds = 60 * float(entry["train_minutes"]) if entry["train_minutes"] else None
        found = _figure(float(entry["mean"]), float(entry["std"]))
        if entry["shots"] == AVERAGE:
            row.average = found
        else:
            row.figures[int(entry["shots"])] = found
    return suites


def mean_over(row: PublishedRow, shots: Iterable[int]) -> Figure | None:
    """The mean over ``shots``, of which the paper may have only some; zero-shot CLIP has one figure for all."""
    wanted = list(shots)
    if not row.figures:
        return row.average
    return average([row.figures.get(each) for each in wanted], wanted=len(wanted))


def _figure(mean: float, std: float) -> Figure:
    # The paper prints the population's deviation (numpy.std); a standard error needs the sample's.
    return Figure(mean, std, std / math.sqrt(SEEDS - 1), SEEDS, SEEDS)
