import subprocess
import sys
import threading

import numpy as np
import pytest

from dassl.data.features.__main__ import main
from dassl.data.features.files import ViewFiles, shard_files
from dassl.utils.tools import CHECKOUT


@pytest.fixture
def store(tmp_path):
    """Two encoders; the first one has two views, the second one features of two dimensions in half precision."""
    folder, rng = tmp_path / "features", np.random.default_rng(0)
    for place, encoder, view, dtype, shape in (
        ("a/t/test", "0123456789abcdef-fp32", "test", "<f4", (5, 8)),
        ("a/t/seed1-view0", "0123456789abcdef-fp32", "seed1-view0", "<f4", (3, 8)),
        ("b/t/test", "fedcba9876543210-bf16-local", "test", "<f2", (2, 4, 8)),
    ):
        about = {"encoder": encoder, "transform": "77777777777777777", "view": view}
        files = ViewFiles(folder / place, np.dtype(dtype), about)
        images = rng.integers(0, 2**63, (shape[0], 2)).astype(np.uint64)
        with files.exclusive():
            files.add(images, rng.standard_normal(shape))
            files.add(images[:1], rng.standard_normal((1, *shape[1:])))
    return folder


def test_the_list(store, capsys):
    assert main([str(store)]) == 0
    header, _, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["encoder", "transform", "view", "images", "shards", "shape", "dtype", "size"]
    assert [row.split()[:8] for row in rows] == [
        ["0123456789ab-fp32", "777777777777", "seed1-view0", "3", "2", "8", "float32", "0.0"],
        ["0123456789ab-fp32", "777777777777", "test", "5", "2", "8", "float32", "0.0"],
        ["fedcba987654-bf16-local", "777777777777", "test", "2", "2", "4", "x", "8"],
    ]
    assert last == "3 views, 0.0 MiB"


def test_verify_finds_what_is_damaged(store, capsys):
    assert main([str(store), "--verify"]) == 0
    assert capsys.readouterr().out == "3 views are whole\n"
    first, second = shard_files(store / "a/t/test")
    content = bytearray(first.read_bytes())
    content[-30] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:-1])
    (store / "b/t/test/about.json").unlink()
    assert main([str(store), "--verify"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {first}: 1 of 5 features are damaged",
        f"error: {second}: cannot be read",
        "error: they are made again when a run needs them",
    ]
    assert main([str(store)]) == 0
    assert "\nb " in capsys.readouterr().out


def test_drop_asks_first(store, capsys):
    assert main([str(store), "--drop", "*/seed1-*"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("0123456789ab-fp32/777777777777/seed1-view0  ")
    assert out[1] == "1 views, 0.0 MiB: nothing was deleted; add --yes for it"
    assert (store / "a/t/seed1-view0").is_dir()
    assert main([str(store), "--drop", "*-fp32/*", "--yes"]) == 0
    assert capsys.readouterr().out.endswith("2 views, 0.0 MiB: deleted\n")
    assert not list((store / "a/t").iterdir()) and (store / "b/t/test").is_dir()
    assert main([str(store)]) == 0


def test_drop_waits_for_a_writer(store):
    folder = store / "a/t/test"
    with ViewFiles(folder, np.dtype("<f4"), {}).exclusive():
        thread = threading.Thread(target=main, args=([str(store), "--drop", "*/test", "--yes"],))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and shard_files(folder)
    thread.join(60)
    assert not folder.is_dir()


@pytest.mark.parametrize(
    ("folder", "arguments", "message"),
    [
        ("nowhere", [], "is no folder; name a feature store"),
        (".", [], "holds no stored features"),
        ("features", ["--drop", "nothing*"], "--drop 'nothing*' matches none of the 3 views"),
    ],
)
def test_mistakes_are_one_line(store, capsys, folder, arguments, message):
    assert main([str(store.parent / folder), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_an_empty_store(tmp_path, capsys):
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("0 views, 0.0 MiB\n")


def test_the_command(store):
    command = [sys.executable, "-m", "dassl.data.features", str(store), "--verify"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 views are whole\n", "")
