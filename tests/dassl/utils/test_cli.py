"""What the command-line programs share: lists in flags, and what they do when nobody reads their output any more."""

import contextlib
import logging
import os
from argparse import ArgumentTypeError
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.utils.cli import exit_code, names, numbers
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


@given(st.lists(st.integers(), min_size=1), st.sampled_from([",", ", ", " ,", ",,"]))
def test_a_list_of_numbers_is_read_as_it_was_written(values, comma):
    assert numbers(comma.join(map(str, values))) == tuple(values)


@pytest.mark.parametrize(("kind", "text"), [(numbers, "a"), (numbers, "1,2.5"), (numbers, ""), (names, " , ")])
def test_a_list_that_is_none_is_named(kind, text):
    with pytest.raises(ArgumentTypeError, match=repr(text)):
        kind(text)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.\nstack"),
        ImportError("x.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_runs_out_anywhere_is_one_line(capsys, error):
    def fail():
        raise error

    assert exit_code(fail) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the memory ran out (") and "out-of-memory" in line


@pytest.mark.parametrize("error", [RuntimeError("shapes"), ImportError("no module named x")])
def test_a_defect_is_not_taken_for_a_lack_of_memory(error):
    def fail():
        raise error

    with pytest.raises(type(error)):
        exit_code(fail)
