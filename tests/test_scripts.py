"""The shell scripts, run in a scratch checkout with stand-ins for the interpreter, pip, ruff and pytest."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = "awk bash cat cp cut df dirname du getconf grep ls mkdir mv rm sed sleep tail tee uname"

# Answers like an interpreter: what the scripts ask of Python itself goes to the real one, the rest is noted in CALLS.
FAKE_PYTHON = """#!{bash}
case "$*" in
*ensurepip*) echo "{version}" ;;
*"-m venv "*) echo venv >>"$CALLS"; mkdir "${{!#}}/bin" && cp "$0" "${{!#}}/bin/python" ;;
*"-m pip --version"*) ;;
*"-m pip install"*)
    echo pip >>"$CALLS"
    echo "$*" >"$CALLS.pip"
    sleep "${{PIP_SECONDS:-0}}"
    printf '%b' "${{PIP_SAYS:-}}"
    exit "${{PIP_CODE:-0}}" ;;
*"import torch"*) exit "${{TORCH_CODE:-0}}" ;;
*"-m ruff check"*) exit "${{CHECK_CODE:-0}}" ;;
*"-m ruff format"*) exit "${{FORMAT_CODE:-0}}" ;;
*"-m scripts.lint.words"*) exit "${{WORDS_CODE:-0}}" ;;
*"-m scripts.lint.typecheck"*) exit "${{TYPES_CODE:-0}}" ;;
"-m pytest"* | "-m scripts.demo"*) echo "$PWD" "$@" "threads=${{OMP_NUM_THREADS:-}}"; exit "${{RUN_CODE:-0}}" ;;
*) exec "{real}" "$@" ;;
esac
"""
CURRENT = "{} {} yes".format(*sys.version_info[:2])


class Checkout:
    """A checkout at a path with blanks, and a PATH that holds only the tools that the scripts may rely on."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out"
        self.bin = folder / "bin"
        self.calls_file = folder / "calls"
        self.venv = self.root / ".venv"
        self.requirements = self.root / "requirements.txt"
        (self.root / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        for name in ("setup", "test", "demo"):
            shutil.copy(ROOT / "scripts" / f"{name}.sh", self.root / "scripts")
        self.requirements.write_text("fake==1\n", encoding="utf-8")
        for tool in TOOLS.split():
            path = shutil.which(tool)
            assert path, f"{tool} is missing on this machine"
            (self.bin / tool).symlink_to(path)

    def add_program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def add_python(self, name: str, version: str = CURRENT) -> None:
        text = FAKE_PYTHON.format(bash=shutil.which("bash"), version=version, real=sys.executable)
        self.add_program(name, text)

    def start(self, script: str, *args: str, **env: str) -> subprocess.Popen[str]:
        path = str(self.root / "scripts" / f"{script}.sh")
        full_env = {"PATH": str(self.bin), "CALLS": str(self.calls_file), "SETUP_FREE_GB": "0"} | env
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([str(self.bin / "bash"), path, *args], cwd="/", env=full_env, **pipes)

    def run(self, script: str, *args: str, **env: str) -> tuple[int, str, str]:
        with self.start(script, *args, **env) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def calls(self) -> list[str]:
        """What was asked of the stand-ins since the last call of this method."""
        calls = self.calls_file.read_text(encoding="utf-8").split() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return calls


@pytest.fixture
def bare(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def checkout(bare: Checkout) -> Checkout:
    bare.add_python("python3.12")
    return bare


def test_setup_installs_once_and_again_when_the_requirements_change(checkout):
    code, out, err = checkout.run("setup")
    assert (code, out, checkout.calls()) == (0, "", ["venv", "pip"])
    assert "ready" in err
    assert checkout.run("setup") == (0, "", "")
    assert checkout.calls() == []
    checkout.requirements.write_text("fake==2\n", encoding="utf-8")
    assert checkout.run("setup")[0] == 0
    assert checkout.calls() == ["pip"]


def test_setup_compares_digests_unless_it_is_told_not_to(checkout):
    pins = checkout.root / "requirements.in"
    pins.write_text("fake==1  # pinned\n", encoding="utf-8")
    asked = checkout.calls_file.with_name("calls.pip")
    checkout.run("setup")
    assert f"--require-hashes -r {checkout.requirements}" in asked.read_text(encoding="utf-8")
    checkout.run("setup", SETUP_HASHES="off")
    words = asked.read_text(encoding="utf-8").strip()
    assert words.endswith(f"-r {pins}")
    assert "hashes" not in words
    checkout.calls()
    checkout.run("setup")
    assert checkout.calls() == ["pip"]  # the digests are compared after all


def test_setup_makes_the_environment_anew_for_another_python(checkout):
    checkout.run("setup")
    checkout.calls()
    assert checkout.run("setup", PYTHON="python3.12") == (0, "", "")
    other = CURRENT.replace("yes", "").split()[1]
    checkout.add_python("other", "3 10 yes" if other != "10" else "3 11 yes")
    checkout.run("setup", PYTHON="other")
    assert checkout.calls() == ["venv", "pip"]


def test_setup_repeats_an_interrupted_install_from_scratch(checkout):
    code, _, _ = checkout.run("setup", PIP_CODE="1", PIP_SAYS="Installing collected packages: torch\n")
    (checkout.venv / "half").touch()
    assert (code, checkout.calls()) == (2, ["venv", "pip"])
    assert checkout.run("setup")[0] == 0
    assert checkout.calls() == ["venv", "pip"]
    assert not (checkout.venv / "half").exists()


def test_setup_keeps_an_environment_that_a_failed_download_left_alone(checkout):
    checkout.run("setup")
    checkout.requirements.write_text("fake==2\n", encoding="utf-8")
    assert checkout.run("setup", PIP_CODE="1", PIP_SAYS="Max retries exceeded\n")[0] == 2
    checkout.calls()
    assert checkout.run("setup")[0] == 0
    assert checkout.calls() == ["pip"]
    assert not (checkout.venv / ".setup-tmp").exists()


@pytest.mark.parametrize(
    ("pip_says", "expected"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying: Failed to establish a new connection\\nERROR: No matching distribution found for a==1",
            "cannot be reached",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\\n"
            "    torch==2.12.1 from https://x/torch.whl (from -r requirements.txt (line 9)):",
            "(torch==2.12.1): use PyPI",
        ),
        ("ERROR: No matching distribution found for torch==2.12.1", "has no torch==2.12.1 for this machine"),
        ("SSLError(SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED)", "certificate"),
        ("ERROR: [Errno 13] Permission denied: 'x'", "permission"),
        ("ERROR: something new", "something new"),
        ("", "memory"),
    ],
)
def test_setup_says_in_one_line_why_pip_failed(checkout, pip_says, expected):
    code, _, err = checkout.run("setup", PIP_CODE="1", PIP_SAYS=pip_says + "\\n")
    assert code == 2
    assert expected in err.splitlines()[-1]
    assert str(checkout.venv / "setup.log") in err


def test_setup_is_not_ready_when_torch_does_not_start(checkout):
    code, _, err = checkout.run("setup", TORCH_CODE="1")
    assert (code, "torch does not start" in err) == (2, True)
    checkout.calls()
    checkout.run("setup")
    assert "pip" in checkout.calls()


@pytest.mark.parametrize(
    ("pythons", "env", "expected"),
    [
        ({}, {}, "no Python found"),
        ({"python3": "3 9 yes", "python": "2 7 no"}, {}, "python3 is 3.9, python is 2.7"),
        ({"python3": "3 15 yes"}, {}, "python3 is 3.15"),
        ({"python3": "3 11 no"}, {}, "apt install python3.11-venv"),
        ({"python3": CURRENT, "old": "3 8 yes"}, {"PYTHON": "old"}, "old is 3.8"),
        ({"python3": CURRENT}, {"PYTHON": "missing"}, "PYTHON=missing cannot be run"),
    ],
)
def test_setup_names_an_unsuitable_python(bare, pythons, env, expected):
    for name, version in pythons.items():
        bare.add_python(name, version)
    code, _, err = bare.run("setup", **env)
    assert (code, len(err.splitlines())) == (2, 1)
    assert expected in err
    assert not bare.venv.exists()


def test_setup_passes_over_unsuitable_pythons(bare):
    bare.add_python("python3.12", "3 12 no")
    bare.add_python("python3.11", "3 8 yes")
    bare.add_program("python3.10", f"#!{shutil.which('bash')}\nexit 127\n")
    bare.add_python("python")
    assert bare.run("setup")[0] == 0


def test_setup_checks_the_disk_before_it_writes(checkout):
    checkout.add_program("df", "#!/bin/sh\necho head\necho /dev/x 9 9 2097152 99% /\n")
    code, _, err = checkout.run("setup", SETUP_FREE_GB="")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "only 2 GB free" in err
    assert not checkout.venv.exists()


def test_setup_leaves_a_foreign_folder_alone(checkout):
    checkout.venv.mkdir()
    (checkout.venv / "precious").touch()
    code, _, err = checkout.run("setup")
    assert (code, "move it away" in err) == (2, True)
    assert [path.name for path in checkout.venv.iterdir()] == ["precious"]


def test_two_setups_at_once_install_once(checkout):
    with checkout.start("setup", PIP_SECONDS="1") as first, checkout.start("setup", PIP_SECONDS="1") as second:
        said = first.communicate(timeout=60)[1] + second.communicate(timeout=60)[1]
    assert (first.returncode, second.returncode) == (0, 0)
    assert checkout.calls() == ["venv", "pip"]
    assert "waiting" in said


@pytest.mark.parametrize(
    ("env", "expected", "summary"),
    [
        ({}, 0, "ruff check passed, ruff format passed, words passed, mypy passed, pytest passed"),
        ({"CHECK_CODE": "1"}, 1, "ruff check FAILED (exit code 1), ruff format passed, words passed"),
        ({"FORMAT_CODE": "1"}, 1, "ruff check passed, ruff format FAILED (exit code 1), words passed"),
        ({"WORDS_CODE": "1"}, 1, "ruff format passed, words FAILED (exit code 1), mypy passed, pytest passed"),
        ({"TYPES_CODE": "2"}, 1, "words passed, mypy FAILED (exit code 2), pytest passed"),
        ({"RUN_CODE": "5"}, 1, "words passed, mypy passed, pytest FAILED (exit code 5)"),
    ],
)
def test_test_script_runs_all_checks_and_sums_up(checkout, env, expected, summary):
    code, out, _ = checkout.run("test", "-k", "two words", **env)
    lines = out.splitlines()
    assert code == expected
    assert summary in lines[-1]
    assert lines[-2].startswith(f"{checkout.root} -m pytest -n ")
    assert "--dist loadfile -k two words threads=" in lines[-2]
    assert not lines[-2].endswith("=")


@pytest.mark.parametrize("script", ["test", "demo"])
def test_scripts_stop_when_the_setup_fails(bare, script):
    code, out, err = bare.run(script)
    assert (code, out) == (2, "")
    assert "no Python found" in err


def test_demo_script_passes_arguments_and_exit_code_on(checkout):
    code, out, _ = checkout.run("demo", "--shots", "1 4", RUN_CODE="3")
    assert code == 3
    assert out.startswith(f"{checkout.root} -m scripts.demo --shots 1 4 ")


def test_ci_runs_the_test_script():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "scripts/test.sh" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_requirement_is_pinned_once_for_each_python():
    seen: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text:
            found = re.fullmatch(r'([\w-]+)==[\w.]+(?:; python_version (<|>=) "3\.11")?', text)
            assert found, f"not pinned, or an unexpected marker: {line}"
            seen.setdefault(found[1].lower(), []).append(found[2] or "all")
    assert {"torch", "torchvision", "open_clip_torch", "pytest", "ruff", "mypy"} <= seen.keys()
    assert {name: marks for name, marks in seen.items() if marks not in (["all"], ["<", ">="])} == {}
