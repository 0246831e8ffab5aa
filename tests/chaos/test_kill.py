"""Runs that are killed in the middle of each kind of file and started again end as an undisturbed run."""

import subprocess
import sys

from dassl.utils.tools import CHECKOUT
from tests.chaos.fetching import moments as fetch_moments
from tests.chaos.kill import CHOSEN


def test_killed_runs_end_as_others(tmp_path):
    # In a process of its own: it forks, which no process may do in which torch has threads.
    command = [sys.executable, "-m", "tests.chaos", "kill", "--short", "--keep", str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split("  ") for line in done.stdout.splitlines() if " s  " in line and "  equal " in line]
    assert len(lines) == len(CHOSEN) + len(fetch_moments()), done.stdout
