"""Join a Ray cluster: with this machine's token, and with a timeout on every wait."""

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from dassl.sweep.worker import one_line
from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT

_log = logging.getLogger(__name__)
_MODE = "RAY_AUTH_MODE"
_SECONDS_TO_ANSWER = 60.0
_SECONDS_TO_JOIN = 180.0  # a loaded machine also takes long to start a cluster
# Patterns as in .gitignore, from the checkout's root.
_NOT_SENT = ["/.git", "/.venv", "/output", "/data", "/tests", "/benchmarks", "/docs", "__pycache__"]

T = TypeVar("T")


def join(address: str, *, open_cluster: bool = False) -> Any:
    """Join the cluster at ``address`` (HOST:PORT); "auto": the one on this machine, or else start one with a token.

    Returns the module ``ray``.

    Args:
        open_cluster: accept a cluster that requires no token.

    Raises:
        UserError: Ray is not installed, there is no cluster, the cluster requires no token, or it refuses the token.
    """
    _check(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "sweep"}
    options["runtime_env"] = {"working_dir": str(CHECKOUT), "excludes": _NOT_SENT}
    asks, place = _find(address)
    if place:
        options["address"] = place
        # Set before Ray is imported, because Ray reads it once. For an address, Ray uses no token by default.
        os.environ[_MODE] = _with_token(place) if asks else _without_token(place, open_cluster)
    else:
        _log.info("No Ray cluster is running here; starting one for this sweep")
        options |= {"address": "local", "include_dashboard": False}
        os.environ[_MODE] = "disabled" if open_cluster else "token"  # Ray makes a token; it listens on all networks
    import ray

    where = f"at {place}" if place else "on this machine"
    try:
        within(_SECONDS_TO_JOIN, lambda: ray.init(**options), f"the Ray cluster {where}")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot join the Ray cluster {where}: {reason(error)}") from error
    return ray


def within(seconds: float, action: Callable[[], T], whose: str) -> T:
    """The result of ``action``, with a timeout, because Ray may wait forever for a machine that is gone.

    Raises:
        UserError: the time is over.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def act() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)
        ended.set()
        threading.Event().wait()  # forever: the system ends Ray's processes with the thread that started them

    # Not a pool, because the program would wait for its threads at exit.
    threading.Thread(target=act, daemon=True).start()
    ended.wait(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise UserError(f"{whose} does not answer within {seconds:g} s; check it with: ray status")
    return results[0]


def reason(error: Exception) -> str:
    """The first sentence of Ray's message, which is often a page long."""
    return one_line(error).split("; ")[0]


def _check(address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address != "auto" and not re.fullmatch(r"[^\s/]+:\d+", address):
        raise UserError(f"--ray {address}: expected auto, or an address such as 10.0.0.1:6379")
    if find_spec("ray") is None:
        raise UserError("--ray needs Ray; install it with: pip install -r requirements-ray.txt")
    if any(map(str.isspace, sys.executable)):
        # Ray starts its workers through a shell without quoting; they would fail to start again and again.
        raise UserError(
            f"Ray cannot start workers with an interpreter whose path has a space: {sys.executable}; "
            "use a checkout or an environment without one in its path"
        )


def _find(address: str) -> tuple[bool, str]:
    """(whether the cluster requires a token, its HOST:PORT); "" if "auto" finds no running cluster.

    Raises:
        UserError: nothing answers at a given address.
    """
    found, place = _probe(address, "disabled")
    if found in ("accepted", "refused"):
        return found == "refused", place
    if address == "auto" and found and not os.environ.get("RAY_ADDRESS"):
        return False, ""  # a killed head node leaves its address file
    where = "on this machine" if address == "auto" else f"at {address}"
    where += f" (for Ray that is {place})" if place not in ("", address) else ""  # it replaces 127.0.0.1
    raise UserError(f"there is no Ray cluster {where}: nothing answers there; docs/sweeps.md#a-cluster starts one")


def _without_token(place: str, open_cluster: bool) -> str:
    """The value of RAY_AUTH_MODE for a cluster that requires no token."""
    if open_cluster:
        return "disabled"
    raise UserError(
        f"the Ray cluster at {place} requires no token, so whoever reaches it can run programs as you; start it with a "
        "token (docs/sweeps.md#a-cluster), or add --open-cluster if nobody else can reach it"
    )


def _with_token(place: str) -> str:
    """The value of RAY_AUTH_MODE for a cluster that requires a token."""
    token = _token()
    remedy = "copy ~/.ray/auth_token from the head node to this machine, or set RAY_AUTH_TOKEN_PATH to such a file"
    if not token:
        raise UserError(f"the Ray cluster at {place} requires a token, and there is none here; {remedy}")
    if _probe(place, "token")[0] != "accepted":
        raise UserError(f"the Ray cluster at {place} refuses the token from {token}; {remedy}")
    return "token"


def _token() -> str:
    """The source of this machine's token, by Ray's rules; "": there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return str(path) if path.is_file() else ""


def _probe(address: str, mode: str) -> tuple[str, str]:
    """(word of ``dassl.sweep.probe``, HOST:PORT) with RAY_AUTH_MODE ``mode``; ("", "") if nothing answers."""
    command = [sys.executable, "-m", "dassl.sweep.probe", address]
    options: dict[str, Any] = {"cwd": CHECKOUT, "capture_output": True, "text": True, "timeout": _SECONDS_TO_ANSWER}
    try:
        done = subprocess.run(command, env={**os.environ, _MODE: mode}, check=False, **options)
    except subprocess.TimeoutExpired:
        return "", ""
    found, _, place = done.stdout.strip().partition(" ")
    return found, place
