"""Descriptions of a user's own tasks: the entries of DATASET.TASKS."""

import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data.datum import METRICS, MULTI_METRICS, WEIGHTS
from dassl.data.own.splitfile import Ratios
from dassl.data.splits import SPLITS
from dassl.utils.registry import nearest
from dassl.utils.texts import is_one_line

SOURCES = ("folder", "table", "dataset")
DEFAULT_RATIOS: Ratios = (0.5, 0.2, 0.3)
ALL_TEST = [0.0, 0.0, 1.0]
MULTI = "multi"
TYPES = ("single", MULTI)
_ONLY_MULTI = ("labels", "separator", "none")
_ONLY_FOR = {"image": "table", "label": "table", "split": "table", "image_folder": "table"}


@dataclass(frozen=True)
class OwnTask:
    """One entry of DATASET.TASKS; paths are relative to the data root.

    Attributes:
        name: the task's name; optional for a registered data set, which has one.
        folder: a tree with one folder of images per class.
        table: a CSV, TSV or JSONL file with a row per image.
        dataset: registered name of a data set or suite.
        description, metric, template, weight: as in :class:`dassl.data.Task`; empty: the default, or that of the data
            set.
        image, label, split: columns of the table; ``split`` None means the column "split" if there is one.
        image_folder: folder that the table's paths are relative to; empty: the folder of the table.
        classes: all labels, in order, or new names of some labels ({label: class name}).
        ratios: shares of the train, val and test images of each class.
        type: "multi" if an image may have any number of labels.
        labels: of a multi-label task: columns with 0 or 1, one for each class, in place of ``label``.
        separator: text between the labels of a cell; empty: it is guessed.
        none: content of a cell whose image has no label; None: there is no such image.
        group: what names the images that must share a split: a column of the table, "parent_folder", or a regular
            expression whose first group is searched in the path.
    """

    name: str = ""
    folder: str = ""
    table: str = ""
    dataset: str = ""
    description: str = ""
    metric: str = ""
    template: str = ""
    image: str = "image"
    label: str = "label"
    split: str | None = None
    image_folder: str = ""
    classes: tuple[str, ...] | Mapping[str, str] = ()
    ratios: Ratios = DEFAULT_RATIOS
    group: str = ""
    weight: str = ""
    type: str = TYPES[0]
    labels: tuple[str, ...] = ()
    separator: str = ""
    none: str | None = None

    @property
    def multi(self) -> bool:
        """Whether an image may have any number of labels."""
        return self.type == MULTI

    @property
    def source(self) -> str:
        """The source of the labels; equal for tasks that read the same labels."""
        column = ",".join(self.labels) or self.label
        return f"{self.table}:{column}" if self.table else self.folder or self.dataset


def own_task(entry: Mapping[str, Any]) -> OwnTask:
    """The description in an entry of a parsed DATASET.TASKS."""
    values = dict(entry)
    for field in ("classes", "ratios", "labels"):
        if isinstance(values.get(field), list):
            values[field] = tuple(values[field])
    return OwnTask(**values)


def multi_tasks(cfg: CfgNode) -> list[str]:
    """Names of the multi-label tasks of a config, before tasks are chosen."""
    return [entry.get("name", "") for entry in cfg.DATASET.TASKS if entry.get("type") == MULTI]


def parse_tasks(value: Any) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """Check a list of task descriptions as YAML gives it.

    Returns:
        The entries with converted values, and a line for each mistake.
    """
    if not isinstance(value, list | tuple):
        return (), ["must be a list of task descriptions in a yaml file; see docs/your-own-data.md"]
    tasks: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, dict):
            problems.append(f"entry {number} is {entry!r}: expected FIELD: VALUE lines, such as name: and folder:")
            continue
        task, wrong = _parse_task(entry)
        tasks.append(task)
        shown = f"entry {number}" + (f" ({entry['name']!r})" if isinstance(entry.get("name"), str) else "")
        problems += [f"{shown}: {problem}" for problem in wrong]
    return tuple(tasks), problems + _same_names(tasks)


