"""Choose the runs whose mistakes the page shows, and read the results of their tests."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median

from dassl.report.mistakes import Bin, TaskMistakes, count_mistakes
from dassl.report.study import PLAIN, Grid, Suite
from dassl.report.tree import Record, Tree
from dassl.results.predictions import PREDICTIONS_FILE, read_predictions
from dassl.results.record import RESULTS_FILE, Calibration, RunResult, TaskResult, read_results
from dassl.results.runs import EVALUATED, accuracies, evaluation_beside
from dassl.results.tables import shots_heading
from dassl.utils.errors import UserError

MOST_SUITES, MOST_CHOSEN = 4, 12
REMEDY = "evaluate a run again, with its command and --eval-only"


@dataclass(frozen=True)
class Chosen:
    """A run or, if tasks are trained one by one, all runs of a seed; ``why`` gives the reason for the choice."""

    title: str
    why: str
    records: tuple[Record, ...]


@dataclass(frozen=True)
class TestedTask:
    """A task, its test's results, and the path of the predictions.

    Attributes:
        calibration: that of an evaluation in the same folder; ``mistakes`` are without it.
        calibrated, after: the task in that evaluation's result, and its bins.
        remark: a remark for the reader; usually empty.
    """

    record: Record
    result: RunResult
    task: TaskResult
    mistakes: TaskMistakes
    predictions: Path
    calibration: Calibration | None = None
    calibrated: TaskResult | None = None
    after: list[Bin] = field(default_factory=list)
    remark: str = ""


# ---- which runs


def choose(tree: Tree, suites: Sequence[Suite], asked: Sequence[Path] = ()) -> list[Chosen]:
    """The runs that ``asked`` names, by default one run of each of the first MOST_SUITES suites.

    Raises:
        UserError: a name is not of a run with predictions, or there are more than MOST_CHOSEN.
    """
    if len(asked) > MOST_CHOSEN:
        raise UserError(f"--errors: {len(asked)} runs are too many for one page; give at most {MOST_CHOSEN}")
    if asked:
        named = {record.folder: record for record in (_asked(tree, name) for name in asked)}
        return [_chosen(tree, suites, (record,), "asked for by --errors") for record in named.values()]
    usual = [(records, why) for suite in suites for records, why in _usual(suite)]
    return [_chosen(tree, suites, records, why) for records, why in usual[:MOST_SUITES]]


def lacking(suites: Iterable[Suite]) -> list[Suite]:
    """The suites without a run that has predictions."""
    return [suite for suite in suites if not any(map(has_predictions, suite.records))]


def has_predictions(record: Record) -> bool:
    """Whether the run has predictions, its own or those of a later evaluation in its folder."""
    if record.result.predictions is not None:
        return True
    later = evaluation_beside(record.folder, read_results(record.folder))
    return later is not None and later.predictions is not None


def _asked(tree: Tree, name: Path) -> Record:
    places = {name.resolve(), (tree.top / name).resolve()}
    for record in tree.records:
        if record.folder.resolve() in places:
            if not has_predictions(record):
                raise UserError(f"--errors {name}: {_why_none(record.folder)}")
            return record
    for broken in tree.broken:
        if broken.folder.resolve() in places:
            raise UserError(f"--errors {name}: {broken.reason}; name a run with a figure")
    raise UserError(f"--errors {name} is not a finished run in {tree.top}; name the folder of one, such as .../seed1")


def _why_none(folder: Path) -> str:
    if (folder / EVALUATED).is_file():
        reason = f"{EVALUATED} is for other images, another method or another epoch, or has none"
    else:
        reason = "older versions did not write it"
    return f"it has no {PREDICTIONS_FILE}: {reason}; {REMEDY}"


def _usual(suite: Suite) -> Iterator[tuple[tuple[Record, ...], str]]:
    """One seed of a suite: of the best method at the most shots, the seed nearest the median."""
    for grid in [suite.grids[PLAIN]] if PLAIN in suite.grids else suite.grids.values():
        cells = {(row, shots): _shown(grid, row, shots) for row in grid.rows for shots in grid.shots}
        for shots in reversed(grid.shots):
            means = {row: fmean(cells[row, shots].values()) for row in grid.rows if cells[row, shots]}
            if means:
                row = max(means, key=lambda each: means[each])
                middle = median(cells[row, shots].values())
                seed = min(cells[row, shots], key=lambda each: (abs(cells[row, shots][each] - middle), each))
                words = "" if row in grid.flat else f" at {shots_heading(shots)}, its seed nearest the median"
                yield grid.cell(row, shots)[seed].records, f"the method with the best mean{words}"
                return


def _shown(grid: Grid, row: str, shots: int) -> dict[int, float]:
    """The figures of a cell by seed, for seeds whose runs all have predictions."""
    values, _ = grid.values(row, shots)
    cell = grid.cell(row, shots)
    return {seed: value for seed, value in values.items() if all(map(has_predictions, cell[seed].records))}


def _chosen(tree: Tree, suites: Sequence[Suite], records: tuple[Record, ...], why: str) -> Chosen:
    first = records[0]
    suite = next((suite for suite in suites if first.folder in suite.names), None)
    row = suite.names[first.folder] if suite else first.label
    seed = [shots_heading(first.result.shots), f"seed {first.result.seed}"] if first.learns else []
    folders = tree.name(first.folder) + (f" and {len(records) - 1} more" if len(records) > 1 else "")
    title = ", ".join([*([suite.title] if suite else []), row, *seed])
    return Chosen(f"{title} ({folders})", why, records)


# ---- results of their tests


def read_tested(chosen: Chosen) -> list[TestedTask]:
    """Every task of a chosen run with its counts; the rows of the file are not kept.

    Raises:
        UserError: a file is missing, damaged, or from another evaluation.
    """
    return [task for record in chosen.records for task in _tested(record)]


def _tested(record: Record) -> Iterator[TestedTask]:
    own = read_results(record.folder)
    later = evaluation_beside(record.folder, own)
    result, name = (own, RESULTS_FILE) if own.predictions or not later else (later, EVALUATED)
    counts = count_mistakes(read_predictions(record.folder, results=name), result.tasks)
    calibrated = later if later and result is own and _calibrates(later, own) else None
    after = _bins(record.folder, calibrated) if calibrated else [[] for _ in counts]
    for number, (task, mistakes) in enumerate(zip(result.tasks, counts, strict=True)):
        yield TestedTask(
            record,
            result,
            task,
            mistakes,
            record.folder / (result.predictions.file if result.predictions else PREDICTIONS_FILE),
            calibrated.calibration if calibrated else None,
            calibrated.tasks[number] if calibrated else None,
            after[number],
            _remark(own.tasks[number], task, mistakes),
        )


def _calibrates(later: RunResult, own: RunResult) -> bool:
    """Whether an evaluation calibrated the run and its own test did not; calibration changes no prediction."""
    calibrated = later.calibration is not None and own.calibration is None
    return calibrated and later.predictions is not None and accuracies(later) == accuracies(own)


def _bins(folder: Path, result: RunResult) -> list[list[Bin]]:
    return [found.bins for found in count_mistakes(read_predictions(folder, results=EVALUATED), result.tasks)]


def _remark(own: TaskResult, task: TaskResult, mistakes: TaskMistakes) -> str:
    """A sentence about figures that contradict each other; empty if they agree.

    Args:
        own: the task in the run's own result.
        task: the task in the shown result.
    """
    if task.decision is not None:  # multi-label: in another file
        return ""
    if mistakes.rows != task.total:
        return f"{PREDICTIONS_FILE} has {mistakes.rows} rows of the task, and the result says {task.total}"
    right, correct = sum(mistakes.confusion.hits), sum(each.correct for each in task.per_class)
    if right != correct:
        return f"{right} images are right here, and the result says {correct}: names of classes look alike in the file"
    if own.metric != task.metric:
        shown = ["none" if each is None else f"{each:.2f}" for each in (own.metric, task.metric)]
        return f"the run's own figure is {shown[0]}; its evaluation ({EVALUATED}), which is shown here, has {shown[1]}"
    return ""
