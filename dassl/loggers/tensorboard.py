"""TensorBoard: curves, and the table of choices and figures over all runs of a sweep (its HParams page)."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
        self._hook, threading.excepthook = threading.excepthook, self._without_page
        with self._writing():
            self._writer = SummaryWriter(str(self._folder), purge_step=run.first_step or None)

    def add(self, tag: str, value: float, step: int) -> None:
        """Add a point."""
        with self._writing():
            self._writer.add_scalar(tag, value, step)

    def finish(self, figures: Mapping[str, float]) -> None:
        """Enter the run in the table of all runs: its choices and its figures."""
        from torch.utils.tensorboard.summary import hparams

        final = {f"final/{name}": value for name, value in figures.items()}
        with self._writing():
            # add_hparams() of the writer would make a run of its own for this, named after the time of day.
            for summary in hparams(dict(self.run.choices), final):
                self._writer.file_writer.add_summary(summary)
            for tag, value in final.items():
                self._writer.add_scalar(tag, value)

    def close(self) -> None:
        """Write what is left."""
        try:
            with self._writing():
                self._writer.close()
        finally:
            threading.excepthook = self._hook

    def _without_page(self, failed: threading.ExceptHookArgs) -> None:
        """Its thread keeps the error of the disk for the next call; Python would print a stack trace beside it."""
        if not (isinstance(failed.exc_value, OSError) and type(failed.thread).__module__.startswith("tensorboard.")):
            self._hook(failed)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """TensorBoard writes in a thread and raises its error in a later call."""
        try:
            yield
        except OSError as error:
            raise write_error(self._folder, error) from error
