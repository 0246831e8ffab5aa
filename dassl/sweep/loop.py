"""The loop of a sweep: hand out runs, record their outcomes, try failed ones again."""

import time
from collections import deque
from collections.abc import Sequence

from dassl.sweep.executor import Executor
from dassl.sweep.progress import Progress
from dassl.sweep.status import Entry, Status
from dassl.sweep.worker import Outcome
from dassl.utils.cli import terminable
from dassl.utils.errors import UserError

_SECONDS_TO_WAIT = 1.0
_SAME_MISTAKES = 3  # a sweep ends if this many first runs fail by the same mistake


def carry_out(status: Status, executor: Executor, *, retries: int) -> list[Entry]:
    """Carry out the waiting runs of ``status``, each at most 1 + ``retries`` times; returns those that failed.

    A run that fails by the user's mistake is not tried again. A run that starts from others waits for them, and fails
    with them.

    The status file always shows the state of the sweep. After an interruption (Ctrl-C, SIGTERM) the interrupted runs
    can be resumed, and the exception reaches the caller.

    Raises:
        UserError: the first runs, of different methods and suites, failed by the same mistake.
    """
    loop, ended, stopped = _Loop(status, executor, retries), False, ""
    try:
        with terminable(), Progress(status) as loop.progress:
            stopped = loop.go()
        ended = True
    finally:
        executor.close(at_once=not ended)
        failed = [entry for entry in status.entries if entry.state == "failed"]
        status.state = "interrupted" if not ended else "failed" if failed else "finished"
        for entry in status.entries:
            entry.state = "waiting" if entry.state == "running" else entry.state
        status.write(now=True)
    if stopped:
        raise UserError(stopped)
    return failed


class _Loop:
    def __init__(self, status: Status, executor: Executor, retries: int) -> None:
        self.status, self.executor, self.retries = status, executor, retries
        self.progress: Progress
        self.queue = deque(n for n, entry in enumerate(status.entries) if entry.state == "waiting")
        self.running = 0
        self.mistakes: list[Entry] = []  # of the runs so far
        self.entries = {entry.run.folder: entry for entry in status.entries}

    def go(self) -> str:
        """Loop until no run waits or is running, or the first runs failed by the same mistake; returns that mistake."""
        while self.queue or self.running:
            vain = self._all_alike()
            if vain and not self.running:
                return (
                    f"the first {len(self.mistakes)} runs failed for the same reason, and the other "
                    f"{len(self.queue)} were not tried: {self.mistakes[0].error}"
                )
            self._give_up()
            while (ready := self._ready()) and self.executor.free and not vain:
                self._start(self._next(ready))
            self.status.write()
            for outcome in self.executor.wait(_SECONDS_TO_WAIT) if self.queue or self.running else ():
                self.running -= 1
                self._settle(outcome)
            self.progress.show()
        return ""

    def _ready(self) -> list[int]:
        """The numbers of the waiting runs whose sources are done."""
        return [number for number in self.queue if all(each.state == "done" for each in self._sources(number))]

    def _sources(self, number: int) -> list[Entry]:
        return [self.entries[each.folder] for each in self.status.entries[number].run.sources]

    def _give_up(self) -> None:
        """Let the waiting runs fail whose sources have failed."""
        for number in list(self.queue):
            failed = next((each for each in self._sources(number) if each.state == "failed"), None)
            if failed is not None:
                entry = self.status.entries[number]
                entry.state, entry.error = "failed", f"it starts from {failed.run.folder}, which failed"
                self.queue.remove(number)
                self.progress.report(entry)

    def _next(self, ready: Sequence[int]) -> int:
        """The number of the next run; if the first ones failed, preferably of a method and suite not yet tried."""
        tried = [entry.run for entry in self._tried()]
        suites, rows = {run.suite for run in tried}, {run.row for run in tried}
        runs = {number: self.status.entries[number].run for number in ready} if self.mistakes else {}
        new = [number for number, run in runs.items() if run.row not in rows]
        number = next((n for n in new if runs[n].suite not in suites), next(iter(new), ready[0]))
        self.queue.remove(number)
        return number

    def _tried(self) -> list[Entry]:
        return [entry for entry in self.status.entries if entry.attempts]

    def _all_alike(self) -> bool:
        """Whether all runs so far failed by the same mistake and the waiting ones are of no other suite."""
        suites = {entry.run.suite for entry in self._tried()}
        return (
            len(self.mistakes) >= _SAME_MISTAKES
            and len(self.mistakes) + self.running == len(self._tried())
            and len({entry.error.replace(str(entry.run.folder), "") for entry in self.mistakes}) == 1
            and all(self.status.entries[number].run.suite in suites for number in self.queue)
            and bool(self.queue)
        )

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
        elif outcome.mistake:
            entry.state = "failed"
            self.mistakes.append(entry)
        elif entry.attempts <= self.retries:
            entry.state = "waiting"
            self.queue.append(outcome.number)
        else:
            entry.state = "failed"
        self.progress.report(entry)
