"""Runs the experiment scripts; the test process takes the place of their Python, so a run costs no start of torch."""

import io
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

import train
from dassl.utils.files import write_text
from scripts import count_tasks

ROOT = Path(train.__file__).resolve().parent
SCRIPTS = ROOT / "scripts"
# What the scripts call as PYTHON: hands its arguments over, prints what comes back, ends with the exit code.
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" >"${0%/*}/request"
{ read -r code && cat; } <"${0%/*}/answer"
cat "${0%/*}/errors" >&2
exit "$code"
"""

TASKS = {"general10": 10, "plant6": 6, "rs8": 8, "fashion20": 20}
Answer = Callable[[str, list[str]], int]


@dataclass(frozen=True)
class Call:
    """One start of Python by a script."""

    program: str
    words: list[str]

    def flag(self, name: str) -> str:
        """The last value of a flag of train.py."""
        return self.words[len(self.words) - self.words[::-1].index(name)]

    @property
    def keys(self) -> dict[str, str]:
        """The KEY VALUE pairs."""
        start = next(place for place, word in enumerate(self.words) if word[0].isupper() and "." in word)
        return dict(zip(self.words[start::2], self.words[start + 1 :: 2], strict=True))


def carry_out(program: str, words: list[str]) -> int:
    """Do what Python would do."""
    return {"train.py": train.main, "count_tasks.py": count_tasks.main}[program](words)


def pretend(program: str, words: list[str]) -> int:
    """Leave a result without a run; what is no suite has three tasks."""
    if program == "count_tasks.py":
        print(TASKS.get(Path(words[words.index("--dataset-config-file") + 1]).stem, 3))
    else:
        write_text(Path(words[words.index("--output-dir") + 1]) / "results.json", "{\n}\n")
    return 0


@dataclass
class Shell:
    """Starts scripts that put their runs below ``folder``/output.

    Attributes:
        answer: what happens when a script calls Python.
        options: words that are added to every command.
        variables: of the scripts' environment.
        calls: what the scripts asked of Python.
    """

    folder: Path
    answer: Answer = pretend
    options: Sequence[str] = ()
    variables: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    @property
    def output(self) -> Path:
        """The folder of all runs."""
        return self.folder / "output"

    @property
    def trained(self) -> list[Call]:
        """The calls of train.py."""
        return [call for call in self.calls if call.program == "train.py"]

    def start(self, line: str, *, cwd: Path = SCRIPTS, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command line, with the variables at its beginning; the script is found in ``cwd`` or by its path."""
        words = shlex.split(line, comments=True)
        while "=" in words[0]:
            name, value = words.pop(0).split("=", 1)
            variables[name] = value
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        given = {"OUTPUT": str(self.output), "SEEDS": "1", "OMP_NUM_THREADS": "1", **self.variables, **variables}
        command = [*words, *self.options]
        return subprocess.run(command, cwd=cwd, env=kept | given, capture_output=True, text=True, timeout=300)

    def run(self, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Like :meth:`start`, with this process as the interpreter."""
        request, answer, program = self._pipes()
        served = threading.Thread(target=self._serve, args=(request, answer), daemon=True)
        served.start()
        try:
            return self.start(line, PYTHON=str(program), **variables)
        finally:
            self._end(served, request)

    def runs(self) -> list[str]:
        """The run folders below ``output``, sorted."""
        found = self.output.rglob("results.json")
        return sorted(path.parent.relative_to(self.output).as_posix() for path in found)

    def _pipes(self) -> tuple[Path, Path, Path]:
        request, answer, program = (self.folder / name for name in ("request", "answer", "python"))
        if not program.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            os.mkfifo(request)
            os.mkfifo(answer)
            program.write_text(STAND_IN)
            program.chmod(0o755)
        return request, answer, program

    @staticmethod
    def _end(served: threading.Thread, request: Path) -> None:
        """Let the thread read an empty request, which ends it, as soon as it waits for one."""
        latest = time.monotonic() + 60
        while served.is_alive():
            assert time.monotonic() < latest, "a script ended in the middle of a run"
            with suppress(OSError):
                os.close(os.open(request, os.O_WRONLY | os.O_NONBLOCK))
            served.join(timeout=0.01)

    def _serve(self, request: Path, answer: Path) -> None:
        while words := request.read_text().splitlines():
            call = Call(Path(words[0]).name, words[1:])
            self.calls.append(call)
            said, errors = io.StringIO(), io.StringIO()
            with redirect_stdout(said), redirect_stderr(errors):
                code = self.answer(call.program, call.words)
            (self.folder / "errors").write_text(errors.getvalue())
            answer.write_text(f"{code}\n{said.getvalue() if call.program == 'count_tasks.py' else ''}")