def is_placed(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of DATASET.TASKS says without a data root where its images are: all its paths are absolute."""
    paths = [entry[field] for field in ("folder", "table", "image_folder") if entry.get(field)]
    return not entry.get("dataset") and bool(paths) and all(Path(path).expanduser().is_absolute() for path in paths)


def plain_name(name: str) -> str:
    """A name as a prompt shows it, in lower case: "_" counts as a space."""
    return " ".join(name.replace("_", " ").split()).casefold()


def _parse_task(entry: dict[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    task: dict[str, Any] = {}
    problems = []
    for field, value in entry.items():
        if field not in _READERS:
            close = nearest(str(field), _READERS)
            problems.append(f"unknown field {field!r}; " + (f"did you mean {close[0]}?" if close else _all_fields()))
            continue
        try:
            task[field] = _READERS[field](value)
        except ValueError as error:
            problems.append(f"{field} is {value!r}: {error}")
    return task, problems or _contradictions(task)


def _contradictions(task: dict[str, Any]) -> list[str]:
    given = [source for source in SOURCES if task.get(source)]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        return [f"needs exactly one of folder, table, dataset (found {found}) to say where the images are"]
    problems = []
    if not task.get("name") and given != ["dataset"]:
        problems.append("has no name; add one, because the method reads names")
    for field, source in _ONLY_FOR.items():
        if field in task and source != given[0]:
            problems.append(f"{field} is for a {source}, and this task has a {given[0]}; leave it out")
    if "ratios" in task and given == ["dataset"]:
        problems.append("ratios are for your own images; a registered data set has its own split; leave them out")
    if "group" in task and given == ["dataset"]:
        problems.append("group is for your own images; a registered data set has its own split; leave it out")
    return problems + (_multi_problems(task, given[0]) if task.get("type") == MULTI else _single_problems(task))


def _single_problems(task: dict[str, Any]) -> list[str]:
    wrong = [field for field in _ONLY_MULTI if field in task]
    problems = [f"{field} is for a task with type: {MULTI}; add that, or leave {field} out" for field in wrong]
    if task.get("metric") in MULTI_METRICS:
        problems.append(f"metric {task['metric']} is for a task with type: {MULTI}; choose one of {', '.join(METRICS)}")
    return problems


def _multi_problems(task: dict[str, Any], source: str) -> list[str]:
    problems = []
    if source != "table":
        why = "an image is in one class folder" if source == "folder" else "a registered data set has its own type"
        problems.append(f"type: {MULTI} needs a table of labels, and this task has a {source}: {why}; use table:")
    if task.get("metric", MULTI_METRICS[0]) not in MULTI_METRICS:
        problems.append(
            f"metric {task['metric']} is for one label an image; with type: {MULTI} choose {MULTI_METRICS[0]}"
        )
    if task.get("weight"):
        problems.append("weight is for one label an image; leave it out, and set MULTI.LOSS asymmetric for rare labels")
    if "labels" in task:
        wrong = [field for field in ("label", "separator", "none") if field in task]
        problems += [f"{field} is for labels in one cell, and labels names columns; leave one out" for field in wrong]
        if isinstance(task.get("classes"), list):
            problems.append("classes is a list, and labels has the order of the classes already; leave one out")
    return problems


def _same_names(tasks: list[dict[str, Any]]) -> list[str]:
    seen: dict[str, int] = {}
    problems = []
    for number, task in enumerate(tasks, 1):
        name = plain_name(task.get("name", ""))
        first = seen.setdefault(name, number)
        if name and first != number:
            problems.append(f"entry {number} ({task['name']!r}): entry {first} has the same name; rename one")
    return problems


def _all_fields() -> str:
    return f"the fields are {', '.join(_READERS)}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        raise ValueError('YAML reads this word as true or false; put it in quotes, such as "yes"')
    if not isinstance(value, str | int | float):
        raise ValueError("expected a text")
    text = unicodedata.normalize("NFC", str(value).strip())
    if not text:
        raise ValueError("is empty")
    if not is_one_line(text):
        raise ValueError("must be one line of printable characters")
    return text


def _metric(value: Any) -> str:
    if value not in METRICS + MULTI_METRICS:
        raise ValueError(f"choose one of {', '.join(METRICS + MULTI_METRICS)}")
    return value


def _type(value: Any) -> str:
    if value not in TYPES:
        raise ValueError(f"choose one of {', '.join(TYPES)}")
    return value


def _columns(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError("expected a list of at least two columns")
    return _distinct(list(map(_text, value)))


def _separator(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError('expected a text such as ";"')
    return value.strip()


def _none(value: Any) -> str:
    return "" if value == "" else _text(value)


def _weight(value: Any) -> str:
    if value not in WEIGHTS:
        raise ValueError(f"choose {', '.join(WEIGHTS)}, or leave the field out")
    return value


def _template(value: Any) -> str:
    text = _text(value)
    if text.count("{}") != 1 or text.replace("{}", "").count("{") + text.replace("{}", "").count("}"):
        raise ValueError('needs "{}" exactly once, where the class name goes, and no other brace')
    return text


def _classes(value: Any) -> list[str] | dict[str, str]:
    if isinstance(value, list):
        return _distinct(list(map(_text, value)))
    if isinstance(value, dict):
        return {_text(label): _text(name) for label, name in value.items()}
    raise ValueError("expected a list of all labels, or LABEL: CLASS NAME lines")


def _distinct(names: list[str]) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} occurs twice")
    return names


def _ratios(value: Any) -> list[float]:
    if isinstance(value, dict):
        unknown = [split for split in value if split not in SPLITS]
        if unknown:
            raise ValueError(f"unknown split {unknown[0]!r}; the splits are {', '.join(SPLITS)}")
        value = [value.get(split, 0) for split in SPLITS]
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError("expected three numbers: the shares of train, val and test")
    if any(isinstance(share, bool) or not isinstance(share, int | float) for share in value):
        raise ValueError("expected numbers")
    train, val, test = map(float, value)
    if [train, val, test] == ALL_TEST:
        return ALL_TEST
    if not (0 < train <= 1 and 0 <= val <= 1 and 0 < test <= 1):
        raise ValueError(
            "the shares of train and test must be above 0, and none may be negative or above 1; {test: 1} alone is for "
            "images that are only tested"
        )
    if not math.isclose(train + val + test, 1, abs_tol=1e-6):
        raise ValueError(f"the shares add up to {train + val + test:g}; they must add up to 1")
    return [train, val, test]


_READERS: dict[str, Callable[[Any], Any]] = {
    **{field.name: _text for field in fields(OwnTask)},
    "metric": _metric,
    "template": _template,
    "classes": _classes,
    "ratios": _ratios,
    "weight": _weight,
    "type": _type,
    "labels": _columns,
    "separator": _separator,
    "none": _none,
}
