"""What the command-line programs share: one line for a mistake, and exit codes."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from dassl.utils.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser to which a wrong flag is a mistake like any other: one line."""

    def error(self, message: str) -> NoReturn:
        """Raise a UserError that names the help."""
        raise UserError(f"{message}; all flags: {self.prog} --help")


def exit_code(
    action: Callable[[], object],
    *,
    errors: tuple[type[Exception], ...] = (UserError,),
    interrupted: str = "interrupted",
) -> int:
    """Run ``action``: 0 when it ends, 2 after one of ``errors`` (one line for each problem), 130 when interrupted.

    1 when nobody reads its output any more.
    """
    try:
        action()
    except errors as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    except BrokenPipeError:
        forget_stdout()
        return 1
    return 0


def forget_stdout() -> None:
    """Nobody reads it any more ("| head" has read enough); whatever else is printed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
