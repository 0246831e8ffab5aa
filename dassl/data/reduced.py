"""Stored reduced images: large image files are decoded once, and later read from the cache folder.

With INPUT.RESOLUTION reduced, :func:`dassl.data.images.decode` reduces much larger images to ``Reading.shortest``. The
result depends on nothing but the file and the reading, so whether it is stored changes no figure: what cannot be
stored, is missing or is damaged, is decoded again.

A file holds a header (sizes and CRC-32) and the bytes of the pixels, without loss. It appears whole, and never changes.
"""

import logging
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from PIL import Image
from PIL import __version__ as pillow

from dassl.data.contents import file_key, short_digest
from dassl.data.images import Reading, decode, full_size, reduced_image
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path

FOLDER = "reduced"
_ENDING = ".rgb"
_MAGIC = b"reduced1"
_HEADER = struct.Struct("<8s4II")  # magic, width and height, width and height before reduction, CRC-32 of the pixels
_FREE = 2 << 30  # bytes that stay free on the disk
_DAY = 24 * 3600
_UNUSED = 14 * _DAY
_COUNTED = 64  # files written between two looks at what other processes have written
_log = logging.getLogger(__name__)


class ReducedImages:
    """Reads images; the reduced ones are stored.

    Args:
        cache: the cache folder.
        gib: GiB that all stored images may take.
    """

    def __init__(self, cache: Path, gib: float) -> None:
        self.folder, self.most = cache / FOLDER, gib * 2**30
        self._used, self._until_count = 0, 0
        self._full = not gib

    def read(self, path: str, reading: Reading) -> Image.Image:
        """As :func:`dassl.data.images.read_image`, from the stored image if there is one."""
        key = file_key(path) if reading.shortest else b""
        found = self._stored(self._file(key, reading)) if key else None
        if found is not None:
            return found
        image = decode(path, reading).image
        if key and key == file_key(path):  # else the file changed meanwhile
            self.put(key, reading, image)
        return image

    def put(self, key: bytes, reading: Reading, image: Image.Image) -> None:
        """Store a decoded image if it was reduced.

        Args:
            key: of its file (:func:`dassl.data.contents.file_key`); b"": the file may be changing.
        """
        full = full_size(image)
        file = self._file(key, reading)
        if not key or self._full or full == image.size or file.is_file():
            return
        pixels = image.tobytes()
        content = _HEADER.pack(_MAGIC, *image.size, *full, zlib.crc32(pixels)) + pixels
        try:
            if not self._has_room(len(content)):
                return
            with atomic_path(file) as temporary:
                temporary.write_bytes(content)
            self._used += len(content)
        except (OSError, UserError) as error:
            self._stop(str(error))

    def _file(self, key: bytes, reading: Reading) -> Path:
        facts = f"{reading.name} {reading.max_pixels} {pillow}"
        return self.folder / f"{short_digest(key, facts.encode()).hex()}{_ENDING}"

    def _stored(self, file: Path) -> Image.Image | None:
        """The image in a file; None if there is none, or it is damaged."""
        try:
            content = file.read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > _DAY:
                os.utime(file)  # it is in use
        with suppress(struct.error):
            magic, width, height, full_width, full_height, check = _HEADER.unpack_from(content)
            pixels = memoryview(content)[_HEADER.size :]
            if magic == _MAGIC and len(pixels) == 3 * width * height and check == zlib.crc32(pixels):
                return reduced_image(Image.frombytes("RGB", (width, height), pixels), (full_width, full_height))
        with suppress(OSError):
            file.unlink()
        return None

    def _has_room(self, size: int) -> bool:
        """Whether an image of ``size`` bytes may be stored; from time to time, unused ones are deleted first."""
        if not self._until_count:
            self._used, self._until_count = sum(self._sizes()), _COUNTED
        self._until_count -= 1
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._used + size > self.most:
            self._stop(f"they take {self.most / 2**30:.3g} GiB, as DATASET.REDUCED_GIB allows")
        elif shutil.disk_usage(self.folder).free < _FREE + size:
            self._stop(f"the disk has less than {_FREE >> 30} GiB free")
        return not self._full

    def _sizes(self) -> Iterator[int]:
        """The size of each stored image; those that no run has read for two weeks are deleted."""
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    state = entry.stat()
                    if entry.name.endswith(_ENDING) and time.time() - state.st_mtime > _UNUSED:
                        Path(entry.path).unlink()
                    else:
                        yield state.st_size

    def _stop(self, reason: str) -> None:
        if not self._full:
            _log.info(
                "no more reduced images are stored in %s (%s): others are decoded whenever they are read, to the same "
                "pixels",
                *(self.folder, reason),
            )
        self._full = True
