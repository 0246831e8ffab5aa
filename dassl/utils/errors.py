"""The only exception that a user sees, as a single line, and conversions into it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_FOLDER_BY = "RUN_FOLDER_BY"
# Messages of torch and of the library loader.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "failed to map segment")
_LESS_MEMORY = (
    "set DATALOADER.TRAIN_X.BATCH_SIZE, DATALOADER.TEST.BATCH_SIZE or MODEL.TEXT_CHUNK to less, store features "
    "(DATALOADER.FEATURES True) or, where the image tower is tuned, set MODEL.IMAGE_CHECKPOINT True, or use a "
    "machine with more memory"
)


class UserError(Exception):
    """A mistake that the user can correct: the message names the value, the place and the remedy.

    Command-line programs print the message without a stack trace and exit with code 2.
    """


class PassingError(UserError):
    """An error whose cause may be gone at the next attempt: memory, disk, another process."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of a device or of the host ran out."""
    told = isinstance(error, RuntimeError | ImportError) and any(words in str(error) for words in _NO_MEMORY)
    return told or isinstance(error, MemoryError)


def brief(error: BaseException) -> str:
    """The first sentence of torch's message, in one line."""
    return " ".join(str(error).split()).partition(". ")[0] or type(error).__name__


@contextmanager
def memory_explained() -> Iterator[None]:
    """Turn an out-of-memory error into one that names the keys to change (PassingError)."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise PassingError(f"the memory ran out ({brief(error)}); {_LESS_MEMORY}") from error


def another_folder() -> str:
    """How the user gives a run another folder: a flag, or what a script names in RUN_FOLDER_BY."""
    return f"another {os.environ.get(_FOLDER_BY) or '--output-dir'}"
