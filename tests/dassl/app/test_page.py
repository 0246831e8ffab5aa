"""The page over HTTP, without a browser."""

import json
import re
import socket
import uuid
from urllib.parse import urlsplit

import pytest
import requests

from dassl.app.uploads import MOST_BYTES, Uploads

pytest.importorskip("gradio", reason="needs gradio: pip install -r requirements-app.txt")
from dassl.app import page as room


def upload(served, content, name="photo.png", **headers):
    """The answer to an upload."""
    files = {"files": (name, content)}
    return requests.post(f"{served.url}/gradio_api/upload", files=files, headers=headers, timeout=60)


def functions(served):
    """Number of each function of the page, by the name of the control that starts it and its event."""
    config = requests.get(f"{served.url}/config", timeout=60).json()
    names = {each["id"]: each["props"].get("elem_id") for each in config["components"]}
    return {
        (names.get(target), event): each["id"] for each in config["dependencies"] for target, event in each["targets"]
    }


def call(served, number, data, session=None):
    """The output of one of the page's functions."""
    session = session or uuid.uuid4().hex
    asked = {"fn_index": number, "data": data, "session_hash": session}
    requests.post(f"{served.url}/gradio_api/queue/join", json=asked, timeout=60).raise_for_status()
    with requests.get(
        f"{served.url}/gradio_api/queue/data", params={"session_hash": session}, stream=True, timeout=60
    ) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix(b"data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("no answer")


def drop(served, content, name="photo.png", session=None):
    """What the page says once a file was dropped."""
    (path,) = upload(served, content, name).json()
    file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
    number = functions(served)["picture", "upload"]
    message = call(served, number, [file, None, room.ALL, 2], session)
    assert message["success"], message
    return message["output"]["data"]


def test_no_upload_is_left_once_it_was_answered(served, photo):
    _, _, preview, told, answers = drop(served, photo.read_bytes(), "beach.png")
    assert served.uploads() == []
    assert (told, "beach.png" in preview, answers.count("<h2>"), answers.count("<h3>")) == ("", True, 3, 6)


def test_nor_of_what_is_no_picture(served):
    _, _, preview, told, answers = drop(served, b"%PDF-1.7 no picture", "letter.pdf")
    assert served.uploads() == []
    assert "cannot read image letter.pdf: " in told
    assert (preview, "<h2>" in answers) == ("", False)


def test_a_visitor_keeps_to_his_own_picture(served, photo):
    number = functions(served)["top", "change"]
    drop(served, photo.read_bytes(), session="first")
    assert "<h3>" in call(served, number, [None, room.ALL, 2], "first")["output"]["data"][1]
    assert "<h3>" not in call(served, number, [None, room.ALL, 2], "second")["output"]["data"][1]


@pytest.mark.parametrize("length", ["told", "untold"])
def test_too_many_bytes_are_refused(served, length):
    content = b"x" * (MOST_BYTES + 100_000)
    if length == "told":
        answer = upload(served, content)
        assert "larger than 20 MB" in answer.text
    else:
        boundary = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        parts = iter([boundary, content, b"\r\n--b--\r\n"])
        answer = requests.post(f"{served.url}/gradio_api/upload", data=parts, headers=kind, timeout=60)
    assert answer.status_code == 413
    Uploads(served.folder).sweep(older=-1)
    assert served.uploads() == []


@pytest.mark.parametrize("place", ["a file of this machine", "http://127.0.0.1:1/a.png"])
@pytest.mark.parametrize("control", [0, 3])
def test_the_page_takes_nothing_but_uploads(served, photo, place, control):
    file = {"path": place if "http" in place else str(photo), "orig_name": "a", "meta": {"_type": "gradio.FileData"}}
    data = [None, None, room.ALL, 2]
    data[control] = file
    with pytest.raises(requests.HTTPError, match="403"):
        call(served, functions(served)["picture", "upload"], data)
    assert photo.is_file()
    assert requests.get(f"{served.url}/gradio_api/file={photo}", timeout=60).status_code == 404
    assert served.uploads() == []


def test_pages_of_other_servers_are_refused(served):
    assert upload(served, b"x", Origin="http://evil.example").status_code == 403
    assert requests.get(served.url, headers={"Host": "evil.example"}, timeout=60).status_code == 403
    assert served.uploads() == []


def test_the_page_names_no_other_server_to_load_from(served):
    answer = requests.get(served.url, timeout=60)
    assert not re.search(r"https?://(?!www.w3.org)|@import", requests.get(f"{served.url}/theme.css", timeout=60).text)
    assert requests.get(f"{served.url}/config", timeout=60).json()["stylesheets"] == []
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="(https?:)?//', answer.text)
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_building_the_page_calls_nobody(runs, tmp_path, monkeypatch):
    called = []
    connect = socket.socket.connect

    def noted(self, address):
        called.append(address)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: called.append(host) or [])
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    room.build(runs, Uploads(tmp_path))
    assert called == []


def test_the_functions_of_the_controls(runs, tmp_path, photo):
    page = room.Page(runs, Uploads(tmp_path))
    visit, _ = runs.look(room.Visit(), photo, "photo")
    assert page.asked(visit, "soft", 99)[1].count("<h2>") == 1
    assert page.asked(visit, room.ALL, -5)[1].count("<li>") == 6
    assert page.chosen(visit, "tool")["label"] == "Class names of tool"
    renamed, _, told, answers = page.renamed(visit, room.ALL, 5, "tool", "spade\nrake")
    assert "tool: 2 class names are in use." in told
    assert "TaskRes" in told
    assert "with your class names" in answers
    _, _, told, _ = page.renamed(visit, "res", 5, "tool", "spade\nrake")
    assert 'role="alert"' in told
    assert "TaskRes" in told
    back, names, _, answers = page.restored(renamed, "soft", 5, "tool")
    assert (back.names, "with your" in answers) == ({}, False)
    assert names["value"] == "\n".join(runs.class_names(visit, "tool"))


def test_memory_that_runs_out_is_said(runs, tmp_path, monkeypatch):
    def raising(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    page = room.Page(runs, Uploads(tmp_path))
    monkeypatch.setattr(type(runs), "answers", raising)
    assert "the memory ran out" in page.asked(room.Visit(), room.ALL, 5)[0]
    monkeypatch.setattr(type(runs), "answers", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        page.asked(room.Visit(), room.ALL, 5)


def test_the_address_is_this_machine(served):
    assert urlsplit(served.url).hostname == "127.0.0.1"
