"""Find run folders and read their figures, from ``results.json`` or from a log."""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from dassl.results.record import RESULTS_FILE, RunResult, SplitResult, evaluation_file, read_results
from dassl.utils.errors import UserError
from dassl.utils.logger import LOG_FILE

KEYWORD = "overall_metric"

# Dassl as SoftCPT ships it says the first, the official Dassl (CoOp and its relatives) the second.
_END_MARKERS = ("Finished training", "Finish training")
_RESULT_MARKER = "=> result"
_EPOCH_PREFIX = "epoch ["
_TASK_LINE = re.compile(r"\* task: (\d{1,9}) \((.*)\)\s+total: [\d,]+\s+metric: (\S+)%")
_KEY_LINE = re.compile(r"\* ([^:*]+): (\S+?)%")
_LOG_NAME = re.compile(re.escape(LOG_FILE) + r"(-\d{4}(-\d\d){5})?")
EVALUATED = evaluation_file(RESULTS_FILE)
_SEED_FOLDER = re.compile(r"seed\d+")


@dataclass(frozen=True)
class TaskFigure:
    """The metric of one task in percent; None when it could not be computed."""

    index: int
    name: str
    metric: float | None


@dataclass(frozen=True)
class RunFigures:
    """The figures of one run for a table: the overall figure in percent, its tasks and their source file.

    Attributes:
        result: the whole record of the run; None if the source is a log.
        remark: which of several logs it is.
    """

    source: Path
    metric: float
    tasks: tuple[TaskFigure, ...]
    result: RunResult | None = None
    remark: str = ""


@dataclass
class Group:
    """The runs of one folder (usually its seeds), and (name, reason) of those without a usable figure.

    Attributes:
        mixed: differences between runs that should be seeds of one setting; then they have no mean.
    """

    folder: Path
    runs: list[RunFigures] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    mixed: str = ""


def is_run(folder: Path) -> bool:
    """Whether ``folder`` holds the result or the log of a run."""
    return has_result(folder) or bool(logs(folder))


def has_result(folder: Path) -> bool:
    """Whether ``folder`` holds the result of a run."""
    return _has(folder, RESULTS_FILE)


def logs(folder: Path) -> list[Path]:
    """The logs of a run, newest first: Dassl calls the second one of a folder log.txt-2021-09-30-11-22-33."""
    if _is_closed(folder):
        return [folder / LOG_FILE] if _has(folder, LOG_FILE) else []
    found = [path for path in folder.glob(f"{LOG_FILE}*") if _LOG_NAME.fullmatch(path.name) and path.is_file()]
    return sorted(found, reverse=True)


