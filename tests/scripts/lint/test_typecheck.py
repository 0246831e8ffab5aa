"""Errors in what mypy prints, and what happens where it does not run."""

import subprocess
import sys

import pytest

from scripts.lint import typecheck

PRINTED = """clip/a.py:3: error: Bad thing: "x: y"  [misc]
clip/a.py:3: note: because
dassl\\b.py:12: error: Another  [attr-defined]
"""


def test_errors_are_read_and_notes_are_not():
    assert [tuple(each) for each in typecheck.read_errors(PRINTED)] == [
        ("clip/a.py", 3, 'Bad thing: "x: y"  [misc]'),
        ("dassl/b.py", 12, "Another  [attr-defined]"),
    ]


@pytest.fixture
def mypy(monkeypatch, tmp_path):
    """Says what mypy shall print; the record is empty."""
    monkeypatch.setattr(typecheck, "RECORD", tmp_path / "record.txt")
    monkeypatch.setattr("sys.argv", ["typecheck"])
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))

    def prints(code, stdout="", stderr=""):
        done = subprocess.CompletedProcess([], code, stdout, stderr)
        monkeypatch.setattr(typecheck.subprocess, "run", lambda *_, **__: done)
        return typecheck.main()

    return prints


def test_a_new_error_fails(mypy, capsys):
    assert mypy(1, PRINTED) == 1
    assert "dassl/b.py:12: Another  [attr-defined]" in capsys.readouterr().out
    assert mypy(0) == 0


@pytest.mark.parametrize(("code", "stderr"), [(2, "mypy: error: no such file"), (1, "No module named mypy"), (-9, "")])
def test_a_check_that_did_not_run_is_no_success(mypy, capsys, code, stderr):
    assert mypy(code, stderr=stderr) == 2
    assert (stderr or "exit code -9") in capsys.readouterr().out


def test_an_old_python_with_other_packages_is_a_reason_to_skip(mypy, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    assert mypy(1, PRINTED) == 0
    assert "skipped, the record is for the packages of Python 3.11" in capsys.readouterr().out
