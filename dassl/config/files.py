"""Reads config files: YAML with lines KEY: VALUE, which may take settings from other files (``BASE``)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import expanduser, realpath
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from dassl.utils.bounded_yaml import Bounded
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest

BASE = "BASE"  # names the files whose settings a file takes; not a config key
Setting = tuple[str, str, Any]  # file, dotted key, value


class _Loader(Bounded, yaml.SafeLoader):
    """Refuses a key that occurs twice in a block, because YAML would silently keep only the last.

    Keys may differ in the file and be one when read: 1 and yes, or 0 and no.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, str] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            merges = key.tag.endswith(":merge")  # "<<" takes the keys of another block
            value = key.value if merges else self.construct_object(key)
            if seen.get(value) == key.value:
                raise ConstructorError(None, None, f"{key.value!r} occurs twice; join the two", key.start_mark)
            if value in seen:
                text = f"{seen[value]!r} and {key.value!r} are one key to YAML; put both in quotes"
                raise ConstructorError(None, None, text, key.start_mark)
            seen[value] = key.value
        return super().construct_mapping(node, deep=True)


def load_yaml(text: str) -> Any:
    """The content of a YAML file.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is not YAML, or a key occurs twice in a block.
    """
    return yaml.load(text, Loader=_Loader)  # a safe loader


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config -> {dotted name: value}."""
    flat: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


@dataclass
class Reading:
    """The settings of a config file and of the files that it names as ``BASE``.

    Attributes:
        settings: in the order in which they apply: first those of the bases, in the order in which the file names them,
            then the file's own. A later setting of a key wins.
        problems: a line each; settings are complete only if there are none.
    """

    settings: list[Setting] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_settings(path: Path) -> Reading:
    """Read a config file and its bases."""
    reading = Reading()
    _read(path, reading, ())
    return reading


def _read(path: Path, reading: Reading, above: tuple[Path, ...]) -> None:
    """Add the settings of the bases of ``path``, then its own; ``above``: the files that led to it."""
    if realpath(path) in map(realpath, above):
        circle = " -> ".join(each.name for each in (*above, path))
        reading.problems.append(f"{above[-1]}: {BASE} leads back to {path} ({circle}); take one of these lines out")
        return
    try:
        content = _content(path, above)
        bases = _bases(path, content.pop(BASE, []))
    except UserError as error:
        reading.problems.append(str(error))
        return
    for base in bases:
        _read(base, reading, (*above, path))
    reading.settings.extend((str(path), name, value) for name, value in flatten(content).items())


def _content(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The keys of one file, as written.

    Raises:
        UserError: the file cannot be read, or has no keys.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(_missing(path, above)) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not a text, or an impossible date
        raise UserError(f"{path}: {_not_yaml(error)}") from error
    if not isinstance(content, dict | None):
        raise UserError(f"{path}: expected KEY: VALUE lines, found a {type(content).__name__}")
    return {str(key): value for key, value in (content or {}).items()}


def _bases(path: Path, named: Any) -> list[Path]:
    """The files that ``path`` names as its bases; relative names start at the folder of the file itself.

    Raises:
        UserError: the value is no path or list of paths.
    """
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise UserError(f"{path}: {BASE} is {named!r}; expected the path of a YAML file, or a list of such paths")
    folder = Path(realpath(path)).parent
    return [_shown(folder / expanduser(name)) for name in names]  # noqa: PTH111 (that of Path raises for an unknown user)


def _shown(path: Path) -> Path:
    """A short path of the same file."""
    whole, here = Path(realpath(path)), Path(realpath("."))
    return whole.relative_to(here) if whole.is_relative_to(here) else whole


def _missing(path: Path, above: tuple[Path, ...]) -> str:
    beside = [str(other.name) for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    close = nearest(path.name, beside)
    said = f"{above[-1]}: {BASE} names {path}, and there is no such file" if above else f"{path}: there is no such file"
    return said + (f"; did you mean {' or '.join(close)}?" if close else "")


def _not_yaml(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8; save it as UTF-8"
    mark = getattr(error, "problem_mark", None)
    return f"is not YAML (line {mark.line + 1}: {getattr(error, 'problem', None)})" if mark else "is not YAML"
