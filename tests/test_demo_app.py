"""The command line of demo_app.py."""

import contextlib
import os
import signal
import socket
import threading
import time
import webbrowser
from pathlib import Path

import pytest
import requests

import demo_app
from dassl.app import server
from tests.chaos.test_signals import CODES
from tests.dassl.app.conftest import places

assert places, "a fixture"


@pytest.fixture
def port():
    """A port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def with_gradio():
    """Skip where it is missing."""
    pytest.importorskip("gradio", reason="needs gradio: pip install -r requirements-app.txt")


def said(capsys, *arguments):
    """The one line that demo_app.py says of a mistake."""
    assert demo_app.main([*arguments, "--no-browser"]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == ""
    return line


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    line = said(capsys, "run")
    assert line.endswith("install it with python -m pip install --require-hashes -r requirements-app.txt")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["missing"], "missing is not a folder"),
        (["."], "holds no finished run"),
        ([], "the following arguments are required: RUN"),
        (["run", "--port", "99999"], "'99999'; expected a whole number from 0 to 65535"),
        ([*"abcde"], "5 runs were given, the page shows up to 4; give fewer"),
        (["run", "run/"], "run run was given twice"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path, arguments, part):
    monkeypatch.setattr(server, "find_spec", lambda name: True)
    monkeypatch.chdir(tmp_path)
    assert part in said(capsys, *arguments)


def test_an_unfinished_run_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(server, "find_spec", lambda name: True)
    (tmp_path / "config.yaml").write_text("SEED: 1\n")
    assert "holds no finished run" in said(capsys, str(tmp_path))


def test_a_port_in_use_is_one_line(monkeypatch, capsys, places):
    monkeypatch.setattr(server, "find_spec", lambda name: True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        line = said(capsys, places[0], "--port", number)
    assert line.startswith(f"error: 127.0.0.1 port {number} cannot be used: ")
    assert line.endswith("choose another --port or --host")


def test_no_such_address_is_one_line(monkeypatch, capsys, places):
    monkeypatch.setattr(server, "find_spec", lambda name: True)
    assert "--host" in said(capsys, places[0], "--host", "192.0.2.7", "--port", "0")


def interrupt(port, number, seen):
    """Wait for the page, leave a connection open as a browser does, and send a signal to this process."""
    address = f"http://127.0.0.1:{port}"
    for _ in range(3000):
        try:
            seen["page"] = requests.get(address, timeout=60).status_code
            break
        except requests.ConnectionError:
            time.sleep(0.02)
    with requests.get(f"{address}/gradio_api/heartbeat/visitor", stream=True, timeout=60) as stream:
        seen["heart"] = stream.status_code
        seen["uploads"] = os.environ["GRADIO_TEMP_DIR"]
        os.kill(os.getpid(), number)
        with contextlib.suppress(requests.RequestException):  # the server cuts it
            seen["beats"] = list(stream.iter_content())


@pytest.mark.parametrize("number", CODES)
def test_signals_end_it_with_an_open_page(places, port, capsys, caplog, monkeypatch, number):
    with_gradio()
    opened, seen, before = [], {}, signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setattr(webbrowser, "open", opened.append)
    thread = threading.Thread(target=interrupt, args=(port, number, seen), daemon=True)
    thread.start()
    assert demo_app.main([places[0], "--port", str(port), "--device", "cpu"]) == CODES[number]
    thread.join(timeout=20)
    captured = capsys.readouterr()
    assert captured.out == f"The page is at http://127.0.0.1:{port} (Ctrl-C ends it)\n"
    assert captured.err == "interrupted\n"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert (seen["page"], seen["heart"], opened) == (200, 200, [f"http://127.0.0.1:{port}"])
    assert not Path(seen["uploads"]).exists()
    assert signal.getsignal(signal.SIGTERM) is before
