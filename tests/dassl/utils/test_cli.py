"""What the command-line programs do when nobody reads their output any more."""

import contextlib
import logging
import os
from collections.abc import Iterator

from dassl.utils.cli import exit_code
from dassl.utils.logger import setup_logger


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """Standard output is a pipe whose reader has gone, as behind "| head"."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout, contextlib.redirect_stdout(stdout):
        yield


def test_work_goes_on_without_a_word_when_nobody_reads_its_log(capfd):
    setup_logger(None)

    def work() -> None:
        for number in range(3):
            logging.getLogger("dassl").info("line %d", number)
        print("done", flush=True)

    with unread():
        assert exit_code(work) == 0
    assert capfd.readouterr() == ("", "")


def test_a_program_whose_list_nobody_reads_ends_quietly(capfd):
    with unread():
        assert exit_code(lambda: print("a list", flush=True)) == 1
    assert capfd.readouterr() == ("", "")
