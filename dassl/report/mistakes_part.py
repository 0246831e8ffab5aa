"""The page's section about mistakes: confusions, reliability and the surest mistakes of each task."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dassl.report.chosen import REMEDY, Chosen, TestedTask, choose, lacking, read_tested
from dassl.report.drawings import legend, matrix, reliability, shorten
from dassl.report.markup import table_html
from dassl.report.mistakes import BINS, MOST_CELLS, Bin
from dassl.report.study import Suite
from dassl.report.thumbnails import check_root, thumbnail
from dassl.report.tree import Tree
from dassl.results.predictions import LABELS_FILE, PREDICTIONS_FILE, PredictedImage
from dassl.results.record import Decision, TaskCalibration, TaskResult
from dassl.results.tables import Cell, Table
from dassl.utils.errors import UserError

# Bounds of a page, shared by its tasks; with those of a thumbnail and of a matrix they bound its size.
MOST_SHOWN = 12  # mistakes of a task
MOST_MISTAKES = 240
MOST_FILLED = 80_000  # cells of matrices
_LONGEST = 80  # characters of a name in a table


@dataclass(frozen=True)
class Asked:
    """The request of the command line: runs to show, and the data root of their pictures."""

    runs: tuple[Path, ...] = ()
    root: Path | None = None


def mistakes_html(tree: Tree, suites: Sequence[Suite], asked: Asked) -> str:
    """The section as HTML; one subsection for each run, of which page.js shows one at a time.

    Raises:
        UserError: a requested run cannot be shown, or the data root is not a folder.
    """
    root = check_root(asked.root) if asked.root else None
    chosen = choose(tree, suites, asked.runs)
    found = [(each, _tested(each, strict=bool(asked.runs))) for each in chosen]
    tasks = sum(len(each) for _, each in found if not isinstance(each, str))
    bounds = _Bounds(root, max(1, min(MOST_SHOWN, MOST_MISTAKES // max(tasks, 1))), _cells(tasks))
    sections = [_run(each, tested, bounds) for each, tested in found]
    return "".join([*_introduction(suites, chosen, asked), *sections])


@dataclass(frozen=True)
class _Bounds:
    """The data root, and the limits of a task: listed mistakes, and filled cells of its matrix."""

    root: Path | None
    mistakes: int
    cells: int


def _cells(tasks: int) -> int:
    return max(200, min(MOST_CELLS, MOST_FILLED // max(tasks, 1)))


def _tested(chosen: Chosen, *, strict: bool) -> list[TestedTask] | str:
    """The tasks of a run or, if it was not requested by name, the reason why they cannot be shown."""
    try:
        return read_tested(chosen)
    except UserError as error:
        if strict:
            raise
        return str(error)


def _introduction(suites: Sequence[Suite], chosen: Sequence[Chosen], asked: Asked) -> Iterator[str]:
    for suite in () if asked.runs else lacking(suites):
        text = f"{suite.title}: no run has {PREDICTIONS_FILE}, which older versions did not write; {REMEDY}"
        yield f"<p>{escape(text)}</p>\n"
    if not chosen:
        return
    further = "" if asked.runs else "; other runs: --errors RUN, as often as wanted"
    yield f'<p class="note">From {PREDICTIONS_FILE} of each run{escape(further)}</p>\n'


# ---- one run


def _run(chosen: Chosen, tested: list[TestedTask] | str, bounds: _Bounds) -> str:
    head = f'<h3>{escape(chosen.title)}</h3>\n<p class="note">{escape(chosen.why)}</p>\n'
    if isinstance(tested, str):
        body = f"<p>{escape(tested)}</p>\n"
    else:
        body = _overview(tested) + "".join(_task(each, bounds, first=n == 0) for n, each in enumerate(tested))
    return f'<div class="run" data-run="{escape(chosen.title)}">\n{head}{body}</div>\n'


def _overview(tested: Sequence[TestedTask]) -> str:
    """The figures of all tasks; those of a calibration only if there is one."""
    columns: dict[str, list[Cell]] = {
        "task": [shorten(each.task.name, _LONGEST) for each in tested],
        "figure": [each.task.metric for each in tested],
        "images": [each.task.total for each in tested],
        "mistakes": [None if each.task.decision else len(each.mistakes.wrong) for each in tested],
        "macro F1": [each.task.macro_f1 for each in tested],
        "NLL": [each.task.nll for each in tested],
        "ECE": [each.task.ece for each in tested],
    }
    found = [_calibration(each) for each in tested]
    if any(found):
        before = [each and each.test for each in found]
        columns["ECE before"] = [each.ece_before if each else None for each in before]
        columns["ECE after"] = [each.ece_after if each else None for each in before]
        columns["temperature"] = [each.temperature if each else None for each in found]
    rows = list(zip(*columns.values(), strict=True))
    caption = "Figure, macro F1 and ECE (expected calibration error) in %, NLL (negative log-likelihood) in nats"
    return table_html(Table(list(columns), rows), caption)


def _calibration(tested: TestedTask) -> TaskCalibration | None:
    """The calibration of a task, from the run's test or from the evaluation in its folder."""
    for found in (tested.calibration, tested.result.calibration):
        for task in found.tasks if found else ():
            if task.name == tested.task.name:
                return task
    return None


