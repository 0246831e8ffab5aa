"""The one exception that is shown to a user as a single line."""

import os

_FOLDER_BY = "RUN_FOLDER_BY"


class UserError(Exception):
    """A mistake that the user can mend: the message names the value, the place and the remedy.

    Command-line programs print the message without a stack trace and exit with code 2.
    """


class PassingError(UserError):
    """One whose cause may be gone when the same is tried again: memory, disk, another process."""


def another_folder() -> str:
    """What gives a run another folder: a flag, or what a script that starts runs names in RUN_FOLDER_BY."""
    return f"another {os.environ.get(_FOLDER_BY) or '--output-dir'}"
