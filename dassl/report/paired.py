"""Figures with standard errors, and differences of methods on the same test images.

The standard error covers the test images and the seeds: the variances of the mean over either are added. Two methods
are compared image by image and seed by seed, so what is hard for both cancels. An image of several tasks is one draw.
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dassl.report.study import Grid
from dassl.report.tree import Record
from dassl.results.predictions import read_predictions, shown_name

ACCURACIES = ("overall_acc", "mean_acc")
LEAST_ERRORS = 2.0
MANY = 1000  # degrees of freedom from which on Student's t is the normal distribution
HALVINGS, HALVED = 20, 40_000  # divisions of the test images; fewer if together they have more images
Numbers = NDArray[np.float64]


class Item(NamedTuple):
    """A test image in one of its tasks, with its true class."""

    task: str
    image: str
    true: str


class NotComparableError(Exception):
    """A row has no predictions, or two rows were tested on other images; the message is a clause."""


class Estimate(NamedTuple):
    """A figure or a difference in percent points, with its standard error and the degrees of freedom of the error."""

    value: float
    error: float
    freedom: float = math.inf

    @property
    def errors(self) -> float:
        """The value in standard errors."""
        return self.value / self.error if self.error else 0.0

    @property
    def needed(self) -> float:
        """The standard errors from which a value is measurable: two-sided 5 % of Student's t, at least LEAST_ERRORS."""
        if self.freedom > MANY:
            return LEAST_ERRORS
        from scipy.special import stdtrit  # slow to import

        return max(LEAST_ERRORS, float(stdtrit(max(self.freedom, 1.0), 0.975)))

    @property
    def measurable(self) -> bool:
        """Whether the value is larger than luck explains, in either direction."""
        return abs(self.errors) >= self.needed


@dataclass(frozen=True)
class RowHits:
    """What one row of a table got right at one number of shots.

    Attributes:
        items: the tested images, n of them.
        hits: (S, n), 1 or 0 for each seed and item; of a difference 1, 0 or -1.
        seeds: the S seeds; None: the row depends on no seed.
        metrics: by task, overall_acc or mean_acc.
    """

    items: tuple[Item, ...]
    hits: Numbers
    seeds: tuple[int, ...] | None
    metrics: Mapping[str, str]

    def of_task(self, task: str) -> "RowHits":
        """Only one task."""
        return self._of([item.task == task for item in self.items])

    def _of(self, keep: Sequence[bool]) -> "RowHits":
        items = tuple(item for item, kept in zip(self.items, keep, strict=True) if kept)
        return replace(self, items=items, hits=self.hits[:, np.array(keep, dtype=bool)])

    def minus(self, other: "RowHits") -> "RowHits":
        """The difference on the same images and seeds.

        Raises:
            NotComparableError: the images, or all seeds, differ.
        """
        if set(self.items) != set(other.items):
            raise NotComparableError("they were tested on other images")
        order = {item: place for place, item in enumerate(other.items)}
        mine, theirs = self.hits, other.hits[:, [order[item] for item in self.items]]
        if self.seeds is None or other.seeds is None:
            seeds = self.seeds if other.seeds is None else other.seeds
            return replace(self, hits=mine - theirs, seeds=seeds)
        seeds = tuple(seed for seed in self.seeds if seed in other.seeds)
        if not seeds:
            raise NotComparableError("they have no seed in common")
        first, second = ([each.index(seed) for seed in seeds] for each in (self.seeds, other.seeds))
        return replace(self, hits=mine[first] - theirs[second], seeds=seeds)

    @cached_property
    def strata(self) -> tuple[NDArray[np.intp], Numbers]:
        """The group (n,) of each item whose share in the mean is fixed, and the weight (n,) of each item.

        With overall_acc a task is a group, with mean_acc a class; the weights add up to 1.
        """
        groups = [(item.task, item.true if self.metrics[item.task] == "mean_acc" else "") for item in self.items]
        names = list(dict.fromkeys(groups))
        tasks = [task for task, _ in names]
        share = np.array([1 / (len(set(tasks)) * tasks.count(task)) for task in tasks])
        group = np.array([names.index(each) for each in groups], dtype=np.intp)
        return group, share[group] / np.bincount(group)[group]

    @property
    def estimate(self) -> Estimate:
        """The figure in percent, or the difference in points."""
        group, weight = self.strata
        by_seed, mean = self.hits @ weight, self.hits.mean(0)
        counts = np.bincount(group)
        centre = np.bincount(group, mean) / counts
        spread = np.sqrt(counts / np.maximum(counts - 1, 1))[group] * weight * (mean - centre[group])
        images = {name: place for place, name in enumerate(dict.fromkeys(item.image for item in self.items))}
        draws = np.bincount([images[item.image] for item in self.items], spread)
        # Where all images of a group agree the spread is 0; one more image may still differ.
        one_each = weight[np.unique(group, return_index=True)[1]]
        of_images = max(float(np.sum(draws**2)), float(np.sum(one_each**2)))
        seeds = len(by_seed)
        of_seeds = float(np.var(by_seed, ddof=1)) / seeds if self.seeds is not None and seeds > 1 else 0.0
        freedom = _freedom((of_images, len(images) - 1), (of_seeds, seeds - 1))
        return Estimate(100 * float(by_seed.mean()), 100 * math.sqrt(of_images + of_seeds), freedom)

    def figure(self, images: Container[str]) -> float:
        """The figure in percent on some of the images; 0 on none."""
        keep = np.array([item.image in images for item in self.items], dtype=bool)
        part = self._of(keep.tolist())
        return 100 * float(part.hits.mean(0) @ part.strata[1]) if keep.any() else 0.0

    @property
    def chance(self) -> float:
        """The figure in percent of the best constant answer."""
        weight, total = self.strata[1], 0.0
        for task in dict.fromkeys(item.task for item in self.items):
            shares: dict[str, float] = {}
            for item, share in zip(self.items, weight, strict=True):
                if item.task == task:
                    shares[item.true] = shares.get(item.true, 0.0) + share
            total += max(shares.values())
        return 100 * total

    @property
    def images(self) -> int:
        """Number of test images."""
        return len({item.image for item in self.items})