# ---- one task


def _task(tested: TestedTask, bounds: _Bounds, *, first: bool) -> str:
    mistakes, name = tested.mistakes, tested.task.name
    if tested.task.decision is not None:
        return _labels(tested.task, tested.task.decision, first=first)
    summary = f"{name}: {len(mistakes.wrong):,} of {mistakes.rows:,} images wrong"
    summary += f", {mistakes.lost:,} without a prediction" * bool(mistakes.lost)
    parts = [f"<p>{escape(tested.remark)}</p>\n" * bool(tested.remark)]
    if mistakes.rows:
        parts += ['<div class="drawings">\n', _confusions(tested, bounds)]
        parts += ['<div class="column">\n', *_reliabilities(tested), "</div>\n</div>\n"]
        parts += [_pairs(tested), _gallery(tested, bounds)]
    open_it = " open" * first
    return f"<details{open_it}><summary>{escape(summary)}</summary>\n{''.join(parts)}</details>\n"


def _labels(task: TaskResult, decision: Decision, *, first: bool) -> str:
    """A multi-label task: a table of its classes in place of confusions."""
    figures = {"mAP": task.metric, "micro F1": task.micro_f1, "macro F1": task.macro_f1}
    shown = ", ".join(f"{name} {value:.2f} %" for name, value in figures.items() if value is not None)
    where = f"chosen on {decision.images} validation images" if decision.images else "fixed, without validation images"
    words = (
        f"An image may have several of the classes, so there is no confusion matrix. Predicted are classes with a "
        f"probability of {decision.threshold:.3g} or more ({where}); {LABELS_FILE} has all probabilities."
    )
    rows: list[Sequence[Cell]] = [
        (shorten(each.name, _LONGEST), each.total, each.correct, each.average_precision) for each in task.per_class
    ]
    table = table_html(Table(["class", "images", "found", "average precision"], rows), "Classes; precision in %")
    open_it = " open" * first
    summary = f"{task.name}: {shown or 'no figure'}, {task.total:,} images"
    return f"<details{open_it}><summary>{escape(summary)}</summary>\n<p>{escape(words)}</p>\n{table}</details>\n"


def _confusions(tested: TestedTask, bounds: _Bounds) -> str:
    whole = tested.mistakes.confusion
    shown = whole.fitted(bounds.cells)
    wrong = len(tested.mistakes.wrong)
    label = f"Confusion matrix of {tested.task.name}: {len(whole.names)} classes, {wrong} mistakes"
    step = f", {shown.step} neighbouring classes in each row and column" if shown.step > 1 else ""
    title = f"Confusions: a row is a true class{step}, colours its shares (blue right, orange wrong)"
    return _drawing(title, matrix(shown, label), legend())


