import errno
import io
import logging
import sys
import warnings
from pathlib import Path

import pytest
import tqdm

from dassl.utils.errors import UserError
from dassl.utils.logger import setup_logger

logger = logging.getLogger("dassl.test")


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [each for each in root.handlers if each not in before]:
        root.removeHandler(handler)
        handler.close()
    logging.captureWarnings(False)


def read(folder):
    return (folder / "log.txt").read_text(encoding="utf-8")


def test_plain_lines_on_console_and_in_file(tmp_path, capsys):
    with setup_logger(tmp_path / "run"):
        logger.info("Finished training")
        assert read(tmp_path / "run") == "Finished training\n"  # flushed, not only when closed
        logger.warning("no images of 'cat'")
        logger.debug("not shown")
    logger.info("after the end")
    assert read(tmp_path / "run") == "Finished training\nwarning: no images of 'cat'\n"
    assert capsys.readouterr().out == "Finished training\nwarning: no images of 'cat'\nafter the end\n"


def test_appends(tmp_path):
    for text in ("one", "two"):
        with setup_logger(tmp_path):
            logger.info(text)
    assert read(tmp_path) == "one\ntwo\n"


def test_second_call_moves_the_file(tmp_path, capsys):
    first = setup_logger(tmp_path / "a")
    logger.info("one")
    second = setup_logger(tmp_path / "b")
    logger.info("two")
    first.close()  # has nothing left to close, and must not take the new file away
    logger.info("three")
    second.close()
    assert read(tmp_path / "a") == "one\n"
    assert read(tmp_path / "b") == "two\nthree\n"
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_without_folder_only_the_console(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with setup_logger():
        logger.info("hello")
    assert capsys.readouterr().out == "hello\n" and not list(tmp_path.iterdir())


def test_third_parties_speak_from_warning_on(tmp_path):
    with setup_logger(tmp_path):
        logging.getLogger("PIL.Image").info("chatter")
        logging.getLogger("PIL.Image").warning("strange image")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)
            logging.captureWarnings(True)  # pytest records warnings itself; take them back inside this block
            warnings.warn("old function", stacklevel=1)
    lines = read(tmp_path).splitlines()
    assert lines[0] == "warning: strange image"
    assert lines[1].startswith("warning: ") and lines[1].endswith("UserWarning: old function")


def test_line_does_not_break_a_progress_bar(tmp_path, capsys):
    with setup_logger(tmp_path), tqdm.tqdm(total=3, file=sys.stdout, desc="bar") as bar:
        bar.update(1)
        logger.info("in between")
        bar.update(1)
    # Wiped and returned to the line's start before the text, drawn again below it.
    assert "\rin between\n" in capsys.readouterr().out


def test_console_that_cannot_show_a_character(tmp_path, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with setup_logger(tmp_path):
        logger.info("71.2 ± 0.3")
    assert raw.getvalue() == b"71.2 \\xb1 0.3\n"
    assert read(tmp_path) == "71.2 ± 0.3\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_stops_the_run_with_one_line(tmp_path):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    setup_logger(tmp_path)
    with pytest.raises(UserError, match=r"no space left while writing .*log\.txt") as caught:
        logger.info("a line")
    assert caught.value.__cause__.errno == errno.ENOSPC
    logger.info("the console goes on")


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        setup_logger(tmp_path / "file" / "run")
