"""Locks: one owner at a time, and who is dead by which rule, with flock and without."""

import errno
import json
import logging
import multiprocessing
import os
import signal
import threading
import time

import pytest

from dassl.utils import locks
from dassl.utils.locks import Owner, locked

FORK = multiprocessing.get_context("fork")


class BusyError(Exception):
    """Somebody holds the lock."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Signs of life and silence of a test's length."""
    monkeypatch.setattr(locks, "BEAT", 0.05)
    monkeypatch.setattr(locks, "SILENCE", 0.5)
    monkeypatch.setattr(locks, "UNSIGNED", 0.1)


@pytest.fixture(params=["flock", "ENOLCK", "ENOSYS", "no fcntl"])
def system(request, monkeypatch):
    """What the file system has."""
    if request.param == "no fcntl":
        monkeypatch.setattr(locks, "fcntl", None)
    elif request.param != "flock":
        without_flock(monkeypatch, request.param)
    return request.param


def without_flock(monkeypatch, name="ENOSYS"):
    def refuse(descriptor, operation):
        raise OSError(getattr(errno, name), "refused")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder/.lock"


def refuse(owner: Owner) -> None:
    raise BusyError(owner.refusal("another run is at work", "wait for it"))


def take(path, busy=refuse) -> float:
    """Seconds that it took to get the lock."""
    begin = time.monotonic()
    with locked(path, busy=busy):
        return time.monotonic() - begin


def killed_owner(path) -> None:
    """Leave the lock of a process that was killed."""

    def hold(ready):
        with locked(path):
            ready.set()
            signal.pause()

    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(ready,))
    process.start()
    assert ready.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert path.is_file()


def change_record(path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def messages(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "dassl.utils.locks"]


def test_one_at_a_time_and_nothing_stays(path, system):
    with locked(path):
        with pytest.raises(BusyError) as caught:
            take(path)
        assert str(caught.value).startswith(f"another run is at work (process {os.getpid()} on ")
        assert str(caught.value).endswith(f", lock {path}); wait for it")
    take(path)
    assert not list(path.parent.iterdir())


def test_threads_take_turns(path, system):
    inside, most = [], []

    def work():
        for _ in range(5):
            with locked(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 20


def test_the_lock_of_a_killed_process_is_taken_over(path, system, caplog):
    caplog.set_level(logging.INFO)
    killed_owner(path)
    take(path)
    if system != "flock":
        [line] = messages(caplog)
        assert line.startswith("Took over process ") and line.endswith(f"lock {path}: its owner is dead")
    assert not list(path.parent.iterdir())


def test_another_process_with_the_number_of_the_owner_is_no_owner(path, system):
    killed_owner(path)
    change_record(path, pid=os.getppid())
    take(path)
    mine = locks._process(os.getppid())
    killed_owner(path)
    change_record(path, pid=os.getppid(), started=mine)  # the control: this one lives
    with pytest.raises(BusyError):
        take(path)


def test_a_container_that_is_gone_is_known_by_flock(path, monkeypatch):
    monkeypatch.setattr(locks, "SILENCE", 1000.0)
    killed_owner(path)
    change_record(path, space="pid:[1]", host="0123456789ab")
    take(path)


def test_another_machine_lives_as_long_as_it_gives_signs(path, system, monkeypatch):
    with locked(path):
        change_record(path, boot="another boot", host="node3", flock=False)
        monkeypatch.setattr(locks, "_flock", lambda *arguments, **options: "none")
        with pytest.raises(BusyError, match=r" on node3 since .*; if that process is gone for good, delete the lock$"):
            take(path)


def test_a_machine_that_is_gone_loses_the_lock_after_a_silence(path, system, caplog):
    caplog.set_level(logging.INFO)
    killed_owner(path)
    change_record(path, boot="another boot", host="node3")
    assert take(path) >= locks.SILENCE
    assert len(messages(caplog)) == 2
    assert "node3" in messages(caplog)[0] and "taken over unless it moves in 0.5 s" in messages(caplog)[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 3}', b"\xff" * 9000, b"[" * 4000])
def test_a_lock_without_a_record_is_nobodys(path, system, content):
    path.parent.mkdir()
    path.write_bytes(content)
    assert take(path) >= locks.UNSIGNED


def test_an_owner_without_a_record_that_holds_the_file_lives(path):
    path.parent.mkdir()
    with path.open("w") as file:
        locks.fcntl.flock(file, locks.fcntl.LOCK_EX)
        with pytest.raises(BusyError, match=r"an unknown process, lock .*delete the lock$"):
            take(path)
    take(path)


@pytest.mark.parametrize("change", [{"token": "../../elsewhere"}, {"host": "a\nb"}, {"pid": "3"}, {"more": 1}])
def test_a_record_that_nobody_wrote_is_none(path, change):
    killed_owner(path)
    change_record(path, **change)
    assert take(path) >= locks.UNSIGNED


def test_one_of_many_takes_over(path, monkeypatch):
    without_flock(monkeypatch)
    killed_owner(path)
    counter = path.with_name("counter")
    counter.write_text("0")

    def count():
        with locked(path):
            value = int(counter.read_text())
            time.sleep(0.01)
            counter.write_text(str(value + 1))

    processes = [FORK.Process(target=count) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert counter.read_text() == "8"
    assert [each.name for each in path.parent.iterdir()] == ["counter"]


def test_a_process_that_dies_while_it_takes_over_leaves_no_lock_for_ever(path, system):
    killed_owner(path)
    token = json.loads(path.read_text())["token"]
    killed_owner(path.with_name(f"{path.name}.{token}"))
    take(path)
    assert not list(path.parent.iterdir())


def test_an_owner_that_lost_its_lock_says_so_and_leaves_the_other_ones(path, caplog):
    with locked(path):
        theirs = json.dumps({**json.loads(path.read_text()), "token": "0" * 32})
        path.write_text(theirs)
        latest = time.monotonic() + 60
        while not messages(caplog) and time.monotonic() < latest:
            time.sleep(0.01)
    assert path.read_text() == theirs
    [line] = messages(caplog)
    assert line.startswith(f"another process took {path}") and "delete what they made" in line


def test_a_forked_child_neither_holds_nor_removes_the_lock(path, system):
    with locked(path):
        child = FORK.Process(target=lambda: [held.release() for held in locks._all_held])
        child.start()
        child.join()
        assert path.is_file()
    take(path)


def test_a_folder_in_the_place_of_the_lock_is_an_error(path):
    path.mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        take(path)