def hits_of(grid: Grid, row: str, shots: int) -> RowHits:
    """What a row got right at ``shots``, from the predictions of its runs.

    Raises:
        NotComparableError: runs lack predictions or tasks, or a task has another kind of figure.
        UserError: a file of predictions is damaged or belongs to another evaluation.
    """
    seeds = {seed: each for seed, each in grid.cell(row, shots).items() if each.metric is not None and not each.missing}
    if not seeds:
        raise NotComparableError("it has no finished run of all tasks")
    found = {seed: [hit for record in each.records for hit in _hits(record)] for seed, each in seeds.items()}
    by_seed = {seed: dict(pairs) for seed, pairs in found.items()}
    items = tuple(next(iter(by_seed.values())))
    if not items:
        raise NotComparableError("no task is measured by accuracy")
    if any(hits.keys() != set(items) for hits in by_seed.values()):
        raise NotComparableError("its seeds were tested on other images")
    hits = np.array([[by_seed[seed][item] for item in items] for seed in by_seed])
    records = next(iter(seeds.values())).records
    metrics = {shown_name(task.name): task.metric_name for record in records for task in record.result.tasks}
    flat = row in grid.flat
    return RowHits(items, hits[:1] if flat else hits, None if flat else tuple(by_seed), metrics)


def _hits(record: Record) -> list[tuple[Item, float]]:
    result = record.result
    if result.predictions is None:
        raise NotComparableError("an older version wrote no predictions")
    own = {shown_name(task.name) for task in result.tasks if task.metric_name in ACCURACIES}
    rows = [row for row in read_predictions(record.folder) if row.task in own] if own else []
    return [(Item(row.task, row.image, row.true_class), float(row.true_class == row.predicted_class)) for row in rows]


def _freedom(*parts: tuple[float, int]) -> float:
    """Degrees of freedom of a sum of variances, each with its own (Welch and Satterthwaite)."""
    whole = sum(variance for variance, _ in parts)
    lost = sum(variance**2 / max(freedom, 1) for variance, freedom in parts)
    return whole**2 / lost if lost else math.inf


def chosen_elsewhere(rows: Mapping[str, RowHits]) -> float:
    """The figure in percent of the best row, chosen on one half of the images and measured on the other.

    A mean over up to HALVINGS divisions, both ways; equal rows share the choice. The divisions depend on the names of
    the images alone; an image has all its tasks in one half.
    """
    names = sorted({item.image for item in next(iter(rows.values())).items})
    figures = []
    for number in range(max(1, min(HALVINGS, HALVED // len(names)))):
        order = [names[place] for place in np.random.default_rng(number).permutation(len(names))]
        halves = [set(order[::2]), set(order[1::2])]
        for chosen_by, measured_on in (halves, halves[::-1]):
            found = {row: round(hits.figure(chosen_by), 9) for row, hits in rows.items()}
            best = [row for row, figure in found.items() if figure == max(found.values())]
            figures.append(sum(rows[row].figure(measured_on) for row in best) / len(best))
    return sum(figures) / len(figures)
