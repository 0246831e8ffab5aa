"""A cache in memory for a process that carries out many runs: the frozen model, the lists of a data set.

It is off until :func:`use_cache` turns it on, so a process of one run is not affected. A run must never change what is
cached. A warning that was logged while a value was made is logged again for each run that takes the value from the
cache, because it concerns the figures of that run, too.
"""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dassl.utils.remarks import collect_warnings

T = TypeVar("T")


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """A value, and the warnings that were logged while it was made."""

    value: T
    warnings: tuple[str, ...]


_entries: dict[str, OrderedDict[Hashable, _Entry]] = defaultdict(OrderedDict)
_in_use = False
_log = logging.getLogger(__name__)


def use_cache(use: bool = True) -> None:
    """Empty the cache and turn it on, or off with False."""
    global _in_use
    _in_use = use
    _entries.clear()


def cached(
    kind: str, key: Hashable, make: Callable[[], T], *, limit: int, unchanged: Callable[[T], bool] = lambda value: True
) -> T:
    """The value of ``key``, from the cache or made by ``make``.

    Args:
        kind: what the value is; the cache holds the last ``limit`` values of each kind.
        key: everything that the value depends on.
        unchanged: whether a cached value is still as it was made; if not, it is made again.
    """
    if not _in_use:
        return make()
    entries = _entries[kind]
    if key in entries and unchanged(entries[key].value):
        entries.move_to_end(key)
        for text in entries[key].warnings:
            _log.warning("%s", text)
        return entries[key].value
    entries.pop(key, None)
    # Make room first: two models may not fit on a GPU side by side.
    while len(entries) >= limit:
        entries.popitem(last=False)
    with collect_warnings() as warnings:
        value = make()
    entries[key] = _Entry(value, tuple(warnings))
    return value
