"""Workers on a Ray cluster (optional: requirements-ray.txt).

Each worker is an actor that keeps its share of a GPU until the sweep ends. The code of this checkout goes to the
machines with the job; the config of a run is sent as a whole, so no file of it has to be there.
"""

import contextlib
import logging
import math
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dassl.sweep.worker import Explained, Job, Outcome, Worker, one_line
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path
from dassl.utils.results import RESULTS_FILE
from dassl.utils.tools import CHECKOUT

if TYPE_CHECKING:
    from dassl.sweep.session import Place

_log = logging.getLogger(__name__)
_TOKEN = ".sweep-token"
# Patterns as in .gitignore, from the checkout's root.
_NOT_SENT = ["/.git", "/.venv", "/output", "/data", "/tests", "/benchmarks", "/docs", "__pycache__"]
_LOOPBACK = "127.0.0.1"

# Files of a run folder by their path in it.
Files = Mapping[str, bytes]


class RemoteWorker:
    """The actor: a :class:`Worker` on some machine of the cluster.

    Args:
        token: a file in the sweep's folder, which a machine that shares the folder sees; "": none is shared.
    """

    def __init__(self, threads: int, explained: Explained, token: str) -> None:
        self._worker = Worker(threads=threads, explained=explained)
        self._token = token

    def hello(self) -> tuple[str, bool]:
        """(name of this worker, whether it sees the sweep's folder)."""
        return f"process {os.getpid()} on {platform.node()}", not self._token or Path(self._token).is_file()

    def carry_out(self, job: Job, files: Files | None) -> tuple[Outcome, Files]:
        """Do a run; with ``files`` in a folder of this machine, which starts with them and whose files come back."""
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
    """The config with all that is written on this machine; features and caches stay for later runs."""
    common = Path(tempfile.gettempdir()) / f"sweep-{os.getuid() if hasattr(os, 'getuid') else 'files'}"
    places = {"DATALOADER.FEATURES_DIR": str(common / "features"), "DATASET.CACHE_DIR": str(common / "cache")}
    return {**config, **places, "OUTPUT_DIR": str(folder)}


