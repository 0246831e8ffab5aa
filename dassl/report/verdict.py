"""Which method to take, in words: overall and for each task, with the figures that the words rest on.

The rules are at the top of this file. Everything is computed from the predictions of finished runs, image by image.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from statistics import median

from dassl.report.mistakes import Pair
from dassl.report.paired import ACCURACIES, Estimate, NotComparableError, RowHits, chosen_elsewhere, hits_of
from dassl.report.study import Grid, SeedFigure, Suite
from dassl.report.tree import Record
from dassl.results.predictions import read_predictions
from dassl.results.tables import ANY_SHOTS, shots_heading

# Estimate.measurable says which differences are told from luck. Below, from UNSURE standard errors on, one is open.
UNSURE = 1.0
FEW = 30  # test images; a verdict on fewer says little
# A difference within UNSURE errors is small only if the error itself is at most this many points.
SMALL = 3.0
LITTLE = 1.0  # points; a smaller gain from more images is not worth collecting them
ZERO_SHOT = "ZS-CLIP"
ALONE = "SoftCPT-NATA [task by task]"
# By family: the row of one joint run, and the row with a run of the same method for each task.
SHARING = {"CoOp": ("CoOp-MT", "CoOp-CA"), "SoftCPT": ("SoftCPT-NATA", ALONE)}
WORTH = 30.0  # seconds of training that are worth a word
PAIRS = 3  # confusions of a task


@dataclass(frozen=True)
class Ranked:
    """A row with its figure and its distance from the best row."""

    row: str
    figure: Estimate
    behind: Estimate


@dataclass(frozen=True)
class Verdict:
    """The verdict on all tasks (``task`` is empty) or of one.

    Attributes:
        ranked: the rows, best first.
        sentences: the verdict in words, the advice first.
        pairs: of one task, its most confused classes by the best row.
        usable: whether the best row is measurably above chance.
    """

    task: str
    shots: int
    ranked: Sequence[Ranked]
    sentences: Sequence[str]
    pairs: Sequence[Pair] = ()
    usable: bool = True

    @property
    def best(self) -> str:
        """The row with the highest figure."""
        return self.ranked[0].row


@dataclass(frozen=True)
class Judged:
    """The verdicts on a suite.

    Attributes:
        overall, tasks: empty if no row can be compared.
        records: the runs of the seed nearest the median of the best row.
        left_out: why rows take no part.
    """

    overall: Verdict | None
    tasks: Sequence[Verdict] = ()
    records: Sequence[Record] = ()
    left_out: Sequence[str] = field(default=())


def judge(suite: Suite) -> Judged:
    """Judge the rows of a suite at the most shots that learning rows have.

    Raises:
        UserError: a file of predictions is damaged.
    """
    grid = suite.plain
    if grid is None:
        return Judged(None, left_out=("there is no run of all classes",))
    shots = grid.shots[0] if grid.shots[0] < 0 else grid.shots[-1]
    rows, left_out = _rows(grid, shots)
    others = _other_figures(suite)
    if others:
        left_out.append(f"not measured by accuracy, and so in the tables only: {', '.join(others)}")
    if not rows:
        return Judged(None, left_out=left_out)
    overall = _verdict(grid, shots, rows, "")
    if others:
        advice, *reasons = overall.sentences
        scope = (
            f"This is about what is measured by accuracy: {', '.join(_tasks(rows))}. For {', '.join(others)} another "
            "method may be the best; see the tables before you use its file for them."
        )
        overall = replace(overall, sentences=[advice, scope, *reasons])
    best = overall.best
    tasks = [
        _verdict(grid, shots, {row: each.of_task(task) for row, each in rows.items()}, task) for task in _tasks(rows)
    ]
    return Judged(overall, tasks, _middle(grid, best, shots).records, left_out)


def _other_figures(suite: Suite) -> list[str]:
    """The tasks that are no part of the verdict, with their metrics."""
    tasks = {task.name: task.metric_name for record in suite.records for task in record.result.tasks}
    return [f"{name} ({metric})" for name, metric in tasks.items() if metric not in ACCURACIES]


def _tasks(rows: Mapping[str, RowHits]) -> list[str]:
    return list(dict.fromkeys(item.task for item in next(iter(rows.values())).items))


def _rows(grid: Grid, shots: int) -> tuple[dict[str, RowHits], list[str]]:
    """What each row got right, and why others take no part."""
    rows: dict[str, RowHits] = {}
    left_out = []
    for row in grid.rows:
        try:
            found = hits_of(grid, row, shots)
            if rows:
                found.minus(next(iter(rows.values())))
            rows[row] = found
        except NotComparableError as error:
            left_out.append(f"{row} is not compared: {error}")
    return rows, left_out


def _verdict(grid: Grid, shots: int, rows: Mapping[str, RowHits], task: str) -> Verdict:
    figures = {row: each.estimate for row, each in rows.items()}
    order = sorted(rows, key=lambda row: (-round(figures[row].value, 9), _cost(grid, row, shots)))
    best = rows[order[0]]
    ranked = [Ranked(row, figures[row], best.minus(rows[row]).estimate) for row in order]
    sentences = [
        *_advice(grid, shots, ranked, best),
        *_training(rows, ranked),
        *_choice(rows),
        *_sharing(rows),
        *_more_images(grid, order, task),
    ]
    pairs = _confused(grid, order[0], shots, task) if task else ()
    above = _above_chance(best)
    return Verdict(task, shots, ranked, sentences, pairs, above.measurable and above.value > 0)


def _cost(grid: Grid, row: str, shots: int) -> float:
    """Seconds of training, as a mean over seeds; 0 if unknown."""
    seconds = [each.seconds for each in grid.cell(row, shots).values() if each.seconds is not None]
    return sum(seconds) / len(seconds) if seconds else 0.0


# ---- sentences


def _se(difference: Estimate) -> str:
    return f"{abs(difference.errors):.1f} standard errors"


def _advice(grid: Grid, shots: int, ranked: Sequence[Ranked], hits: RowHits) -> Iterator[str]:
    best, others = ranked[0], ranked[1:]
    at = "" if best.row in grid.flat or shots == ANY_SHOTS else f" with {shots_heading(shots)}"
    figure = f"{best.figure.value:.1f} ± {best.figure.error:.1f} %"
    what = f"the most frequent class alone would get {hits.chance:.1f} %"
    above = _above_chance(hits)
    if above.measurable and above.value > 0:
        yield f"Take {best.row}{at}: {figure}."
        yield f"This is more than chance: {what}, {above.errors:.0f} standard errors below."
    else:
        yield f"Take none yet: the best, {best.row}{at}, has {figure}, which is not measurably more than chance."
        yield f"Chance: {what} on these {hits.images} test images."
    if hits.images < FEW:
        yield f"There are only {hits.images} test images, so all of this says little; add test images."
    yield from _lead(grid, shots, best, others)


def _above_chance(best: RowHits) -> Estimate:
    return best.estimate._replace(value=best.estimate.value - best.chance)


def _lead(grid: Grid, shots: int, best: Ranked, others: Sequence[Ranked]) -> Iterator[str]:
    equal = [each for each in others if not each.behind.measurable]
    if others and not equal:
        second = others[0]
        lead = f"{second.behind.value:.1f} points above {second.row}, the second"
        yield f"It is {lead}: {_se(second.behind)}, a measurable lead."
    if not equal:
        return
    names = ", ".join(f"{each.row} ({each.behind.value:.1f}, {each.behind.errors:.1f})" for each in equal)
    yield f"Not measurably worse (points and standard errors behind): {names}."
    least = min(each.behind.needed * each.behind.error for each in equal)
    if least > SMALL:
        yield f"These test images and seeds show only differences of {least:.0f} points and more."
    cheapest = min([best, *equal], key=lambda each: _cost(grid, each.row, shots))
    less, usual = (_cost(grid, each.row, shots) for each in (cheapest, best))
    if usual - less >= WORTH:
        yield f"Of these {cheapest.row} is the cheapest: {less:.1f} s of training instead of {usual:.1f} s."


def _training(rows: Mapping[str, RowHits], ranked: Sequence[Ranked]) -> Iterator[str]:
    gain = next((each.behind for each in ranked if each.row == ZERO_SHOT), None)
    if gain is None or ranked[0].row == ZERO_SHOT:
        if gain is not None and len(ranked) > 1:
            yield "No training beats the hand-written prompts of zero-shot CLIP here."
        return
    yield f"Training brought {_points(gain)} over zero-shot CLIP ({_strength(gain)})."


def _strength(difference: Estimate) -> str:
    """A difference in standard errors and what that means."""
    meaning = "measurable" if difference.measurable else "not measurable"
    return f"{_se(difference)}: {meaning}"


def _choice(rows: Mapping[str, RowHits]) -> Iterator[str]:
    images = next(iter(rows.values())).images
    if len(rows) < 2:
        return
    why = f"The choice among {len(rows)} methods was made by the test images, which flatters the winner"
    if images < FEW:
        yield f"{why}; {images} are too few to say by how much."
        return
    yield f"{why}: chosen by one half of them, the best method has {chosen_elsewhere(rows):.1f} % on the other half."


def _sharing(rows: Mapping[str, RowHits]) -> Iterator[str]:
    for family, (joint, alone) in SHARING.items():
        if joint in rows and alone in rows:
            gain = rows[joint].minus(rows[alone]).estimate
            points = f"{joint} has {_points(gain)} against {alone} ({_se(gain)})"
            yield f"{_shared(gain, family)}: {points}."


def _shared(gain: Estimate, family: str) -> str:
    verb = "helped" if gain.value > 0 else "hurt"
    if gain.measurable:
        return f"Sharing between tasks {verb} {family}"
    if abs(gain.errors) >= UNSURE:
        return f"Sharing between tasks may have {verb} {family}"
    if gain.error <= SMALL:
        return f"Sharing between tasks made no difference to {family}"
    return f"Whether sharing between tasks helped {family} cannot be told"


def _points(difference: Estimate) -> str:
    """A difference with its standard error; +0.0 for tiny ones."""
    return f"{round(difference.value, 1) + 0:+.1f} ± {difference.error:.1f} points"


def _more_images(grid: Grid, order: Sequence[str], task: str) -> Iterator[str]:
    """The verdict on the last step of the curve over shots, of the best row that learns."""
    row = next((row for row in order if row not in grid.flat), "")
    shots = [each for each in grid.shots if grid.cell(row, each) and each > 0] if row else []
    if row and len(shots) < 2:
        yield "Whether more images help was not measured: that needs two numbers of --shots."
    if len(shots) < 2:
        return
    fewer, more = shots[-2:]
    try:
        last, before = (hits_of(grid, row, each) for each in (more, fewer))
        gain = (last.minus(before).of_task(task) if task else last.minus(before)).estimate
    except NotComparableError as error:
        yield f"Whether more images help cannot be said: {error}."
        return
    yield f"{_helped(gain)}: from {fewer} to {more} images a class {row} gained {_points(gain)} ({_se(gain)})."


def _helped(gain: Estimate) -> str:
    if gain.measurable and gain.value < 0:
        return "More images made it worse, so look at the images that were added"
    if gain.measurable:
        return "More images help a little" if gain.value < LITTLE else "More images still help, so collect more"
    if gain.errors >= UNSURE:
        return "More images may help"
    if gain.error <= SMALL:
        return "More images of the same kind hardly help"
    return "Whether more images would help cannot be told"


# ---- runs


def _middle(grid: Grid, row: str, shots: int) -> SeedFigure:
    """The seed nearest the median, so that the exported run is an ordinary one."""
    seeds = {seed: each for seed, each in grid.cell(row, shots).items() if each.metric is not None and not each.missing}
    middle = median(each.metric or 0.0 for each in seeds.values())
    return min(seeds.items(), key=lambda pair: (abs((pair[1].metric or 0.0) - middle), pair[0]))[1]


def _confused(grid: Grid, row: str, shots: int, task: str) -> list[Pair]:
    """The most confused classes of a task over all seeds of a row."""
    wrong: Counter[tuple[str, str]] = Counter()
    total: Counter[str] = Counter()
    folders = [record.folder for each in grid.cell(row, shots).values() for record in each.records]
    for image in (image for folder in folders for image in read_predictions(folder) if image.task == task):
        total[image.true_class] += 1
        if image.predicted_class not in (image.true_class, ""):
            wrong[image.true_class, image.predicted_class] += 1
    most = nsmallest(PAIRS, wrong, key=lambda pair: (-wrong[pair], total[pair[0]], pair))
    return [Pair(*pair, wrong[pair], wrong[pair] / total[pair[0]]) for pair in most]
