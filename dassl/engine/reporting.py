"""What a training run reports while it goes on: how long a batch takes, and TensorBoard curves."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dassl.utils.files import write_error
from dassl.utils.meters import AverageMeter


class Clock:
    """Time to get a batch and time per batch (which includes it), in seconds."""

    def __init__(self) -> None:
        self.data_time, self.batch_time = AverageMeter(), AverageMeter()
        self._end = time.perf_counter()

    def data(self) -> None:
        """A batch is there."""
        self.data_time.update(time.perf_counter() - self._end)

    def batch(self) -> None:
        """The step on it is done."""
        now = time.perf_counter()
        self.batch_time.update(now - self._end)
        self._end = now


class Curves:
    """TensorBoard's event file in ``folder``; points from ``first_step`` on replace those of a cut-off run.

    Raises:
        UserError: the folder cannot be written, now or at a later call (no space left).
    """

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        with self._writing():
            self._writer = SummaryWriter(str(folder), purge_step=first_step or None)

    def add(self, tag: str, value: float, step: int) -> None:
        """Add a point."""
        with self._writing():
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Write what is left."""
        with self._writing():
            self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """TensorBoard writes in a thread and raises its error in a later call."""
        try:
            yield
        except OSError as error:
            raise write_error(self._folder, error) from error
