"""Workers on a Ray cluster (optional: requirements-ray.txt).

Each worker is an actor that keeps its share of a GPU until the sweep ends. Ray sends the code of this checkout to the
machines. A job contains the whole config of its run, so the machines need no config files.
"""

import contextlib
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dassl.results.record import RESULTS_FILE
from dassl.sweep.joining import join, reason, within
from dassl.sweep.worker import Job, Outcome, Worker
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path

if TYPE_CHECKING:
    from dassl.sweep.executor_config import ExecutorConfig

_MARK = ".sweep-mark"
_SECONDS_TO_ANSWER = 60.0
_SECONDS_TO_START = 300.0  # of the first worker, after it was requested

# Contents of a run folder's files, by path in the folder.
Files = Mapping[str, bytes]


class RemoteWorker:
    """The actor: a :class:`Worker` on a machine of the cluster.

    Args:
        mark: a file in the sweep's folder, visible to machines that share the folder; "": no folder is shared.
    """

    def __init__(self, threads: int, mark: str) -> None:
        self._worker = Worker(threads=threads)
        self._mark = mark

    def hello(self) -> tuple[str, bool]:
        """(name of this worker, whether it sees the sweep's folder)."""
        return f"process {os.getpid()} on {platform.node()}", not self._mark or Path(self._mark).is_file()

    def carry_out(self, job: Job, files: Files | None) -> tuple[Outcome, Files]:
        """Carry out a run; with ``files``, in a temporary folder that starts with them, and return its files."""
        if files is None:
            return self._worker.carry_out(job), {}
        here = Path(tempfile.mkdtemp(prefix="sweep-run-"))
        try:
            write_files(here, files)
            outcome = self._worker.carry_out(replace(job, config=_moved(job.config, here)))
            return replace(outcome, error=outcome.error.replace(str(here), str(job.folder))), read_files(
                here, job.folder
            )
        finally:
            shutil.rmtree(here, ignore_errors=True)


def _moved(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The config with all output folders on this machine; features and caches stay for later runs."""
    common = Path(tempfile.gettempdir()) / f"sweep-{os.getuid() if hasattr(os, 'getuid') else 'files'}"
    places = {"DATALOADER.FEATURES_DIR": str(common / "features"), "DATASET.CACHE_DIR": str(common / "cache")}
    return {**config, **places, "OUTPUT_DIR": str(folder)}


def read_files(folder: Path, name: Path) -> dict[str, bytes]:
    """All files of a run folder; in text files, ``name`` replaces the folder's path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            is_text = path.suffix in (".txt", ".yaml", ".json")
            key = path.relative_to(folder).as_posix()
            found[key] = content.replace(str(folder).encode(), str(name).encode()) if is_text else content
    return found


def write_files(folder: Path, files: Files) -> None:
    """Write the files of a run folder, ``results.json`` last because it marks the run as finished.

    Raises:
        UserError: the folder cannot be written, or a path leads outside it.
    """
    for name in sorted(files, key=lambda name: name == RESULTS_FILE):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"a worker sent the file {name!r}, which leads outside {folder}")
        with atomic_path(folder / path) as temporary:
            temporary.write_bytes(files[name])


