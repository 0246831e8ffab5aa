"""What is refused before Gradio sees it, and what the page may load: nothing from another server."""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dassl.app.uploads import MOST_BYTES, too_large

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Gradio's scripts are inline, and some are compiled from text while the page runs.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# What the page needs. Gradio offers much more: files, a proxy, recordings, links to what a visitor sees.
_PATHS = {
    *("/", "/config", "/theme.css", "/manifest.json", "/favicon.ico", "/robots.txt"),
    *("/gradio_api/startup-events", "/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/reset"),
    *("/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/cancel"),
}
_FOLDERS = ("/static/", "/assets/", "/svelte/", "/gradio_api/heartbeat/")
_ENVELOPE = 10_000  # bytes of a request around an upload
_ASKING = "/gradio_api/queue/join"
_MOST_ASKED = 2_000_000  # bytes


class Guard:
    """An ASGI application around another one.

    Args:
        folder: of uploads. Gradio would copy any file of this machine, or fetch any address, that a request names in
            place of an upload, so such a request is refused.
        local: only a browser on this machine is answered, by the names of this machine: a page of another server that
            was given this address (DNS rebinding) is refused.
    """

    def __init__(self, app: App, folder: Path, *, local: bool) -> None:
        self._app, self._folder, self._local = app, folder.resolve(), local

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Refuse or pass on one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] != "http":
            return
        send = _with_headers(send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = refused(scope["path"], headers, local=self._local)
        if refusal is None and scope["path"].rstrip("/") == _ASKING:
            body = await _body(receive)
            refusal = (
                None if names_only_uploads(body, self._folder) else (403, "it names something else than an upload")
            )
            receive = _replayed(body, receive)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await _refuse(send, *refusal)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending


async def _refuse(send: Send, code: int, text: str) -> None:
    kind = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": code, "headers": kind})
    await send({"type": "http.response.body", "body": text.encode()})


async def _body(receive: Receive) -> bytes:
    """The body of a request; of one that is too large only the beginning."""
    body, more = b"", True
    while more and len(body) <= _MOST_ASKED:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for the application; then what else comes."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return left.pop() if left else await receive()

    return receiving


def names_only_uploads(body: bytes, folder: Path) -> bool:
    """Whether the paths of files in a request are all below ``folder``."""
    try:
        content = json.loads(body) if len(body) <= _MOST_ASKED else None
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and all(_is_upload(each, folder) for each in _paths(content))


def _paths(content: Any) -> Iterator[Any]:
    """The values of "path", however deep."""
    if isinstance(content, dict):
        yield from (content[key] for key in ("path",) if key in content)
    if isinstance(content, dict | list):
        for each in content.values() if isinstance(content, dict) else content:
            yield from _paths(each)


def _is_upload(path: Any, folder: Path) -> bool:
    try:
        return Path(path).resolve().is_relative_to(folder)
    except (TypeError, ValueError, OSError):
        return False


def refused(path: str, headers: Mapping[str, str], *, local: bool) -> tuple[int, str] | None:
    """Status code and reason, if a request for ``path`` with these headers is not passed on."""
    host = headers.get("host", "")
    if local and _name(f"//{host}") not in LOOPBACK:
        return 403, f"this page is for this machine only, and not known as {host!r}"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return 403, "a page of another server may not use this one"
    if path not in _PATHS and not path.startswith(_FOLDERS):
        return 404, "there is nothing here"
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MOST_BYTES + _ENVELOPE:
        return 413, too_large()
    return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
