"""The methods of tables, sweeps and the demo, by the names of the paper's rows (configs/methods.yaml)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from dassl.utils.errors import UserError
from dassl.utils.registry import nearest
from dassl.utils.texts import is_one_line
from dassl.utils.tools import CHECKOUT

METHODS_FILE = CHECKOUT / "configs" / "methods.yaml"


@dataclass(frozen=True)
class Start:
    """The runs from whose mean a run starts: the second stage of MVLPT.

    Attributes:
        method: label of their method.
        tasks: "others": they learned all tasks of the suite but the run's own.
        suite: the suite that they learned, another one; exactly one of ``tasks`` and ``suite`` is given.
        seeds: theirs; (): the run's own seed.
    """

    method: str
    tasks: str = ""
    suite: str = ""
    seeds: tuple[int, ...] = (1, 2, 3)

    @property
    def words(self) -> str:
        """What they learned."""
        return "the other tasks" if self.tasks else self.suite


@dataclass(frozen=True)
class Method:
    """A row of a table.

    Attributes:
        label: its name in tables; "": derived from its config (``label_of``).
        trainer: registered name.
        config: file in configs/trainers/<trainer>/ without its suffix, or one for each number of shots and above;
            "{backbone}" stands for the short name of the backbone.
        backbones: other short names used in file names.
        setting: folder of its runs.
        options: config keys that define it.
        suite_options: further keys on one suite, by DATASET.NAME.
        per_task: the paper has one run per task, with DATASET.SUBSAMPLE_TASKS taskN; the suite's figure is their mean.
        separable: it learns each task independently, so single-task runs and a joint run are the same.
        learns: it uses training images; otherwise one run represents all shots and seeds.
        paper: it is a row of the paper's tables.
        start: each of its runs starts from the mean over others, which a sweep carries out first.
    """

    label: str
    trainer: str
    config: str | Mapping[int, str]
    setting: str
    backbones: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    suite_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    per_task: bool = False
    separable: bool = False
    learns: bool = True
    paper: bool = True
    start: Start | None = None

    def config_stem(self, backbone: str, shots: int) -> str:
        """Name of the config file, without suffix, for a backbone (rn50, ...) and a number of shots."""
        name = self.config
        if not isinstance(name, str):
            # Below 1 means all images, which is more than any number.
            reached = [least for least in name if shots < 1 or least <= shots]
            name = name[max(reached, default=min(name))]
        return name.replace("{backbone}", self.backbones.get(backbone, backbone))


@lru_cache(maxsize=4)
def read_methods(path: Path = METHODS_FILE) -> dict[str, Method]:
    """All methods by label, in the order of the file: the paper's rows first.

    Raises:
        UserError: the file is missing or has an invalid method.
    """
    entries = _content(path).get("methods")
    if not isinstance(entries, dict):
        raise UserError(f"{path}: expected 'methods:' with one entry for each row of a table")
    return {str(label): make_method(str(label), entry, place=str(path)) for label, entry in entries.items()}


@lru_cache(maxsize=4)
def key_groups(path: Path = METHODS_FILE) -> dict[str, str]:
    """The section of each trainer's own config keys: "COOP" for TRAINER.COOP.

    Raises:
        UserError: the file is missing or incomplete.
    """
    groups = _content(path).get("key_groups")
    if not isinstance(groups, dict):
        raise UserError(f"{path}: expected 'key_groups:' with a line for each trainer")
    return {str(trainer): str(group) for trainer, group in groups.items()}


@lru_cache(maxsize=4)
def fitted_trainers(path: Path = METHODS_FILE) -> frozenset[str]:
    """The trainers that are fitted at once, without an optimiser.

    Raises:
        UserError: the file is missing.
    """
    return frozenset(map(str, _content(path).get("fitted") or ()))


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return content if isinstance(content, dict) else {}


def make_method(label: str, entry: Any, *, place: str) -> Method:
    """The method that an entry of a YAML file describes; ``place`` is named in errors.

    Raises:
        UserError: a field is unknown, missing or of the wrong kind.
    """
    known = {each.name: each.type for each in fields(Method) if each.name != "label"}
    if not isinstance(entry, dict):
        raise UserError(f"{place}: method {label!r} must have fields such as trainer: and config:")
    for name, value in entry.items():
        if name not in known:
            hint = " or ".join(nearest(str(name), known)) or ", ".join(known)
            raise UserError(f"{place}: method {label!r} has no field {name!r}; did you mean {hint}?")
        if not _fits(name, value):
            raise UserError(f"{place}: method {label!r}: {name} is {value!r}; expected {_EXPECTED[name]}")
    missing = [name for name in ("trainer", "config", "setting") if name not in entry]
    if missing:
        raise UserError(f"{place}: method {label!r} has no {missing[0]}; add the line {missing[0]}: ...")
    start = _start(entry["start"]) if entry.get("start") else None
    if start and start.tasks and not entry.get("per_task"):
        raise UserError(f"{place}: method {label!r}: start: tasks: others needs per_task: true, a run for each task")
    return Method(label, **{**entry, "start": start})


def _start(value: Mapping[str, Any] | Start) -> Start:
    if isinstance(value, Start):  # of a method that another one is like
        return value
    seeds = value.get("seeds", Start.seeds)
    return Start(**{**value, "seeds": () if seeds == "own" else tuple(dict.fromkeys(seeds))})


_EXPECTED = {
    "trainer": "a name",
    "setting": "the name of a folder",
    "config": "a name, or one for each number of shots",
    **dict.fromkeys(("options", "backbones"), "KEY: VALUE lines"),
    "suite_options": "KEY: VALUE lines below the name of a suite",
    **dict.fromkeys(("per_task", "separable", "learns", "paper"), "true or false"),
    "start": "method: LABEL with tasks: others or suite: NAME, and perhaps seeds: [1, 2, 3] or own",
}


def _fits(name: str, value: Any) -> bool:
    if name == "suite_options":
        return isinstance(value, dict) and all(isinstance(options, dict) for options in value.values())
    if name in ("options", "backbones"):
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if name in ("per_task", "separable", "learns", "paper"):
        return isinstance(value, bool)
    if name == "config" and isinstance(value, dict):
        return bool(value) and all(type(key) is int and isinstance(each, str) for key, each in value.items())
    if name == "start":
        return value is None or isinstance(value, Start) or (isinstance(value, dict) and _is_start(value))
    if name == "setting":
        return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value and is_one_line(value)
    return isinstance(value, str) and bool(value)


def _is_start(value: Mapping[str, Any]) -> bool:
    """Whether the fields are those of a :class:`Start`."""
    seeds = value.get("seeds", "own")
    listed = isinstance(seeds, list) and bool(seeds) and all(type(seed) is int and seed >= 0 for seed in seeds)
    texts = all(isinstance(value.get(name, "-"), str) for name in ("method", "suite"))
    one = ("suite" in value) != ("tasks" in value) and value.get("tasks", "others") == "others"
    known = {each.name for each in fields(Start)}
    return bool(value.get("method")) and texts and one and (listed or seeds == "own") and set(value) <= known


def by_label(label: str) -> Method | None:
    """The method called ``label``; case does not matter."""
    return {name.casefold(): method for name, method in read_methods().items()}.get(label.casefold())


def find_method(label: str) -> Method:
    """The method called ``label``; case does not matter.

    Raises:
        UserError: there is none.
    """
    found = by_label(label)
    if found is None:
        methods = read_methods()
        close = nearest(label, methods)
        hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(methods)}"
        raise UserError(f"unknown method {label!r}; {hint}")
    return found


def label_of(trainer: str, config: Mapping[str, Any]) -> str:
    """The name of a run in tables.

    Args:
        config: the run's config by dotted key.

    Returns:
        The label of the method with the most options among those whose options all agree with the config. If there is
        none, the trainer and the options in which the run differs from its nearest method, such as
        "MTCoOp TASK_N_CTX 8"; for a trainer without a row, its name.
    """
    method = nearest_method(trainer, config)
    if method is None:
        return trainer
    changed = [f"{key.split('.')[-1]} {config.get(key)}" for key in _differing(method, config)]
    return f"{trainer} {', '.join(changed)}" if changed else method.label


def nearest_method(trainer: str, config: Mapping[str, Any]) -> Method | None:
    """The method of ``trainer`` whose options agree best with the config of a run; None if no method has it."""
    rows = [method for method in read_methods().values() if method.trainer == trainer]

    def distance(method: Method) -> tuple[int, int]:
        return len(_differing(method, config)), -len(method.options) - (method.start is not None)

    return min(rows, key=distance, default=None)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key; the whole key if two have the same last part."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: key if last.count(name) > 1 else name for key, name in zip(keys, last, strict=True)}


def _differing(method: Method, config: Mapping[str, Any]) -> list[str]:
    lacks = ["MODEL.INIT_WEIGHTS"] if method.start and not config.get("MODEL.INIT_WEIGHTS") else []
    return lacks + [key for key, value in method.options.items() if _plain(config.get(key)) != _plain(value)]


def _plain(value: Any) -> Any:
    """Lists as tuples; other values unchanged."""
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def paper_labels(methods: Iterable[Method] | None = None) -> list[str]:
    """Labels of the paper's rows, in the order of its table."""
    return [method.label for method in (methods or read_methods().values()) if method.paper]
