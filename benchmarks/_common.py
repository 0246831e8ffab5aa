"""Shared by the benchmarks: interleaved rounds, memory of the process, and facts about the machine."""

import contextlib
import gc
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import torch

from dassl.data.threads import cpu_count
from dassl.utils.tools import CHECKOUT, held_memory, peak_memory, versions

CPU = torch.device("cpu")
RESULTS = CHECKOUT / "benchmarks" / "results"


@dataclass(frozen=True)
class Measure:
    """One row of the table: ``action`` processes ``count`` items; ``base`` names the row for the ratio."""

    name: str
    action: Callable[[], object]
    count: int
    base: str = ""


@dataclass
class Seconds:
    """Seconds of a measure in each round: wall clock, and CPU time of this process without its children."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def take_turns(measures: Sequence[Measure], rounds: int) -> dict[str, Seconds]:
    """Run all measures in turn, round by round, after an unmeasured warm-up round; returns the seconds by name."""
    seconds = {measure.name: Seconds() for measure in measures}
    for number in range(rounds + 1):
        for measure in measures:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            measure.action()
            if number:
                seconds[measure.name].wall.append(time.perf_counter() - wall)
                seconds[measure.name].cpu.append(time.process_time() - cpu)
        print(f"round {number} of {rounds}", file=sys.stderr)
    return seconds


def recorded(measures: Sequence[Measure], seconds: dict[str, Seconds]) -> list[dict[str, object]]:
    """The seconds of all measures, for a JSON file."""
    found = []
    for measure in measures:
        times = {kind: [round(s, 6) for s in getattr(seconds[measure.name], kind)] for kind in ("wall", "cpu")}
        found.append({"name": measure.name, "count": measure.count, "base": measure.base, **times})
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress log lines below an error, such as those about classes without test images."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def held(device: torch.device = CPU) -> float:
    """MiB in tensors on a GPU, or resident in this process."""
    return held_memory(device)[_figure(device)]


def peak(device: torch.device = CPU) -> float:
    """The peak of :func:`held` since ``reset_peak_memory``, or since the process began."""
    return peak_memory(device)[_figure(device)]


def _figure(device: torch.device) -> str:
    return "device_mib" if device.type == "cuda" else "host_mib"


def result_file(name: str, *, cpu: bool = False) -> Path:
    """The file for the figures of a benchmark, which uses a GPU if there is one, unless ``cpu``."""
    return RESULTS / f"{name}-{'cuda' if torch.cuda.is_available() and not cpu else 'cpu'}.json"


def machine() -> dict[str, object]:
    """The machine and versions of the measurement."""
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


def commit() -> str:
    """The commit of the checkout, with a plus if files differ from it; "" outside git."""
    git = ["git", "-C", str(CHECKOUT)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name.stdout.strip() + ("+" if changed.stdout.strip() else "")
