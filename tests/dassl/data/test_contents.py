import multiprocessing
import os
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dassl.data import contents
from dassl.data.contents import DigestIndex, content_digest, content_digests, open_index, short_digest

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once."""
    monkeypatch.setattr(contents, "_UNSETTLED_NS", 0)


@pytest.fixture
def read(monkeypatch):
    """Paths of the files that are really read."""
    seen, real = [], contents.read_content
    monkeypatch.setattr(contents, "read_content", lambda path: (seen.append(path), real(path))[1])
    return seen


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.jpg").write_bytes(bytes([number]) * 3_000_000 if number == 4 else b"abc%d" % number)
    return sorted(map(str, folder.iterdir()))


def digest(path):
    return blake2b(Path(path).read_bytes(), digest_size=32).digest()


def test_a_file_is_read_once(tmp_path, files, settled, read):
    wanted = [digest(path) for path in files]
    assert content_digests(files, tmp_path / "cache") == wanted
    assert sorted(read) == files
    read.clear()
    assert content_digests(files[::-1], tmp_path / "cache") == wanted[::-1]
    assert content_digest(files[2], tmp_path / "cache") == wanted[2]
    assert not read
    assert content_digests(files) == wanted and content_digest(files[0]) == wanted[0]
    assert len(read) == 6


def test_missing_files_and_the_same_twice(tmp_path, files):
    paths = [files[0], str(tmp_path / "gone"), files[0], "a\0b", str(tmp_path)]
    for cache in (None, tmp_path / "cache"):
        assert content_digests(paths, cache) == [digest(files[0]), b"", digest(files[0]), b"", b""]
    assert content_digests([], tmp_path / "cache") == []


CHANGES = {
    "other size": lambda path: path.write_bytes(b"longer than it was"),
    "other time": lambda path: path.write_bytes(b"xyz1"),
    "written in place, times set back": lambda path: path.write_bytes(b"xyz1"),
    "another file of the same times put there": lambda path: (path.unlink(), path.write_bytes(b"xyz1")),
    "a link to another file": lambda path: (path.unlink(), path.symlink_to(path.with_name("2.jpg"))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_read_again(tmp_path, files, settled, change):
    path = tmp_path / "files/1.jpg"
    content_digests(files, tmp_path / "cache")
    stat = path.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    CHANGES[change](path)
    if "times" in change:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content_digests(files, tmp_path / "cache") == [digest(name) for name in files]


def test_a_file_that_was_just_written_is_not_trusted(tmp_path, files, read):
    for _ in range(2):
        content_digests(files, tmp_path / "cache")
    assert len(read) == 10


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path, files, settled, monkeypatch):
    states = iter([(1, 1, 4, 7), (1, 1, 4, 7), (2, 2, 4, 7)])
    monkeypatch.setattr(contents, "file_state", lambda path: next(states))
    assert contents.read_content(files[0]) == (b"", digest(files[0]))


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "folder"])
def test_a_damaged_index_is_made_again(tmp_path, files, settled, read, damage):
    wanted = content_digests(files, tmp_path / "cache")
    index = tmp_path / "cache/contents/files"
    content = bytearray(index.read_bytes())
    content[100] ^= 1
    if damage == "folder":
        index.unlink()
        index.mkdir()
    else:
        index.write_bytes({"cut": content[:-30], "flipped": content, "text": b"hello", "empty": b""}[damage])
    read.clear()
    assert content_digests(files, tmp_path / "cache") == wanted
    assert sorted(read) == files
    read.clear()
    assert content_digests(files, tmp_path / "cache") == wanted
    assert bool(read) == (damage == "folder")


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, files, settled):
    (tmp_path / "cache").write_text("a file in place of the folder")
    assert content_digests(files, tmp_path / "cache") == [digest(path) for path in files]


def test_an_interrupt_keeps_what_was_read(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_index(tmp_path, "files") as index:
        index.put(b"k" * 16, b"v" * 32)
        raise KeyboardInterrupt
    assert DigestIndex(index.path).find([b"k" * 16, b"", b"n" * 16]) == [b"v" * 32, None, None]
    assert [path.name for path in index.path.parent.iterdir() if path.name != ".files.lock"] == ["files"]


@settings(max_examples=30, deadline=None)
@given(rounds=st.lists(st.dictionaries(st.integers(0, 30), st.integers(1, 5)), max_size=5), asked=st.integers(0, 40))
def test_an_index_is_a_dictionary(tmp_path_factory, rounds, asked):
    path, known = tmp_path_factory.mktemp("index") / "files", {}
    names = [short_digest(bytes([number])) for number in range(41)]
    for rows in rounds:
        index = DigestIndex(path)
        for number, value in rows.items():
            index.put(names[number], bytes([value]) * 32)
            known[names[number]] = bytes([value]) * 32
        index.save()
    assert DigestIndex(path).find(names[: asked + 1]) == [known.get(name) for name in names[: asked + 1]]


def _add(path, start):
    for number in range(start, start + 40):
        index = DigestIndex(path)
        index.put(short_digest(bytes([number])), bytes([number]) * 32)
        index.save()


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "files"
    processes = [FORK.Process(target=_add, args=(path, start)) for start in (1, 41, 81)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    values = DigestIndex(path).find([short_digest(bytes([number])) for number in range(1, 121)])
    assert values == [bytes([number]) * 32 for number in range(1, 121)]
    assert len(np.unique(DigestIndex(path)._table)) == 120
