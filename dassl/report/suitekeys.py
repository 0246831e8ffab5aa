"""What makes figures comparable, and so defines a suite: the data, the frozen model and the evaluated split."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dassl.report.settings import tell_apart
from dassl.report.tree import Broken, Record
from dassl.results.suites import LearnedOn, suite_digest, suite_heading, suite_title
from dassl.utils.texts import printable

_SHOWN = 8  # characters of a digest
# How backbones are named (clip/names.py, which this room does not import).
_HUB, _FOLDER = "hf-hub:", "local-dir:"
_WEIGHTS = (".pt", ".safetensors", ".pth", ".bin")


@dataclass(frozen=True)
class SuiteKey:
    """What the runs of a suite share.

    Attributes:
        tasks: DATASET.TASKS as JSON; empty if the data set defines its tasks.
        apart: what distinguishes it from suites that are otherwise equal or have the same heading.
        name: DATASET.TITLE.
        learned_on: the other suite that the models learned; None for runs that learned this one, or nothing.
    """

    dataset: str
    members: tuple[str, ...]
    backbone: str
    split: str
    tasks: str = ""
    apart: tuple[str, ...] = ()
    name: str = ""
    learned_on: LearnedOn | None = None

    @property
    def label(self) -> str:
        """Its own name, else that of the data set."""
        return self.name or self.dataset

    @property
    def title(self) -> str:
        """The heading of its tables."""
        heading = suite_heading(self.label, self.members, _tasks(self))
        split = [f"{self.split} split"] if self.split != "test" else []
        source = [f"learned on {self.learned_on.suite}"] if self.learned_on else []
        return ", ".join([heading, self.backbone, *split, *source, *self.apart])

    @property
    def digest(self) -> str:
        """What :class:`LearnedOn` calls this suite by."""
        return suite_digest(self.dataset, self.members, _tasks(self))


@dataclass(frozen=True)
class Parting:
    """Runs that look alike but are not comparable, so that they have separate tables.

    Attributes:
        what: the difference: "weights" or "test images".
        title: the heading that they would share.
        runs: their folders, by the text that their headings add.
    """

    what: str
    title: str
    runs: Mapping[str, tuple[Path, ...]]


def sort_into_suites(records: Sequence[Record]) -> tuple[dict[SuiteKey, list[Record]], list[Parting]]:
    """The runs of each suite, in the order of their first runs, and the partings that digests cause."""
    by_key: dict[SuiteKey, list[Record]] = defaultdict(list)
    for record in records:
        by_key[_key(record)].append(record)
    found: dict[SuiteKey, list[Record]] = {}
    partings: list[Parting] = []
    for (key, members), apart in zip(by_key.items(), _other_tasks(list(by_key)), strict=True):
        whole = replace(key, apart=apart)
        for middle, some in _part(whole, members, "weights", lambda r: r.result.backbone.digest, partings).items():
            found |= _part(middle, some, "test images", _test_digest, partings)
    return found, partings


def _key(record: Record) -> SuiteKey:
    result = record.result
    facts = _of_config(record.config, result.backbone.name, result.split)
    return SuiteKey(result.dataset, *facts, name=suite_title(record.config), learned_on=result.learned_on)


def _of_config(config: Mapping[str, Any], backbone: str, split: str) -> tuple[tuple[str, ...], str, str, str]:
    members = tuple(map(str, config.get("DATASET.MEMBERS") or ()))
    tasks = config.get("DATASET.TASKS")
    return members, short_backbone(backbone), split, json.dumps(tasks, sort_keys=True, default=str) if tasks else ""


def short_backbone(backbone: str) -> str:
    """The name of a backbone, which may be the path of a file or a folder; "ViT-B/16" is not a path."""
    path = Path(backbone.removeprefix(_FOLDER))
    if backbone.startswith(_FOLDER):
        return printable(path.name or backbone)
    is_file = "/" in backbone and path.suffix in _WEIGHTS and not backbone.startswith(_HUB)
    return printable(path.stem if is_file else backbone)


def _test_digest(record: Record) -> str:
    # The few-shot images of the validation split depend on the seed.
    return record.result.test_digest if record.result.split == "test" else ""


def _part(
    key: SuiteKey, records: list[Record], what: str, digest: Callable[[Record], str], partings: list[Parting]
) -> dict[SuiteKey, list[Record]]:
    """One suite for each digest, added to ``partings``; if only one digest is known, it counts for all runs."""
    if len({digest(record) for record in records} - {""}) < 2:
        return {key: records}
    found: dict[SuiteKey, list[Record]] = defaultdict(list)
    for record in records:
        found[replace(key, apart=(*key.apart, f"{what} {digest(record)[:_SHOWN] or 'unknown'}"))].append(record)
    runs = {each.apart[-1]: tuple(record.folder for record in members) for each, members in found.items()}
    partings.append(Parting(what, key.title, runs))
    return found


def _other_tasks(keys: Sequence[SuiteKey]) -> Iterator[tuple[str, ...]]:
    """The text that distinguishes suites of user-defined tasks with the same names."""
    for key in keys:
        alike = [each for each in keys if each.title == key.title]
        texts = tell_apart([_flat_tasks(each) for each in alike], word="tasks")
        text = texts[alike.index(key)][0]
        yield (text,) if text else ()


def _flat_tasks(key: SuiteKey) -> dict[str, str]:
    return {
        f"{number}.{task.get('name')}.{k}": str(v) for number, task in enumerate(_tasks(key)) for k, v in task.items()
    }


def _tasks(key: SuiteKey) -> list[dict[str, Any]]:
    content = json.loads(key.tasks) if key.tasks else []
    return [task for task in content if isinstance(task, dict)] if isinstance(content, list) else []


def suite_of_broken(broken: Broken, known: Sequence[SuiteKey]) -> SuiteKey:
    """The key of the suite that a run without a figure belongs to; unknown to ``known`` if its config is missing."""
    config = broken.config
    backbone, split = str(config.get("MODEL.BACKBONE.NAME", "")), str(config.get("TEST.SPLIT", "test"))
    own = SuiteKey(str(config.get("DATASET.NAME", "")), *_of_config(config, backbone, split), name=suite_title(config))
    for key in known:
        if replace(key, split=split, apart=()) == own:
            return key
    return own
