"""Marks of processes: who is alive is not taken for dead, nor is another process with the same number taken for him."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from dassl.utils import owners
from dassl.utils.owners import here, is_dead, mark, started


def gone() -> str:
    """The mark of a process that has ended."""
    code = "from dassl.utils.owners import mark; print(mark())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_who_is_there_is_not_dead_and_who_is_gone_is():
    assert not is_dead(mark())
    assert is_dead(gone())


def test_a_number_that_another_process_has_now_is_dead():
    assert is_dead(f"{here()}-{os.getpid()}-{started(os.getpid()) + 1}")


def test_a_process_that_waits_to_be_collected_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    text = f"{here()}-{child.pid}-{started(child.pid)}"
    assert not is_dead(text)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(text)
    child.wait()


@given(
    st.from_regex(r"[0-9a-f]{8}", fullmatch=True).filter(lambda text: text != here()), st.integers(1), st.integers(0)
)
def test_nobody_is_dead_on_another_system(system, number, start):
    assert not is_dead(f"{system}-{number}-{start}")


@given(st.text())
def test_rubbish_is_nobody(text):
    assert not is_dead(text)


def _forget():
    for known in (owners.here, owners.boot, owners.space):
        known.cache_clear()


def test_a_system_that_tells_nothing_declares_nobody_dead(monkeypatch, tmp_path):
    known = gone()
    monkeypatch.setattr("dassl.utils.owners._PROC", tmp_path)
    _forget()
    try:
        assert mark() == "" and not is_dead(known)
    finally:
        _forget()
