"""TensorBoard: curves, and the table of choices and figures over all runs of a sweep (its HParams page)."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from dassl.engine.reporting import LOGGERS, RunInfo, RunLogger
from dassl.utils.files import write_error


@LOGGERS.register("tensorboard")
class TensorBoard(RunLogger):
    """An event file in ``tensorboard/`` of the run folder; TensorBoard names the run after that folder.

    Raises:
        UserError: the folder cannot be written, now or at a later call (no space left).
    """

    def __init__(self, run: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(run)
        self._folder = run.folder / "tensorboard"
        if getattr(threading.excepthook, "func", None) is not _without_trace:
            threading.excepthook = partial(_without_trace, threading.excepthook)
        with self._writing():
            self._writer = SummaryWriter(str(self._folder), purge_step=run.first_step or None)

    def add(self, tag: str, value: float, step: int) -> None:
        """Add a point."""
        with self._writing():
            self._writer.add_scalar(tag, value, step)

    def finish(self, figures: Mapping[str, float]) -> None:
        """Add the run to the table of all runs: its choices and its figures."""
        from torch.utils.tensorboard.summary import hparams

        final = {f"final/{name}": value for name, value in figures.items()}
        with self._writing():
            writer = self._writer.file_writer
            assert writer is not None, "the logger was closed"
            # The writer's add_hparams() would make a separate run for this, named after the time.
            for summary in hparams(dict(self.run.choices), final):
                writer.add_summary(summary)
            for tag, value in final.items():
                self._writer.add_scalar(tag, value)

    def close(self) -> None:
        """Write the rest."""
        with self._writing():
            self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an error of TensorBoard's writing thread, raised in a later call, into one line."""
        try:
            yield
        except OSError as error:
            raise write_error(self._folder, error) from error


def _without_trace(other: Callable[[Any], object], told: Any) -> None:
    """Silence the stack trace of TensorBoard's thread, whose error is raised in the next call anyway."""
    if not (type(told.thread).__module__.startswith("tensorboard.") and isinstance(told.exc_value, OSError)):
        other(told)
