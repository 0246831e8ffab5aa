"""A full disk and missing rights end a run in one line with nothing lost, or it goes on correctly.

The file systems are small ones in a mount namespace, of root or of a user; where neither is allowed, the errors are
injected where files are written.
"""

import errno
import json
import os
import subprocess
import sys

import pytest

from dassl.utils import files
from dassl.utils.tools import CHECKOUT
from tests.chaos.starve import CASES, KEYS
from tests.chaos.states import differences, leftovers, state

GOES_ON = {"cache", "tmp", "tmp, no inodes", "features read-only", "cache read-only", "data read-only"}
WARNED = {"tmp, no inodes", "features read-only"}  # their warning is in results.json


@pytest.fixture(scope="module")
def report(toy_root, tiny_clip, tmp_path_factory):
    """What came of each case."""
    folder = tmp_path_factory.mktemp("starved")
    program = [sys.executable, "-m", "tests.chaos.starve", str(toy_root), str(tiny_clip), str(folder)]
    mount = ["sh", "-c", f"mount -t tmpfs tmpfs {folder}"]
    for space in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        if not subprocess.run([*space, *mount], capture_output=True, check=False).returncode:
            break
    else:
        pytest.skip("this user may not mount")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*space, *program], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {found.pop("case"): found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", CASES)
def test_without_space_or_rights(report, name):
    found = report[name]
    assert found["left"] == []
    assert (found["code"], found["finished"]) == ((0, True) if name in GOES_ON else (2, False))
    lines = [line for line in found["errors"].splitlines() if line.startswith("error: ")]
    assert len(lines) == (name not in GOES_ON)
    assert found["again"] == [0, ""]
    told = [text for text in found["differences"] if "warnings" in text]
    assert told == found["differences"] and bool(told) == (name in WARNED)


@pytest.mark.parametrize("name", ["config.yaml", "tasks.json", "model.pth.tar-1", "model.pth.tar-2", "results.json"])
def test_a_file_for_which_there_is_no_space(lab, monkeypatch, capsys, name):
    replace = files.Path.replace

    def full(path, target):
        if target.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.Path, "replace", full)
        assert lab.main(**KEYS) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: no space left while writing") and name in line
    assert leftovers(lab.output) == [] and not (lab.folder("run") / "results.json").is_file()
    assert lab.main(**KEYS) == lab.main("peace", **KEYS) == 0
    found = differences(state(lab.folder("run")), state(lab.folder("peace")))
    assert [text for text in found if "config.yaml" not in text] == []
