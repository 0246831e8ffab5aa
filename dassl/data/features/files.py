"""Files of stored features: a folder for each view, which holds immutable shards.

A shard is a .npy file of records (image, feature, check): ``image`` is the digest that names the image and its content,
``check`` the CRC-32 of the two fields before it. Shards are memory-mapped, appear only when they are complete, and are
never changed. A record that fails its check counts as missing.
"""

import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dassl.data.places import NOT_WRITABLE
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path, remove_unfinished, write_error, write_json
from dassl.utils.locks import Owner, locked

logger = logging.getLogger(__name__)

ABOUT = "about.json"
LOCK = ".lock"
MOST_SHARDS = 8
_CHECK_BYTES = 4
_WRITE_ROWS = 4096


class ReadOnlyError(Exception):
    """The folder cannot be written."""


@dataclass(frozen=True)
class Rows:
    """Features of n images, from any shard.

    Attributes:
        shards: arrays of records.
        shard, row: (n,) int64, shard and row of each image's feature; shard is -1 where there is none.
    """

    shards: Sequence[np.ndarray]
    shard: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def missing(self) -> np.ndarray:
        """Indices of the images without a feature."""
        return np.flatnonzero(self.shard < 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a feature, (F,) or what else the encoder returns for an image."""
        return self._features(int(self.shard[0])).shape[1:]

    def take(self, index: np.ndarray) -> np.ndarray:
        """Features (len(index), ...) of some of the images; none of the n may be missing."""
        shard, row = self.shard[index], self.row[index]
        used = np.unique(shard)
        if len(used) == 1:
            return self._features(int(used[0]))[row]
        taken = np.empty((len(index), *self.shape), self._features(int(self.shard[0])).dtype)
        for number in used:
            here = shard == number
            taken[here] = self._features(int(number))[row[here]]
        return taken

    def _features(self, shard: int) -> np.ndarray:
        return self.shards[shard]["feature"]


class ViewFiles:
    """The features of all images under one view.

    Args:
        dtype: of the stored values, float32 or float16.
        about: "encoder", "transform" and "view", for the listing of a store.
    """

    def __init__(self, folder: Path, dtype: np.dtype, about: dict[str, str]) -> None:
        self.folder, self.dtype, self.about = folder, dtype, about
        self._kept: list[np.ndarray] = []  # shards that could not be written
        self._named: set[int] = set()

    def find(self, images: np.ndarray) -> Rows:
        """Find the features of ``images`` (n, 2) uint64; newer shards are preferred."""
        shards = [*(shard for _, shard in self._shards()), *self._kept]
        found, row = np.full(len(images), -1), np.zeros(len(images), np.int64)
        for number in reversed(range(len(shards))):
            open_ = np.flatnonzero(found < 0)
            if not len(open_):
                break
            match, place = _look_up(shards[number], images[open_])
            good = checks(shards[number], place[match])
            self._name_damage(number, len(good) - int(good.sum()))
            match[match] = good
            found[open_[match]], row[open_[match]] = number, place[match]
        return Rows(shards, found, row)

    def _name_damage(self, number: int, count: int) -> None:
        """Warn once for each shard, counted from the oldest, that some of its features were damaged."""
        if count and number not in self._named:
            self._named.add(number)
            logger.warning(
                "%d stored features in %s were damaged after they were written; they are made again", count, self.folder
            )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the exclusive lock for writing; others wait (:mod:`dassl.utils.locks`).

        Raises:
            ReadOnlyError: the folder cannot be written.
            UserError: the lock cannot be taken for another reason.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder / LOCK, busy=self._say_busy))
            except OSError as error:
                if error.errno in NOT_WRITABLE:
                    raise ReadOnlyError from error
                raise write_error(self.folder, error) from error
            self._tidy()
            yield

    def _say_busy(self, owner: Owner) -> None:
        logger.info("%s", owner.refusal(f"Another run encodes into {self.folder}", "waiting for it"))

    def add(self, images: np.ndarray, features: np.ndarray) -> None:
        """Write a shard: ``images`` (n, 2), ``features`` (n, ...)."""
        shard = as_shard(images, features.astype(self.dtype))
        if not (self.folder / ABOUT).is_file():
            write_json(self.folder / ABOUT, self.about)
        self._write([shard], len(shard), shard.dtype)

    def keep(self, images: np.ndarray, features: np.ndarray) -> None:
        """Keep a shard in memory if it cannot be written."""
        self._kept.append(as_shard(images, features.astype(self.dtype)))

    def merge(self) -> None:
        """Merge shards when there are many. A shard with most of the rows stays, so rows are seldom copied."""
        shards = self._shards()
        if len(shards) <= MOST_SHARDS:
            return
        rows = sum(len(shard) for _, shard in shards)
        chosen = [(path, shard) for path, shard in shards if len(shard) <= rows / 2]
        newest: dict[tuple[int, int], tuple[int, int]] = {}
        for number, (_, shard) in enumerate(chosen):
            good = np.flatnonzero(checks(shard, np.arange(len(shard))))
            newest |= {(a, b): (number, row) for (a, b), row in zip(shard["image"][good].tolist(), good, strict=True)}
        kept = [[row for n, row in newest.values() if n == number] for number in range(len(chosen))]
        pieces = (
            shard[rows[start : start + _WRITE_ROWS]]
            for (_, shard), rows in zip(chosen, kept, strict=True)
            for start in range(0, len(rows), _WRITE_ROWS)
        )
        try:
            self._write(pieces, len(newest), chosen[0][1].dtype)
        except UserError as error:  # e.g. no space for a second copy: the shards work as they are
            logger.info("shards of %s stay as they are: %s", self.folder, error)
            return
        for path, _ in chosen:
            path.unlink(missing_ok=True)

    def _write(self, pieces: Iterator[np.ndarray] | Sequence[np.ndarray], count: int, dtype: np.dtype) -> None:
        numbers = [int(path.stem) for path in shard_files(self.folder)]
        # Written as a stream: through a memory map a full disk would kill the process.
        with (
            atomic_path(self.folder / f"{max(numbers, default=0) + 1:06d}.npy") as temporary,
            temporary.open("wb") as f,
        ):
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
            np.lib.format.write_array_header_1_0(f, header)
            for piece in pieces:
                f.write(piece.tobytes())

    def _shards(self) -> list[tuple[Path, np.ndarray]]:
        """Readable shards with features of the same shape as the newest one, oldest first."""
        opened = [(path, open_shard(path)) for path in shard_files(self.folder)]
        shards = [(path, shard) for path, shard in opened if shard is not None]
        shapes = [*(shard for _, shard in shards), *self._kept]
        return [(path, shard) for path, shard in shards if shard.dtype == shapes[-1].dtype]

    def _tidy(self) -> None:
        """Remove leftovers of a killed writer and unreadable shards; only under the lock."""
        remove_unfinished(self.folder, "*.npy")
        for path in shard_files(self.folder):
            if open_shard(path) is None:
                logger.warning("%s is damaged; its features are made again", path)
                path.unlink(missing_ok=True)


def as_shard(images: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Records with their checks."""
    shard = np.zeros(len(images), _record(np.dtype((features.dtype.newbyteorder("<"), features.shape[1:]))))
    shard["image"], shard["feature"] = images, features
    shard["check"] = _sums(shard, np.arange(len(shard)))
    return shard


def shard_files(folder: Path) -> list[Path]:
    """The shards in a folder, oldest first; none if there is no folder."""
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.suffix == ".npy" and path.stem.isdecimal())
    return []


