"""Split files: which image is for training, validation or test, and its labels.

Two formats are read. CoOp's items are ``[path, label, class name]``, one task a file. SoftCPT's items are
``[path, [labels], [tasks]]`` with names, descriptions and metrics of the tasks under ``meta``; this is the one written.
Paths are relative to the image folder.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from typing import Any

from dassl.data.datum import METRICS, Datum, Split, Task
from dassl.data.layouts import spelt_on_disk
from dassl.utils.digests import DIGEST_KEY, ChangedError
from dassl.utils.errors import UserError
from dassl.utils.files import read_json
from dassl.utils.texts import is_one_line
from dassl.utils.tools import collector_paused

SPLITS = ("train", "val", "test")
IF_MEANT = f'if the change is meant, delete its last entry "{DIGEST_KEY}"'
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@collector_paused()
def read_split(path: Path, image_folder: Path, default: Task) -> Split:
    """Read a split file of either format.

    Args:
        default: name, metric, description and template of a task that the file does not describe.

    Raises:
        ChangedError: a file written here was changed. Published files carry no digest.
        UserError: the file is not a split file; the message names the entry.
    """
    try:
        content = read_json(path)
    except ChangedError as error:
        raise ChangedError(path, f"put it back from a copy, or delete it to have it made again; {IF_MEANT}") from error
    _check_lists(content, path)
    prefix = os.path.join(image_folder, "")  # noqa: PTH118  (Path drops the separator at the end)
    if "meta" in content:
        tasks = _tasks_of_meta(content["meta"], default, path)
        sizes = [len(task.classnames) for task in tasks]
        lists = [_read_items(content, name, path, lambda row: _softcpt_item(row, prefix, sizes)) for name in SPLITS]
        return Split(tasks, *lists)
    names: dict[int, str] = {}
    lists = [_read_items(content, name, path, lambda row: _coop_item(row, prefix, names)) for name in SPLITS]
    if odd := next((name for name in names.values() if not is_one_line(name)), None):
        raise UserError(f"{path}: class name {odd!r} is no line of text without hidden characters; write another one")
    missing = next(label for label in count() if label not in names)
    if missing < max(len(names), 1):
        raise UserError(f"{path}: labels must count from 0 without a gap, but label {missing} has no image")
    return Split((replace(default, classnames=tuple(names[label] for label in sorted(names))),), *lists)


def _check_lists(content: Any, path: Path) -> None:
    """Refuse content that is no split file; the list "val" may be missing."""
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a split file: it holds no lists {', '.join(SPLITS)}; see docs/data.md")
    content.setdefault("val", [])
    lacking = [name for name in SPLITS if not isinstance(content.get(name), list)]
    if lacking:
        there = f"; it has {', '.join(map(repr, islice(content, 8)))}" if content else ""
        raise UserError(
            f"{path} is not a split file: {' and '.join(map(repr, lacking))} is missing or no list{there}; see "
            "docs/data.md for the format"
        )


def _place(name: str, prefix: str) -> str:
    """The path of an image, also if another system wrote it: with backslashes, or with composed letters.

    Equal images must get equal paths, because a path identifies an image. A name that begins with a slash is an
    absolute path, as written here for images outside the image folder, if such a file exists.
    """
    odd = "\\" in name or "//" in name or "./" in name or name[:1] == "/" or name[1:2] == ":"
    if name.isascii() and not odd:
        return prefix + name
    if not _in_utf8(name):
        raise ValueError("the path is not UTF-8; rename the file, and write its name anew")
    if _WINDOWS_DRIVE.match(name):
        raise ValueError(f"a path on a Windows drive; write it relative to {prefix}")
    if "\\" in name and not os.path.isfile(prefix + name):  # noqa: PTH113  (a Path for each image costs seconds)
        name = name.replace("\\", "/")
    if name.startswith("/") and os.path.isfile(name):  # noqa: PTH113
        return name
    path = prefix + name.lstrip("/")
    return spelt_on_disk(path if ".." in name else os.path.normpath(path))


def _in_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def split_content(split: Split, image_folder: Path) -> dict[str, Any]:
    """The content of a split file in SoftCPT's format."""
    tasks = split.tasks
    content: dict[str, Any] = {}
    for name, items in zip(SPLITS, split.lists, strict=True):
        content[name] = [
            [name, [label for _, label in item.targets], [task for task, _ in item.targets]]
            for name, item in zip(relative_names(items, image_folder), items, strict=True)
        ]
    content["meta"] = {
        "taskid2cname": [list(task.classnames) for task in tasks],
        "taskid2tname": [task.name for task in tasks],
        "taskid2desc": [task.description for task in tasks],
        "taskid2type": ["sl"] * len(tasks),
        "taskid2metric": [task.metric for task in tasks],
        "taskid2template": [task.template for task in tasks],
    }
    return content


