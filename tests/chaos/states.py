"""What is on the disk after a run, without what may differ between two equal runs."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

VARYING = ("seconds", "memory", "blake2b")  # keys of results.json and of checkpoints; a digest covers the others, too
_NOISE = re.compile(
    r"\ttime \S+ \(\S+\)\tdata \S+ \(\S+\)\teta \S+|^Elapsed: .*|^Encoding \d+ images.*"
    r"|^Encoding \d+ prompts: .*",  # what is made or said once by each process
    re.MULTILINE,
)


def state(folder: Path) -> dict[str, Any]:
    """The files of a run folder by name: tensors of checkpoints, content of JSON, text of others; no log."""
    found: dict[str, Any] = {}
    for path in files(folder):
        name = path.relative_to(folder).as_posix()
        if ".pth.tar" in path.name:
            content = torch.load(path, weights_only=True)
            found[name] = {key: value for key, value in content.items() if key not in VARYING}
        elif path.name == "results.json":
            found[name] = result(path)
        elif path.suffix in (".json", ".yaml") or path.name == "checkpoint":
            found[name] = path.read_text(encoding="utf-8")
    return found


def result(path: Path) -> dict[str, Any]:
    """results.json without times."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key not in VARYING}


def files(folder: Path) -> Iterator[Path]:
    """All files below a folder that are no locks."""
    return (
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    )


def leftovers(*folders: Path) -> list[str]:
    """Temporary files and files that nobody knows: names that begin with a dot or end as unfinished ones do."""
    return [
        str(path)
        for folder in folders
        for path in files(folder)
        if path.name.startswith(".") or path.suffix in (".tmp", ".part", ".partial")
    ]


def log_lines(path: Path) -> list[str]:
    """The lines of a log from "epoch [" on, without times."""
    text = _NOISE.sub("", path.read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if line.strip()]


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What differs between two states, a text each."""
    names = sorted(first.keys() ^ second.keys())
    found = [f"only one has {name}" for name in names]
    for name in sorted(first.keys() & second.keys()):
        one, two = first[name], second[name]
        if isinstance(one, dict) and isinstance(two, dict):
            keys = [key for key in one.keys() | two.keys() if not same(one.get(key), two.get(key))]
            found += [f"{name}, {key}: {_short(one.get(key))} and {_short(two.get(key))}" for key in keys]
        elif not same(one, two):
            found.append(f"{name} differs")
    return found


def _short(value: Any) -> str:
    return " ".join(repr(value).split())[:200]


def same(first: Any, second: Any) -> bool:
    """Whether two values are equal, tensors bit by bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return (
            isinstance(second, dict) and first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
        )
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)