def open_shard(path: Path) -> np.ndarray | None:
    """The records of a shard, memory-mapped; None if the file is gone, truncated or no shard."""
    try:
        shard = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except MemoryError:
        raise
    except Exception:  # a damaged header can raise nearly any error
        return None
    return shard if shard.dtype in _dtypes(shard.dtype) and shard.ndim == 1 and len(shard) else None


def _dtypes(found: np.dtype) -> list[np.dtype]:
    """Accepted record types: a flipped bit in the header must not reinterpret the same bytes."""
    shape = found["feature"].shape if "feature" in (found.names or ()) else ()
    return [_record(np.dtype((base, shape))) for base in ("<f4", "<f2")]


def _record(feature: np.dtype) -> np.dtype:
    """The type of a record. ``feature``: the type of a feature, with its shape."""
    return np.dtype([("image", "<u8", (2,)), ("feature", feature), ("check", "<u4")])


def checks(shard: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which of the records pass their check and are finite: (len(rows),) bool."""
    finite = np.array([np.isfinite(shard["feature"][row]).all() for row in rows], bool)
    return finite & (shard["check"][rows] == _sums(shard, rows))


def _sums(shard: np.ndarray, rows: np.ndarray) -> np.ndarray:
    raw = shard.view(np.uint8).reshape(len(shard), shard.dtype.itemsize)[:, :-_CHECK_BYTES]
    return np.array([zlib.crc32(raw[row]) for row in rows], np.uint32)


def _look_up(shard: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is in a shard (bool) and in which row (valid only where it is)."""
    own = np.ascontiguousarray(shard["image"])
    order = np.argsort(own[:, 0], kind="stable")
    place = np.searchsorted(own[:, 0], images[:, 0], sorter=order)
    row = order[place.clip(max=len(own) - 1)]
    return (own[row] == images).all(axis=1), row