def _has(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except PermissionError:  # of the folder; from Python 3.14 on is_file() itself says False
        return False


def _is_closed(folder: Path) -> bool:
    return not os.access(folder, os.R_OK | os.X_OK)


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder`` whose names do not start with a dot, sorted by name.

    Raises:
        UserError: it does not exist, is not a folder or cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist")
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error


def find_groups(top: Path) -> Iterator[list[Path]]:
    """Yield the run folders below ``top`` that lie side by side, one list for each parent, in order of their paths.

    A folder called ``seed<k>`` counts as a run even if it is empty or unreadable, so that the missing seed shows.
    Run folders are not searched.
    """
    seen = set()
    for parent, names, _ in os.walk(top, followlinks=True):
        # A link may lead back up; without this the walk would circle until the path is too long.
        real = os.path.realpath(parent)
        children = [] if real in seen else [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        seen.add(real)
        runs = [each for each in children if is_run(each) or _SEED_FOLDER.fullmatch(each.name) or _is_closed(each)]
        names[:] = [child.name for child in children if child not in runs]
        if runs:
            yield runs


def read_group(runs: list[Path], *, keyword: str = KEYWORD, test_log: bool = False) -> Group:
    """Read the run folders ``runs``, which lie side by side; see :func:`read_run`."""
    group = Group(runs[0].parent)
    for folder in runs:
        try:
            group.runs.append(read_run(folder, keyword=keyword, test_log=test_log))
        except UserError as error:
            group.left_out.append((folder.name, str(error)))
    return group


def read_run(folder: Path, *, keyword: str = KEYWORD, test_log: bool = False) -> RunFigures:
    """Read the figures of one run: ``results.json`` if it is there, else the newest log that has one.

    Args:
        keyword: name of the figure; in a log, the word before the colon ("accuracy" in logs of the official CoOp).
        test_log: the log is of an evaluation only, without a line that ends the training.

    Raises:
        UserError: the run has no usable figure; the message is the reason.
    """
    if has_result(folder):
        return _read_result(folder, keyword)
    if found := logs(folder):
        return _read_logs(found, keyword, test_log)
    if _is_closed(folder):
        raise UserError("you may not read this folder")
    raise UserError(f"it has neither {RESULTS_FILE} nor {LOG_FILE}")


def read_completed(folder: Path) -> RunResult:
    """The result of a run; one of an older version with the figures that a later evaluation in its folder has.

    That counts if it evaluated the same: method, backbone, images, and the same accuracy of every task.

    Raises:
        UserError: there is no result that can be read.
    """
    result = read_results(folder)
    later = None if any(task.per_class for task in result.tasks) else evaluation_beside(folder, result)
    if later is None or later.calibration or accuracies(later) != accuracies(result):
        return result
    names = ("macro_f1", "nll", "ece")
    return replace(result, tasks=later.tasks, **{name: getattr(later, name) for name in names})


def evaluation_beside(folder: Path, result: RunResult) -> RunResult | None:
    """The later evaluation in the folder of the run with this result, if there is one that can be read.

    It must have evaluated the same method, backbone, images and tasks; its figures may be others.
    """
    if not _has(folder, EVALUATED):
        return None
    try:
        later = read_results(folder, name=EVALUATED)
    except UserError:
        return None
    return later if later.best_epoch is None and _identity(later) == _identity(result) else None


def accuracies(result: RunResult) -> list[float | None]:
    """The figure of a result and those of its tasks."""
    return [result.metric, *(task.metric for task in result.tasks)]


def _identity(result: RunResult) -> tuple[object, ...]:
    tasks = [(task.name, task.metric_name, task.total, task.classes) for task in result.tasks]
    names = ("trainer", "dataset", "backbone", "shots", "seed", "split", "test_digest")
    return (*(getattr(result, name) for name in names), tasks)


def _read_result(folder: Path, keyword: str) -> RunFigures:
    result = read_completed(folder)
    main = SplitResult(result.metric, result.tasks)
    splits = {KEYWORD: main, "average": main, **({"val": result.val} if result.val else {})}
    if keyword not in splits:
        raise UserError(f"{RESULTS_FILE} has no key {keyword!r}; it has {', '.join(splits)}")
    split = splits[keyword]
    if split.metric is None:
        raise UserError(f"its {keyword} could not be computed and is null in {RESULTS_FILE}")
    tasks = tuple(TaskFigure(task.index, task.name, task.metric) for task in split.tasks)
    return RunFigures(folder / RESULTS_FILE, split.metric, tasks, result)


def _read_logs(paths: list[Path], keyword: str, test_log: bool) -> RunFigures:
    """The newest of the logs ``paths`` that has a figure, with a remark if there are several.

    Raises:
        UserError: none has one; the message is the reason of the newest.
    """
    reasons: dict[str, str] = {}
    for number, path in enumerate(paths):
        try:
            run = _read_log(path, keyword, test_log)
        except UserError as error:
            reasons[path.name] = str(error)
            continue
        parts = [f"{name} is newer, but {reason}" for name, reason in reasons.items()]
        older = ", ".join(each.name for each in paths[number + 1 :])
        parts += [f"older and not read: {older}"] if older else []
        return replace(run, remark=f"{path.name} of {len(paths)} logs counts; {'; '.join(parts)}" if parts else "")
    newest, reason = next(iter(reasons.items()))
    raise UserError(reason if len(paths) == 1 else f"{newest}, the newest of {len(paths)} logs: {reason}")


def _read_log(path: Path, keyword: str, test_log: bool) -> RunFigures:
    scan = _LogScan(test_log)
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                scan.read(line.strip())
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}") from error
    if not scan.open:
        raise UserError(scan.why_closed())
    if keyword not in scan.found:
        other = f"it has {', '.join(sorted(scan.found))}, choose with --keyword" if scan.found else "it has none at all"
        raise UserError(f"no result '* {keyword}: ..%' in its log after the end marker; {other}")
    value = _number(scan.found[keyword])
    if value is None:
        raise UserError(f"its {keyword} is {scan.found[keyword]}")
    return RunFigures(path, value, tuple(scan.tasks[index] for index in sorted(scan.tasks)))


class _LogScan:
    """Collects the figures of a log; only figures after the end marker count, and the last one wins."""

    def __init__(self, test_log: bool) -> None:
        self.test_log = test_log
        self.open = False
        self.evaluated = False
        self.found: dict[str, str] = {}
        self.tasks: dict[int, TaskFigure] = {}

    def read(self, line: str) -> None:
        if line == _RESULT_MARKER:
            self.evaluated = True
            self.open = self.open or self.test_log
            self.tasks = {}
        elif line in _END_MARKERS and not self.test_log:
            self.open = True
        elif line.startswith(_EPOCH_PREFIX) and not self.test_log:
            # Training continues: an earlier run in the same file, whose figures do not belong to this one.
            self.open, self.found, self.tasks = False, {}, {}
        elif self.open:
            self._read_figure(line)

    def _read_figure(self, line: str) -> None:
        if task := _TASK_LINE.search(line):
            index = int(task[1])
            self.tasks[index] = TaskFigure(index, task[2], _number(task[3]))
        elif figure := _KEY_LINE.search(line):
            self.found[figure[1]] = figure[2]

    def why_closed(self) -> str:
        if self.test_log:
            return f"no line {_RESULT_MARKER!r} in its log"
        hint = "; if it only evaluated, use --test-log" if self.evaluated else ""
        return f"no end marker: the run did not finish{hint}"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
