"""Collect the warnings of a run: what the log says is also in ``results.json`` and so in every table."""

import contextlib
import logging
from collections.abc import Iterator

from dassl.utils.logger import ROOMS


class _Collector(logging.Handler):
    """Collects the warnings of our own rooms, each once, in order."""

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.texts: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] in ROOMS:
            self.texts[record.getMessage()] = None


@contextlib.contextmanager
def collect_warnings() -> Iterator[dict[str, None]]:
    """The warnings logged from now on, as the keys of a growing dictionary."""
    collector = _Collector()
    root = logging.getLogger()
    root.addHandler(collector)
    try:
        yield collector.texts
    finally:
        root.removeHandler(collector)
