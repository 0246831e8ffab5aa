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
from dassl.engine.run import config_digest
from dassl.results.record import BackboneInfo, RunResult, write_results
from dassl.utils.files import write_text
from scripts import launch

ROOT = Path(train.__file__).resolve().parent
SCRIPTS = ROOT / "scripts"
# What the scripts call as PYTHON: hands arguments and variables over, prints what comes back, ends with the exit code.
STAND_IN = """#!/bin/sh
{ printf '%s\\n' "$#" "$@" && env; } >"${0%/*}/request"
{ read -r code && cat; } <"${0%/*}/answer"
cat "${0%/*}/errors" >&2
exit "$code"
"""

Answer = Callable[[list[str]], int]


@dataclass(frozen=True)
class Call:
    """One start of train.py by a script."""

    words: list[str]

    def flag(self, name: str) -> str:
        """The last value of a flag of train.py."""
        return self.words[len(self.words) - self.words[::-1].index(name)]

    @property
    def keys(self) -> dict[str, str]:
        """The KEY VALUE pairs."""
        start = next(place for place, word in enumerate(self.words) if word[0].isupper() and "." in word)
        return dict(zip(self.words[start::2], self.words[start + 1 :: 2], strict=True))


def pretend(words: list[str]) -> int:
    """Leave the result of a run that was never done."""
    cfg = train.setup_cfg(train.parse(words))
    folder = Path(cfg.OUTPUT_DIR)
    write_text(folder / "config.yaml", cfg.dump())
    known = {"trainer": cfg.TRAINER.NAME, "dataset": cfg.DATASET.NAME, "shots": cfg.DATASET.NUM_SHOTS, "seed": cfg.SEED}
    info = BackboneInfo(cfg.MODEL.BACKBONE.NAME, "", "fp32")
    digest = config_digest(cfg)
    result = RunResult("train", backbone=info, split="test", metric=1.0, tasks=(), config_digest=digest, **known)
    write_results(folder, result)
    return 0


@dataclass
class Shell:
    """Starts scripts that put their runs below ``folder``/output.

    Attributes:
        answer: what happens when a script starts train.py.
        options: words that are added to every command.
        variables: of the scripts' environment.
        calls: the starts of train.py.
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
        while text := request.read_text():
            count, *lines = text.splitlines()
            words, variables = lines[: int(count)], lines[int(count) :]
            said, errors = io.StringIO(), io.StringIO()
            with redirect_stdout(said), redirect_stderr(errors):
                code = self._launch(words, dict(line.split("=", 1) for line in variables))
            (self.folder / "errors").write_text(errors.getvalue())
            answer.write_text(f"{code}\n{said.getvalue()}")

    def _launch(self, words: list[str], variables: dict[str, str]) -> int:
        """Do what Python would do."""
        assert Path(words[0]).name == "launch.py"
        try:
            return launch.main(words[1:], variables, self._train)
        except SystemExit as end:
            return end.code or 0

    def _train(self, words: list[str]) -> int:
        self.calls.append(Call(words))
        with redirect_stdout(io.StringIO()):
            return self.answer(words)