def subset_content(train: Sequence[Datum], val: Sequence[Datum], image_folder: Path) -> dict[str, Any]:
    """Relative paths of a few-shot subset with their digests (SHA-256 of the paths joined by newlines)."""
    names = {"train": relative_names(train, image_folder), "val": relative_names(val, image_folder)}
    digests = {name: sha256("\n".join(paths).encode()).hexdigest() for name, paths in names.items()}
    whole = sha256("\n".join(digests.values()).encode()).hexdigest()
    return {"digest": whole, "train_sha256": digests["train"], "val_sha256": digests["val"], **names}


def labels_digest(items: Iterable[Datum], root: Path) -> str:
    """SHA-256 that names a list of labelled images, in whatever order: paths below ``root``, tasks and labels."""
    listed = list(items)
    lines = sorted(f"{name}\t{item.targets}" for name, item in zip(relative_names(listed, root), listed, strict=True))
    return sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def relative_names(items: Iterable[Datum], folder: Path) -> list[str]:
    """Paths of the images relative to ``folder``, with "/"; absolute for an image elsewhere."""
    prefix = os.path.join(folder, "")  # noqa: PTH118
    return [item.impath.removeprefix(prefix).replace(os.sep, "/") for item in items]


def _read_items(content: dict[str, Any], name: str, path: Path, read: Callable[[Any], Datum]) -> list[Datum]:
    rows = content.pop(name)
    for number, row in enumerate(rows):
        try:
            rows[number] = read(row)  # in place, so that a million images are in memory once
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: entry {number} of {name!r} is {row!r}: {error}") from error
    return rows


def _coop_item(row: Any, prefix: str, names: dict[int, str]) -> Datum:
    name, label, classname = row
    if type(name) is not str or type(label) is not int or type(classname) is not str or label < 0:
        raise ValueError("expected [path, label, class name]")
    if names.setdefault(label, classname) != classname:
        raise ValueError(f"label {label} is called {names[label]!r} elsewhere")
    return Datum(_place(name, prefix), label)


def _softcpt_item(row: Any, prefix: str, sizes: Sequence[int]) -> Datum:
    name, labels, tasks = row
    several = len(tasks) > 1
    if type(name) is not str or len(labels) != len(tasks) or not tasks or (several and len(set(tasks)) != len(tasks)):
        raise ValueError("expected [path, [one label a task], [the tasks]]")
    for task, label in zip(tasks, labels, strict=True):
        if (
            type(task) is not int
            or type(label) is not int
            or not 0 <= task < len(sizes)
            or not 0 <= label < sizes[task]
        ):
            raise ValueError(f"label {label!r} of task {task!r} is not among the {len(sizes)} tasks and their classes")
    also = tuple(zip(tasks[1:], labels[1:], strict=True)) if several else ()
    return Datum(_place(name, prefix), labels[0], tasks[0], also)


def _tasks_of_meta(meta: Any, default: Task, path: Path) -> tuple[Task, ...]:
    try:
        classnames = meta["taskid2cname"]
        fields = {
            "name": meta["taskid2tname"],
            # The original's Fashion-20 has lists here.
            "description": [
                text if isinstance(text, str) else default.description
                for text in meta.get("taskid2desc", [default.description] * len(classnames))
            ],
            "metric": meta.get("taskid2metric", [default.metric] * len(classnames)),
            "template": meta.get("taskid2template", [default.template] * len(classnames)),
        }
        if not classnames or any(len(values) != len(classnames) for values in fields.values()):
            raise ValueError("its lists differ in length or are empty")
        rows = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
        return tuple(_task(row, names) for row, names in zip(rows, classnames, strict=True))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: 'meta' does not describe the tasks ({error!r}); see docs/data.md") from error


def _task(fields: dict[str, Any], classnames: Any) -> Task:
    texts = [*fields.values(), *classnames]
    if not classnames or isinstance(classnames, str) or any(type(text) is not str for text in texts):
        raise ValueError("names must be texts")
    if odd := next((text for text in texts if not is_one_line(text)), None):
        raise ValueError(f"{odd!r} is no line of text without hidden characters")
    if fields["metric"] not in METRICS:
        raise ValueError(f"metric {fields['metric']!r} is none of {', '.join(METRICS)}")
    braces = fields["template"].count("{"), fields["template"].count("}")
    if "{}" not in fields["template"] or braces != (1, 1):
        raise ValueError(
            f"template {fields['template']!r} needs '{{}}' exactly once, where the class name goes, and no other brace"
        )
    return Task(classnames=tuple(classnames), **fields)
