"""Downloading a file over HTTP so that a cut connection costs nothing and a wrong file is never kept."""

import hashlib
import http.client
import ipaddress
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dassl.utils.errors import UserError
from dassl.utils.files import write_error, write_text

CHUNK = 1 << 20
ATTEMPTS = 5
TIMEOUT_S = 30
PAUSE_S = 1.0
MOST_ATTEMPTS = 1000  # of which each brought something
MOST_BYTES = 2**39  # of a file whose size nobody knows; the largest, of ImageNet, has 2**37
SLOWEST_S, SLOWEST_BYTES = 300.0, 2**20  # less than these bytes in this time is no download
NOTED = "blake2b"  # the digest of a file for which none is published
_AGENT = "Mozilla/5.0 (compatible; softcpt data fetch)"  # some hosts refuse Python's own name
_CUT = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


class DownloadError(UserError):
    """A download that failed; the message is the reason."""


def download(url: str, target: Path, *, digest: str = "", size: int = 0) -> None:
    """Download ``url`` to ``target``, resuming an earlier attempt.

    An unfinished download lies beside the target, under a hidden name that depends on the address. The target appears
    when it is complete and has the right size and digest.

    Args:
        digest: "md5:..." or "sha256:..." in hex; empty where it is not known.
        size: bytes; 0 where it is not known.

    Raises:
        DownloadError: the address does not answer, the connection keeps breaking, or the file is the wrong one.
        UserError: the file cannot be written.
    """
    part = split_of(target, url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _receive(url, part)
        keep(part, target, digest=digest, size=size)
    except _CUT as error:
        kept = f"; {part.stat().st_size:,} bytes are kept, and the same command resumes there" if part.is_file() else ""
        raise DownloadError(f"{url}: {_why(error)}{kept}") from error
    except OSError as error:
        raise write_error(part, error) from error


def keep(part: Path, target: Path, *, digest: str = "", size: int = 0) -> None:
    """Give a finished download its name if it is the right file, and delete it otherwise.

    Where no digest is published, that of the downloaded file is noted beside the target for :func:`refuse_damaged`.

    Raises:
        DownloadError: it has another size or digest than expected.
    """
    wrong = _mismatch(part, digest, size)
    _validator_file(part).unlink(missing_ok=True)
    if wrong:
        part.unlink()
        raise DownloadError(f"the wrong file came for {target.name}: {wrong}; it was deleted")
    if digest:
        _note(target).unlink(missing_ok=True)
    else:  # first: a kill in between must not leave a file without its digest
        write_text(_note(target), f"{NOTED}:{_hash(part, NOTED)}\n")
    part.replace(target)
    remove_parts(target)


def remove_parts(target: Path) -> None:
    """Remove unfinished downloads of ``target`` from other addresses."""
    unfinished = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part(\.tag)?")
    for path in target.parent.iterdir():
        if unfinished.fullmatch(path.name):
            path.unlink(missing_ok=True)


def refuse_damaged(target: Path, digests: Sequence[str]) -> None:
    """Refuse a file on the disk that is neither a published version nor what was downloaded.

    Args:
        digests: the published ones, as for :func:`download`; without any, nothing is checked.

    Raises:
        UserError: it is none of them.
    """
    known = [*digests, *(_note(target).read_text(encoding="utf-8").split() if _note(target).is_file() else ())]
    wrong = [_mismatch(target, digest, 0) for digest in known]
    if wrong and all(wrong):
        raise UserError(
            f"{target} was changed or damaged: {wrong[0]}; delete it and start the same command again, or, if it is "
            "another archive of the same images, unpack it yourself"
        )


def _note(target: Path) -> Path:
    """The file that notes the digest of a download without a published one."""
    return target.with_name(f".{target.name}.digest")


def split_of(target: Path, url: str) -> Path:
    """Where an unfinished download of ``target`` from ``url`` lies."""
    return target.with_name(f".{target.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")


def _receive(url: str, part: Path) -> None:
    """Retry until the file is complete; an attempt that made progress hardly counts against the limit."""
    failures = 0
    for attempt in count(1):
        before = _size(part)
        try:
            _attempt(url, part)
            break
        except _CUT as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise
            failures = 1 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS or attempt >= MOST_ATTEMPTS:
                raise
            time.sleep(PAUSE_S * failures)


def _attempt(url: str, part: Path) -> None:
    start = _size(part)
    try:
        response = _opener().open(_request(url, part, start), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # it was complete already
        part.unlink()  # longer than the file on the server: another version
        response = _opener().open(_request(url, part, 0), timeout=TIMEOUT_S)
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT and _first_byte(response.headers) == start
        start = start if resumed else 0
        if not resumed:
            _validator_file(part).write_text(_validator(response.headers), encoding="utf-8")
        _write(response, part, start)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_SafeRedirects)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to public web servers only: never to a file, a local machine or a cloud's own address."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        place, here = urllib.parse.urlsplit(newurl), urllib.parse.urlsplit(req.full_url)
        if place.scheme not in ("http", "https") or (place.netloc != here.netloc and not _is_public(place.hostname)):
            raise DownloadError(f"{req.full_url}: the server leads to {newurl!r}, which is no public web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_public(host: str | None) -> bool:
    """Whether all addresses of a host are public; True as well where its name cannot be resolved."""
    try:
        found = {str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(host or "localhost", None)}
    except (OSError, UnicodeError):
        return True  # the request itself will report it
    return all(ipaddress.ip_address(each).is_global for each in found)


def _request(url: str, part: Path, start: int) -> urllib.request.Request:
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        seen = _validator_file(part).read_text(encoding="utf-8") if _validator_file(part).is_file() else ""
        if seen:
            # If the file has changed since then, the server sends the whole new one.
            headers["If-Range"] = seen
    return urllib.request.Request(url, headers=headers)


def _write(response: http.client.HTTPResponse, part: Path, start: int) -> None:
    length = response.headers.get("Content-Length") or ""
    total = start + int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None
    title = part.name.removeprefix(".").rsplit(".", 2)[0]
    # disable=None shows the bar only where a person watches a terminal.
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=title, leave=False, disable=None)
    with part.open("ab" if start else "wb") as file, bar:
        since, came = time.monotonic(), 0
        while chunk := response.read1(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
            came += len(chunk)
            if file.tell() > MOST_BYTES:
                raise DownloadError(f"{response.url}: more than {MOST_BYTES:,} bytes came, which is no data set")
            if came >= SLOWEST_BYTES:
                since, came = time.monotonic(), 0
            elif time.monotonic() - since > SLOWEST_S:
                raise DownloadError(f"{response.url}: only {came:,} bytes came in {SLOWEST_S:,.0f} s; try again later")
        received = file.tell()
    if total is not None and received < total:
        raise ConnectionError(f"the connection ended after {received:,} of {total:,} bytes")


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _validator(headers: Mapping[str, str]) -> str:
    """The header that tells two versions of a file apart; a weak tag does not promise equal bytes."""
    tag = headers.get("ETag") or ""
    return (tag if not tag.startswith("W/") else "") or headers.get("Last-Modified") or ""


def _first_byte(headers: Mapping[str, str]) -> int:
    """Where the answer starts, from "bytes 100-199/200"; -1 when it does not say."""
    first = (headers.get("Content-Range") or "").removeprefix("bytes ").split("-")[0]
    return int(first) if first.isdigit() else -1


def _mismatch(path: Path, digest: str, size: int) -> str:
    """How a file differs from the expected size and digest; "" if it does not."""
    actual = _size(path)
    if size and actual != size:
        return f"expected {size:,} bytes, got {actual:,}"
    if not digest:
        return ""
    kind, _, expected = digest.partition(":")
    found = _hash(path, kind)
    return "" if found == expected else f"expected {kind.upper()} {expected}, got {found}"


def _hash(path: Path, kind: str) -> str:
    found = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    return str(getattr(error, "reason", "") or error or type(error).__name__)
