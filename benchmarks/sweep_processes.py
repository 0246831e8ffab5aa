"""Measure the savings of a sweep: the runs of the demo suite by sweep.py's workers, and in one process each.

The separate processes have two ways: with one feature store for all of them, like the workers, and with nothing
shared. All ways carry out the same runs with the same number of processes at a time, in separate folders that are
empty at first, and must give the same figures. They are interleaved, so that a busy machine affects them equally.

  python -m benchmarks.sweep_processes            the recorded figures: 45 runs (many minutes)
  python -m benchmarks.sweep_processes --quick    the same code with 4 runs of one epoch
"""

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks._common import commit, machine, result_file
from dassl.data.threads import cpu_count
from dassl.results.methods import find_method
from dassl.results.record import read_results
from dassl.results.tables import Table
from dassl.sweep.executor_config import ExecutorConfig
from dassl.sweep.grid import Sweep, read_sweep
from dassl.sweep.plan import Run, expand
from dassl.sweep.session import start
from dassl.sweep.worker import threads_per_worker
from dassl.utils.files import write_json
from dassl.utils.tools import CHECKOUT

RESULT = result_file("sweep_processes")
METHODS = ("CoOp-MT", "CoOp-CA-joint", "CoOp-CS-joint", "SoftCPT-NATA", "SoftCPT-NATS")
SWEEP, STORE, ALONE = "sweep.py", "one process per run, one store", "one process per run, nothing shared"
WAYS = (SWEEP, STORE, ALONE)


@dataclass(frozen=True)
class Size:
    """Size of the measurement: methods x shots x seeds, and epochs."""

    methods: int
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: int
    rounds: int


FULL = Size(methods=5, shots=(1, 4, 16), seeds=(1, 2, 3), epochs=30, rounds=1)
SMALL = Size(methods=3, shots=(4,), seeds=(1, 2, 3), epochs=2, rounds=3)
QUICK = Size(methods=2, shots=(1,), seeds=(1, 2), epochs=1, rounds=1)
SIZES = {"full": FULL, "small": SMALL, "quick": QUICK}


def planned(size: Size, common: Path, output: Path, *, store: bool = True) -> tuple[Sweep, list[Run]]:
    """The sweep and its runs, with data and caches in ``common`` and features, if stored, in ``output``."""
    rows = tuple(map(find_method, METHODS[: size.methods]))
    options = {
        "DATASET.ROOT": str(common / "data"),
        "DATASET.CACHE_DIR": str(common / "cache"),
        "DATALOADER.FEATURES": store,
        "DATALOADER.FEATURES_DIR": str(output / "features"),
        "OPTIM.MAX_EPOCH": size.epochs,
    }
    changes: dict[str, Any] = {
        "methods": rows,
        "shots": size.shots,
        "seeds": size.seeds,
        "options": options,
        "output": str(output),
    }
    sweep = replace(read_sweep("demo"), **changes)
    return sweep, expand(sweep)


def by_workers(sweep: Sweep, runs: Sequence[Run], jobs: int) -> None:
    """Carry out all runs by workers."""
    failed = start(sweep.name, sweep.folder, runs, ["new"] * len(runs), executor=ExecutorConfig(jobs=jobs))
    assert not failed, failed[0].error


def by_processes(runs: Sequence[Run], jobs: int) -> None:
    """Carry out each run by a call of train.py, ``jobs`` at a time."""
    threads = str(threads_per_worker(jobs, cpu_count()))

    def call(run: Run) -> None:
        words = [sys.executable, *shlex.split(run.command())[1:]]
        environment = {"OMP_NUM_THREADS": threads, "TQDM_DISABLE": "1"}
        subprocess.run(words, cwd=CHECKOUT, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(call, runs))


def one_round(size: Size, folder: Path, jobs: int) -> tuple[dict[str, float], dict[str, list[float | None]]]:
    """Measure each way once: its seconds, and the figures of its runs."""
    seconds, metrics = {}, {}
    for way in WAYS:
        output = folder / way.replace(" ", "_")
        shutil.rmtree(output, ignore_errors=True)
        sweep, runs = planned(size, folder, output, store=way != ALONE)
        started = time.perf_counter()
        by_workers(sweep, runs, jobs) if way == SWEEP else by_processes(runs, jobs)
        seconds[way] = time.perf_counter() - started
        metrics[way] = [read_results(run.folder).metric for run in runs]
    return seconds, metrics


def measure(size: Size, jobs: int) -> dict[str, list[float]]:
    """Seconds of each way in every round."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        first = replace(size, methods=1, shots=size.shots[:1], seeds=size.seeds[:1], epochs=1)
        by_workers(*planned(first, Path(name), Path(name) / "first"), jobs)  # makes the data
        for number in range(size.rounds):
            seconds, metrics = one_round(size, Path(name), jobs)
            assert metrics[SWEEP] == metrics[STORE] == metrics[ALONE], "all ways must give the same figures"
            for way in WAYS:
                found[way].append(seconds[way])
            print(f"round {number + 1} of {size.rounds}: {seconds}", file=sys.stderr)
    return found


def table(seconds: dict[str, list[float]], runs: int) -> Table:
    """Medians, seconds per run, and how many times faster than processes that share nothing."""
    rows: list[list[str]] = []
    for way, times in seconds.items():
        median = statistics.median(times)
        ratio = statistics.median(alone / own for own, alone in zip(times, seconds[ALONE], strict=True))
        rows.append([way, str(runs), f"{median:.1f}", f"{median / runs:.2f}", f"{ratio:.1f}"])
    return Table(["way", "runs", "median s", "s per run", "x cheaper"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full", help="full: 45 runs, small: 9 runs of two epochs")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="the same as --size quick")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="processes at a time (default: one per core)")
    parser.add_argument("--out", type=Path, help=f"JSON file of the figures (default: {RESULT.relative_to(CHECKOUT)})")
    args = parser.parse_args(arguments)
    size = SIZES[args.size]
    seconds = measure(size, args.jobs)
    runs = size.methods * len(size.shots) * len(size.seeds)
    print(table(seconds, runs).render("markdown"), end="")
    out = args.out or (RESULT if args.size == "full" else None)
    if out:
        about = {"machine": machine(), "commit": commit(), "size": vars(size)}
        write_json(out, {**about, "runs": runs, "jobs": args.jobs, "seconds": seconds})
    return 0


if __name__ == "__main__":
    sys.exit(main())
