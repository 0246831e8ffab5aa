"""The declaration of a config key: its default, its meaning and the values it accepts."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dassl.utils.texts import is_one_line

_TITLE = 60  # letters


@dataclass(frozen=True)
class Key:
    """One config key.

    Attributes:
        name: dotted name, e.g. "OPTIM.LR".
        default: also determines the type of the key.
        help: one line for people.
        choices: accepted values; empty means any value of the type.
        check: returns the problem with a value, or "".
        like: a value of the key's type, if the default (an empty list) does not show it.
        parse: for keys that hold more than numbers and texts, instead of the type of ``default``: a value from a
            file -> (the value to store, its problems, a line each).
    """

    name: str
    default: Any
    help: str
    choices: Sequence[Any] = ()
    check: Callable[[Any], str] | None = None
    parse: Callable[[Any], tuple[Any, list[str]]] | None = None
    like: Any = None

    def problem(self, value: Any) -> str:
        """The problem with a value of the right type, or ""."""
        if self.choices and value not in self.choices:
            return f"choose one of {', '.join(map(repr, self.choices))}"
        return self.check(value) if self.check else ""


def at_least(low: float) -> Callable[[Any], str]:
    """A check for numbers that may not be smaller than ``low``."""
    return lambda value: "" if value >= low else f"must be at least {low}"


def above(low: float) -> Callable[[Any], str]:
    """A check for numbers that must be larger than ``low``."""
    return lambda value: "" if value > low else f"must be above {low}"


def between(low: float, high: float) -> Callable[[Any], str]:
    """A check for numbers inside [low, high]."""
    return lambda value: "" if low <= value <= high else f"must lie between {low} and {high}"


def exponent(value: float) -> str:
    """A check for exponents of a loss: between 0 and 1 the gradient is infinite at 0."""
    return "" if value == 0 or value >= 1 else "must be 0 or at least 1"


def deviations(value: Sequence[float]) -> str:
    """A check for standard deviations of three channels, or none at all."""
    return length(3, or_empty=True)(value) or ("" if all(each > 0 for each in value) else "must be above 0")


def areas(value: Any) -> str:
    """A check for a range of areas: (low, high) with 0 < low <= high."""
    return "" if len(value) == 2 and 0 < value[0] <= value[1] else "must be two numbers, 0 < low <= high"


def length(count: int, *, or_empty: bool = False) -> Callable[[Any], str]:
    """A check for lists with exactly ``count`` entries, or none at all with ``or_empty``."""
    return lambda value: "" if len(value) == count or (or_empty and not value) else f"must have {count} entries"


def title(value: str) -> str:
    """A check for names that are also names of folders."""
    good = not value or (re.fullmatch(r"\w[\w.+-]*( [\w.+-]+)*", value) and len(value) <= _TITLE)
    return "" if good else f"write up to {_TITLE} letters, digits, blanks and . + - _, with a letter or digit first"


def colour(value: str) -> str:
    """A check for a colour, "original" or nothing."""
    from PIL import ImageColor  # only needed by runs

    try:
        opaque = value in ("", "original") or len(ImageColor.getrgb(value)) == 3
    except ValueError:
        opaque = False
    return "" if opaque else "must be a colour such as white or #808080, or original"


_LARGEST = 2**63 - 1
_FALSE, _TRUE = ("false", "no", "off", "0"), ("true", "yes", "on", "1")


def coerce(value: Any, default: Any) -> Any:
    """Convert ``value`` to the type of ``default``; any notation that keeps a number's value is accepted.

    Raises:
        TypeError: it cannot be converted; the message says what is expected.
    """
    if isinstance(default, bool):
        return _to_bool(value)
    if isinstance(default, int):
        return _to_int(value)
    if isinstance(default, float):
        return _to_float(value)
    if isinstance(default, tuple):
        return _to_tuple(value, default)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("expected a text")
    if not is_one_line(value):
        raise TypeError("expected a text in one line without control characters, in UTF-8")
    return value


def _to_bool(value: Any) -> bool:
    folded = str(value).lower()
    if folded in _TRUE + _FALSE:
        return folded in _TRUE
    raise TypeError("expected True or False")


def _to_int(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,999}", value.strip()):
        value = int(value.strip())  # a float would round large ones
    if not isinstance(value, int) or isinstance(value, bool):
        number = _to_float(value, "a whole number")
        if number != int(number):
            raise TypeError("expected a whole number")
        value = int(number)
    if abs(value) > _LARGEST:
        raise TypeError("expected a whole number of at most 63 bits")
    return value


def _to_float(value: Any, what: str = "a number") -> float:
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = float("nan")
        if number - number == 0:
            return number
    raise TypeError(f"expected {what}")


def _to_tuple(value: Any, default: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part.strip(" \"'") for part in value.strip("()[] ").split(",")]
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    items = tuple(item for item in items if item is not None and item != "")
    if default:
        return tuple(coerce(item, default[0]) for item in items)
    if not all(isinstance(item, int | float | str) for item in items):
        raise TypeError("expected a list of texts")
    return tuple(coerce(str(item), "") for item in items)
