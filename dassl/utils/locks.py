"""Locks between processes, on one machine or on several that share a folder: the only kind of lock in this project.

A lock is a file that exists only while it is held. Its owner makes it with exclusive creation, which every file system
supports, writes a record into it (host, boot, process number and start, a token), renews its time every ``BEAT``
seconds and, if the file system has ``flock``, also holds that. A process that finds the file decides by the first rule
that applies:

1. Somebody holds the file by ``flock``: the owner lives.
2. The record names this boot of this machine and this space of process numbers: the owner lives if a process with that
   number and start time exists.
3. It names this boot and another space of process numbers (a container), and the owner held the file by ``flock``:
   nobody does any more, so the owner is dead.
4. Otherwise (another machine, or an earlier boot of this one): the owner lives while the file's time moves, and is dead
   when it has not moved for ``SILENCE`` seconds of watching. No clocks are compared.
5. There is no record: the owner is dead when nothing changes for ``UNSIGNED`` seconds; a live one writes it at once.

The lock of a dead owner is removed under a second lock, named after its token, so that only one of many finders
removes it, and none removes its successor. A process that was suspended for longer than ``SILENCE`` on another machine
may lose its lock; it warns of that.

Why not the package filelock: its hard lock needs ``flock``, and its soft lock shows no sign of life from another
machine.
"""

import errno
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from dassl.utils import owners

try:
    import fcntl
except ImportError:  # no flock on this system: rules 4 and 5 decide
    fcntl = None  # type: ignore[assignment]

BEAT = 5.0  # seconds between two signs of life
SILENCE = 60.0  # of the file's time, after which an owner elsewhere is dead
UNSIGNED = 2.0
_POLLS = 0.01, 0.5  # seconds between two checks: at first, at most
_LONGEST = 4096  # bytes of a record
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, *, busy: Callable[["Owner"], object] = lambda owner: None) -> Iterator[None]:
    """Hold the exclusive lock ``path``; its folder is made if missing.

    Args:
        busy: called once if a live owner holds the lock; this process waits if it returns, and gives up if it raises.

    Raises:
        OSError: the file cannot be written.
    """
    held = _acquire(path, busy)
    try:
        yield
    finally:
        held.release()


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock, from its record.

    Attributes:
        boot: identity of the running system; space: of the process numbers in it, "" if the system does not tell.
        started: when the process began, in ticks of the system's clock since the boot.
        flock: whether it holds the file by ``flock``, too.
        since: for people.
        token: unique to a lock; "": there is no record, and nothing else is known.
    """

    path: Path
    host: str
    boot: str
    space: str
    pid: int
    started: int
    flock: bool
    since: str
    token: str

    def __str__(self) -> str:
        if not self.token:
            return f"an unknown process, lock {self.path}"
        return f"process {self.pid} on {self.host} since {self.since}, lock {self.path}"

    @property
    def near(self) -> bool:
        """Whether this process can see the owner among the processes of its machine."""
        here = platform.node(), owners.boot(), owners.space()
        return bool(self.space) and (self.host, self.boot, self.space) == here

    def refusal(self, what: str, remedy: str) -> str:
        """The line for a user who cannot get the lock."""
        gone = "" if self.near else "; if that process is gone for good, delete the lock"
        return f"{what} ({self}); {remedy}{gone}"


# -- holding ---------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Held:
    """A lock that this process holds."""

    owner: Owner
    descriptor: int | None
    end: threading.Event = field(default_factory=threading.Event)

    def start(self) -> "_Held":
        """Start to give signs of life."""
        _all_held.add(self)
        threading.Thread(target=self._beat, name=f"lock {self.owner.path.name}", daemon=True).start()
        return self

    def release(self) -> None:
        """Remove the file, unless it belongs to another process by now."""
        if self not in _all_held:  # in a forked process: the lock belongs to its parent
            return
        self.end.set()
        _all_held.discard(self)
        with suppress(OSError):
            if _token_in(self.owner.path) == self.owner.token:
                self.owner.path.unlink()
        self.close()

    def close(self) -> None:
        """Close the descriptor, after the file is removed, so that nobody sees it without an owner."""
        if self.descriptor is not None:
            os.close(self.descriptor)

    def _beat(self) -> None:
        while not self.end.wait(BEAT):
            try:
                mine = _token_in(self.owner.path) == self.owner.token
                if mine:
                    os.utime(self.owner.path)
            except FileNotFoundError:
                mine = False
            except OSError:  # a file server may be away for a while
                continue
            if not mine and not self.end.is_set():
                _log.warning(
                    "another process took %s or removed it, perhaps because this one was suspended for more than %g s; "
                    "both may have written there: delete what they made and start one of them again",
                    *(self.owner.path, SILENCE),
                )
                return


_all_held: set[_Held] = set()


def _acquire(path: Path, busy: Callable[[Owner], object]) -> _Held:
    watch, (pause, longest), told = _Watch(), _POLLS, False
    while True:
        held = _create(path)
        if held is not None:
            return held.start()
        seen = _look(path)
        if seen is None:
            continue
        alive = watch.judge(seen)
        if alive is False:
            _remove_dead(path, seen)
            continue
        if alive and not told:
            busy(seen.owner or Owner(path, "", "", "", 0, 0, True, "", ""))
            told = True
        time.sleep(pause)
        pause = min(longest, 1.5 * pause)


def _create(path: Path) -> _Held | None:
    """Make the lock; None if it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except (FileExistsError, FileNotFoundError):  # or the folder was just deleted
        return None
    try:
        owner = _sign(path, descriptor)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    held = _Held(owner, descriptor)
    try:
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return held if owner.flock else _without_descriptor(held)
    except OSError:  # removed by a process that found no record in it for too long
        pass
    held.close()
    return None


