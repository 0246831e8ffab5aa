"""The look for known vulnerabilities: what fails, what is accepted, and what is said without a network."""

import json
import subprocess

import pytest

from scripts.lint import audit

UNKNOWN = {"name": "a", "version": "1", "skip_reason": "not found on PyPI"}
CLEAN = {"name": "b", "version": "2", "vulns": []}
ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-9"], "fix_versions": ["4"], "description": "x"}
BAD = {"name": "c", "version": "3", "vulns": [ADVISORY]}


@pytest.mark.parametrize(
    ("accepted", "lines"),
    [
        ({}, ["c 3: PYSEC-1, repaired in 4"]),
        ({"PYSEC-1": "x"}, []),
        ({"CVE-9": "x"}, []),
        ({"CVE-8": "x"}, ["c 3: PYSEC-1, repaired in 4"]),
    ],
)
def test_an_advisory_counts_unless_it_is_accepted(accepted, lines):
    assert audit.judge({"dependencies": [UNKNOWN, CLEAN, BAD]}, accepted) == (2, lines)


def test_what_is_accepted_has_a_reason():
    assert audit.read_accepted("# head\nCVE-9 not used here  # note\n\n") == {"CVE-9": "not used here"}
    with pytest.raises(ValueError, match="reason after CVE-9"):
        audit.read_accepted("CVE-9\n")
    audit.read_accepted(audit.ACCEPTED.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("packages", "code", "text"),
    [
        ([UNKNOWN], 0, "skipped, the package index tells no advisories"),
        ([UNKNOWN, CLEAN], 0, "0 advisories on 1 packages"),
        ([BAD], 1, "c 3: PYSEC-1, repaired in 4"),
    ],
)
def test_only_an_advisory_fails(monkeypatch, capsys, packages, code, text):
    monkeypatch.setattr(audit, "audit", lambda: {"dependencies": packages})
    assert audit.main() == code
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("failing", ["venv", "pip", "pip_audit"])
def test_no_network_is_a_reason_to_skip(monkeypatch, tmp_path, capsys, failing):
    monkeypatch.setattr(audit.tempfile, "TemporaryDirectory", lambda: _Scratch(tmp_path))

    def run(command, **_):
        words = command[command.index("-m") + 1]
        if words == failing:
            return subprocess.CompletedProcess(command, 1, "", "Traceback\nConnectionError: no route\n")
        return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": [CLEAN]}), "")

    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.main() == 0
    assert "audit: skipped, no advisories could be asked for: ConnectionError: no route" in capsys.readouterr().out


class _Scratch:
    """An environment that looks made."""

    def __init__(self, folder):
        self._folder = folder
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / "python").touch()

    def __enter__(self):
        return str(self._folder)

    def __exit__(self, *_):
        pass
