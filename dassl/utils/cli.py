"""Shared by the command-line programs: one line for a mistake, and exit codes."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from dassl.utils.errors import UserError, out_of_memory
from dassl.utils.files import atomic_path
from dassl.utils.texts import visible

_LONGEST_LINE, _KEPT_END = 1500, 400  # characters of a message


class Parser(argparse.ArgumentParser):
    """An argument parser with ``--version`` that reports a wrong flag in one line, like any other mistake.

    Description and epilogue are printed as they are written.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.add_argument("--version", action=_Version, nargs=0, help="show the version of this program and stop")

    def error(self, message: str) -> NoReturn:
        """Raise a UserError that names the help."""
        raise UserError(f"{message}; all flags: {self.prog} --help")


class _Version(argparse.Action):
    """Prints the version of this program and of the packages that figures depend on."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        from dassl.utils.tools import program_version, versions

        packages = ", ".join(f"{name} {version}" for name, version in versions().items())
        print(f"SoftCPT {program_version()} ({packages})")
        parser.exit()


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


def from_one_to(most: int) -> Callable[[str], int]:
    """The type of a flag that is a whole number from 1 to ``most``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or len(text) > len(str(most)) or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from 1 to {most:,}")
        return int(text)

    return parse


@contextmanager
def output(path: Path | None) -> Iterator[TextIO]:
    """The file ``path``, which appears when it is whole; None: standard output."""
    if path is None:
        yield sys.stdout
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        yield stream


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a batch system sends to a job that must end; handled like Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM raise :class:`Terminated` in the main thread, the only one that can handle it."""
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

    130 after Ctrl-C, 143 after SIGTERM, 1 when the output is no longer read.
    """
    try:
        with terminable(), contextlib.redirect_stdout(_VisibleOutput(sys.stdout)):
            action()
    except UserError as error:
        for line in str(error).split("\n"):
            say(f"error: {line}")
        return 2
    except BrokenPipeError:
        forget_stdout()
        return 1
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        say(f"error: {os.fsdecode(error.filename)!r} cannot be used: {error.strerror}; give another path")
        return 2
    except (MemoryError, RuntimeError, ImportError) as error:  # raised unexpectedly, e.g. while a library is loaded
        if not out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or "no more of it"
        say(
            f"error: the memory ran out ({reason}); give the program more, or see docs/troubleshooting.md#out-of-memory"
        )
        return 2
    except KeyboardInterrupt as error:
        print(interrupted, file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    return 0


@contextmanager
def warnings_only() -> Iterator[None]:
    """Nothing below a warning is logged."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def say(line: str) -> None:
    """Print one line for people to standard error: without hidden characters, and shortened if it is very long."""
    print(shortened(visible(line)), file=sys.stderr)


def shortened(text: str) -> str:
    """A readable message: the beginning and the end (with the remedy) of a very long one."""
    left_out = len(text) - _LONGEST_LINE
    if left_out <= 0:
        return text
    return f"{text[: _LONGEST_LINE - _KEPT_END]} [{left_out:,} more characters] {text[-_KEPT_END:]}"


class _VisibleOutput:
    """A text stream that writes hidden characters, and letters that its encoding lacks, as escapes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(visible(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def forget_stdout() -> None:
    """Redirect output to nowhere after its reader has gone ("| head")."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
