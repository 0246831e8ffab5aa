"""Processes that start the same run, share features or draw the same subset: results are equal to a lone run's."""

import os
import subprocess
import sys

import pytest

from dassl.data.features.__main__ import main as features_main
from dassl.utils.tools import CHECKOUT
from tests.chaos.states import differences, leftovers, state
from tests.lab import Lab

COUNT = 8  # processes
# Forks once everything is imported, so that all begin at the same time.
PROGRAM = """
import os, sys
os.environ.update(OMP_NUM_THREADS="1", TQDM_DISABLE="1")
if "no flock" in sys.argv[1]:
    import errno, fcntl
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = none
import torch, train
from tests.dassl.data import toy
torch.set_num_threads(1)
children = []
for number in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        if "two machines" in sys.argv[1] and number % 2:
            import platform
            from dassl.utils import owners
            platform.node = lambda: "another"
            owners.boot = lambda: "another boot"
        os._exit(train.main([word.replace("NUMBER", str(number)) for word in sys.argv[3:]]))
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print("codes", *codes)
"""


def together(lab: Lab, way: str, run: str, **keys: object) -> list[int]:
    """The exit codes of COUNT processes with the same command line; NUMBER in it is the number of each."""
    command = [sys.executable, "-c", PROGRAM, way, str(COUNT), *lab.command(run, **keys)]
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    return [int(code) for code in done.stdout.splitlines()[-1].split()[1:]]


@pytest.mark.parametrize("way", ["flock", "no flock, two machines"])
def test_the_same_run_eight_times_is_one_run(lab, way):
    lab.run("lone")
    codes = together(lab, way, "same")
    assert set(codes) <= {0, 2} and 0 in codes  # done, or told that another one is at work
    assert lab.main("same") == 0
    assert differences(state(lab.folder("lone")), state(lab.folder("same"))) == ["config.yaml differs"]
    assert leftovers(lab.folder("same")) == []


def test_eight_runs_share_features_subsets_and_splits(lab, tmp_path):
    store = {"DATALOADER__FEATURES": True, "DATALOADER__FEATURES_DIR": tmp_path / "features"}
    keys = {**store, "DATASET__CACHE_DIR": tmp_path / "cache"}
    lone = {**keys, "DATALOADER__FEATURES_DIR": tmp_path / "own"}
    lab.run("lone", **lone)
    assert together(lab, "no flock, two machines", "shared-NUMBER", **keys) == [0] * COUNT
    wanted = state(lab.folder("lone"))
    for number in range(COUNT):
        found = differences(wanted, state(lab.folder(f"shared-{number}")))
        assert found == ["config.yaml differs"]
    assert features_main([str(tmp_path / "features"), "--verify"]) == 0
    assert leftovers(tmp_path / "features", tmp_path / "cache", lab.output) == []
