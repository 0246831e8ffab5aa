"""Workers as processes: a killed one, a share of the GPUs, and an end in the middle of a run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import pytest

from dassl.sweep.grid import read_sweep, with_changes
from dassl.sweep.plan import expand
from dassl.sweep.processes import Processes
from dassl.sweep.worker import Job, Outcome
from dassl.utils.tools import CHECKOUT
from tests.dassl.sweep.small import Small


def until(what: Callable[[], object], seconds: float = 90) -> object:
    """Wait for something to be there."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
    return found


def job(small: Small, number: int = 0, **changes: object) -> Job:
    """One of the runs of the small sweep."""
    runs = expand(with_changes(read_sweep(str(small.file)), shots=(1,)))
    return Job(number, {**runs[number].values(), **changes})


def answer(executor: Processes) -> Outcome:
    """The next outcome."""
    return until(lambda: executor.wait(1))[0]


def pid(name: str) -> int:
    return int(name.split()[1].rstrip(","))


def in_epoch(job: Job, number: int) -> bool:
    """Whether a run has come that far; the epochs before are then saved."""
    log = job.folder / "log.txt"
    return log.is_file() and f"epoch [{number}/" in log.read_text()


def test_a_killed_worker_is_replaced_and_an_end_at_once_leaves_a_run_that_can_go_on(small, monkeypatch):
    killed: list[BaseProcess] = []
    monkeypatch.setattr("dassl.sweep.processes._SECONDS_TO_STOP", 300)
    monkeypatch.setattr(BaseProcess, "kill", killed.append)
    long = job(small, **{"OPTIM.MAX_EPOCH": 25})
    endless = job(small, 1, **{"OPTIM.MAX_EPOCH": 100_000})
    executor = Processes(1, gpus=("7",))
    try:
        first = pid(executor.submit(long))
        assert executor.free == 0
        until(lambda: in_epoch(long, 3))
        os.kill(first, signal.SIGKILL)
        outcome = answer(executor)
        assert outcome.number == 0
        assert outcome.error.startswith("its worker process was ended by SIGKILL; the system kills processes so")
        assert not (long.folder / "results.json").exists()
        second = pid(executor.submit(long))
        assert (first != second, executor.free) == (True, 0)
        assert answer(executor).error == ""
        assert 'Resumed from "' in (long.folder / "log.txt").read_text()
        assert executor.submit(endless) == f"process {second}, GPU 7"
        until(lambda: in_epoch(endless, 3))
    finally:
        executor.close(at_once=True)
    assert not killed, "it ends by itself when it is asked to"
    assert not _runs(second)
    assert list(endless.folder.rglob("model.pth.tar-*"))
    executor.close()  # a second time


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


OWNER = """
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from dassl.sweep.processes import Processes
from dassl.sweep.worker import Job
executor = Processes(1)
print(executor.submit(Job(0, {"OUTPUT_DIR": "nowhere"})), flush=True)
time.sleep(600)
"""


def test_workers_end_with_a_sweep_that_was_killed():
    """Otherwise the next sweep would do the same run beside them."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        worker = pid(process.stdout.readline())
        assert _runs(worker)
        process.kill()
    until(lambda: not _runs(worker), seconds=30)


@pytest.mark.parametrize(
    ("code", "text"), [(1, "ended with exit code 1"), (-11, "was ended by SIGSEGV"), (-9, "when memory runs out")]
)
def test_why_a_worker_died_is_said(code, text):
    from dassl.sweep.processes import _why_it_died

    assert text in _why_it_died(code)
