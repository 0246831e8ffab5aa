"""What is refused before Gradio sees it."""

import asyncio
import json
from pathlib import Path

import pytest

from dassl.app.guard import POLICY, Guard, names_only_uploads, refused
from dassl.app.uploads import MOST_BYTES

HERE = "127.0.0.1:7860"


@pytest.mark.parametrize("host", [HERE, "localhost:7860", "[::1]:7860", "LOCALHOST"])
def test_this_machine_is_answered(host):
    assert refused("/", {"host": host}, local=True) is None
    assert refused("/", {"host": host, "origin": f"http://{host}"}, local=True) is None


@pytest.mark.parametrize("host", ["evil.example:7860", "", "127.0.0.1.evil.example", "[", "192.168.0.2:7860"])
def test_other_names_only_where_others_may_come(host):
    assert refused("/", {"host": host}, local=True)[0] == 403
    assert refused("/", {"host": host}, local=False) is None


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:8000"])
@pytest.mark.parametrize("local", [True, False])
def test_pages_of_other_servers_are_refused(origin, local):
    assert refused("/gradio_api/upload", {"host": HERE, "origin": origin}, local=local)[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        *("/gradio_api/file=/etc/passwd", "/gradio_api/file/etc/passwd", "/gradio_api/proxy=http://evil.example"),
        *("/gradio_api/deep_link", "/gradio_api/run-history/connect", "/gradio_api/process_recording", "/monitoring"),
        *("/gradio_api/vibe-edit/", "/gradio_api/run/predict", "/docs", "/openapi.json", "/login"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(path):
    assert refused(path, {"host": HERE}, local=True)[0] == 404


@pytest.mark.parametrize("length", [str(MOST_BYTES + 20_000), "much", "-1"])
def test_large_requests_are_refused_before_anything_is_read(length):
    code, text = refused("/gradio_api/upload", {"host": HERE, "content-length": length}, local=True)
    assert (code, "20 MB" in text) == (413, True)


def answered(headers, path="/", body=b""):
    """What a guarded application sends that says its request's body; its uploads would be in /uploads."""
    sent, asked = [], [{"type": "http.request", "body": body[:5], "more_body": True}]
    asked.append({"type": "http.request", "body": body[5:], "more_body": False})

    async def inside(scope, receive, send):
        body, more = b"inside ", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": body})

    async def receive():
        return asked.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    asyncio.run(Guard(inside, Path("/uploads"), local=True)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_every_answer_says_that_nothing_comes_from_elsewhere():
    code, headers, body = answered({"host": HERE}, body=b"a body")
    assert (code, body, headers[b"a"]) == (200, b"inside a body", b"b")
    assert headers[b"content-security-policy"].decode() == POLICY
    code, headers, body = answered({"host": "evil.example"})
    assert (code, b"inside" in body) == (403, False)
    assert headers[b"content-security-policy"].decode() == POLICY
    assert not any(part.startswith(("http", "*", "//")) for part in POLICY.replace(";", " ").split())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ([{"path": "/uploads/digest/a.png", "meta": {"_type": "gradio.FileData"}}, None, 3], 200),
        ([{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}], 403),
        ([{"path": "/uploads/../etc/passwd"}], 403),
        ([{"path": "http://evil.example/a.png"}], 403),
        ([["deep", {"er": {"path": "/uploads2/a.png"}}]], 403),
        ([{"path": 7}], 403),
        ([{"path": "a\0b"}], 403),
        (["x" * 2_000_000], 403),
    ],
)
def test_requests_name_uploads_and_no_other_file_or_address(data, code):
    body = json.dumps({"data": data}).encode()
    assert answered({"host": HERE}, "/gradio_api/queue/join", body)[0] == code


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_request_is_refused(body):
    assert not names_only_uploads(body, Path("/uploads"))
