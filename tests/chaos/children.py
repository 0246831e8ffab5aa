"""Processes that carry out the command line of a program, and moments at which one of them ends itself."""

import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 300.0
STAGES = ("half", "before", "after")


@dataclass(frozen=True)
class Moment:
    """When a process sends itself SIGKILL: at a file that is about to get its name.

    Attributes:
        pattern: found in the path of the file.
        number: which of the files that fit, counted from 0.
        stage: "half": half of the file is written; "before": all of it, under its temporary name; "after": it has its
            name.
    """

    pattern: str
    number: int
    stage: str

    def __str__(self) -> str:
        return f"{self.stage} {self.pattern} #{self.number}"


def watch_renames(told: Callable[[str, str], object]) -> None:
    """Call ``told(stage, target)`` around every rename in this process; "half" and "before" come first."""
    rename = os.replace

    def replace(source: str, target: str, **options: int) -> None:
        told("half", os.fspath(target))
        told("before", os.fspath(target))
        rename(source, target, **options)
        told("after", os.fspath(target))

    os.replace = replace


def end_at(moment: Moment) -> None:
    """Let this process end itself at a moment."""
    seen = dict.fromkeys(STAGES, 0)
    rename = os.replace

    def replace(source: str, target: str, **options: int) -> None:
        for stage in STAGES:
            if stage == "after":
                rename(source, target, **options)
            if not re.search(moment.pattern, os.fspath(target)):
                continue
            if (stage, seen[stage]) == (moment.stage, moment.number):
                if stage == "half":
                    os.truncate(source, Path(source).stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            seen[stage] += 1

    os.replace = replace


def fork(
    main: Callable[[Sequence[str]], int],
    arguments: Sequence[str],
    output: Path,
    *,
    prepare: Callable[[], object] = lambda: None,
) -> int:
    """Start ``main(arguments)`` in a process of its own, whose output goes to a file; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, 1)
        os.dup2(file, 2)
        prepare()
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(pid: int, *, limit: float = LIMIT_S, kill_after: float | None = None) -> int | None:
    """The exit code of a process, negative for a signal as in ``subprocess``; None: it was ended at ``limit``.

    Args:
        kill_after: seconds after which it gets SIGKILL.
    """
    begin = time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - begin
        if passed > limit or (kill_after is not None and passed > kill_after):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None if passed > limit else -signal.SIGKILL
        time.sleep(0.002)
