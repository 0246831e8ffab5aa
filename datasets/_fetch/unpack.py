"""Unpack untrusted archives: nothing is written outside the folder or overwritten, and links are refused."""

import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import IO

from tqdm import tqdm

from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path

_CHUNK = 1 << 20
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError, RuntimeError)

MOST_GROWTH, SPARE_BYTES = 100, 2**30  # pictures hardly compress


class _Room:
    """How many more bytes an archive may unpack to: an archive bomb holds a million times its size."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.left = archive, MOST_GROWTH * archive.stat().st_size + SPARE_BYTES

    def take(self, size: int) -> None:
        """Count some bytes.

        Raises:
            UserError: more than any archive of pictures has.
        """
        self.left -= size
        if self.left < 0:
            raise UserError(
                f"{self.archive} unpacks to more than {MOST_GROWTH} times its size, like an archive made to fill "
                "a disk; get it elsewhere, or unpack it yourself"
            )


@dataclass(frozen=True)
class _Entry:
    """A file in an archive; ``handle`` identifies it to the archive's reader."""

    name: str
    handle: zipfile.ZipInfo | tarfile.TarInfo
    refused: str = ""


def is_archive(path: Path) -> bool:
    """Whether the file is a zip or tar archive (compressed or not), by its content."""
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def unpack(archive: Path, folder: Path, *, take: str = "") -> int:
    """Unpack a zip or tar archive into ``folder``; a second call resumes an interrupted one.

    An existing file with the same content is left as it is. Empty folders are not made.

    Args:
        take: folder of the archive whose content is wanted, such as "top/data"; empty: everything.

    Returns:
        Number of files of the archive that are in ``folder`` now.

    Raises:
        UserError: the archive is damaged; an entry leaves the folder, or is a link or a device; a file of the same
            name has other content; or nothing lies under ``take``.
    """
    count, room = 0, _Room(archive)
    with _opened(archive) as (opened, entries, total):
        bar = tqdm(total=total, desc=f"unpacking {archive.name}", unit="file", leave=False, disable=None)
        with bar:
            for entry in entries:
                bar.update()
                place = _place(archive, entry, take)
                if place:
                    _write(room, opened, entry, folder / place)
                    count += 1
    if not count:
        raise UserError(f"{archive} holds no files{f' below {take}' if take else ''}; it may be another archive")
    return count


@contextmanager
def _opened(
    path: Path,
) -> Iterator[tuple[zipfile.ZipFile | tarfile.TarFile, Iterator[_Entry] | list[_Entry], int | None]]:
    """The open archive, its entries and, if known beforehand, their number."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = list(_zip_entries(archive))
                for entry in entries:
                    _place(path, entry, "")  # a zip lists its entries first, so a bad one is refused as a whole
                yield archive, entries, len(entries)
        else:
            with tarfile.open(path) as archive:
                yield archive, _tar_entries(archive), None
    except _DAMAGE as error:
        raise UserError(f"{path} is no whole zip or tar archive ({error}); delete it and fetch it again") from error


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not info.is_dir():
            yield _Entry(info.filename, info, "" if kind in (0, stat.S_IFREG) else "is a link or a device")


def _tar_entries(archive: tarfile.TarFile) -> Iterator[_Entry]:
    for info in archive:
        if not info.isdir():
            yield _Entry(info.name, info, "" if info.isreg() else "is a link or a device")


def _place(archive: Path, entry: _Entry, take: str) -> Path | None:
    """Path of an entry relative to the folder; None if it is not wanted.

    Raises:
        UserError: it must not be written.
    """
    # Windows programs write "\\"; treating it as a separator also catches "..\\".
    name = entry.name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    leaves = name.startswith("/") or ".." in parts or "\0" in name or re.match(r"[A-Za-z]:", name)
    reason = "leaves the folder it is unpacked into" if leaves else entry.refused
    if reason:
        raise UserError(f"{archive}: its entry {entry.name!r} {reason}; the archive is not safe, get it elsewhere")
    wanted = [part for part in take.split("/") if part]
    rubbish = "__MACOSX" in parts or any(part.startswith("._") or part == ".DS_Store" for part in parts)
    if not parts or rubbish or parts[: len(wanted)] != wanted:
        return None
    return Path(*parts[len(wanted) :])


def _write(room: _Room, opened: zipfile.ZipFile | tarfile.TarFile, entry: _Entry, target: Path) -> None:
    if os.path.lexists(target):
        with _content(opened, entry) as source:
            same = target.is_file() and _same(source, target)
        if not same:
            raise UserError(f"{target} is there already and is not the one in {room.archive}; move one of the two away")
        return
    with atomic_path(target) as temporary, _content(opened, entry) as source, temporary.open("wb") as file:
        while chunk := _read(source):
            room.take(len(chunk))
            file.write(chunk)


def _content(opened: zipfile.ZipFile | tarfile.TarFile, entry: _Entry) -> IO[bytes]:
    if isinstance(opened, zipfile.ZipFile):
        return opened.open(entry.handle)  # type: ignore[arg-type]
    content = opened.extractfile(entry.handle)  # type: ignore[arg-type]
    assert content is not None, entry
    return content


def _same(source: IO[bytes], target: Path) -> bool:
    with target.open("rb") as file:
        while True:
            chunk = _read(source)
            if file.read(len(chunk) or 1) != chunk:
                return False
            if not chunk:
                return True


def _read(source: IO[bytes]) -> bytes:
    try:
        return source.read(_CHUNK)
    except OSError as error:  # an error of gzip or bz2 about damaged bytes must not look like a full disk
        raise tarfile.ReadError(str(error)) from error
