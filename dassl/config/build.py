"""Builds the config: defaults, then files, then flags and KEY VALUE pairs; every problem is reported at once."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode
from yaml.constructor import ConstructorError

from dassl.config.defaults import KEYS
from dassl.config.keys import Key, coerce
from dassl.utils.bounded_yaml import Bounded
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest


@lru_cache(maxsize=1)
def all_keys() -> dict[str, Key]:
    """Every key of the engine and of the registered trainers, by dotted name."""
    from dassl.registries import TRAINER_REGISTRY

    keys = list(KEYS)
    for trainer in TRAINER_REGISTRY:
        keys.extend(trainer.config_keys)
    return {key.name: key for key in keys}


def get_cfg_default() -> CfgNode:
    """A config with every key at its default."""
    cfg = CfgNode()
    for key in all_keys().values():
        _set(cfg, key.name, key.default)
    return cfg


def merge_cfg(
    cfg: CfgNode,
    *,
    files: Iterable[Path | str] = (),
    values: Mapping[str, Any] | None = None,
    pairs: Sequence[str] = (),
    place: str = "command line",
) -> None:
    """Set keys of ``cfg`` from YAML files, then from ``values``, then from ``KEY VALUE KEY VALUE ...``.

    Args:
        values: by dotted name, as a YAML file has them.
        place: where ``values`` and ``pairs`` come from, for messages.

    Raises:
        UserError: names every unknown key (with the nearest ones) and every value of the wrong kind, a line each.
    """
    settings: list[tuple[str, str, Any]] = []
    problems: list[str] = []
    for file in files:
        problems += _read_file(Path(file), settings)
    settings.extend((place, name, value) for name, value in (values or {}).items())
    problems += _read_pairs(pairs, settings, place)
    for source, name, value in settings:
        problems += [f"{source}: {problem}" for problem in _assign(cfg, name, value)]
    if problems:
        raise UserError("\n".join(problems))


def flatten(node: CfgNode | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config -> {dotted name: value}."""
    flat: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


class _Loader(Bounded, yaml.SafeLoader):
    """Refuses a key that stands twice in a block, of which YAML keeps the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ConstructorError(None, None, f"{key.value!r} stands there twice; join the two", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=True)


def load_yaml(text: str) -> Any:
    """The content of a YAML file.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is none, or a key stands twice in a block of it.
    """
    return yaml.load(text, Loader=_Loader)  # a safe loader


def _set(cfg: CfgNode, name: str, value: Any) -> None:
    *parents, leaf = name.split(".")
    for parent in parents:
        cfg = cfg.setdefault(parent, CfgNode())
    cfg[leaf] = value


def _assign(cfg: CfgNode, name: str, value: Any) -> list[str]:
    """Set one key; returns what is wrong."""
    key = all_keys().get(name)
    if key is None:
        below = [other for other in all_keys() if other.startswith(f"{name}.")]
        if below:
            return [f"{name!r} is no key but a section of keys, such as {below[0]}; set one of these"]
        close = nearest(name, all_keys())
        hint = f"did you mean {' or '.join(close)}?" if close else "see docs/config.md"
        return [f"unknown key {name!r}; {hint}"]
    value, problems = _checked(key, value)
    if not problems:
        _set(cfg, name, value)
    return problems


def _checked(key: Key, value: Any) -> tuple[Any, list[str]]:
    """The value in the key's type, and what is wrong with it."""
    if key.parse:
        value, problems = key.parse(value)
        return value, [f"{key.name} {problem}" for problem in problems]
    try:
        value = coerce(value, key.default if key.like is None else key.like)
        problem = key.problem(value)
    except TypeError as error:
        problem = str(error)
    return value, [f"{key.name} is {value!r}: {problem}"] if problem else []


def _read_file(path: Path, settings: list[tuple[str, str, Any]]) -> list[str]:
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [_missing_file(path)]
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not a text, or an impossible date
        return [f"{path}: {_not_yaml(error)}"]
    if content is None:
        return []
    if not isinstance(content, dict):
        return [f"{path}: expected KEY: VALUE lines, found a {type(content).__name__}"]
    settings.extend(
        (str(path), name, value) for name, value in flatten({str(k): v for k, v in content.items()}).items()
    )
    return []


def _not_yaml(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8; save it as UTF-8"
    mark = getattr(error, "problem_mark", None)
    return f"is not YAML (line {mark.line + 1}: {error.problem})" if mark else "is not YAML"


def _missing_file(path: Path) -> str:
    beside = [str(other.name) for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    close = nearest(path.name, beside)
    return f"{path}: there is no such file" + (f"; did you mean {' or '.join(close)}?" if close else "")


def _read_pairs(pairs: Sequence[str], settings: list[tuple[str, str, Any]], place: str) -> list[str]:
    if len(pairs) % 2:
        return [f"{place}: {pairs[-1]!r} has no value; options after the flags come as KEY VALUE"]
    settings.extend((place, name, text) for name, text in zip(pairs[::2], pairs[1::2], strict=True))
    return []
