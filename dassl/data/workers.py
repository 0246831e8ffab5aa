"""Worker processes that read images, and what happens when one fails.

A worker passes its images on in shared memory, which is small in a container (64 MiB in Docker without ``--shm-size``).
If whole batches do not fit, they come in pieces. If not even single images fit, or a worker dies or hangs, this process
reads the images itself. Batches are the same in every case.
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

SILENCE_S = 600  # a worker that delivers nothing for so long is given up
_PREFETCHED = 2  # pieces that wait at each worker; torch's own number
_SHARE = 0.5  # of the free shared memory; other runs need some, too
_SHARED_MEMORY = Path("/dev/shm")

logger = logging.getLogger(__name__)


class Plan(Protocol):
    """The batches of an epoch by image; every iteration is the same."""

    def __iter__(self) -> Iterator[list[Key]]: ...


class Pieces(Sampler[list[Key]]):
    """The batches of a plan in pieces of at most ``size`` images."""

    def __init__(self, plan: Plan, size: int) -> None:
        self.plan, self.size = plan, size

    def __iter__(self) -> Iterator[list[Key]]:
        for keys in self.plan:
            yield from _cut(keys, self.size)


class Reader:
    """Reads the batches of a plan in worker processes that live on between epochs.

    Args:
        workers: at most; 0: this process reads.
        pin_memory: put batches into pinned memory for CUDA.
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
        """End the workers."""
        self._loader = None

    def _start(self, plan: Plan) -> None:
        """Workers for a plan; their number and the size of pieces fit the shared memory."""
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
            # Waiting pieces, one in the making at each worker, and one in use.
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
        """The pieces of a batch joined, or a message. Each is copied at once, which frees its shared memory."""
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
        *_, reason = str(error).strip().splitlines() or [type(error).__name__]  # the worker's trace comes before it
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
    """Free shared memory in bytes; None if the system sets no separate limit."""
    try:
        return shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        return None


def _no_way(image: Tensor) -> str:
    """Why no worker could pass an image on; "" if one can.

    Asked first, because a worker that fails prints a page and then hangs.
    """
    try:
        Queue().close()
        Listener().close()  # handles pass through a socket in the folder for temporary files
        torch.empty_like(image).share_memory_()
    except (OSError, RuntimeError) as error:
        return f"they have no way to pass them on ({' '.join(str(error).split())})"
    return ""


def _cut(keys: Sequence[Key], size: int) -> Iterator[list[Key]]:
    for start in range(0, len(keys), size):
        yield list(keys[start : start + size])


def _shared(batch: Sequence[Any]) -> Read:
    """Put a batch into shared memory here: torch would do it later, in a thread whose errors get lost."""
    keys, images = batch
    return keys, images if isinstance(images, str) else images.share_memory_()
