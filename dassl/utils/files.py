"""Write and read files so that a killed run never leaves half a file behind."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dassl.utils.digests import DIGEST_KEY, ChangedError, is_whole_text, sign_text
from dassl.utils.errors import PassingError, UserError
from dassl.utils.owners import is_dead, mark

_TEMPORARY = re.compile(r"\..+\.([0-9a-f]+-\d+-\d+)\.tmp", re.DOTALL)
_tidied: set[str] = set()  # folders


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` when the block ends without an error.

    Temporary files of killed processes are removed when the next process writes into the folder.

    Raises:
        UserError: the folder cannot be written or no space is left.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        handle, name = tempfile.mkstemp(**_naming(path))
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def temporary_folder(path: Path) -> Path:
    """Make an empty temporary folder beside ``path``, to be renamed; it is stale once this process is gone.

    Raises:
        OSError: the parent of ``path`` cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent)
    return Path(tempfile.mkdtemp(**_naming(path)))


def _naming(path: Path) -> dict[str, Any]:
    return {"prefix": f".{path.name[:40]}.", "suffix": f".{mark()}.tmp", "dir": path.parent}


def remove_stale(folder: Path) -> None:
    """Remove leftovers of killed processes in a folder, once in the life of this process.

    A leftover's name marks it as made by a process of this system that no longer runs; see :func:`is_dead`.
    """
    place = os.path.realpath(folder)
    if place in _tidied:
        return
    _tidied.add(place)
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if found and is_dead(found[1]):
                _remove(Path(entry.path))


def remove_unfinished(folder: Path, names: str) -> None:
    """Remove the temporary files of some names, whoever left them; only for the one writer of ``folder``.

    Args:
        names: a pattern of the finished files' names, such as "*.npy".
    """
    for path in folder.glob(f".{names}.*"):
        path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def write_error(path: Path | str, error: OSError) -> UserError:
    """Say in one line why ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PassingError(f"no space left while writing {path}; free some space and start the same command again")
    if error.errno == errno.EFBIG:
        return PassingError(f"{path} exceeds the largest file size allowed here; raise that limit (ulimit -f)")
    return UserError(f"cannot write {path}: {error.strerror or error}; choose a writable folder")


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any, *, indent: int | None = 2, signed: bool = False) -> None:
    """Write ``value`` as JSON, atomically. NaN and infinity are refused: they are not JSON.

    Args:
        signed: end the file, an object, with the digest of its text, which :func:`read_json` checks.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, sign_text(text) if signed else text)


def read_json(path: Path | str) -> Any:
    """Read a JSON file; its digest, if any, is checked and left out.

    Raises:
        ChangedError: the digest does not match.
        UserError: the file is missing or is not JSON; the message names the line.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if not is_whole_text(content):
            raise ChangedError(path)
        value = json.loads(content.decode("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON (line {error.lineno}: {error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error})") from error
    if isinstance(value, dict):
        value.pop(DIGEST_KEY, None)
    return value


def file_state(path: Path | str) -> tuple[int, ...]:
    """State of a file: times of its content and status, size and inode; () if it does not exist."""
    try:
        stat = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):  # ValueError: not a path, such as one with a zero byte
        return ()
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
