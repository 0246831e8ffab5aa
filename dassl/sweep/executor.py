"""What the loop of a sweep asks of an executor."""

from collections.abc import Sequence
from typing import Protocol

from dassl.sweep.worker import Job, Outcome


class Executor(Protocol):
    """Workers that carry out runs. A worker that dies makes its run an outcome with an error, and is replaced."""

    @property
    def free(self) -> int:
        """Workers that could take a run now."""

    @property
    def slots(self) -> int:
        """Workers at most."""

    def submit(self, job: Job) -> str:
        """Hand a run to a free worker; returns the worker's name."""

    def wait(self, seconds: float) -> Sequence[Outcome]:
        """What has ended, after at most ``seconds`` (sooner when something has)."""

    def close(self, *, at_once: bool = False) -> None:
        """Let the workers go; ``at_once``: in the middle of their runs, which can be resumed."""
