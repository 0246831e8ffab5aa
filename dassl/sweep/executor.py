"""The interface between the loop of a sweep and its executor."""

from collections.abc import Sequence
from typing import Protocol

from dassl.sweep.worker import Job, Outcome


class Executor(Protocol):
    """Workers that carry out runs. If a worker dies, its run ends with an error and the worker is replaced."""

    @property
    def free(self) -> int:
        """Number of workers that can take a run now."""

    @property
    def slots(self) -> int:
        """Largest number of workers."""

    def submit(self, job: Job) -> str:
        """Hand a run to a free worker; returns the worker's name."""

    def wait(self, seconds: float) -> Sequence[Outcome]:
        """The runs that have ended, as soon as there is one, or after ``seconds``."""

    def close(self, *, at_once: bool = False) -> None:
        """Stop the workers; ``at_once``: during their runs, which can be resumed."""
