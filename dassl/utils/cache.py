"""What a process that carries out many runs keeps between them: the frozen model, the lists of a data set.

Nothing is kept unless :func:`keep_loaded` was called, so a process of one run behaves as if this were not here. What is
kept must never be changed by a run. Warnings that were logged while a thing was made are logged again for each run that
takes it, because they are about the figures of that run, too.
"""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dassl.utils.remarks import collect_warnings

T = TypeVar("T")


@dataclass(frozen=True)
class _Kept(Generic[T]):
    """A thing, and the warnings that were logged while it was made."""

    thing: T
    warnings: tuple[str, ...]


_things: dict[str, OrderedDict[Hashable, _Kept]] = defaultdict(OrderedDict)
_keeping = False
_log = logging.getLogger(__name__)


def keep_loaded(keep: bool = True) -> None:
    """Keep things from now on; False: forget them, and keep nothing any more."""
    global _keeping
    _keeping = keep
    _things.clear()


def kept(
    kind: str, key: Hashable, make: Callable[[], T], *, limit: int, unchanged: Callable[[T], bool] = lambda thing: True
) -> T:
    """The thing called ``key``, made by ``make`` unless it is kept.

    Args:
        kind: what it is; of each kind the last ``limit`` things are kept.
        key: everything that the thing depends on.
        unchanged: whether a kept thing is still what was made; one that is not is made again.
    """
    if not _keeping:
        return make()
    things = _things[kind]
    if key in things and unchanged(things[key].thing):
        things.move_to_end(key)
        for text in things[key].warnings:
            _log.warning("%s", text)
        return things[key].thing
    things.pop(key, None)
    # Make room first: two models may not fit on a GPU side by side.
    while len(things) >= limit:
        things.popitem(last=False)
    with collect_warnings() as warnings:
        thing = make()
    things[key] = _Kept(thing, tuple(warnings))
    return thing
