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
class _Slot:
    """A worker process, started when it is first needed, and the run that it has."""

    gpu: str
    process: BaseProcess | None = None
    pipe: Connection | None = None
    job: Job | None = None


class Processes:
    """An executor with ``jobs`` processes.

    Args:
        gpus: values for CUDA_VISIBLE_DEVICES that the workers take turns with; empty: leave it alone.
        threads: of torch, in each worker.
    """

    def __init__(self, jobs: int, *, gpus: Sequence[str] = (), threads: int = 1) -> None:
        self._slots = [_Slot(gpu_of(number, gpus)) for number in range(jobs)]
        self._threads = threads

    @property
    def slots(self) -> int:
        """Workers at most."""
        return len(self._slots)

    @property
    def free(self) -> int:
        """Workers without a run."""
        return sum(slot.job is None for slot in self._slots)

    def submit(self, job: Job) -> str:
        """Give a run to a free worker, preferably to one that runs already."""
        idle = [slot for slot in self._slots if slot.job is None]
        slot = min(idle, key=lambda slot: not _is_alive(slot))
        if not _is_alive(slot):
            self._start(slot)
        slot.job = job
        with contextlib.suppress(BrokenPipeError):  # it died just now; wait() will see that
            slot.pipe.send(job)
        return f"process {slot.process.pid}" + (f", GPU {slot.gpu}" if slot.gpu else "")

    def wait(self, seconds: float) -> list[Outcome]:
        """The runs that have ended, with those whose worker has died."""
        busy = [slot for slot in self._slots if slot.job is not None]
        ready = connection.wait([part for slot in busy for part in (slot.pipe, slot.process.sentinel)], seconds)
        outcomes = [_collect(slot) for slot in busy if slot.pipe in ready or slot.process.sentinel in ready]
        return [outcome for outcome in outcomes if outcome is not None]

    def close(self, *, at_once: bool = False) -> None:
        """End all processes: idle ones by themselves, busy ones by a signal that lets them clean up."""
        started = [slot for slot in self._slots if slot.process is not None]
        for slot in started:
            if at_once and slot.job is not None:
                slot.process.terminate()
            with contextlib.suppress(OSError):
                slot.pipe.send(None)
        for slot in started:
            slot.process.join(_SECONDS_TO_STOP)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.pipe.close()
            slot.process = slot.pipe = slot.job = None

    def _start(self, slot: _Slot) -> None:
        if slot.pipe is not None:
            slot.pipe.close()
        slot.pipe, theirs = _CONTEXT.Pipe()
        arguments = (theirs, slot.gpu, self._threads)
        slot.process = _CONTEXT.Process(target=_serve, args=arguments, name="sweep worker")
        with _interrupts_ignored():
            slot.process.start()
        theirs.close()


def _is_alive(slot: _Slot) -> bool:
    return slot.process is not None and slot.process.is_alive()


def _collect(slot: _Slot) -> Outcome | None:
    """The outcome of a slot's run; None when the message was none after all."""
    job = slot.job
    try:
        if not slot.pipe.poll() and slot.process.is_alive():
            return None
        outcome = slot.pipe.recv()
    except (EOFError, OSError):
        slot.process.join(_SECONDS_TO_STOP)
        outcome = Outcome(job.number, error=_why_it_died(slot.process.exitcode))
    slot.job = None
    return outcome


def _why_it_died(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its worker process ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = "; that is how the system ends a process when memory runs out" if name == "SIGKILL" else ""
    return f"its worker process was ended by {name}{hint}"


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal; a worker that inherits "ignore" leaves the answer to the sweep."""
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
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before anything that computes is loaded; torch is not alone
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = Worker(threads=threads)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while (job := pipe.recv()) is not None:
            pipe.send(worker.carry_out(job))


def _stop(signum: int, frame: FrameType | None) -> None:
    """Leave the run by way of its ``finally`` blocks, so that no temporary file stays."""
    raise SystemExit(128 + signum)


def _end_with_parent() -> None:
    """A worker whose sweep was killed must not go on: the next sweep would do the same run beside it."""
    connection.wait([parent_process().sentinel])
    os._exit(1)
