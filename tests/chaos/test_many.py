"""Many processes that do the same thing at once, on one machine and on two, end as one that was alone."""

import subprocess
import sys

from dassl.utils.tools import CHECKOUT
from tests.chaos.many import SHORT


def test_many_at_once_end_as_one_alone(tmp_path):
    # In a process of its own: it forks, which no process may do in which torch has threads.
    command = [sys.executable, "-m", "tests.chaos", "many", "--short", "--keep", str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()[:-1]]
    assert [line[1] for line in lines] == ["equal"] * len(SHORT), done.stdout
