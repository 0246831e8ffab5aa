"""The folder that uploads pass through: each is deleted once it is answered, and the folder when the program ends."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

from dassl.utils.errors import UserError

MOST_BYTES = 20_000_000
UNANSWERED = 60.0  # seconds that an upload may lie which nobody asks about
_GONE = "the picture is no longer here; drop it again"


class Uploads:
    """The folder; made by :func:`uploads`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @contextmanager
    def taken(self, path: str) -> Iterator[Path]:
        """An upload, which is deleted afterwards.

        Raises:
            UserError: it is not there, too large, or no file of the folder (a visitor may send any path).
        """
        found = Path(path).resolve()
        if not found.is_relative_to(self.folder) or not found.is_file():
            raise UserError(_GONE)
        try:
            if found.stat().st_size > MOST_BYTES:
                raise UserError(too_large())
            yield found
        finally:
            self._delete(found)

    def sweep(self, older: float = UNANSWERED) -> None:
        """Delete what has lain for more than ``older`` seconds: uploads that were cut off or never asked about."""
        before = time.time() - older
        for path in [each for each in self.folder.rglob("*") if each.is_file()]:
            if path.stat().st_mtime < before:
                self._delete(path)

    def _delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        if path.parent != self.folder:
            shutil.rmtree(path.parent, ignore_errors=True)


@contextmanager
def uploads() -> Iterator[Uploads]:
    """A new folder that only its owner can read; deleted in the end, and swept until then."""
    with TemporaryDirectory(prefix="softcpt-uploads-", ignore_cleanup_errors=True) as folder:
        found, ended = Uploads(Path(folder)), Event()
        sweeper = Thread(target=_sweep, args=(found, ended), daemon=True)
        sweeper.start()
        try:
            yield found
        finally:
            ended.set()
            sweeper.join(timeout=5)


def too_large() -> str:
    """What to say of a file of too many bytes."""
    return f"the file is larger than {MOST_BYTES // 1_000_000} MB, the limit of the page; make it smaller"


def _sweep(found: Uploads, ended: Event) -> None:
    while not ended.wait(UNANSWERED / 2):
        try:
            found.sweep()
        except OSError:  # gone in between
            continue