def _without_descriptor(held: _Held) -> _Held:
    held.close()  # some systems do not remove a file that is open
    return _Held(held.owner, None)


def _sign(path: Path, descriptor: int) -> Owner:
    """Take flock on a new lock if the system has it, and write the record."""
    since = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    pid, flock = os.getpid(), _flock(descriptor, exclusive=True) == "mine"
    who = (platform.node(), owners.boot(), owners.space(), pid, owners.started(pid))
    owner = Owner(path, *who, flock, since, uuid.uuid4().hex)
    record = {key: value for key, value in asdict(owner).items() if key != "path"}
    os.write(descriptor, json.dumps(record).encode())
    os.close(os.dup(descriptor))  # on a network file system closing is what lets other machines see the record
    return owner


# -- judging ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """An existing lock: its record if any, the state of its file, and whether flock is held on it."""

    owner: Owner | None
    stat: os.stat_result
    flock: Literal["mine", "another's", "none"]

    @property
    def token(self) -> str:
        return self.owner.token if self.owner else f"unsigned-{self.stat.st_ino}"


class _Watch:
    """Decides over several checks whether the owner of a lock lives."""

    def __init__(self) -> None:
        self._state: tuple[str, int] | None = None
        self._first = 0.0
        self._moved: set[str] = set()  # tokens of locks whose time was seen to move

    def judge(self, seen: _Seen) -> bool | None:
        """True: it lives; False: it is dead; None: more checks are needed."""
        owner = seen.owner
        if owner is None:
            unsigned = self._still(seen) >= UNSIGNED
            return seen.flock == "another's" if unsigned else None
        if seen.flock == "another's":
            return True
        if owner.near:
            return _lives(owner)
        if owner.boot == owners.boot() and owner.flock and seen.flock == "mine":
            return False
        return self._watched(seen, owner)

    def _watched(self, seen: _Seen, owner: Owner) -> bool | None:
        """Decide by signs of life from another machine."""
        first, still = self._state is None, self._still(seen)
        if first:
            _log.info("%s cannot be asked from here; the lock is taken over unless it moves in %g s", owner, SILENCE)
        if still >= SILENCE:
            return False
        return True if owner.token in self._moved else None

    def _still(self, seen: _Seen) -> float:
        """Seconds of watching without a change of the lock."""
        state, now = (seen.token, seen.stat.st_mtime_ns), time.monotonic()
        if state != self._state:
            if self._state is not None and self._state[0] == seen.token:
                self._moved.add(seen.token)
            self._state, self._first = state, now
        return now - self._first


def _look(path: Path) -> _Seen | None:
    """The existing lock; None if it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        flock = _flock(descriptor, exclusive=False)
        return _Seen(_read_owner(path, os.read(descriptor, _LONGEST)), os.fstat(descriptor), flock)
    finally:
        os.close(descriptor)


def _remove_dead(path: Path, seen: _Seen) -> None:
    """Remove the lock of a dead owner once, but not that of its successor."""
    with locked(path.with_name(f"{path.name}.{seen.token}")):
        again = _look(path)
        if again is not None and again.token == seen.token:
            _log.info("Took over %s: its owner is dead", seen.owner or f"the lock {path}, which has no record")
            path.unlink(missing_ok=True)


def _token_in(path: Path) -> str:
    owner = _read_owner(path, path.read_bytes()[:_LONGEST])
    return owner.token if owner else ""


def _read_owner(path: Path, content: bytes) -> Owner | None:
    """The record in a lock; None if there is none or it is invalid."""
    try:
        owner = Owner(path=path, **json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (owner.host, owner.boot, owner.space, owner.since)
    right = all(isinstance(text, str) and text.isprintable() for text in texts)
    return owner if right and _is_hex(owner.token) and type(owner.pid) is type(owner.started) is int else None


def _is_hex(token: object) -> bool:
    """Whether a token has our form; it becomes part of a file name."""
    return isinstance(token, str) and len(token) == len(uuid.uuid4().hex) and set(token) <= set("0123456789abcdef")


# -- facts from the system --------------------------------------------------------------------------------------


def _flock(descriptor: int, *, exclusive: bool) -> Literal["mine", "another's", "none"]:
    """Use flock on a file: with ``exclusive`` take it; else check whether a process holds it."""
    if fcntl is None:
        return "none"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "another's"
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return "none"
    return "mine"


def _lives(owner: Owner) -> bool:
    """Whether the owner is among the visible processes."""
    if Path("/proc", str(owner.pid)).exists():
        return owners.started(owner.pid) == owner.started
    try:
        os.kill(owner.pid, 0)
    except PermissionError:  # another user's process, hidden by this system
        return True
    except (OSError, OverflowError):
        return False
    return False  # it has just begun


def _forget_locks() -> None:
    """Close inherited descriptors: a forked loader worker would keep the locks after the run is killed."""
    for held in _all_held:
        with suppress(OSError):
            held.close()
    _all_held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