class RayCluster:
    """An executor on a Ray cluster.

    Raises:
        UserError: Ray is not installed, there is no cluster that may be joined, or it lacks the resources for a run.
    """

    def __init__(self, config: "ExecutorConfig", folder: Path) -> None:
        self._bring_back = config.bring_back
        self._ray = join(config.ray, open_cluster=config.open_cluster)
        has = within(_SECONDS_TO_ANSWER, self._ray.cluster_resources, "the Ray cluster")
        # Ray hides the GPUs from a worker that requests none, so a run would silently use the CPU.
        gpus = config.gpus_per_run if config.gpus_per_run is not None else min(1.0, has.get("GPU", 0.0))
        self._needs = {"num_cpus": config.cpus_per_run, "num_gpus": gpus}
        fit = room(
            has, num_cpus=config.cpus_per_run, num_gpus=gpus
        )  # checked in any case: the sweep would wait forever for workers that do not fit
        self.slots = config.jobs or fit
        self._folder = folder
        self._mark = None if config.bring_back else folder / _MARK
        if self._mark:
            self._mark.touch()
        self._idle: list[tuple[str, Any]] = []
        self._starting: dict[Any, Any] = {}
        self._busy: dict[Any, tuple[str, Any, Job]] = {}
        self._asked = 0.0  # when a worker was last requested, by the monotonic clock
        for _ in range(self.slots):
            self._start()

    @property
    def free(self) -> int:
        """Number of workers that have started and have no run."""
        return len(self._idle)

    def submit(self, job: Job) -> str:
        """Send a run to a free worker."""
        name, actor = self._idle.pop()
        files = read_files(job.folder, job.folder) if self._bring_back else None
        self._busy[actor.carry_out.remote(job, files)] = (name, actor, job)
        return name

    def wait(self, seconds: float) -> list[Outcome]:
        """The runs that have ended; lost workers are replaced.

        Raises:
            UserError: no worker can start.
        """
        if not self._idle and not self._busy and time.monotonic() - self._asked > _SECONDS_TO_START:
            raise UserError(
                f"no worker could start on the Ray cluster within {_SECONDS_TO_START:g} s; others use it, or a "
                "machine is gone; check it with: ray status"
            )
        pending = [*self._starting, *self._busy]
        ready, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(pending, num_returns=1, timeout=seconds)
        return [outcome for reference in ready if (outcome := self._take(reference)) is not None]

    def close(self, *, at_once: bool = False) -> None:
        """Stop the workers and leave the cluster; no worker is busy unless ``at_once``."""
        actors = [*self._starting.values(), *(actor for _, actor, _ in self._busy.values())]
        with contextlib.suppress(self._ray.exceptions.RayError, UserError):
            within(_SECONDS_TO_ANSWER, lambda: [self._ray.kill(actor) for actor in actors], "the Ray cluster")
        with contextlib.suppress(UserError):
            within(_SECONDS_TO_ANSWER, self._ray.shutdown, "the Ray cluster")
        if self._mark:
            self._mark.unlink(missing_ok=True)

    def _take(self, reference: Any) -> Outcome | None:
        if reference in self._starting:
            self._welcome(reference)
            return None
        name, actor, job = self._busy.pop(reference)
        try:
            outcome, files = self._ray.get(reference, timeout=_SECONDS_TO_ANSWER)
        except self._ray.exceptions.RayError as error:
            self._start()
            return Outcome(job.number, error=f"its worker, {name}, was lost: {reason(error)}")
        write_files(job.folder, files)
        self._idle.append((name, actor))
        return outcome

    def _welcome(self, reference: Any) -> None:
        """Accept a worker that has started."""
        actor = self._starting.pop(reference)
        try:
            name, sees_folder = self._ray.get(reference, timeout=_SECONDS_TO_ANSWER)
        except self._ray.exceptions.RayError as error:
            raise UserError(f"a worker could not start on the Ray cluster: {reason(error)}") from error
        if not sees_folder:
            raise UserError(
                f"{name} does not see {self._folder}; use a folder that all machines share, or add --bring-back"
            )
        self._idle.append((name, actor))

    def _start(self) -> None:
        kind = self._ray.remote(**self._needs, max_restarts=0)(RemoteWorker)
        actor = kind.remote(self._needs["num_cpus"], str(self._mark or ""))
        self._starting[actor.hello.remote()] = actor
        self._asked = time.monotonic()


def room(has: Mapping[str, float], *, num_cpus: int, num_gpus: float) -> int:
    """Number of runs that a cluster with the resources ``has`` can carry out at the same time.

    Raises:
        UserError: the resources do not suffice for one run.
    """
    cpus, gpus = has.get("CPU", 0.0), has.get("GPU", 0.0)
    # A run takes a share of one GPU or several whole GPUs, so each GPU is filled separately.
    by_gpu = math.inf if not num_gpus else gpus / num_gpus if num_gpus >= 1 else gpus * math.floor(1 / num_gpus + 1e-9)
    count = math.floor(min(cpus / num_cpus, by_gpu))
    if count < 1:
        raise UserError(
            f"the Ray cluster has {cpus:g} cores and {gpus:g} GPUs, too little for a run with "
            f"--cpus-per-run {num_cpus} and --gpus-per-run {num_gpus:g}"
        )
    return count
