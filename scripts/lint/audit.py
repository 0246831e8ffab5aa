"""Looks for known vulnerabilities in the pinned packages, with pip-audit and PyPI's advisories.

    python -m scripts.lint.audit

It works in a temporary environment. Without a network, or if the package index has no advisories, it says so and
passes; it fails only if it finds an advisory. A line in audit_accepted.txt, with a reason, accepts an advisory that
does not concern this program.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.lint.ratchet import ROOT

ACCEPTED = Path(__file__).with_name("audit_accepted.txt")
AUDITED = (
    "requirements.txt",
    "requirements-ray.txt",
    "requirements-export.txt",
    "requirements-app.txt",
    "requirements-browser.txt",
    "requirements-audit.txt",
)
_SECONDS = 600
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes")


class Unavailable(Exception):
    """The check is not possible here; the message gives the reason in one line."""


def read_accepted(text: str) -> dict[str, str]:
    """Accepted advisories with reasons, from lines ``ID REASON``; "#" begins a comment.

    Raises:
        ValueError: a line without a reason.
    """
    found = {}
    for line in text.splitlines():
        words = line.split("#")[0].split(maxsplit=1)
        if len(words) == 1:
            raise ValueError(f"{ACCEPTED.name}: give a reason after {words[0]}")
        if words:
            found[words[0]] = words[1].strip()
    return found


def judge(report: Mapping[str, Any], accepted: Mapping[str, str]) -> tuple[int, list[str]]:
    """Read a report of pip-audit (``--format json``).

    Returns:
        The number of packages that the index knows, and a line for each advisory that is not accepted.
    """
    known = [each for each in report["dependencies"] if "skip_reason" not in each]
    lines = []
    for package in known:
        for advisory in package["vulns"]:
            if not {advisory["id"], *advisory.get("aliases", ())} & accepted.keys():
                fixed = ", ".join(advisory.get("fix_versions") or ()) or "no release"
                lines.append(f"{package['name']} {package['version']}: {advisory['id']}, repaired in {fixed}")
    return len(known), lines


def audit(files: Sequence[str] = AUDITED) -> dict[str, Any]:
    """The report of pip-audit on requirements files.

    Raises:
        Unavailable: pip-audit could not be installed, or could not reach the index.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _run([sys.executable, "-m", "venv", scratch])
        python = next(
            path for path in (Path(scratch, "bin/python"), Path(scratch, "Scripts/python.exe")) if path.exists()
        )
        _run([str(python), *_PIP, "-r", str(ROOT / "requirements-audit.txt")])
        options = ["--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off"]
        command = [str(python), "-m", "pip_audit", *options, "-r"]
        # One file at a time: pip-audit refuses two releases of a package, and the files are for separate environments.
        said = [_run([*command, str(ROOT / name)], fine=(0, 1)) for name in files]
    try:
        return {"dependencies": [each for text in said for each in json.loads(text)["dependencies"]]}
    except (ValueError, KeyError) as error:
        raise Unavailable("pip-audit gave no report") from error


def _run(command: Sequence[str], fine: Sequence[int] = (0,)) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
    if done.returncode not in fine or (done.returncode and not done.stdout.strip()):
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unavailable(lines[-1][:200])
    return done.stdout


def main() -> int:
    """Print the findings; the exit code is 1 only if there is an advisory that is not accepted."""
    accepted = read_accepted(ACCEPTED.read_text(encoding="utf-8"))
    try:
        known, lines = judge(audit(), accepted)
    except Unavailable as error:
        print(f"audit: skipped, no advisories could be asked for: {error}")
        return 0
    if not known:
        print("audit: skipped, the package index tells no advisories on any package")
        return 0
    print(*lines, f"audit: {len(lines)} advisories on {known} packages, {len(accepted)} accepted", sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
