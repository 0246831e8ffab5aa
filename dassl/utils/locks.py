"""Locks between processes. The system lets go of one when its process ends, however that ends."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on this system: nobody is kept out
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_locks: set[int] = set()  # descriptors that this process holds


def lock_file(path: Path, *, busy: Callable[[], object]) -> int:
    """Lock ``path``, an empty file that is made in an existing folder; returns what :func:`unlock` needs.

    Args:
        busy: called when another holds the lock; this process waits when it returns, and gives up when it raises.

    Raises:
        OSError: the file cannot be written.
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _wait_for(lock, busy)
            # Someone may have removed the file while this process waited.
            if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
                _locks.add(lock)
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        path.parent.mkdir(parents=True, exist_ok=True)


def unlock(lock: int) -> None:
    """Let go of a lock."""
    _locks.discard(lock)
    os.close(lock)


def _wait_for(lock: int, busy: Callable[[], object]) -> None:
    if fcntl is None:
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _forget_locks() -> None:
    """A forked loader worker shares the lock and would hold it on when the run is killed."""
    for lock in _locks:
        with suppress(OSError):
            os.close(lock)
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
