"""Process many files in threads: reading, hashing and decoding release the interpreter lock."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

_CHUNK = 2048
_MAX_THREADS = 16

T = TypeVar("T")


def in_threads(action: Callable[[str], T], paths: Sequence[str], title: str) -> Iterator[T]:
    """Apply ``action`` to every path in threads, with a progress bar; results are in the order of ``paths``."""
    progress = tqdm(total=len(paths), desc=title, unit="image", leave=False, disable=None)
    with ThreadPoolExecutor(min(_MAX_THREADS, cpu_count())) as pool, progress:
        # In blocks, because map() queues its whole input at once.
        for start in range(0, len(paths), _CHUNK):
            for result in pool.map(action, paths[start : start + _CHUNK]):
                progress.update()
                yield result


def cpu_count() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
