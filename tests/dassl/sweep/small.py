"""A sweep whose runs take a moment, and whose data any process can read: two own tasks of a few tiny images."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from dassl.results.record import RunResult, read_results
from dassl.sweep.worker import Job, Outcome, Worker
from tests.dassl.data.toy import write_image
from tests.lab import SETTINGS

CLASSES = {"pets": ("cat", "dog"), "tools": ("hammer", "saw", "drill")}
TRAINER = {"trainer": "MTCoOp", "setting": "NATA"}


@dataclass(frozen=True)
class Small:
    """Files of the sweep: ``file`` describes it, ``output`` is where its runs go."""

    folder: Path
    backbone: Path

    @property
    def file(self) -> Path:
        return self.folder / "small.yaml"

    @property
    def output(self) -> Path:
        return self.folder / "runs"

    @property
    def root(self) -> Path:
        return self.folder / "data"

    def write(self, **changes: object) -> "Small":
        """Write the images, the suite and the sweep; ``changes`` replace fields of the sweep file."""
        for task, names in CLASSES.items():
            for label, name in enumerate(names):
                for number in range(6):
                    write_image(self.root / task / name / f"{number}.png", seed=label * 7 + number)
        tasks = [{"name": task, "folder": task} for task in CLASSES]
        self._yaml("suite.yaml", {"DATASET": {"NAME": "MyTasks", "TASKS": tasks}})
        self._yaml("method.yaml", {})
        keys = {key: value for key, value in SETTINGS.items() if not key.startswith("DATASET.")}
        options = {**keys, "DATASET.ROOT": str(self.root), "MODEL.BACKBONE.NAME": str(self.backbone)}
        method = {"label": "soft", **TRAINER, "config": str(self.folder / "method.yaml")}
        content = {"suites": [str(self.folder / "suite.yaml")], "methods": [method], "shots": [1, 2], "seeds": [1, 2]}
        self._yaml(self.file.name, {**content, "options": options, "output": str(self.output), **changes})
        return self

    def command(self, *flags: str) -> list[str]:
        """Arguments of sweep.py."""
        return [str(self.file), *flags]

    def results(self) -> dict[str, RunResult]:
        """Results of all finished runs by folder."""
        found = sorted(self.output.rglob("results.json"))
        return {path.parent.relative_to(self.output).as_posix(): read_results(path.parent) for path in found}

    def _yaml(self, name: str, content: dict) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


class Here:
    """An executor in this process: a run is carried out when somebody waits for it.

    ``answers`` replaces runs: what to return (or raise) for the n-th submission, or what makes an outcome of the job;
    None carries the run out.
    """

    def __init__(self, slots: int = 1, answers: Iterable[object] = ()) -> None:
        self.slots, self.closed = slots, None
        self.jobs: list[Job] = []
        self.submitted: list[int] = []
        self._answers = iter(answers)
        self._worker: Worker | None = None

    @property
    def free(self) -> int:
        return self.slots - len(self.jobs)

    def submit(self, job: Job) -> str:
        assert self.free
        self.jobs.append(job)
        self.submitted.append(job.number)
        return "here"

    def wait(self, seconds: float) -> list[Outcome]:
        job = self.jobs.pop(0)
        answer = next(self._answers, None)
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            return [answer(job)]
        if isinstance(answer, str):
            return [Outcome(job.number, error=answer)]
        if isinstance(answer, float):
            return [Outcome(job.number, seconds={"total": answer, "train": answer / 2}, metric=50.0)]
        self._worker = self._worker or Worker(threads=1)
        return [self._worker.carry_out(job)]

    def close(self, *, at_once: bool = False) -> None:
        self.closed = at_once
