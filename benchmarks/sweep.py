"""Measure a sweep: the six variants of SoftCPT, five numbers of shots, three seeds, on the embedded suite.

Every run is carried out in three ways, one after the other: images in every epoch, a separate feature store, and one
feature store for the whole sweep. All three must give the same results; the table shows their costs.

  python -m benchmarks.sweep            the recorded figures (270 short runs, most of an hour on two cores)
  python -m benchmarks.sweep --quick    two variants, two numbers of shots, one small data set
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

import train
from benchmarks._common import commit, machine, quiet, result_file
from dassl.data import loaders
from dassl.data.images import AS_SEEN, Reading
from dassl.results.record import read_results
from dassl.results.tables import Table
from dassl.utils.errors import UserError
from dassl.utils.files import write_json
from dassl.utils.tools import CHECKOUT

RESULT = result_file("sweep")
VARIANTS = {
    "NATA": {},
    "NATS": {"TASK_CSC": True},
    "CATA": {"CSC": True},
    "CSTA": {"CSC": True, "CLASS_CSC": True},
    "CATS": {"CSC": True, "TASK_CSC": True},
    "CSTS": {"CSC": True, "CLASS_CSC": True, "TASK_CSC": True},
}
IMAGES, OWN, ONE = "images in every epoch", "a store for each run", "one store for all"
WAYS = (IMAGES, OWN, ONE)


@dataclass(frozen=True)
class Size:
    """Size of the sweep: a data set's config, variants, shots, seeds and epochs."""

    dataset: str
    variants: Sequence[str]
    shots: Sequence[int]
    seeds: Sequence[int]
    epochs: int


FULL = Size("demo6", tuple(VARIANTS), (1, 2, 4, 8, 16), (1, 2, 3), 10)
QUICK = Size("demo_digits", ("NATA", "CSTS"), (1, 2), (1,), 2)


@dataclass(frozen=True)
class Cell:
    """A run of the sweep."""

    variant: str
    shots: int
    seed: int


@dataclass(frozen=True)
class Done:
    """One run in one way: seconds, decoded images, and the metric in percent."""

    cell: Cell
    way: str
    seconds: float
    images: int
    metric: float | None


def cells(size: Size) -> list[Cell]:
    """All runs by variant, those with more images first."""
    shots = sorted(size.shots, reverse=True)
    return [Cell(v, k, seed) for v in size.variants for k in shots for seed in size.seeds]


def command(cell: Cell, way: str, size: Size, folder: Path) -> list[str]:
    """Arguments of train.py."""
    run = folder / way.replace(" ", "_") / f"{cell.variant}_{cell.shots}shots_seed{cell.seed}"
    keys = {
        "DATASET.ROOT": folder / "data",
        "DATASET.CACHE_DIR": folder / "cache",
        "DATASET.NUM_SHOTS": cell.shots,
        "DATALOADER.FEATURES": "off" if way == IMAGES else "on",
        "DATALOADER.FEATURES_DIR": run / "features" if way == OWN else folder / "features",
        "OPTIM.MAX_EPOCH": size.epochs,
        "TRAINER.MTCOOP.CLASS_N_CTX": 4,
        **{f"TRAINER.MTCOOP.{key}": value for key, value in VARIANTS[cell.variant].items()},
    }
    files = ["--dataset-config-file", str(CHECKOUT / f"configs/datasets/{size.dataset}.yaml")]
    files += ["--config-file", str(CHECKOUT / "configs/trainers/MTCoOp/demo.yaml")]
    names = ["--trainer", "MTCoOp", "--output-dir", str(run), "--seed", str(cell.seed)]
    return [*files, *names, *(str(part) for pair in keys.items() for part in pair)]


@contextmanager
def decoded() -> Iterator[list[str]]:
    """Collect the paths of the images that this process decodes."""
    read, seen = loaders.read_image, []

    def counted(path: Path | str, reading: Reading = AS_SEEN) -> Image.Image:
        seen.append(str(path))
        return read(path, reading)

    loaders.read_image = counted
    try:
        yield seen
    finally:
        loaders.read_image = read


def measure(cell: Cell, way: str, size: Size, folder: Path) -> Done:
    """Carry out a run."""
    arguments = command(cell, way, size, folder)
    started = time.perf_counter()
    with decoded() as images:
        code = train.main(arguments)
    seconds = time.perf_counter() - started
    if code:
        raise UserError(f"the run failed: train.py {' '.join(arguments)}")
    metric = read_results(Path(arguments[arguments.index("--output-dir") + 1])).metric
    return Done(cell, way, round(seconds, 4), len(images), metric)


def sweep(size: Size, folder: Path) -> list[Done]:
    """All runs in all ways, after a warm-up run that also makes the data."""
    measure(Cell(size.variants[0], 1, 10**6), IMAGES, size, folder)
    done = []
    for number, cell in enumerate(cells(size)):
        done += [measure(cell, way, size, folder) for way in WAYS]
        print(f"{number + 1} of {len(cells(size))}: {cell}", file=sys.stderr)
    return done


def disagreements(done: Sequence[Done]) -> list[Cell]:
    """Runs with different metrics between the ways."""
    metrics: dict[Cell, set[float | None]] = {}
    for each in done:
        metrics.setdefault(each.cell, set()).add(each.metric)
    return [cell for cell, found in metrics.items() if len(found) > 1]


def table(done: Sequence[Done]) -> Table:
    """The costs of the sweep in each way."""
    by_way = {way: [each for each in done if each.way == way] for way in WAYS}
    base = [each.seconds for each in by_way[IMAGES]]
    rows = []
    for way, runs in by_way.items():
        seconds = [each.seconds for each in runs]
        ratio = statistics.median(b / s for b, s in zip(base, seconds, strict=True))
        free = sum(not each.images for each in runs)
        images = f"{sum(each.images for each in runs):,}"
        total, middle = f"{sum(seconds):,.1f}", f"{statistics.median(seconds):.2f}"
        rows.append([way, f"{len(runs)}", total, middle, f"{ratio:.1f}", images, f"{free}"])
    header = ["way", "runs", "sum s", "median s", "x cheaper", "images decoded", "runs without an image"]
    return Table(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures; returns 0, or 1 if the ways disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few runs; nothing is written unless --out is given")
    parser.add_argument("--out", type=Path, help=f"JSON file of the figures (default: {RESULT.relative_to(CHECKOUT)})")
    args = parser.parse_args(arguments)
    size = QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory() as name, quiet():
        done = sweep(size, Path(name))
    print(table(done).render("markdown"), end="")
    wrong = disagreements(done)
    print(f"runs whose results differ between the ways: {len(wrong)}")
    out = args.out or (None if args.quick else RESULT)
    if out:
        about = {"machine": machine(), "commit": commit(), "size": asdict(size)}
        write_json(out, {**about, "runs": [asdict(each) for each in done]})
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
