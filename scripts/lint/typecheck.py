"""mypy, with a record of the errors that each file had when the check began.

    python -m scripts.lint.typecheck            a new error fails with its place
    python -m scripts.lint.typecheck --renew    record that there are fewer

Settings are in pyproject.toml. The record is for the pinned mypy and packages; before Python 3.11 these differ, and the
check is skipped.
"""

import re
import subprocess
import sys
from pathlib import Path

from scripts.lint.ratchet import ROOT, Finding, Ratchet

RECORD = Path(__file__).with_name("typecheck_record.txt")
_ERROR = re.compile(r"(?P<path>[^:]+):(?P<line>\d+): error: (?P<text>.*)")


def read_errors(output: str) -> list[Finding]:
    """The errors in mypy's output, without notes."""
    found = [_ERROR.fullmatch(line) for line in output.splitlines()]
    return [Finding(each["path"].replace("\\", "/"), int(each["line"]), each["text"]) for each in found if each]


def main() -> int:
    """Run mypy and compare with the record.

    Returns:
        0: nothing new; 1: more or fewer errors than recorded; 2: mypy failed.
    """
    if sys.version_info < (3, 11):
        print("typecheck: skipped, the record is for the packages of Python 3.11 and newer")
        return 0
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", "--hide-error-context"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    errors = read_errors(done.stdout)
    if done.returncode not in (0, 1) or (done.returncode == 1 and not errors):
        print((done.stderr or done.stdout).strip() or f"mypy ended with exit code {done.returncode}")
        return 2
    return Ratchet("scripts.lint.typecheck", RECORD).main(errors)


if __name__ == "__main__":
    sys.exit(main())
