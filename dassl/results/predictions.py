"""``predictions.csv``: the predictions of an evaluation, a row for each image and each of its tasks.

Multi-label tasks have ``predictions-labels.csv``, a row for each image and class.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from dassl.results.record import RESULTS_FILE, PredictionsFile, evaluation_file, read_results
from dassl.utils.digests import ChangedError
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path
from dassl.utils.texts import is_formula, printable_line, spreadsheet_cell

PREDICTIONS_FILE = "predictions.csv"
_NAMES = (PREDICTIONS_FILE, evaluation_file(PREDICTIONS_FILE))
LABELS_FILE = "predictions-labels.csv"
MAX_BYTES = 1 << 30
_CHUNK = 4096  # rows
_AGAIN = "evaluate the run again, with its command and --eval-only"


class PredictedImage(NamedTuple):
    """The prediction for an image in one of its tasks.

    Attributes:
        image: its path below the data root, with "/" between folders.
        task, true_class, predicted_class: names; no predicted class where the logits are not finite.
        true_probability, predicted_probability: of these two classes among those of the task, from 0 to 1; None
            without a prediction.
    """

    image: str
    task: str
    true_class: str
    predicted_class: str
    true_probability: float | None
    predicted_probability: float | None


class PredictedLabel(NamedTuple):
    """What was predicted of a class for an image of a multi-label task.

    Attributes:
        image, task, label: the image's path below the data root, and the names of task and class.
        true, predicted: whether the image has the class, and whether it was predicted; the latter is None where the
            logits are not finite.
        probability: from 0 to 1; None without a prediction.
        threshold: predicted are classes with at least this probability.
    """

    image: str
    task: str
    label: str
    true: bool
    predicted: bool | None
    probability: float | None
    threshold: float


def write_predictions(path: Path, rows: Iterable[PredictedImage]) -> PredictionsFile:
    """Write the file, atomically; returns its entry in ``results.json``.

    Raises:
        UserError: the folder cannot be written.
    """
    shown = cache(_cell)  # names of tasks and classes repeat
    lines = ([_cell(row.image), *map(shown, row[1:4]), *map(_number, row[4:])] for row in rows)
    return _write(path, PredictedImage._fields, lines)


def write_labels(path: Path, rows: Iterable[PredictedLabel]) -> PredictionsFile:
    """As :func:`write_predictions`, for the labels of multi-label tasks; 1 and 0 are yes and no."""
    shown = cache(_cell)
    lines = ([_cell(row.image), *map(shown, row[1:3]), *map(_number, row[3:])] for row in rows)
    return _write(path, PredictedLabel._fields, lines)


def _write(path: Path, heading: Sequence[str], lines: Iterable[list[str]]) -> PredictionsFile:
    digest, count = sha256(), 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for block in _blocks(lines):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            if not count:
                writer.writerow(heading)
            writer.writerows(block)
            content = text.getvalue().encode("utf-8")
            digest.update(content)
            file.write(content)
            count += len(block)
    return PredictionsFile(path.name, digest.hexdigest(), count)


def _blocks(rows: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """The rows, ``_CHUNK`` at a time; the first block may be empty."""
    rest = iter(rows)
    yield list(islice(rest, _CHUNK))
    while block := list(islice(rest, _CHUNK)):
        yield block


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def read_predictions(folder: Path | str, *, results: str = RESULTS_FILE) -> list[PredictedImage]:
    """The predictions of the evaluation that ``results`` in a run folder is about.

    Names are as :func:`write_predictions` writes them: invisible characters become U+FFFD.

    Raises:
        ChangedError: the file is not the one that the evaluation wrote, such as that of another evaluation.
        UserError: there is none (runs of older versions have none), it is too large, or it cannot be read.
    """
    said = read_results(folder, name=results).predictions
    if said is None:
        raise UserError(f"{Path(folder) / results} names no {PREDICTIONS_FILE}, which older versions lack; {_AGAIN}")
    if said.file not in _NAMES:
        raise UserError(f"{Path(folder) / results} names {said.file!r} as its {PREDICTIONS_FILE}; {_AGAIN}")
    path = Path(folder) / said.file
    content = _content(path)
    if sha256(content).hexdigest() != said.sha256:
        raise ChangedError(path, f"it does not belong to {results}; {_AGAIN}")
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
        if next(lines, None) != list(PredictedImage._fields):
            raise ValueError(f"its columns are not {','.join(PredictedImage._fields)}")
        rows = [_row(line) for line in lines]
        if len(rows) != said.rows:
            raise ValueError(f"it has {len(rows)} rows, and {results} says {said.rows}")
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}; {_AGAIN}") from error
    return rows


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path} does not exist; {_AGAIN}")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB and was not read; {_AGAIN}")
    return content


def _row(cells: list[str]) -> PredictedImage:
    if len(cells) != len(PredictedImage._fields):
        raise ValueError(f"a row has {len(cells)} cells")
    image, task, true, predicted = map(_plain, cells[:4])
    return PredictedImage(image, task, true, predicted, *map(_probability, cells[4:]))


def _probability(cell: str) -> float | None:
    value = float(cell) if cell else None
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{cell} is no probability")
    return value


def _cell(text: str) -> str:
    return spreadsheet_cell(printable_line(text))


def shown_name(name: str) -> str:
    """The name of a class or task as :func:`read_predictions` gives it."""
    return _plain(_cell(name))


def _plain(cell: str) -> str:
    """What a cell shows: without the apostrophe that a spreadsheet needs."""
    return cell[1:] if cell.startswith("'") and is_formula(cell[1:]) else cell
