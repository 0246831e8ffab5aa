"""The status file of a sweep, and the lock that makes a folder exclusive to one sweep."""

import contextlib
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from dassl.sweep.estimates import Estimates
from dassl.sweep.plan import Run
from dassl.utils.errors import UserError
from dassl.utils.files import read_json, write_error, write_json
from dassl.utils.locks import Owner, locked

STATUS_FILE = "sweep.json"
LOCK_FILE = ".sweep.lock"
FORMAT = 1
_SECONDS_BETWEEN_WRITES = 1.0

RunState = Literal["done", "waiting", "running", "failed"]
SweepState = Literal["running", "finished", "failed", "interrupted"]


@dataclass
class Entry:
    """The state of a run.

    Attributes:
        attempts: how often this sweep has started it.
        worker: the worker that carries it out, or did last.
        error: why the last attempt failed, in one line.
        seconds, metric: from its result.
        began: when the last attempt began, by the monotonic clock.
    """

    run: Run
    state: RunState = "waiting"
    attempts: int = 0
    worker: str = ""
    error: str = ""
    seconds: float | None = None
    metric: float | None = None
    began: float = 0.0

    def to_json(self, top: Path) -> dict[str, Any]:
        """The run's entry in the status file; its folder is relative to the sweep's."""
        run = self.run
        return {
            "folder": run.folder.relative_to(top).as_posix(),
            "method": run.label,
            "trainer": run.method.trainer,
            "suite": run.suite,
            "shots": run.shots,
            "seed": run.seed,
            "task": run.task,
            "starts_from": [each.folder.relative_to(top).as_posix() for each in run.sources],
            "state": self.state,
            "attempts": self.attempts,
            "worker": self.worker,
            "error": self.error,
            "seconds": self.seconds,
            "metric": self.metric,
        }


@dataclass
class Status:
    """All runs of a sweep, written to ``sweep.json`` in its folder."""

    name: str
    folder: Path
    entries: Sequence[Entry]
    estimates: Estimates
    jobs: int = 1
    state: SweepState = "running"
    started: float = field(default_factory=time.time)
    _written: float = 0.0

    def count(self) -> Counter[str]:
        """Number of runs in each state."""
        return Counter(entry.state for entry in self.entries)

    def seconds_left(self) -> float | None:
        """Estimated seconds until the end; None while no run is finished.

        A run that cannot be estimated counts as an average one. Of a running one, the remaining time counts.
        """
        left = [entry for entry in self.entries if entry.state in ("waiting", "running")]
        average = self.estimates.average()
        if not left or average is None:
            return None if left else 0.0
        each = [self._seconds_left(entry, average) for entry in left]
        return max(sum(each) / self.jobs, *each)  # at least the longest of them

    def _seconds_left(self, entry: Entry, average: float) -> float:
        estimate = self.estimates.one(entry.run)
        seconds = average if estimate is None else estimate.seconds
        return max(0.0, seconds - (time.monotonic() - entry.began)) if entry.state == "running" else seconds

    def write(self, *, now: bool = False) -> None:
        """Update the file, unless it was updated within the last second; ``now``: in any case.

        Raises:
            UserError: the folder cannot be written.
        """
        if not now and time.monotonic() - self._written < _SECONDS_BETWEEN_WRITES:
            return
        write_json(self.folder / STATUS_FILE, self._content(), indent=1)
        self._written = time.monotonic()

    def _content(self) -> dict[str, Any]:
        left = self.seconds_left()
        return {
            "format": FORMAT,
            "name": self.name,
            "state": self.state,
            "host": platform.node(),
            "pid": os.getpid(),
            "started": _clock(self.started),
            "updated": _clock(time.time()),
            "seconds_left": None if left is None else round(left, 1),
            "counts": {state: self.count()[state] for state in ("done", "running", "waiting", "failed")},
            "runs": [entry.to_json(self.folder) for entry in self.entries],
        }


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


@contextlib.contextmanager
def only_sweep(folder: Path) -> Iterator[None]:
    """Lock ``folder`` exclusively (:mod:`dassl.utils.locks`).

    Raises:
        UserError: another sweep is using it, or the folder cannot be written.
    """

    def refuse(owner: Owner) -> None:
        what = f"{_name(folder)} is at work in {folder}"
        raise UserError(owner.refusal(what, "wait for it, or use another --output-dir"))

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK_FILE, busy=refuse))
        except OSError as error:
            raise write_error(folder, error) from error
        yield


def _name(folder: Path) -> str:
    """The sweep that uses a folder, by name if the status file has it."""
    try:
        return f"the sweep {read_json(folder / STATUS_FILE)['name']!r}"
    except (UserError, KeyError, TypeError):
        return "another sweep"
