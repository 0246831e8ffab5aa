"""A mark in file names for the process that made them, and whether that process still runs.

A process is known by the running system (boot identity), its space of process numbers (a container has its own), its
number and the time at which it started, so that a later process with the same number is not mistaken for it.
"""

import os
import platform
import uuid
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path

_PROC = Path("/proc")
_START = 19  # place of the start time in /proc/PID/stat, after the name of the program


def mark() -> str:
    """A text of letters, digits and "-" for this process; "" if the system tells too little about processes."""
    start = started(os.getpid())
    return f"{here()}-{os.getpid()}-{start}" if here() and start else ""


def is_dead(text: str) -> bool:
    """Whether the process of a mark is certainly gone: it ran on this system and no longer exists."""
    place, _, process = text.partition("-")
    number, _, start = process.partition("-")
    if not here() or place != here() or not number.isdigit() or not start.isdigit():
        return False
    return started(int(number)) != int(start)


@cache
def here() -> str:
    """A short name of the running system and of its space of process numbers; "" if the system does not tell."""
    return blake2b(f"{boot()} {space()}".encode(), digest_size=4).hexdigest() if space() else ""


@cache
def boot() -> str:
    """Identity of this boot of the machine, or of the machine if the boot is unknown."""
    with suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{platform.node()} {uuid.getnode():x}"


@cache
def space() -> str:
    """Identity of the visible space of process numbers; "" if the system does not tell."""
    with suppress(OSError, AttributeError):
        return str((_PROC / "self/ns/pid").readlink())
    return ""


def started(pid: int) -> int:
    """When a process started, in ticks since the boot; 0 if there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = text.rpartition(")")[2].split()
        return 0 if state in "ZX" else int(rest[_START - 1])
    except (OSError, ValueError, IndexError):
        return 0
