"""Workers: each sets its process up once and then carries out one run after the other."""

import gc
import logging
import os
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dassl.results.record import RunResult
from dassl.utils.errors import PassingError, UserError
from dassl.utils.logger import LOG_FILE


@dataclass(frozen=True)
class Job:
    """A run to carry out: its number in the sweep and its whole config by dotted key.

    Attributes:
        evaluations: configs of the evaluations that follow.
    """

    number: int
    config: dict[str, Any]
    evaluations: tuple[dict[str, Any], ...] = ()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config["OUTPUT_DIR"])


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        error: "" or the reason in one line.
        mistake: the error is the user's, so the same run would fail again.
        seconds, metric: from its result.
    """

    number: int
    error: str = ""
    mistake: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    metric: float | None = None


class Worker:
    """Carries out runs in this process; the frozen model and the lists of data stay loaded between runs.

    Args:
        threads: torch threads.
    """

    def __init__(self, *, threads: int) -> None:
        os.environ["TQDM_DISABLE"] = "1"
        import torch

        from dassl.utils.cache import use_cache

        torch.set_num_threads(threads)
        use_cache()
        _silence_console()

    def carry_out(self, job: Job) -> Outcome:
        """Start or resume a run; a failure is returned as an outcome."""
        try:
            result = _run(job.config)
            for evaluation in job.evaluations:
                _run(evaluation, eval_only=True, model_dir=str(job.folder))
            return Outcome(job.number, seconds=result.seconds, metric=result.metric)
        except UserError as error:
            return Outcome(job.number, error=one_line(error), mistake=not isinstance(error, PassingError))
        except Exception as error:
            return Outcome(job.number, error=f"{type(error).__name__}: {one_line(error)}; {_noted(job)}")
        finally:
            _tidy_up()


def _run(config: dict[str, Any], **options: Any) -> RunResult:
    from dassl.config import get_cfg_default, merge_cfg
    from dassl.engine.run import run

    cfg = get_cfg_default()
    merge_cfg(cfg, values=config)
    cfg.freeze()
    # After this block Python forgets which warnings it has shown, so that each log gets its own.
    with warnings.catch_warnings():
        result = run(cfg, **options)
    assert result is not None, "only a run that does not train has no result"
    return result


def one_line(error: BaseException) -> str:
    """The text of an exception as one line."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__


def _noted(job: Job) -> str:
    """Write the stack trace of the current exception to the run's log; returns a text about it."""
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        with (job.folder / LOG_FILE).open("a", encoding="utf-8") as log:
            log.write(traceback.format_exc())
    except OSError:
        return "its log cannot be written"
    return f"the stack trace is at the end of {job.folder / LOG_FILE}"


def _silence_console() -> None:
    """Show no log messages on the console, where those of many runs would mix; each run has its log.txt."""
    from dassl.utils.logger import setup_logger

    setup_logger(None)
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL + 1)


def _tidy_up() -> None:
    """Free the memory of the run, whose trainer is part of reference cycles."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def threads_per_worker(jobs: int, cores: int) -> int:
    """Threads of each of ``jobs`` workers: OMP_NUM_THREADS if set, else their share of ``cores``."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # it may list a number for each nesting level
    return int(asked) if asked.isdigit() and int(asked) else max(1, cores // max(jobs, 1))


def gpu_of(number: int, gpus: Sequence[str]) -> str:
    """The GPU of a worker; workers take the GPUs in turn; "" without a list."""
    return gpus[number % len(gpus)] if gpus else ""
