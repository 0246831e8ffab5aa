"""The mistakes of a test, task by task: confusions, confidence against accuracy, and the surest mistakes."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import NamedTuple

from dassl.results.predictions import PredictedImage, shown_name
from dassl.results.record import TaskResult

BINS = 15
MOST_PAIRS = 10
MOST_SIDE, MOST_CELLS = 128, 4000  # most rows, and most filled cells, of a drawn matrix
_EDGES = [number / BINS for number in range(1, BINS)]


class Pair(NamedTuple):
    """Two confused classes: the number of images, and their share of the true class's images."""

    true: str
    predicted: str
    images: int
    share: float


@dataclass
class Bin:
    """Images whose predicted class has a probability in the bin; ``confidence`` is the sum of these probabilities."""

    count: int = 0
    right: int = 0
    confidence: float = 0.0


@dataclass
class Confusion:
    """Counts of (true, predicted) classes; only counts above 0 are stored.

    Attributes:
        names: names of the rows: a class, or the first and the last of neighbouring classes.
        cells: images by row and column.
        totals: images of each row, including those without a prediction.
        hits: correct images of each row.
        step: classes in a row; the last row may have fewer.
    """

    names: list[str]
    cells: Counter[tuple[int, int]] = field(default_factory=Counter)
    totals: list[int] = field(default_factory=list)
    hits: list[int] = field(default_factory=list)
    step: int = 1

    def fitted(self, most_cells: int = MOST_CELLS) -> "Confusion":
        """A fine matrix of neighbouring classes with at most MOST_SIDE rows and ``most_cells`` filled cells."""
        step = -(-len(self.names) // MOST_SIDE) or 1
        found = self.joined(step)
        while len(found.cells) > most_cells:
            step += max(1, step // 8)
            found = self.joined(step)
        return found

    def joined(self, step: int) -> "Confusion":
        """The matrix with ``step`` neighbouring classes in each row and column."""
        if step == 1:
            return self
        starts = range(0, len(self.names), step)
        names = [_from_to(self.names[start : start + step]) for start in starts]
        cells: Counter[tuple[int, int]] = Counter()
        for (true, predicted), count in self.cells.items():
            cells[true // step, predicted // step] += count
        totals, hits = ([sum(each[n : n + step]) for n in starts] for each in (self.totals, self.hits))
        return Confusion(names, cells, totals, hits, step)


def _from_to(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


@dataclass
class TaskMistakes:
    """The counted predictions of a task.

    Attributes:
        confusion: one row for each class, in the order of the labels.
        bins: BINS bins of equal width over the probability of the predicted class.
        lost: images without a prediction.
        wrong: the mistakes.
    """

    confusion: Confusion
    bins: list[Bin]
    lost: int = 0
    wrong: list[PredictedImage] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Images of the task."""
        return sum(self.confusion.totals)

    @property
    def ece(self) -> float | None:
        """Expected calibration error in %; see :func:`dassl.metrics.quality.expected_calibration_error`."""
        count = sum(each.count for each in self.bins)
        return 100 * sum(abs(each.right - each.confidence) for each in self.bins) / count if count else None

    def pairs(self, most: int = MOST_PAIRS) -> list[Pair]:
        """The most confused classes, by the number of images, then by their share of the true class."""
        names, totals = self.confusion.names, self.confusion.totals
        wrong = [(place, count) for place, count in self.confusion.cells.items() if place[0] != place[1]]
        most_of = nsmallest(most, wrong, key=lambda each: (-each[1], totals[each[0][0]], each[0]))
        return [Pair(names[true], names[other], count, count / totals[true]) for (true, other), count in most_of]

    def surest(self, most: int) -> list[PredictedImage]:
        """The mistakes with the highest probability of the predicted class."""
        return nsmallest(most, self.wrong, key=lambda row: (-(row.predicted_probability or 0.0), row.image))


def count_mistakes(rows: Iterable[PredictedImage], tasks: Sequence[TaskResult]) -> list[TaskMistakes]:
    """Count the predictions of a test, in one pass over ``rows``.

    Args:
        tasks: the tasks of its result, with the order of classes; of two tasks with one name, the first gets all.

    Returns:
        One for each of ``tasks``.
    """
    tallies = [_Tally(task) for task in tasks]
    by_name = {shown_name(task.name): tally for task, tally in reversed(list(zip(tasks, tallies, strict=True)))}
    for row in rows:
        if tally := by_name.get(row.task):
            tally.add(row)
    return [tally.found for tally in tallies]


class _Tally:
    """Counts the rows of one task."""

    def __init__(self, task: TaskResult) -> None:
        names = [shown_name(each.name) for each in task.per_class]
        zeros = [0] * len(names)
        self.found = TaskMistakes(Confusion(names, Counter(), zeros[:], zeros[:]), [Bin() for _ in range(BINS)])
        self._place = {name: n for n, name in reversed(list(enumerate(names)))}

    def add(self, row: PredictedImage) -> None:
        found, confusion = self.found, self.found.confusion
        true = self._number(row.true_class)
        confusion.totals[true] += 1
        if row.predicted_probability is None:
            found.lost += 1
            return
        predicted = self._number(row.predicted_class)
        confusion.cells[true, predicted] += 1
        confusion.hits[true] += true == predicted
        if true != predicted:
            found.wrong.append(row)
        place = found.bins[bisect_left(_EDGES, row.predicted_probability)]
        place.count += 1
        place.right += true == predicted
        place.confidence += row.predicted_probability

    def _number(self, name: str) -> int:
        """The row of a class; a class that the result does not have gets a new row."""
        if name not in self._place:
            self._place[name] = len(self.found.confusion.names)
            self.found.confusion.names.append(name)
            self.found.confusion.totals.append(0)
            self.found.confusion.hits.append(0)
        return self._place[name]
