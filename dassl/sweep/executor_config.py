"""The choice of the executor: processes of this machine, or a Ray cluster."""

from dataclasses import dataclass
from pathlib import Path

from dassl.sweep.executor import Executor
from dassl.sweep.processes import Processes
from dassl.sweep.worker import threads_per_worker
from dassl.utils.errors import UserError

_MOST_JOBS_WITHOUT_GPU = 8


@dataclass(frozen=True)
class ExecutorConfig:
    """Settings of the executor.

    Attributes:
        jobs: runs at the same time; 0: one for each GPU or, without GPUs, one for each core (at most 8); on a Ray
            cluster, as many as fit.
        gpus: GPUs of this machine (values for CUDA_VISIBLE_DEVICES) that the workers take in turn; empty: all.
        ray: "" for processes of this machine, "auto", or the address of a Ray cluster.
        gpus_per_run, cpus_per_run: resources of a run on a Ray cluster; None: one GPU if the cluster has any.
        bring_back: the machines of the cluster share no folder; each run's folder is sent back when it ends.
        open_cluster: accept a cluster that requires no token.

    Raises:
        UserError: ``jobs`` is negative; the sweep would wait forever.
    """

    jobs: int = 0
    gpus: tuple[str, ...] = ()
    ray: str = ""
    gpus_per_run: float | None = None
    cpus_per_run: int = 1
    bring_back: bool = False
    open_cluster: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise UserError(f"--jobs {self.jobs}: expected 0 or more")

    def start(self, folder: Path) -> Executor:
        """Start the workers of a sweep that writes into ``folder``."""
        if self.ray:
            from dassl.sweep.cluster import RayCluster

            return RayCluster(self, folder)
        jobs, gpus = self.local()
        return Processes(jobs, gpus=gpus, threads=threads_per_worker(jobs, _cores()))

    def local(self) -> tuple[int, tuple[str, ...]]:
        """(jobs, GPUs) of this machine, with defaults filled in.

        Raises:
            UserError: a GPU does not exist; a run would silently use the CPU.
        """
        visible = _visible_gpus()
        for name in self.gpus:
            if not visible:
                raise UserError(f"--gpus {name}: torch sees no GPU here; leave --gpus out to use the CPU")
            if name.isdigit() and name not in visible:
                raise UserError(f"--gpus {name}: the GPUs here are {', '.join(visible)}")
        gpus = self.gpus or visible
        return self.jobs or len(gpus) or min(_cores(), _MOST_JOBS_WITHOUT_GPU), gpus


def _visible_gpus() -> tuple[str, ...]:
    import os

    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    count = torch.cuda.device_count()
    return tuple(named.split(",")[:count]) if named else tuple(map(str, range(count)))


def _cores() -> int:
    from dassl.data.threads import cpu_count

    return cpu_count()
