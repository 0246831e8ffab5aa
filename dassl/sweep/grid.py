"""Sweep files: the suites, methods, shots, seeds and settings of a grid."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from dassl.config import load_yaml, read_settings
from dassl.results.methods import Method, find_method, make_method
from dassl.utils.digests import hex_digest
from dassl.utils.errors import UserError
from dassl.utils.files import file_state
from dassl.utils.registry import nearest
from dassl.utils.texts import is_one_line
from dassl.utils.tools import CHECKOUT

CONFIGS = CHECKOUT / "configs"
_LONGEST_VALUE = 80  # letters of a value in the name of a folder
PROTOCOLS = ("base2new", "newtasks", "transfer")
Part = tuple[str, dict[str, str]]  # folder of the runs of one part of a protocol, and its config keys


def parts_of(protocol: str) -> tuple[Part, ...]:
    """The parts of a protocol within a suite; each run trains on the first and is evaluated on all. "" has no parts.

    Args:
        protocol: "base2new", or "newtasks", optionally with the training tasks: "newtasks new",
            "newtasks task0,task3".
    """
    name, _, tasks = protocol.partition(" ")
    if name == "transfer":
        return (("transfer/source", {}),)
    if name == "base2new":
        return tuple((f"base2new/{part}", {"DATASET.SUBSAMPLE_CLASSES": part}) for part in ("base", "new"))
    return _task_parts(tasks or "base") if name == "newtasks" else ()


def _task_parts(seen: str) -> tuple[Part, ...]:
    unseen = {"base": "new", "new": "base"}.get(seen, f"not:{seen}")
    folder = seen if seen in ("base", "new") else f"tasks{'_'.join(re.findall('[0-9]+', seen))}"
    return tuple(
        (f"newtasks/{folder}/{name}", {"DATASET.SUBSAMPLE_TASKS": tasks})
        for name, tasks in (("seen", seen), ("unseen", unseen))
    )


@dataclass(frozen=True)
class Sweep:
    """A grid of runs.

    Attributes:
        name: name of the file.
        suites: names in configs/datasets/, or paths of such files.
        methods: the rows.
        shots, seeds: the cells of a row.
        backbone: replaces "{backbone}" in the names of config files.
        config: one config for all methods, instead of each method's.
        options: config keys of all runs; they override those of a method.
        method_options: config keys of single methods, by label; they override ``options``.
        protocol: "", or which classes or tasks are for training and which only for testing (``parts_of``).
        targets: suites on which protocol transfer evaluates what was learned on ``suites``.
        vary: config keys with lists of values; the grid is repeated with each combination.
        output: folder of the runs, relative to the current folder; "": ``output/<suite>``.
        written: all methods of the file, among which a row may name the one that it starts from.
    """

    name: str
    suites: tuple[str, ...]
    methods: tuple[Method, ...]
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    seeds: tuple[int, ...] = (1, 2, 3)
    backbone: str = "rn50"
    config: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    method_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    protocol: str = ""
    targets: tuple[str, ...] = ()
    vary: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    output: str = ""
    written: tuple[Method, ...] = ()

    def method(self, label: str) -> Method:
        """The method called ``label``, of the file or else of configs/methods.yaml.

        Raises:
            UserError: there is none.
        """
        own = {method.label.casefold(): method for method in self.written}
        return own.get(label.casefold()) or find_method(label)

    @property
    def folder(self) -> Path:
        """The folder of the runs, the status file and the lock."""
        if self.output:
            return Path(self.output).expanduser()
        return Path("output", suite_name(self.suites[0]) if len(self.suites) == 1 else self.name)

    def variations(self) -> list[tuple[str, dict[str, Any]]]:
        """(suffix of the setting's name, config keys) for each combination of ``vary``."""
        combinations = [dict(zip(self.vary, values, strict=True)) for values in product(*self.vary.values())]
        return [
            ("".join(f"-{key.split('.')[-1]}={_shown(v)}" for key, v in each.items()), each) for each in combinations
        ]


def suite_name(suite: str) -> str:
    """The name of a suite in folders: its DATASET.TITLE, else the name of its config file."""
    try:
        path = find_file(suite, CONFIGS / "datasets", "suite")
    except UserError:
        return Path(suite).stem
    return "_".join(_title(path, file_state(str(path))).split()) or Path(suite).stem


@lru_cache(maxsize=64)
def _title(path: Path, state: object) -> str:
    """DATASET.TITLE of a config file, "" if it has none; ``state`` changes with the file."""
    titles = [value for _, key, value in read_settings(path).settings if key == "DATASET.TITLE" and value]
    return str(titles[-1]) if titles else ""


def read_sweep(name: str) -> Sweep:
    """Read a sweep file: a path, or the name of a file in configs/sweeps/.

    Raises:
        UserError: there is no such file, or its content is not a sweep.
    """
    path = find_file(name, CONFIGS / "sweeps", "sweep")
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected suites:, methods: and so on; docs/sweeps.md lists them")
    return make_sweep(path.stem, content, place=str(path))


def find_file(name: str, folder: Path, kind: str) -> Path:
    """The file at the path ``name``, or else the file of that name in ``folder``.

    Raises:
        UserError: neither exists.
    """
    path = Path(name).expanduser()
    tried = [path, CHECKOUT / path, folder / f"{name}.yaml"]
    for each in tried:
        if each.is_file():
            return each
    close = nearest(path.stem, [other.stem for other in folder.glob("*.yaml")])
    hint = f"did you mean {' or '.join(close)}?" if close else f"give a path, or a name in {folder}"
    raise UserError(f"there is no {kind} file {name!r}; {hint}")


def make_sweep(name: str, content: Mapping[str, Any], *, place: str) -> Sweep:
    """The sweep that the content of a file describes; ``place`` names the file in errors.

    Raises:
        UserError: a field is unknown, missing or of the wrong kind.
    """
    known = [each.name for each in fields(Sweep) if each.name not in ("name", "written")]
    for key, value in content.items():
        if key not in known:
            hint = " or ".join(nearest(str(key), known)) or ", ".join(known)
            raise UserError(f"{place}: there is no field {key!r}; did you mean {hint}?")
        if not _READABLE[key](value):
            raise UserError(f"{place}: {key} is {value!r}; expected {_EXPECTED[key]}")
    for key in ("suites", "methods"):
        if not content.get(key):
            raise UserError(f"{place}: has no {key}; add {key}: {_EXPECTED[key]}")
    values = {key: _settled(value) for key, value in content.items()}
    values["methods"] = tuple(_method(entry, place) for entry in content["methods"])
    _refuse_twins(values["methods"], place)
    for label in content.get("method_options", {}):
        if label not in [method.label for method in values["methods"]]:
            raise UserError(f"{place}: method_options: {label!r} is not among methods:; use the same label as there")
    sweep = Sweep(name, **values, written=values["methods"])
    if bool(sweep.targets) != (sweep.protocol == "transfer"):
        raise UserError(f"{place}: protocol: transfer and targets: go together; give both or none")
    if both := set(sweep.targets) & set(sweep.suites):
        raise UserError(f"{place}: {min(both)} is among suites: and targets:; leave it out of targets:")
    return sweep


def with_changes(sweep: Sweep, **changes: Any) -> Sweep:
    """The sweep with the fields from the command line ("" and (): not given); duplicates count once.

    Raises:
        UserError: a number of shots or a seed is invalid.
    """
    given = {key: value for key, value in changes.items() if value not in ("", ())}
    for key in {"shots", "seeds"} & given.keys():
        given[key] = tuple(dict.fromkeys(given[key]))
        if not _READABLE[key](list(given[key])):
            raise UserError(f"command line: {key} {given[key]}; expected {_EXPECTED[key]}")
    if "methods" in given:
        given["methods"] = tuple({method.label: method for method in given["methods"]}.values())
    return replace(sweep, **given)


def _method(entry: Any, place: str) -> Method:
    """A row: the label of a known method, or a new method, which may start from a known one (``like``)."""
    if isinstance(entry, str):
        return find_method(entry)
    label = str(entry.get("label") or "")
    if not isinstance(entry.get("label") or "", str | int | float) or not is_one_line(label):
        raise UserError(f"{place}: label {entry['label']!r}; expected one line of text")
    if not label:
        raise UserError(f"{place}: the method {entry!r} has no label; add the line label: ...")
    own = {key: value for key, value in entry.items() if key not in ("label", "like")}
    own.setdefault("setting", re.sub(r"[^\w.+-]+", "_", label))
    own.setdefault("paper", False)
    if "like" in entry:
        base = find_method(str(entry["like"]))
        start = {each.name: getattr(base, each.name) for each in fields(base) if each.name != "label"}
        added = own.get("options") or {}
        if isinstance(added, dict):  # else make_method reports the error
            own["options"] = {**base.options, **added}
        own = {**start, **own}
    return make_method(label, own, place=place)


def _refuse_twins(methods: Sequence[Method], place: str) -> None:
    seen: dict[object, str] = {}
    for method in methods:
        for key in (method.label, (method.trainer, method.setting, str(method.config))):
            if key in seen:
                raise UserError(
                    f"{place}: methods {seen[key]!r} and {method.label!r} would share a folder; "
                    "give one of them another label and setting"
                )
            seen[key] = method.label


def _settled(value: Any) -> Any:
    return tuple(dict.fromkeys(value)) if isinstance(value, list) and _plain_list(value) else value


def _plain_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str | int) for each in value)


