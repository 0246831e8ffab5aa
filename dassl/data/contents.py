"""Digests of files; a file is read once, and again only when its size, times or inode change.

``content_digest(path, cache)`` and ``content_digests(paths, cache)`` answer whether two files hold the same bytes, or
whether a file has changed. :func:`dassl.data.checking.look_at` compares the pixels of pictures.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np

from dassl.data.threads import in_threads
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path, file_state
from dassl.utils.locks import locked

logger = logging.getLogger(__name__)

DIGEST_BYTES = 32
_FOLDER = "contents"
_KEY_BYTES = 16
_ROW = np.dtype([("key", "<u8", (2,)), ("value", f"V{DIGEST_BYTES}")])
_READ = 1 << 20
_SAVE_SECONDS = 60  # between two saves, so that a killed process loses little
# A file that has just changed may change again within the same tick of the file system's clock.
_UNSETTLED_NS = 3 * 10**9


def content_digest(path: str | Path, cache: Path | None = None) -> bytes:
    """The 32-byte digest of a file's bytes, b"" if it cannot be read; see :func:`content_digests`."""
    return content_digests([str(path)], cache)[0]


def content_digests(paths: Sequence[str], cache: Path | None = None) -> list[bytes]:
    """The 32-byte digest (BLAKE2b) of each file's bytes; b"" where a file is missing or cannot be read.

    Args:
        cache: the cache folder; a file known there by path, size, times and inode is not read. None: every file is
            read.
    """
    with open_index(cache, "files") as files:
        found = dict(zip(paths, files.find([file_key(path) for path in paths]), strict=True))
        unknown = [path for path, digest in found.items() if digest is None]
        for path, (key, digest) in zip(unknown, in_threads(read_content, unknown, "reading images"), strict=True):
            files.put(key, digest)
            found[path] = digest
    return [found[path] or b"" for path in paths]


def read_content(path: str) -> tuple[bytes, bytes]:
    """The key of a file, b"" while it may be changing, and the digest of its bytes, b"" if it cannot be read."""
    digest, state, key = blake2b(digest_size=DIGEST_BYTES), file_state(path), file_key(path)
    if not os.path.isfile(path):  # noqa: PTH113  (a pipe or a device may have no end)
        return b"", b""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (a Path for each of a million images costs seconds)
            while chunk := file.read(_READ):
                digest.update(chunk)
    except (OSError, ValueError):
        return b"", b""
    return key if state == file_state(path) else b"", digest.digest()


def file_key(path: str) -> bytes:
    """The key of a file in its present state: path, size, times and inode of the real file; b"" if it may be changing.

    It includes the time of the last status change (ctime), because no program can set that back.
    """
    state, now = file_state(path), time.time_ns()
    if not state or any(abs(now - moment) < _UNSETTLED_NS for moment in state[:2]):
        return b""
    name = os.path.abspath(path).encode("utf-8", "surrogateescape")  # noqa: PTH100
    return short_digest(name, repr(state).encode())


def list_key(paths: Sequence[str]) -> str:
    """A text key of some files in their present state; "" if one of them may be changing."""
    keys = [file_key(path) for path in paths]
    return short_digest(*keys).hex() if all(keys) else ""


def short_digest(*parts: bytes) -> bytes:
    """A 16-byte key of an index, made of some parts in order."""
    digest = blake2b(digest_size=_KEY_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


class DigestIndex:
    """A table in one file: keys of 16 bytes with values of 32 bytes.

    It only saves work: a missing or damaged file counts as empty, and one that cannot be written stays as it is.
    Several processes may add to one file at the same time.

    Args:
        path: the file; None: the table lives as long as the object.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._take(_read_table(path))
        self._new: dict[bytes, bytes] = {}
        self._saved = time.monotonic()

    def find(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, or None; the key b"" has none."""
        names, new = self._table["key"], self._new
        if not len(names):
            return [new.get(key) for key in keys]
        wanted = np.frombuffer(b"".join(key or bytes(_KEY_BYTES) for key in keys), "<u8").reshape(-1, 2)
        rows = np.searchsorted(self._firsts, wanted[:, 0]).clip(max=len(names) - 1)
        match, values = (names[rows] == wanted).all(axis=1), self._table["value"][rows]
        return [values[i].tobytes() if match[i] else new.get(key) for i, key in enumerate(keys)]

    def put(self, key: bytes, value: bytes) -> None:
        """Add a row, unless its key or value is b""; it is saved from time to time."""
        if key and value:
            self._new[key] = value.ljust(DIGEST_BYTES, b"\0")
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Save the new rows together with those that other processes wrote meanwhile."""
        if self.path is None or not self._new:
            return
        try:
            with locked(self.path.with_name(f".{self.path.name}.lock")):
                self._take(_merged(_read_table(self.path), self._new))
                _write_table(self.path, self._table)
        except (OSError, UserError) as error:
            logger.info("%s is not saved (%s); the next run makes it again", self.path, error)
        self._new, self._saved = {}, time.monotonic()

    def _take(self, table: np.ndarray) -> None:
        self._table, self._firsts = table, np.ascontiguousarray(table["key"][:, 0])


@contextmanager
def open_index(cache: Path | None, name: str) -> Iterator[DigestIndex]:
    """An index of a cache folder, saved at the end, also after an interrupt."""
    index = DigestIndex(cache / _FOLDER / name if cache else None)
    try:
        yield index
    finally:
        index.save()


def _merged(table: np.ndarray, new: dict[bytes, bytes]) -> np.ndarray:
    added = np.frombuffer(b"".join(key + value for key, value in new.items()), _ROW)
    joined = np.concatenate([added, table])
    return joined[np.unique(joined["key"], axis=0, return_index=True)[1]]  # in the order of the keys


def _read_table(path: Path | None) -> np.ndarray:
    """The rows of an index file; none if there is no file or it is damaged."""
    empty = np.empty(0, _ROW)
    if path is None:
        return empty
    try:
        content = path.read_bytes()
    except OSError:
        return empty
    check, rows = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    whole = len(rows) % _ROW.itemsize == 0 and check == _check(rows)
    return np.frombuffer(rows, _ROW) if whole else empty


def _write_table(path: Path, table: np.ndarray) -> None:
    rows = table.tobytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(_check(rows) + rows)


def _check(rows: bytes) -> bytes:
    return blake2b(rows, digest_size=DIGEST_BYTES).digest()
