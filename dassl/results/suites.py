"""Which suite a run belongs to, as a heading and as a digest: its data set, members and own tasks."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dassl.utils.texts import printable

# What a task of DATASET.TASKS says of the places of its images; they may move.
PLACES_OF_TASKS = ("folder", "table", "image", "label", "split", "image_folder", "ratios", "separator", "none")
_NAMED_TASKS = 4  # names of tasks in a heading


@dataclass(frozen=True)
class LearnedOn:
    """The suite that a model learned which is evaluated on another one: its heading and its digest."""

    suite: str
    digest: str


def without_places(tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tasks of DATASET.TASKS without the places of their images."""
    return [{key: value for key, value in task.items() if key not in PLACES_OF_TASKS} for task in tasks]


def suite_title(config: Mapping[str, Any]) -> str:
    """The title that a config, by dotted key, gives its suite; empty for the name of the data set."""
    return printable(str(config.get("DATASET.TITLE") or ""))


def suite_heading(label: str, members: Sequence[str], tasks: Sequence[Mapping[str, Any]]) -> str:
    """The title of a suite, or the name of its data set, with its members or the first of its tasks."""
    names = [*members] or [printable(str(task.get("name", "?"))) for task in tasks]
    if not members and len(names) > _NAMED_TASKS:
        names = [*names[:_NAMED_TASKS], f"and {len(names) - _NAMED_TASKS} more"]
    return label + (f" ({', '.join(names)})" if names else "")


def suite_digest(dataset: str, members: Sequence[str], tasks: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 over what makes a suite; the places of images are not in it."""
    content = [dataset, list(members), without_places(tasks)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def learned_on(config: Mapping[str, Any], evaluated: Mapping[str, Any]) -> LearnedOn | None:
    """The suite of a run, by its config, if it is not the one that is evaluated; configs by dotted key."""
    dataset, members, tasks = _suite(config)
    digest = suite_digest(dataset, members, tasks)
    if digest == suite_digest(*_suite(evaluated)):
        return None
    return LearnedOn(suite_heading(suite_title(config) or dataset, members, tasks), digest)


def _suite(config: Mapping[str, Any]) -> tuple[str, list[str], list[Mapping[str, Any]]]:
    members, tasks = config.get("DATASET.MEMBERS") or (), config.get("DATASET.TASKS") or ()
    return str(config.get("DATASET.NAME", "")), list(map(str, members)), list(tasks)
