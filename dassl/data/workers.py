"""Worker processes that read images: how much they hand over at once, and what is done when one fails.

A worker hands its images over in shared memory, which is small in a container (64 MiB in Docker unless ``--shm-size``
says otherwise). Where whole batches do not fit, they come in pieces; where not even single images fit, or a worker
dies or is silent, this process reads the images itself. Batches are the same in every case.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from multiprocessing import Queue
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

Key = tuple[int, int]  # (view, index of the image in its split)
Read = tuple[list[Key], Tensor | str]  # a batch (B, ...), or a message about an image that cannot be read

SILENCE_S = 600  # a worker that reads nothing for so long is given up
_PREFETCHED = 2  # pieces that wait at each worker; torch's own number
_SHARE = 0.5  # of the free shared memory; other runs on this machine need some, too
_SHARED_MEMORY = Path("/dev/shm")

logger = logging.getLogger(__name__)


class Plan(Protocol):
    """Which images make the batches of an epoch: every iteration gives the same."""

    def __iter__(self) -> Iterator[list[Key]]: ...


class Pieces(Sampler[list[Key]]):
    """The batches of a plan in pieces of at most ``size`` images."""

    def __init__(self, plan: Plan, size: int) -> None:
        self.plan, self.size = plan, size

    def __iter__(self) -> Iterator[list[Key]]:
        for keys in self.plan:
            yield from _cut(keys, self.size)


class Reader:
    """Reads the batches of a plan in worker processes that stay alive between epochs.

    Args:
        workers: their number at most; 0: this process reads.
        pin_memory: put batches where a CUDA device can fetch them by itself.
    """

    def __init__(self, images: Any, workers: int, *, pin_memory: bool = False) -> None:
        self.images, self.workers, self.pin_memory = images, workers, pin_memory
        self._plan: Plan | None = None
        self._pieces: Pieces | None = None
        self._loader: DataLoader | None = None

    def __call__(self, plan: Plan) -> Iterator[Read]:
        """Every batch of the plan, in its order."""
        done = 0
        if self.workers:
            self._start(plan)
        if self._loader is not None:
            try:
                for batch in self._by_workers(plan):
                    done += 1
                    yield batch
                return
            # A worker died or is silent (RuntimeError), or the system gives no more processes or open files.
            except (RuntimeError, OSError) as error:
                self._give_up(error)
        for keys in islice(plan, done, None):
            yield self._pinned(self.images.__getitems__(keys))

    def close(self) -> None:
        """Let the workers go."""
        self._loader = None

    def _start(self, plan: Plan) -> None:
        """Workers for a plan, as many and with pieces as large as the shared memory bears."""
        if plan is self._plan and self._loader is not None:
            return
        self._plan, self._loader = plan, None
        first = next(iter(plan), None)
        if first is None:
            return
        workers, size = self._bearable(first)
        if not workers:
            return
        self._pieces = Pieces(plan, size)
        self._loader = DataLoader(
            self.images,
            batch_sampler=self._pieces,
            num_workers=workers,
            collate_fn=_shared,
            pin_memory=self.pin_memory,
            persistent_workers=True,
            timeout=SILENCE_S,
            generator=torch.Generator(),  # a loader without one draws from the global generator
        )

    def _bearable(self, keys: list[Key]) -> tuple[int, int]:
        """(workers, images in a piece) for batches like that of ``keys``."""
        free = shared_memory()
        if free is None:
            return self.workers, len(keys)
        _, image = self.images.__getitems__(keys[:1])
        if isinstance(image, str):
            return self.workers, len(keys)  # the batch will say so
        if reason := _no_way(image):
            self._read_here(reason)
            return 0, 0
        for workers in dict.fromkeys((self.workers, 1)):
            # Pieces that wait, one that is made by each worker and one that is used.
            size = int(free * _SHARE) // (((_PREFETCHED + 1) * workers + 1) * image.nbytes)
            if size:
                return workers, min(size, len(keys))
        self._read_here(f"the shared memory {_SHARED_MEMORY} has {free >> 20} MiB free, too little for them")
        return 0, 0

    def _by_workers(self, plan: Plan) -> Iterator[Read]:
        assert self._loader is not None and self._pieces is not None
        pieces = (part for _, part in self._loader)
        for keys in plan:
            yield keys, next(pieces) if len(keys) <= self._pieces.size else self._joined(pieces, len(keys))

    def _joined(self, pieces: Iterator[Tensor | str], count: int) -> Tensor | str:
        """The pieces of a batch as one, or a message. Each is copied at once: it takes shared memory while it lives."""
        assert self._pieces is not None
        whole, wrong = torch.empty(0), ""
        for start in range(0, count, self._pieces.size):
            piece = next(pieces)
            if isinstance(piece, str):
                wrong = wrong or piece
                continue
            if not len(whole):
                whole = torch.empty(count, *piece.shape[1:], dtype=piece.dtype, pin_memory=self.pin_memory)
            whole[start : start + len(piece)] = piece
        return wrong or whole

    def _pinned(self, batch: Read) -> Read:
        keys, images = batch
        return (keys, images) if isinstance(images, str) or not self.pin_memory else (keys, images.pin_memory())

    def _give_up(self, error: Exception) -> None:
        self.close()
        *_, reason = str(error).strip().splitlines() or [type(error).__name__]  # before it stands the worker's trace
        self._read_here(f"a worker failed ({reason})")

    def _read_here(self, reason: str) -> None:
        self.workers = 0
        logger.warning(
            "images are read by the process of the run and not by workers: %s; the batches are the same, reading takes "
            "longer; give the run what is lacking (shared memory: docker run --shm-size 2g; open files: ulimit -n; "
            "memory; a TMPDIR with a short path and space), or set DATALOADER.NUM_WORKERS 0",
            reason,
        )


def shared_memory() -> int | None:
    """Free shared memory in bytes; None where the system sets no limit of its own."""
    try:
        return shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        return None


def _no_way(image: Tensor) -> str:
    """Why no worker could hand an image over; "" if one can.

    A worker that finds it out by itself prints a page and is silent from then on.
    """
    try:
        Queue().close()
        Listener().close()  # handles pass through a socket, which lies in the folder for temporary files
        torch.empty_like(image).share_memory_()
    except (OSError, RuntimeError) as error:
        return f"they have no way to hand them over ({' '.join(str(error).split())})"
    return ""


def _cut(keys: Sequence[Key], size: int) -> Iterator[list[Key]]:
    for start in range(0, len(keys), size):
        yield list(keys[start : start + size])


def _shared(batch: Read) -> Read:
    """Put a batch into shared memory, as torch would do later, in a thread whose error nobody is told."""
    keys, images = batch
    return keys, images if isinstance(images, str) else images.share_memory_()
