"""One sweep from start to end: its lock, status file, executor and loop."""

from collections.abc import Sequence
from pathlib import Path

from dassl.sweep.estimates import Estimates
from dassl.sweep.executor_config import ExecutorConfig
from dassl.sweep.loop import carry_out
from dassl.sweep.plan import Found, Run
from dassl.sweep.status import Entry, Status, only_sweep


def start(
    name: str,
    folder: Path,
    runs: Sequence[Run],
    found: Sequence[Found],
    *,
    executor: ExecutorConfig,
    retries: int = 1,
) -> list[Entry]:
    """Carry out the runs that are not done; returns those that failed.

    Args:
        found: the state of each run's folder.

    Raises:
        UserError: another sweep is using ``folder``, or the GPUs or the cluster are missing.
    """
    entries = [_entry(run, state) for run, state in zip(runs, found, strict=True)]
    folder = folder.absolute()
    with only_sweep(folder):
        workers = executor.start(folder)
        status = Status(name, folder, entries, Estimates.of(runs, found), jobs=workers.slots)
        return carry_out(status, workers, retries=retries)


def _entry(run: Run, state: Found) -> Entry:
    result = run.result() if state == "done" else None
    if result is not None:
        return Entry(run, "done", seconds=result.seconds.get("total"), metric=result.metric)
    if state != "other":
        return Entry(run)
    what = "; ".join(run.conflicts()[:5])
    return Entry(
        run, "failed", error=f"{run.folder} holds a run with another config ({what}); use another --output-dir"
    )
