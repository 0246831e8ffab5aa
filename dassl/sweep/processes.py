"""Workers as processes of this machine; several may share a GPU."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType

from dassl.sweep.worker import Job, Outcome, Worker, gpu_of

_SECONDS_TO_STOP = 10.0
# "spawn": a forked copy of a process that has used torch's threads or a GPU may hang.
_CONTEXT = get_context("spawn")


@dataclass
class _Running:
    """A worker process and our end of the pipe to it."""

    process: BaseProcess
    pipe: Connection

    @property
    def signs(self) -> tuple[Connection, int]:
        """What becomes ready when the worker answers, and when it dies."""
        return self.pipe, self.process.sentinel


@dataclass
class _Slot:
    """A worker, started when first needed, and its current run."""

    gpu: str
    worker: _Running | None = None
    job: Job | None = None


class Processes:
    """An executor with ``jobs`` processes.

    Args:
        gpus: values for CUDA_VISIBLE_DEVICES, which the workers take in turn; empty: leave the variable unchanged.
        threads: torch threads in each worker.
    """

    def __init__(self, jobs: int, *, gpus: Sequence[str] = (), threads: int = 1) -> None:
        self._slots = [_Slot(gpu_of(number, gpus)) for number in range(jobs)]
        self._threads = threads

    @property
    def slots(self) -> int:
        """Largest number of workers."""
        return len(self._slots)

    @property
    def free(self) -> int:
        """Number of workers without a run."""
        return sum(slot.job is None for slot in self._slots)

    def submit(self, job: Job) -> str:
        """Give a run to a free worker, preferably to one whose process is running."""
        idle = [slot for slot in self._slots if slot.job is None]
        slot = min(idle, key=lambda each: not _is_alive(each.worker))
        worker = self._worker(slot)
        slot.job = job
        with contextlib.suppress(BrokenPipeError):  # it has just died; wait() will notice
            worker.pipe.send(job)
        return f"process {worker.process.pid}" + (f", GPU {slot.gpu}" if slot.gpu else "")

    def wait(self, seconds: float) -> list[Outcome]:
        """The runs that have ended, including those whose worker has died."""
        busy = [(slot, slot.worker, slot.job) for slot in self._slots if slot.worker and slot.job]
        ready = connection.wait([sign for _, worker, _ in busy for sign in worker.signs], seconds)
        outcomes = []
        for slot, worker, job in busy:
            outcome = _collect(worker, job) if any(sign in ready for sign in worker.signs) else None
            if outcome is not None:
                slot.job = None
                outcomes.append(outcome)
        return outcomes

    def close(self, *, at_once: bool = False) -> None:
        """End all processes: idle ones by a message, with ``at_once`` busy ones by a signal that lets them clean up."""
        started = [(slot, slot.worker) for slot in self._slots if slot.worker is not None]
        for slot, worker in started:
            if at_once and slot.job is not None:
                worker.process.terminate()
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
        for slot, worker in started:
            worker.process.join(_SECONDS_TO_STOP)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
            slot.worker = slot.job = None

    def _worker(self, slot: _Slot) -> _Running:
        """The worker of a slot, started again if it is not running."""
        if slot.worker is not None:
            if _is_alive(slot.worker):
                return slot.worker
            slot.worker.pipe.close()
            slot.worker = None
        ours, theirs = _CONTEXT.Pipe()
        arguments = (theirs, slot.gpu, self._threads)
        process = _CONTEXT.Process(target=_serve, args=arguments, name="sweep worker")
        with _interrupts_ignored():
            process.start()
        theirs.close()
        slot.worker = _Running(process, ours)
        return slot.worker


def _is_alive(worker: _Running | None) -> bool:
    return worker is not None and worker.process.is_alive()


def _collect(worker: _Running, job: Job) -> Outcome | None:
    """The outcome of a worker's run; None if there is no message yet."""
    try:
        if not worker.pipe.poll() and worker.process.is_alive():
            return None
        return worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(_SECONDS_TO_STOP)
        return Outcome(job.number, error=_why_it_died(worker.process.exitcode))


def _why_it_died(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its worker process ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = "; the system kills processes so when memory runs out" if name == "SIGKILL" else ""
    return f"its worker process was ended by {name}{hint}"


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Start workers that ignore Ctrl-C, which reaches all processes of a terminal; the sweep handles it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(pipe: Connection, gpu: str, threads: int) -> None:
    """The main function of a worker process."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before any computing library is loaded, not only torch
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = Worker(threads=threads)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while (job := pipe.recv()) is not None:
            pipe.send(worker.carry_out(job))


def _stop(signum: int, frame: FrameType | None) -> None:
    """Leave the run through its ``finally`` blocks, so that no temporary files remain."""
    raise SystemExit(128 + signum)


def _end_with_parent() -> None:
    """Stop a worker whose sweep was killed, because the next sweep would carry out the same run in parallel."""
    parent = parent_process()
    if parent is not None:  # None outside a worker process
        connection.wait([parent.sentinel])
        os._exit(1)
