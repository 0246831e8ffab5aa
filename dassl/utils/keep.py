"""What a process that carries out many runs keeps between them: the frozen model, the lists of a data set.

Nothing is kept unless :func:`keep_loaded` was called, so a process of one run behaves as if this were not here. What is
kept must never be changed by a run.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

_things: dict[str, OrderedDict[Hashable, Any]] = defaultdict(OrderedDict)
_keeping = False


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
    if key not in things or not unchanged(things[key]):
        things.pop(key, None)
        # Make room first: two models may not fit on a GPU side by side.
        while len(things) >= limit:
            things.popitem(last=False)
        things[key] = make()
    things.move_to_end(key)
    return things[key]
