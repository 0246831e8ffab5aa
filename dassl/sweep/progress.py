"""The progress of a sweep: a bar on a terminal, else a line for each run."""

import logging
import sys
from types import TracebackType

from tqdm import tqdm

from dassl.sweep.estimates import duration
from dassl.sweep.status import Entry, Status

_log = logging.getLogger(__name__)


class Progress:
    """Shows the state of a sweep. Both forms report failures."""

    def __init__(self, status: Status) -> None:
        self._status = status
        done = status.count()["done"]
        shown = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {postfix}"
        self._bar = tqdm(
            total=len(status.entries), initial=done, desc=status.name, bar_format=shown, disable=None, file=sys.stderr
        )
        self.show()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def show(self) -> None:
        """Update the bar."""
        if not self._bar.disable:
            count = self._status.count()
            self._bar.n = count["done"] + count["failed"]
            self._bar.set_postfix_str(self._summary())

    def report(self, entry: Entry) -> None:
        """Report a run that has ended or failed."""
        if entry.error:
            again = "; trying again" if entry.state == "waiting" else ""
            _log.warning("%s: %s%s", entry.run.title, entry.error, again)
        elif self._bar.disable:
            count = self._status.count()
            number = count["done"] + count["failed"]
            metric = "no figure" if entry.metric is None else f"{entry.metric:.2f} %"
            took = duration(entry.seconds or 0)
            _log.info(
                "[%d/%d] %s: %s in %s; %s",
                number,
                len(self._status.entries),
                entry.run.title,
                metric,
                took,
                self._summary(),
            )
        self.show()

    def _summary(self) -> str:
        """ "3 running, 1 failed, about 5 min left"."""
        count, left = self._status.count(), self._status.seconds_left()
        parts = [f"{count['running']} running"]
        parts += [f"{count['failed']} failed"] if count["failed"] else []
        return ", ".join([*parts, *([] if left is None else [f"about {duration(left)} left"])])