def _numbers(least: int) -> Any:
    return lambda value: _plain_list(value) and all(type(each) is int and each >= least for each in value)


def _options(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _names(value: Any) -> bool:
    return _plain_list(value) and all(isinstance(each, str) for each in value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


_READABLE = {
    "suites": _names,
    "targets": _names,
    "methods": lambda value: isinstance(value, list) and all(isinstance(each, str | dict) for each in value),
    "shots": _numbers(-1),
    "seeds": _numbers(0),
    **dict.fromkeys(("backbone", "config", "output"), _text),
    "protocol": lambda value: isinstance(value, str) and value in PROTOCOLS,
    "options": _options,
    "method_options": lambda value: _options(value) and all(map(_options, value.values())),
    "vary": lambda value: _options(value) and all(isinstance(each, list) and each for each in value.values()),
}
_EXPECTED = {
    **dict.fromkeys(("suites", "targets"), "a list of names in configs/datasets/ or of paths"),
    "methods": "a list of labels from configs/methods.yaml, or of entries with label:, trainer: and so on",
    "shots": "a list of whole numbers (-1: all images)",
    "seeds": "a list of whole numbers, 0 or more",
    **dict.fromkeys(("backbone", "config", "output"), "a text"),
    "protocol": " or ".join(PROTOCOLS),
    "options": "KEY: VALUE lines",
    "method_options": "KEY: VALUE lines below the label of a method",
    "vary": "KEY: [VALUE, VALUE] lines",
}


def _shown(value: Any) -> str:
    """A value as part of a folder's name, which no file system takes if it is long."""
    name = re.sub(r"[^\w.+-]+", "_", str(value)).strip("_")
    return name if len(name) <= _LONGEST_VALUE else f"{hex_digest(str(value).encode())[:8]}{name[8 - _LONGEST_VALUE :]}"