def _reliabilities(tested: TestedTask) -> Iterator[str]:
    """The diagram of the run's probabilities and, if an evaluation calibrated them, of the calibrated ones."""
    calibration = _calibration(tested)
    if tested.calibrated:
        yield _reliability(tested.task, tested.mistakes.bins, "before calibration", "")
        words = f"after calibration, temperature {calibration.temperature:.3g}" if calibration else ""
        yield _reliability(tested.calibrated, tested.after, words, "")
        return
    words, more = "", ""
    if calibration:
        words = f"after calibration, temperature {calibration.temperature:.3g}"
        before = calibration.test and calibration.test.ece_before
        more = "" if before is None else f"; before it the ECE was {before:.2f} %"
    yield _reliability(tested.task, tested.mistakes.bins, words, more)


def _reliability(task: TaskResult, bins: Sequence[Bin], which: str, more: str) -> str:
    ece = "none" if task.ece is None else f"{task.ece:.2f} %"
    title = f"Reliability{', ' * bool(which)}{which}: ECE {ece} over {BINS} bins{more}"
    words = "bars: accuracy; orange: less than the mean probability; light blue: more"
    return _drawing(title, reliability(bins, f"{title}, task {task.name}"), f'<p class="note">{words}</p>\n')


def _drawing(title: str, picture: str, below: str) -> str:
    """A drawing that scrolls separately; page.js shows the content of a cell in ``output``."""
    return (
        f'<div class="drawing"><p class="title">{escape(title)}</p>\n<div class="wide">{picture}</div>\n'
        f'<output class="note"></output>\n{below}</div>\n'
    )


def _pairs(tested: TestedTask) -> str:
    rows = [
        (shorten(each.true, _LONGEST), shorten(each.predicted, _LONGEST), each.images, 100 * each.share)
        for each in tested.mistakes.pairs()
    ]
    if not rows:
        return ""
    return table_html(Table(["true class", "predicted class", "images", "% of the true class"], rows), "Confused most")


# ---- the surest mistakes


def _gallery(tested: TestedTask, bounds: _Bounds) -> str:
    """The mistakes with the highest probabilities: pictures with a data root, else a table."""
    found = tested.mistakes.surest(bounds.mistakes)
    title = f"The surest mistakes: {len(found)} of {len(tested.mistakes.wrong):,}"
    return gallery(found, bounds.root, title=title, written=tested.predictions.stat().st_mtime)


def gallery(rows: Sequence[PredictedImage], root: Path | None, *, title: str, written: float = math.inf) -> str:
    """Predicted images: pictures with a data root, else a table; empty without rows.

    Args:
        written: when the predictions were made, in seconds since 1970; newer pictures get a remark.
    """
    if not rows:
        return ""
    if root is None:
        header = ["image", "true class", "predicted class", "probability (%)", "of the true class (%)"]
        table = table_html(Table(header, [_image_row(row) for row in rows]), title)
        hint = "with --root DATA, the folder of the data sets, the page has thumbnails of them"
        return f'{table}<p class="note">{hint}</p>\n'
    items = "".join(_item(row, root, written) for row in rows)
    return f'<p class="title">{escape(title)}</p>\n<ul class="gallery">{items}</ul>\n'


def _image_row(row: PredictedImage) -> list[Cell]:
    true, predicted = (shorten(name, _LONGEST) for name in (row.true_class, row.predicted_class))
    sure = (row.predicted_probability, row.true_probability)
    return [row.image, true, predicted, *(None if each is None else 100 * each for each in sure)]


def _item(row: PredictedImage, root: Path, written: float) -> str:
    found = thumbnail(root, row.image, tested=written)
    true, predicted = (shorten(name, _LONGEST) for name in (row.true_class, row.predicted_class))
    alt = escape(f"{true}, taken for {predicted}")
    picture = f'<img src="{found.uri}" alt="{alt}">' if found.uri else '<span class="none">no picture</span>'
    remark = f"<strong>{escape(found.remark)}</strong>" if found.remark else ""
    return (
        f"<li>{picture}<span>{escape(true)}, taken for <b>{escape(predicted)}</b>: "
        f"{100 * (row.predicted_probability or 0):.1f}\u00a0%</span>{remark}<small>{escape(row.image)}</small></li>"
    )
