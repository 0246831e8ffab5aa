"""Serve the page, by default only on this machine, without contacting any other server."""

import logging
import os
import socket
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from dassl.app.guard import LOOPBACK, Guard
from dassl.app.markup import CSS
from dassl.app.runs import Runs
from dassl.app.uploads import MOST_BYTES, Uploads, uploads
from dassl.utils.errors import UserError

_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_NUM_PORTS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_log = logging.getLogger(__name__)


def check_installed() -> None:
    """Raise a UserError that says what to install, where Gradio is missing."""
    if find_spec("gradio") is None:
        raise UserError(
            "the page needs gradio; install it with python -m pip install --require-hashes -r requirements-app.txt"
        )


def serve(runs: Runs, *, host: str, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        port: 0 takes any that is free.
        browser: open the page in the browser of this machine.

    Raises:
        UserError: Gradio is missing, or the address cannot be used.
    """
    check_installed()
    local = host in LOOPBACK
    with listening(host, port) as listener, uploads() as folder:
        address = url(host, listener.getsockname()[1])
        app = application(runs, folder, local=local)
        if not local:
            _log.warning(
                "--host %s: anyone who can reach this machine can use the page, without a password; leave --host out "
                "to keep it to this machine",
                host,
            )
        print(f"The page is at {address} (Ctrl-C ends it)", flush=True)
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        _run(app, listener)


def application(runs: Runs, folder: Uploads, *, local: bool) -> Guard:
    """The page as an ASGI application; uploads pass through ``folder``."""
    os.environ.update(_QUIET, GRADIO_TEMP_DIR=str(folder.folder))  # before the first import of gradio
    import gradio
    from fastapi import FastAPI

    from dassl.app.page import build, theme

    bare = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    options = {"footer_links": [], "run_history": False, "ssr_mode": False, "pwa": False, "mcp_server": False}
    page = gradio.mount_gradio_app(
        bare,
        build(runs, folder),
        path="/",
        max_file_size=MOST_BYTES,
        show_error=False,
        enable_monitoring=False,
        theme=theme(),
        css=CSS,
        **options,
    )
    return Guard(page, folder.folder, local=local)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Raises:
        UserError: the port is in use, or there is no such address here.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{host} port {port} cannot be used: {reason}; choose another --port or --host") from error
    with listener:
        yield listener


def url(host: str, port: int) -> str:
    """Where a browser on this machine finds the page."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def _run(app: Guard, listener: socket.socket) -> None:
    import uvicorn

    # Open pages hold a connection, so the end does not wait for them.
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", ws="none", timeout_graceful_shutdown=1
    )
    server, log = uvicorn.Server(config), logging.getLogger("uvicorn.error")

    def at_work(record: logging.LogRecord) -> bool:
        """Connections that are cut when the server ends are no errors."""
        return not server.should_exit

    log.addFilter(at_work)
    try:
        server.run(sockets=[listener])
    finally:
        log.removeFilter(at_work)
