"""One lock for all: who is kept out, whose lock is taken over, by which rule."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from dassl.utils import locks, owners
from dassl.utils.locks import locked

FORK = multiprocessing.get_context("fork")
WAYS = ["flock", "no flock"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """With flock, and on a file system without it; signs of life are quick."""
    if request.param == "no flock":

        def none(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(locks.fcntl, "flock", none)
    for name, seconds in {"BEAT": 0.05, "SILENCE": 0.5, "UNSIGNED": 0.2}.items():
        monkeypatch.setattr(locks, name, seconds)
    return request.param


class BusyError(Exception):
    pass


def refuse(owner):
    raise BusyError(owner.refusal("busy", "wait"))


def record(path, **changes):
    """A lock as another process would have left it."""
    here = {"host": os.uname().nodename, "boot": owners.boot(), "space": owners.space(), "pid": os.getpid()}
    fields = {**here, "started": owners.started(os.getpid()), "flock": False, "since": "then", "token": "a" * 32}
    path.write_text(json.dumps({**fields, **changes}))


def test_one_holds_it_and_it_is_gone_afterwards(tmp_path, way):
    path = tmp_path / "deep" / ".lock"
    with locked(path):
        assert path.is_file()
        with (
            pytest.raises(BusyError, match=rf"^busy \(process {os.getpid()} on .*, lock {path}\); wait$"),
            locked(path, busy=refuse),
        ):
            pass
        assert path.is_file()
    assert not path.exists()
    with locked(path, busy=refuse):
        pass


def test_who_waits_gets_it(tmp_path, way):
    path, order = tmp_path / ".lock", []

    def wait():
        with locked(path, busy=lambda owner: order.append("waits")):
            order.append("second")

    with locked(path):
        thread = threading.Thread(target=wait)
        thread.start()
        while not order:
            time.sleep(0.01)
        order.append("first")
    thread.join(30)
    assert order == ["waits", "first", "second"]


@pytest.mark.parametrize("gone", [{"pid": 2**22 - 1}, {"started": 1}], ids=["dead", "another has its number"])
def test_the_lock_of_a_dead_process_is_taken_over_at_once(tmp_path, way, gone, caplog):
    caplog.set_level("INFO", logger="dassl.utils.locks")
    record(tmp_path / ".lock", **gone)
    with locked(tmp_path / ".lock", busy=refuse):
        pass
    assert any("its owner is dead" in line for line in caplog.messages)
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_keeps_it(tmp_path, way):
    record(tmp_path / ".lock")
    with pytest.raises(BusyError), locked(tmp_path / ".lock", busy=refuse):
        pass


def hold(path):
    with locked(path):
        time.sleep(60)


def test_a_killed_process_needs_no_hand(tmp_path, way):
    path = tmp_path / ".lock"
    child = FORK.Process(target=hold, args=(path,))
    child.start()
    while not path.exists() or not path.read_bytes():
        time.sleep(0.01)
    child.kill()
    child.join()
    with locked(path, busy=refuse):
        pass


@pytest.mark.parametrize("elsewhere", [{"host": "other", "boot": "b"}, {"space": "pid:[1]", "flock": True}])
def test_a_machine_that_is_gone(tmp_path, way, elsewhere):
    """Its lock stands still; where flock tells that nobody holds it, that is enough for a container of this machine."""
    record(tmp_path / ".lock", **elsewhere)
    begin = time.monotonic()
    with locked(tmp_path / ".lock", busy=refuse):
        passed = time.monotonic() - begin
    told = way == "flock" and "space" in elsewhere
    assert (passed < locks.SILENCE) == told


def test_a_living_machine_elsewhere_keeps_it(tmp_path, way):
    path, end = tmp_path / ".lock", threading.Event()
    record(path, host="other", boot="b")

    def live():
        while not end.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=live)
    thread.start()
    told = r"process .* on other .*; if that process is gone for good, delete the lock"
    with pytest.raises(BusyError, match=told), locked(path, busy=refuse):
        pass
    end.set()
    thread.join()


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"[1]", b'{"token": "../../x"}', b"\xff" * 9000])
def test_a_lock_without_a_record_is_no_obstacle(tmp_path, way, content):
    (tmp_path / ".lock").write_bytes(content)
    with locked(tmp_path / ".lock", busy=refuse):
        pass
    assert list(tmp_path.iterdir()) == []


def test_who_lost_it_says_so(tmp_path, way, caplog):
    with locked(tmp_path / ".lock"):
        record(tmp_path / ".lock")
        end = time.monotonic() + 10
        while not caplog.messages and time.monotonic() < end:
            time.sleep(0.02)
    assert "another process took" in caplog.text
    assert (tmp_path / ".lock").exists()  # it is the other one's


def count(path, number):
    for _ in range(20):
        with locked(path.with_name(".lock")):
            text = path.read_text()
            path.write_text(str(int(text) + 1))


def test_eight_processes_never_hold_it_together(tmp_path, way):
    path = tmp_path / "count"
    path.write_text("0")
    children = [FORK.Process(target=count, args=(path, number)) for number in range(8)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert path.read_text() == "160" and [child.exitcode for child in children] == [0] * 8


def test_of_many_who_find_a_dead_one_each_gets_it_once(tmp_path, way):
    path = tmp_path / "count"
    path.write_text("0")
    record(tmp_path / ".lock", pid=2**22 - 1)
    children = [FORK.Process(target=count, args=(path, number)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert path.read_text() == "80"
    assert [entry.name for entry in tmp_path.iterdir()] == ["count"]


def test_a_forked_child_does_not_hold_the_lock_of_its_parent(tmp_path):
    """A worker that outlives the run must not keep the folder."""
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from dassl.utils.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(30)\n"
        "    os._exit(0)\n"
    )
    done = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / ".lock")], env=os.environ | {"PYTHONPATH": "."}
    )
    assert done.wait(60) == 0
    with locked(tmp_path / ".lock", busy=refuse):
        pass


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((NotADirectoryError, FileExistsError)), locked(tmp_path / "file" / ".lock"):
        pass
