"""``tasks.json`` of a run folder: the tasks with their class names, so that a run can be used without its data."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dassl.data.datum import Task
from dassl.utils.digests import ChangedError
from dassl.utils.errors import UserError
from dassl.utils.files import read_json, write_json

TASKS_FILE = "tasks.json"
_FORMAT = 1
_AGAIN = "delete its results.json and start the run's command again: it only tests, and writes the file"


def write_tasks(folder: Path, tasks: Sequence[Task]) -> None:
    """Write the tasks of the run in ``folder``."""
    content = [told_of(task) for task in tasks]
    write_json(folder / TASKS_FILE, {"format": _FORMAT, "tasks": content}, signed=True)


def told_of(task: Task) -> dict[str, Any]:
    """A task as JSON values."""
    # The places of the data are useless without it; older versions do not know the newer fields.
    unused = {name for name in ("weight", "multi") if not getattr(task, name)}
    return {name: value for name, value in asdict(task).items() if name not in {"places", *unused}}


def read_tasks(folder: Path) -> list[Task]:
    """The tasks of the run in ``folder``.

    Raises:
        UserError: the file is missing (runs of older versions have none) or invalid.
    """
    path = folder / TASKS_FILE
    if not path.is_file():
        raise UserError(f"{folder} has no {TASKS_FILE}, which runs of older versions lack; {_AGAIN}")
    try:
        content = read_json(path)
    except ChangedError as error:
        raise ChangedError(path, f"put it back from a copy, or {_AGAIN}") from error
    try:
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}, this version reads {_FORMAT}")
        tasks = [task_of(each) for each in content["tasks"]]
        if not tasks:
            raise ValueError("there is no task")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} does not describe tasks ({error}); make it again with the run's command") from error
    return tasks


def task_of(content: dict[str, Any]) -> Task:
    """Inverse of :func:`told_of`; raises KeyError, TypeError, ValueError or AttributeError for what is no task."""
    task = Task(**content)
    if type(task.multi) is not bool:
        raise ValueError("multi must be true or false")
    texts = (task.name, task.description, task.template, *task.classnames)
    if not task.classnames or any(not isinstance(text, str) for text in texts):
        raise ValueError("names must be texts, and a task has at least one class")
    if task.template.count("{}") != 1:
        raise ValueError(f"template {task.template!r} needs '{{}}' exactly once")
    return task