def read_files(folder: Path, name: Path) -> dict[str, bytes]:
    """All files of a run folder; texts call the folder ``name``."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            is_text = path.suffix in (".txt", ".yaml", ".json")
            key = path.relative_to(folder).as_posix()
            found[key] = content.replace(str(folder).encode(), str(name).encode()) if is_text else content
    return found


def write_files(folder: Path, files: Files) -> None:
    """Write the files of a run folder, ``results.json`` last, because it says that the run is finished.

    Raises:
        UserError: the folder cannot be written, or a path leads out of it.
    """
    for name in sorted(files, key=lambda name: name == RESULTS_FILE):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"a worker sent the file {name!r}, which does not belong into {folder}")
        with atomic_path(folder / path) as temporary:
            temporary.write_bytes(files[name])


class RayCluster:
    """An executor on a Ray cluster.

    Raises:
        UserError: Ray is not installed, there is no cluster, or it has not what a run needs.
    """

    def __init__(self, place: "Place", folder: Path, *, explained: Explained = ()) -> None:
        self._ray = _import_ray()
        self._explained, self._bring_back = explained, place.bring_back
        _connect(self._ray, place.ray)
        has = self._ray.cluster_resources()
        # Ray hides the GPUs from a worker that asks for none, so a run would silently take place on the CPU.
        gpus = place.gpus_per_run if place.gpus_per_run is not None else min(1.0, has.get("GPU", 0.0))
        self._needs = {"num_cpus": place.cpus_per_run, "num_gpus": gpus}
        fit = room(has, **self._needs)  # asked in any case: workers without room would be waited for without end
        self.slots = place.jobs or fit
        self._token = None if place.bring_back else folder / _TOKEN
        if self._token:
            self._token.touch()
        self._idle: list[tuple[str, Any]] = []
        self._starting: dict[Any, Any] = {}
        self._busy: dict[Any, tuple[str, Any, Job]] = {}
        for _ in range(self.slots):
            self._start()

    @property
    def free(self) -> int:
        """Workers that have reported and have no run."""
        return len(self._idle)

    def submit(self, job: Job) -> str:
        """Send a run to a free worker."""
        name, actor = self._idle.pop()
        files = read_files(job.folder, job.folder) if self._bring_back else None
        self._busy[actor.carry_out.remote(job, files)] = (name, actor, job)
        return name

    def wait(self, seconds: float) -> list[Outcome]:
        """The runs that have ended; a worker that was lost is replaced."""
        pending = [*self._starting, *self._busy]
        ready, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(pending, num_returns=1, timeout=seconds)
        return [outcome for reference in ready if (outcome := self._take(reference)) is not None]

    def close(self, *, at_once: bool = False) -> None:
        """Let the workers and the cluster go; nothing is busy unless ``at_once``."""
        actors = [*self._starting.values(), *(actor for _, actor, _ in self._busy.values())]
        with contextlib.suppress(self._ray.exceptions.RayError):
            for actor in actors:
                self._ray.kill(actor)
        self._ray.shutdown()
        if self._token:
            self._token.unlink(missing_ok=True)

    def _take(self, reference: Any) -> Outcome | None:
        if reference in self._starting:
            self._welcome(reference)
            return None
        name, actor, job = self._busy.pop(reference)
        try:
            outcome, files = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._start()
            return Outcome(job.number, error=f"its worker, {name}, was lost: {_reason(error)}")
        write_files(job.folder, files)
        self._idle.append((name, actor))
        return outcome

    def _welcome(self, reference: Any) -> None:
        """A worker has reported."""
        actor = self._starting.pop(reference)
        try:
            name, sees_folder = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            raise UserError(f"a worker could not start on the Ray cluster: {_reason(error)}") from error
        if not sees_folder:
            raise UserError(
                f"{name} does not see {self._token.parent}; put it on a folder that all machines share, "
                "or add --bring-back"
            )
        self._idle.append((name, actor))

    def _start(self) -> None:
        kind = self._ray.remote(**self._needs, max_restarts=0)(RemoteWorker)
        actor = kind.remote(self._needs["num_cpus"], self._explained, str(self._token or ""))
        self._starting[actor.hello.remote()] = actor


def room(has: Mapping[str, float], *, num_cpus: int, num_gpus: float) -> int:
    """Runs that a cluster with the resources ``has`` can carry out at the same time.

    Raises:
        UserError: not a single one.
    """
    cpus, gpus = has.get("CPU", 0.0), has.get("GPU", 0.0)
    # A run takes a share of one GPU or several whole ones, so each GPU is filled by itself.
    by_gpu = math.inf if not num_gpus else gpus / num_gpus if num_gpus >= 1 else gpus * math.floor(1 / num_gpus + 1e-9)
    count = math.floor(min(cpus / num_cpus, by_gpu))
    if count < 1:
        raise UserError(
            f"the Ray cluster has {cpus:g} cores and {gpus:g} GPUs, too little for a run with "
            f"--cpus-per-run {num_cpus} and --gpus-per-run {num_gpus:g}"
        )
    return count


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray needs Ray; install it with: pip install -r requirements-ray.txt") from error
    if any(map(str.isspace, sys.executable)):
        # Ray starts its workers through a shell and does not quote; they would fail to start for ever.
        raise UserError(
            f"Ray cannot start workers by an interpreter whose path has a blank: {sys.executable}; "
            "use a checkout or an environment without one in its path"
        )
    return ray


def _connect(ray: Any, address: str) -> None:
    """Join a cluster; "auto" finds the one on this machine, or starts one that only this machine can reach."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "sweep"}
    options["runtime_env"] = {"working_dir": str(CHECKOUT), "excludes": _NOT_SENT}
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        if address != "auto":
            raise UserError(f"there is no Ray cluster at {address}: {_reason(error)}") from error
        _log.info("No Ray cluster is running here; starting one for this sweep")
        ray.init(address="local", include_dashboard=False, _node_ip_address=_LOOPBACK, **options)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot join the Ray cluster at {address}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The first sentence of what Ray says, which is often a page."""
    return one_line(error).split("; ")[0]
