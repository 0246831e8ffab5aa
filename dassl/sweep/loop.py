"""The loop of a sweep: hand out runs, note what becomes of them, try failed ones again, go on to the end."""

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import FrameType

from dassl.sweep.executor import Executor
from dassl.sweep.progress import Progress
from dassl.sweep.status import Entry, Status
from dassl.sweep.worker import Outcome

_SECONDS_TO_WAIT = 1.0


def carry_out(status: Status, executor: Executor, *, retries: int) -> list[Entry]:
    """Carry out the runs of ``status`` that wait, each at most 1 + ``retries`` times; returns those that failed.

    The status file says at all times where the sweep stands. After an interruption (Ctrl-C, SIGTERM) the runs that
    were under way can be gone on with, and the exception goes on to the caller.
    """
    loop, ended = _Loop(status, executor, retries), False
    try:
        with _terminated_like_interrupted(), Progress(status) as loop.progress:
            loop.go()
        ended = True
    finally:
        executor.close(at_once=not ended)
        failed = [entry for entry in status.entries if entry.state == "failed"]
        status.state = "interrupted" if not ended else "failed" if failed else "finished"
        for entry in status.entries:
            entry.state = "waiting" if entry.state == "running" else entry.state
        status.write(now=True)
    return failed


class _Loop:
    def __init__(self, status: Status, executor: Executor, retries: int) -> None:
        self.status, self.executor, self.retries = status, executor, retries
        self.progress: Progress
        self.queue = deque(n for n, entry in enumerate(status.entries) if entry.state == "waiting")
        self.running = 0

    def go(self) -> None:
        """Until nothing waits and nothing runs."""
        while self.queue or self.running:
            while self.queue and self.executor.free:
                self._start(self.queue.popleft())
            self.status.write()
            for outcome in self.executor.wait(_SECONDS_TO_WAIT):
                self.running -= 1
                self._settle(outcome)
            self.progress.show()

    def _start(self, number: int) -> None:
        entry = self.status.entries[number]
        entry.worker = self.executor.submit(entry.run.job(number))
        entry.state, entry.attempts, entry.began = "running", entry.attempts + 1, time.monotonic()
        self.running += 1

    def _settle(self, outcome: Outcome) -> None:
        entry = self.status.entries[outcome.number]
        entry.error, entry.seconds, entry.metric = outcome.error, outcome.seconds.get("total"), outcome.metric
        if not outcome.error:
            entry.state = "done"
            self.status.estimates.add(entry.run, outcome.seconds)
        elif entry.attempts <= self.retries:
            entry.state = "waiting"
            self.queue.append(outcome.number)
        else:
            entry.state = "failed"
        self.progress.report(entry)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM (a batch system that ends the job) do what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
