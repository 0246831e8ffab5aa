"""What the command-line programs share: one line for a mistake, and exit codes."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from dassl.utils.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser to which a wrong flag is a mistake like any other: one line."""

    def error(self, message: str) -> NoReturn:
        """Raise a UserError that names the help."""
        raise UserError(f"{message}; all flags: {self.prog} --help")


def names(text: str) -> tuple[str, ...]:
    """The value of a flag that is a list, such as a,b."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing")
    return found


def numbers(text: str) -> tuple[int, ...]:
    """The value of a flag that is a list of whole numbers, such as 1,2."""
    try:
        return tuple(map(int, names(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}; expected whole numbers with commas between them") from error


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a batch system sends it to a job that must end: what is under way is left as by Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` in the main thread, which is the only one that can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def exit_code(
    action: Callable[[], object],
    *,
    interrupted: str = "interrupted",
) -> int:
    """The exit code of ``action``: 0; 2 after a UserError, with a line for each problem.

    130 after Ctrl-C, 143 after SIGTERM, 1 when nobody reads its output any more.
    """
    try:
        with terminable():
            action()
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(interrupted, file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    except BrokenPipeError:
        forget_stdout()
        return 1
    return 0


def forget_stdout() -> None:
    """Nobody reads it any more ("| head" has read enough); whatever else is printed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
