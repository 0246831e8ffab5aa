"""All runs below a folder, with their configs."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dassl.results.methods import label_of, read_methods
from dassl.results.record import RESULTS_FILE, RunResult, SplitResult, TaskResult
from dassl.results.runs import KEYWORD, find_groups, has_result, is_run, read_completed, read_run
from dassl.results.stored import stored_config
from dassl.utils.errors import UserError
from dassl.utils.texts import printable

ONE_TASK = re.compile(r"task(\d+)")
_SEED_FOLDER = re.compile(r"seed(\d+)")
KEYWORDS = (KEYWORD, "average", "val")  # the figures that a results.json has


@dataclass(frozen=True)
class Record:
    """A run with a figure.

    Attributes:
        result: its result; ``metric`` and ``tasks`` are those of the requested figure.
        config: its config by dotted key; empty if the file is missing.
    """

    folder: Path
    result: RunResult
    config: Mapping[str, Any]

    @cached_property
    def label(self) -> str:
        """Its method: its name in tables, unless it was given a label."""
        return _label(self.result.trainer, self.config)

    @property
    def given_label(self) -> str:
        """The label from its sweep or user; empty for the label of its method."""
        return printable(str(self.config.get("TRAINER.LABEL") or ""))

    @property
    def published_keys(self) -> dict[str, str]:
        """The config keys that its method's authors set by shots or data set, with the values of the config file."""
        applied = self.config.get("TRAINER.PUBLISHED_SETTINGS") == "applied"
        texts = self.config.get("TRAINER.PUBLISHED_KEYS") if applied else ()
        parts = [str(text).partition(" ") for text in texts or ()]
        return {key: value for key, _, value in parts}

    @property
    def is_of_one_task(self) -> bool:
        """Whether it is a run of a single task, of a method that is trained task by task."""
        return bool(ONE_TASK.fullmatch(self.task_choice)) and len(self.result.tasks) == 1

    @property
    def learns(self) -> bool:
        """Whether it depends on training images, and so on shots and seed."""
        return _learns(self.label, self.result.trainer)

    @property
    def classes(self) -> str:
        """The classes that took part: all, base or new."""
        return _said(self.result.classes, self.config, "DATASET.SUBSAMPLE_CLASSES")

    @property
    def task_choice(self) -> str:
        """The tasks that took part: all, base, new, task3, or several such as "task0,task3"."""
        return _said(self.result.task_choice, self.config, "DATASET.SUBSAMPLE_TASKS").replace(" ", "")


@dataclass(frozen=True)
class Broken:
    """A run without a figure: the reason, and its config as far as known."""

    folder: Path
    reason: str
    config: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The name of its method in tables; empty if unknown."""
        trainer = self.config.get("TRAINER.NAME")
        return _label(str(trainer), self.config) if trainer else ""

    @property
    def learns(self) -> bool:
        """Whether it would depend on training images, and so on shots and seed."""
        return _learns(self.label, str(self.config.get("TRAINER.NAME")))


@dataclass(frozen=True)
class Tree:
    """What is below ``top``: runs with figures, runs without, and logs of programs that write no results.json."""

    top: Path
    records: tuple[Record, ...]
    broken: tuple[Broken, ...]
    logs: tuple[Path, ...]

    @property
    def is_ours(self) -> bool:
        """Whether all figures come from runs of this program, in the folder layout of its scripts.

        Such run folders lie below a folder that is named after their trainer. Users who name folders freely want to
        see those names, not the methods'.
        """
        return bool(self.records) and not self.logs and all(map(_is_laid_out, self.records))

    def name(self, folder: Path) -> str:
        """The path of a run relative to ``top``."""
        return os.path.relpath(folder, self.top).replace(os.sep, "/")


def read_tree(top: Path, *, keyword: str = KEYWORD) -> Tree:
    """Read every run below ``top``, which may itself be a run; ``keyword`` is one of KEYWORDS."""
    records, broken, logs = [], [], []
    for folder in [top] if is_run(top) else _folders(top):
        config = read_config(folder)
        if not has_result(folder) and _has_figure(folder):
            logs.append(folder)
            continue
        try:
            records.append(Record(folder, _asked(folder, keyword), config))
        except UserError as error:
            broken.append(Broken(folder, str(error), config))
    return Tree(top, tuple(records), tuple(_with_config(broken, records)), tuple(logs))


def _with_config(broken: list[Broken], records: list[Record]) -> Iterator[Broken]:
    """Give a seed that has no config yet the config of the seeds beside it."""
    beside = {record.folder.parent: record.config for record in records}
    for each in broken:
        seed = _SEED_FOLDER.fullmatch(each.folder.name)
        if not each.config and seed and beside.get(each.folder.parent):
            each = dataclasses.replace(each, config={**beside[each.folder.parent], "SEED": int(seed[1])})
        yield each


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a run by dotted key; empty if none can be read."""
    return dict(_flat(stored_config(folder) or {}, ""))


def _is_laid_out(record: Record) -> bool:
    return bool(record.config) and record.result.trainer in record.folder.resolve().parts


def _folders(top: Path) -> Iterator[Path]:
    for group in find_groups(top):
        yield from group


def _has_figure(folder: Path) -> bool:
    try:
        read_run(folder)
    except UserError:
        return False
    return True


def _asked(folder: Path, keyword: str) -> RunResult:
    """The result, with the requested figure instead of its default one.

    Raises:
        UserError: the result lacks the figure; the message gives the reason.
    """
    if not has_result(folder):
        read_run(folder)  # raises, with the reason why the log has no figure
        raise AssertionError(folder)
    result = read_completed(folder)
    if keyword == "val" and result.val is not None:
        result = dataclasses.replace(
            result, split="val", metric=result.val.metric, tasks=_val_tasks(result, result.val)
        )
    elif keyword == "val" and result.split != "val":
        raise UserError("its validation split was not evaluated")
    if result.metric is None:
        raise UserError(f"its {keyword} could not be computed and is null in {RESULTS_FILE}")
    return dataclasses.replace(
        result,
        dataset=printable(result.dataset),
        tasks=tuple(dataclasses.replace(task, name=printable(task.name)) for task in result.tasks),
    )


def _val_tasks(result: RunResult, val: SplitResult) -> tuple[TaskResult, ...]:
    """The tasks of the validation split; a run that stored only their mean has the figure of a single task at most."""
    if val.tasks:
        return val.tasks
    metric = val.metric if len(result.tasks) == 1 else None
    return tuple(dataclasses.replace(task, metric=metric) for task in result.tasks)


def _label(trainer: str, config: Mapping[str, Any]) -> str:
    return printable(label_of(trainer, config) if config else trainer)


def _learns(label: str, trainer: str) -> bool:
    method = read_methods().get(label)
    return method.learns if method else not trainer.startswith("Zeroshot")


def _said(value: str, config: Mapping[str, Any], key: str) -> str:
    """A choice from results.json or, if an older version wrote it without the field, from the config."""
    return value if value != "all" else str(config.get(key, "all"))


def _flat(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value
