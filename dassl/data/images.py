"""Reading image files, and finding the broken ones before a run starts."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from dassl.utils.errors import UserError
from dassl.utils.files import read_json, write_json

_CHUNK = 2048
_MAX_THREADS = 16

T = TypeVar("T")


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file to RGB, 8 bits a channel.

    Transparency is dropped and the EXIF orientation ignored; of 16-bit grey values the upper 8 bits count.

    Raises:
        UserError: the file is missing, truncated or no image; the message names it.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise UserError(f"cannot read image {path}: {_reason(error)}; replace or remove it") from error


def check_images(paths: Sequence[str], cache: Path | None = None) -> list[tuple[str, str]]:
    """Decode every image once, in threads, and list the unreadable ones.

    Args:
        cache: folder that remembers outcomes. Of a list whose names, sizes and times are unchanged only the
            images that were unreadable are decoded again.

    Returns:
        (path, reason) of each unreadable image, in the order of ``paths``.
    """
    record = cache / "checked" / f"{fingerprint(paths)}.json" if cache else None
    known = _recorded(record)
    bad = _decode_all(known if known is not None else list(dict.fromkeys(paths)))
    if record and known != [path for path, _ in bad]:
        write_json(record, {"images": len(paths), "unreadable": [path for path, _ in bad]})
    return bad


def fingerprint(paths: Iterable[str], root: Path | str = "") -> str:
    """SHA-256 of the images' identities, sizes in bytes and modification times, in order.

    Args:
        root: folder that the identities are relative to; none: the paths as they are.
    """
    digest = sha256()
    for path in paths:
        digest.update(stamp(path, root).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def stamp(path: str, root: Path | str) -> str:
    """A line that names an image and changes with its content: identity, size in bytes, modification time."""
    try:
        stat = os.stat(path)  # noqa: PTH116  (a Path for each of a million images costs seconds)
    except (OSError, ValueError):  # ValueError: no path at all, such as one with a zero byte
        return f"{identity(path, root)}\0missing\n"
    return f"{identity(path, root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"


def identity(path: str, root: Path | str) -> str:
    """What names an image whatever folder the data lies in: its path relative to ``root`` (if it is below it)."""
    return path.removeprefix(os.path.join(root, "")).replace(os.sep, "/")  # noqa: PTH118


def in_threads(action: Callable[[str], T], paths: Sequence[str], title: str) -> Iterator[T]:
    """Do ``action`` with every path in threads, with a progress bar; results come in the order of ``paths``."""
    progress = tqdm(total=len(paths), desc=title, unit="image", leave=False, disable=None)
    with ThreadPoolExecutor(min(_MAX_THREADS, cpu_count())) as pool, progress:
        # In chunks, because map() queues its whole input at once.
        for start in range(0, len(paths), _CHUNK):
            for result in pool.map(action, paths[start : start + _CHUNK]):
                progress.update()
                yield result


def cpu_count() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        # Pillow would clip 16-bit values at 255, which turns the picture white.
        values = np.floor(values / 256) if image.mode != "F" and values.max(initial=0) > 255 else values
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # without this step Pillow warns for each such image
    return image.convert("RGB")


def _decode_all(paths: Sequence[str]) -> list[tuple[str, str]]:
    reasons = in_threads(_why_unreadable, paths, "checking images")
    return [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]


def _why_unreadable(path: str) -> str:
    try:
        read_image(path)
    except UserError as error:
        return _reason(error.__cause__)
    return ""


def _reason(error: BaseException | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "not an image" if first.startswith("cannot identify image file") else first


def _recorded(record: Path | None) -> list[str] | None:
    """The unreadable images of an earlier check of the same list, or None when there was none."""
    try:
        unreadable = read_json(record)["unreadable"] if record else None
    except (UserError, TypeError, KeyError):
        return None
    return unreadable if isinstance(unreadable, list) and all(isinstance(path, str) for path in unreadable) else None
