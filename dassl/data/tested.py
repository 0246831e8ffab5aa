"""An evaluation alone: data that only tests needs no training image, and its classes are those of the run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from dassl.data.datum import Task

_Known = Callable[[], Sequence[Task]]
_run: ContextVar[_Known | None] = ContextVar("run", default=None)


@contextmanager
def only_tested(known: _Known) -> Iterator[None]:
    """Data that is read inside is tested and nothing else.

    Args:
        known: the tasks of the run that is evaluated; asked only where data has no training image of its own.
    """
    token = _run.set(known)
    try:
        yield
    finally:
        _run.reset(token)


def is_only_tested() -> bool:
    """Whether the data is read for an evaluation alone."""
    return _run.get() is not None


def tasks_of_the_run() -> Sequence[Task]:
    """The tasks of the run that is evaluated; none where nothing was learned, or without an evaluation."""
    known = _run.get()
    return known() if known else ()
