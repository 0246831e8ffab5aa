"""Logging to the console, above progress bars, and to ``log.txt`` of the run."""

import contextlib
import logging
import sys
from pathlib import Path

from dassl.utils.cli import forget_stdout
from dassl.utils.errors import PassingError
from dassl.utils.files import write_error
from dassl.utils.texts import visible

LOG_FILE = "log.txt"
# Our rooms and programs log from INFO on, everything else from WARNING on.
ROOMS = ("clip", "dassl", "trainers", "datasets", "scripts", "benchmarks", "train", "__main__")


def setup_logger(output_dir: Path | str | None = None) -> contextlib.ExitStack:
    """Send log lines to standard output and to ``<output_dir>/log.txt``, and Python's warnings with them.

    INFO lines are written as they are, because parse_test_res.py reads them; higher levels get a prefix
    such as "warning: ". The file is appended to and flushed after every line. Calling it again moves the file to
    another folder, so that one process can do many runs in turn.

    Args:
        output_dir: the run folder, made if missing; None: console only.

    Returns:
        An ExitStack that closes the file, to be used in a ``with`` or closed with ``.close()``. The console stays.

    Raises:
        UserError: the file cannot be written, now or at a later line (no space left).
    """
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.INFO)
    logging.captureWarnings(True)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _LogFile):
            _close(handler)
    if not any(isinstance(handler, _Console) for handler in root.handlers):
        root.addHandler(_Console())
    stack = contextlib.ExitStack()
    if output_dir is not None:
        log_file = _LogFile(Path(output_dir) / LOG_FILE)
        root.addHandler(log_file)
        stack.callback(_close, log_file)
    return stack


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return prefix + visible(super().format(record)).rstrip("\n")


class _Console(logging.Handler):
    """Writes to the present ``sys.stdout`` (tests and notebooks replace it), above any progress bar."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout
        try:
            encoding = getattr(stream, "encoding", None) or "utf-8"
            line = self.format(record).encode(encoding, "backslashreplace").decode(encoding)
            # A bar can only be on the screen if tqdm is imported.
            if "tqdm" in sys.modules:
                sys.modules["tqdm"].tqdm.write(line, file=stream)
            else:
                stream.write(line + "\n")
            stream.flush()
        except BrokenPipeError:
            forget_stdout()  # the work continues; the log file has the lines
        except Exception:
            self.handleError(record)


class _LogFile(logging.FileHandler):
    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            super().__init__(path, mode="a", encoding="utf-8", errors="backslashreplace")
            self._folder = _identity(path.parent)
        except OSError as error:
            raise write_error(path, error) from error
        self.setFormatter(_Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; stop the run if its folder is gone, because later files would lie in a new, incomplete one."""
        folder = Path(self.baseFilename).parent
        if _identity(folder) != self._folder:
            _close(self)
            raise PassingError(f"{folder} was removed or replaced while a run was at work there; start it again")
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Stop the run if the disk is full: by default every line would print a stack trace."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        _close(self)
        raise write_error(self.baseFilename, error) from error


def _identity(folder: Path) -> tuple[int, int] | None:
    """Identity of the folder; None if it does not exist."""
    with contextlib.suppress(FileNotFoundError):
        stat = folder.stat()
        return stat.st_dev, stat.st_ino
    return None


def _close(handler: _LogFile) -> None:
    logging.getLogger().removeHandler(handler)
    # A full disk was reported when the line was written; flushing the rest would only say it again.
    with contextlib.suppress(OSError):
        handler.close()
