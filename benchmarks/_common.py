"""What the benchmarks share: taking turns, memory of the process, and what is known about the machine."""

import contextlib
import ctypes
import gc
import logging
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch

from dassl.data.images import cpu_count
from dassl.utils.tools import versions


@dataclass(frozen=True)
class Measure:
    """One row of the table: ``action`` does the work for ``count`` things; ``base`` names the row it is divided by."""

    name: str
    action: Callable[[], object]
    count: int
    base: str = ""


def take_turns(measures: Sequence[Measure], rounds: int) -> dict[str, list[float]]:
    """Seconds of every measure in every round; an unmeasured round warms up."""
    seconds: dict[str, list[float]] = {measure.name: [] for measure in measures}
    for number in range(rounds + 1):
        for measure in measures:
            gc.collect()
            started = time.perf_counter()
            measure.action()
            if number:
                seconds[measure.name].append(time.perf_counter() - started)
        print(f"round {number} of {rounds}", file=sys.stderr)
    return seconds


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log lines below an error, e.g. of classes without a test image."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def peak() -> float:
    """Largest resident memory of this process so far, in MiB."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Let ``peak`` start anew where Linux allows it; elsewhere it stays the largest of the whole life.

    Memory that was freed, but not yet given back to the system, would hide what is taken next.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def resident() -> float:
    """Resident memory of this process now, in MiB."""
    return _status("VmRSS")


def _status(field: str) -> float:
    """A line of Linux' account of this process; elsewhere, where there is none, NaN."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), math.nan)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return {
        "system": platform.platform(),
        "processor": models[0] if models else platform.processor(),
        "cores": cpu_count(),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "load (1, 5, 15 minutes)": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else [],
        "threads of torch": torch.get_num_threads(),
        "versions": versions(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
