"""Cases of sampling/: few-shot selection, base and new classes, choice of tasks."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dassl.data.datum import Datum, Split, Task
from dassl.data.sampling import fewshot_split, merge, subsample_classes, subsample_tasks
from tests.golden.report import Case, Mismatch, leftovers

Splits = dict[str, Any]
_NAME = re.compile(
    r"(?:(?P<set>\w+)\.)?seed(?P<seed>\d+)\.shots(?P<shots>-?\d+)\.classes=(?P<classes>\w+)(?:\.tasks=(?P<tasks>\w+))?$"
)


def _asked(key: str) -> dict[str, str]:
    match = _NAME.match(key)
    if match is None:
        raise Mismatch(f"the name {key!r} does not say seed, shots and classes")
    return match.groupdict()


def _drawn(source: dict[str, Any], shots: int, seed: int, task: Task) -> Split:
    train, val, test = ([Datum(path, label) for path, label in source[part]] for part in ("train", "val", "test"))
    train, val = fewshot_split(train, val, shots, seed)
    return Split((task,), train, val, test)


def _samples(splits: Splits, seed: str, shots: str, recorded: dict[str, Any]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        case.expect(recorded)
        for name, parts in recorded.items():
            split = _drawn(splits[name], int(shots), int(seed), Task(name, splits[name]["classes"]))
            for part in parts:
                mine = [item.impath for item in getattr(split, part)]
                case.equal(f"{name}.{part}", mine, parts[part])

    return replay


def _merged(splits: Splits, key: str, recorded: dict[str, Any], whole: dict[str, Any]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        case.expect(recorded)
        asked = _asked(key)
        described = zip(splits, whole["task_names"], whole["task_metrics"], strict=True)
        members = [
            _drawn(splits[name], int(asked["shots"]), int(asked["seed"]), Task(task, splits[name]["classes"], metric))
            for name, task, metric in described
        ]
        split = subsample_classes(subsample_tasks(merge(members), asked["tasks"]), asked["classes"])
        _compare_items(split, recorded, case)
        case.equal("task_names", [task.name for task in split.tasks], recorded["task_names"])
        case.equal("task_metrics", [task.metric for task in split.tasks], recorded["task_metrics"])
        if "task_types" in recorded:
            case.equal("task_types", ["sl"] * len(split.tasks), recorded["task_types"])  # all there is here

    return replay


def _single(splits: Splits, key: str, recorded: dict[str, Any]) -> Callable[[Case], None]:
    def replay(case: Case) -> None:
        case.expect(recorded)
        asked = _asked(key)
        source = splits[asked["set"]]
        drawn = _drawn(source, int(asked["shots"]), int(asked["seed"]), Task(asked["set"], source["classes"]))
        split = subsample_classes(drawn, asked["classes"], present_only=True)
        if "classnames" in recorded:
            _compare_coop(split, recorded, case)
        else:
            _compare_items(split, recorded, case)

    return replay


def _compare_items(split: Split, recorded: dict[str, Any], case: Case) -> None:
    for part, items in zip(("train", "val", "test"), split.lists, strict=True):
        mine = [[item.impath, [t for t, _ in item.targets], [y for _, y in item.targets]] for item in items]
        case.equal(part, mine, recorded[part])
    case.equal("class_names", [list(task.classnames) for task in split.tasks], recorded["class_names"])


def _compare_coop(split: Split, recorded: dict[str, Any], case: Case) -> None:
    names = split.tasks[0].classnames
    for part, items in zip(("train", "val", "test"), split.lists, strict=True):
        case.equal(part, [[item.impath, item.label, names[item.label]] for item in items], recorded[part])
    case.equal("classnames", list(names), recorded["classnames"])
    case.equal("num_classes", len(names), recorded["num_classes"])


def sampling_cases(folder: Path) -> Iterator[tuple[str, Callable[[Case], None]]]:
    """All cases of sampling/."""
    folder = folder / "sampling"
    if not (folder / "splits.json").is_file():
        return
    splits = json.loads((folder / "splits.json").read_text())
    if (folder / "softcpt.json").is_file():
        content = json.loads((folder / "softcpt.json").read_text())
        for seed, by_shots in content.get("samples", {}).items():
            for shots, recorded in by_shots.items():
                yield f"sampling/samples.seed{seed}.shots{shots}", _samples(splits, seed, shots, recorded)
        merged = content.get("merged", {})
        whole = next((value for key, value in merged.items() if key.endswith("classes=all.tasks=all")), None)
        for key, recorded in merged.items():
            yield f"sampling/merged.{key}", _merged(splits, key, recorded, whole or recorded)
        for key, recorded in content.get("single", {}).items():
            yield f"sampling/single.{key}", _single(splits, key, recorded)
        yield from leftovers("sampling/softcpt", content, ("samples", "merged", "single"))
    if (folder / "coop.json").is_file():
        for key, recorded in json.loads((folder / "coop.json").read_text()).items():
            yield f"sampling/coop.{key}", _single(splits, key, recorded)
