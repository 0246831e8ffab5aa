"""The folders of data, caches and features."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.utils.errors import UserError
from dassl.utils.files import write_error, write_json
from dassl.utils.locks import locked
from dassl.utils.tools import CHECKOUT

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def data_root(cfg: CfgNode, name: str, *, embedded: bool = False) -> Path:
    """Folder that holds the data folders: DATASET.ROOT, or for embedded data sets the checkout's ``data/``.

    Raises:
        UserError: no root is set, or it does not exist.
    """
    if not cfg.DATASET.ROOT and embedded:
        return CHECKOUT / "data"
    if not cfg.DATASET.ROOT:
        raise UserError(f"data set {name} needs the folder of your data sets; name it with --root FOLDER")
    # Without "..", because paths below the root are compared with it as texts.
    root = Path(os.path.abspath(Path(cfg.DATASET.ROOT).expanduser()))  # noqa: PTH100
    if not root.is_dir() and not embedded:
        raise UserError(f"data folder {root} does not exist; name the folder of your data sets with --root FOLDER")
    return root


def output_root(cfg: CfgNode) -> Path:
    """Folder shared by the runs: OUTPUT_DIR up to a folder called "output", else OUTPUT_DIR itself."""
    folder = Path(cfg.OUTPUT_DIR).expanduser().absolute()
    return next((parent for parent in (folder, *folder.parents) if parent.name == "output"), folder)


def cache_folder(cfg: CfgNode) -> Path:
    """The cache folder: DATASET.CACHE_DIR, or ``cache`` beside the runs."""
    return Path(cfg.DATASET.CACHE_DIR).expanduser().absolute() if cfg.DATASET.CACHE_DIR else output_root(cfg) / "cache"


def features_folder(cfg: CfgNode) -> Path:
    """Folder of stored image features: DATALOADER.FEATURES_DIR, or ``features`` beside the runs."""
    chosen = cfg.DATALOADER.FEATURES_DIR
    return Path(chosen).expanduser().absolute() if chosen else output_root(cfg) / "features"


def stand_in(cache: Path, folder: Path) -> Path:
    """The folder in the cache that replaces ``folder`` if that is read-only."""
    return cache / "data" / f"{folder.name}-{sha256(str(folder).encode()).hexdigest()[:8]}"


@contextmanager
def locked_somewhere(places: tuple[Path, Path]) -> Iterator[None]:
    """Lock a file that is in the first folder, or in the second if the first is read-only.

    Raises:
        UserError: neither folder can be written.
    """
    first, second = (place.with_name(f".{place.name}.lock") for place in places)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(first))
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                raise write_error(places[0], error) from error
            _enter(stack, second)
        yield


def _enter(stack: ExitStack, lock: Path) -> None:
    try:
        stack.enter_context(locked(lock))
    except OSError as error:
        raise write_error(lock, error) from error


def write_json_somewhere(places: tuple[Path, Path], value: Any, *, indent: int | None = 2) -> Path:
    """Write JSON with its digest to the first path, or to the second if the first is read-only.

    Returns:
        The place.
    """
    try:
        write_json(places[0], value, indent=indent, signed=True)
        return places[0]
    except UserError as error:
        if getattr(error.__cause__, "errno", None) not in NOT_WRITABLE:
            raise
    write_json(places[1], value, indent=indent, signed=True)
    return places[1]
