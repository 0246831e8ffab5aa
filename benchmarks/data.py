"""Measure dassl/data: reading lists, few-shot selection, decoding with 0, 1 and 2 workers.

All measurements are interleaved in one run, so that a busy machine affects them equally; the table has medians. Lists
have the size of ImageNet: 1,281,167 training and 50,000 validation images, also used for testing, in 1,000 classes.

  python -m benchmarks.data            the recorded figures (some minutes)
  python -m benchmarks.data --quick    the same code on small lists, in seconds
"""

import argparse
import csv
import json
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._common import RESULTS, Measure, held, machine, peak, take_turns
from dassl.config import get_cfg_default
from dassl.data.datum import Datum, Split, Task
from dassl.data.loaders import BatchPlan, ImageItems, ImageSource
from dassl.data.own.cells import OneLabel
from dassl.data.own.listing import list_folder, list_table
from dassl.data.own.splitfile import ClassImages, assign_splits
from dassl.data.sampling import fewshot_split
from dassl.data.splits import read_split, split_content, subset_content
from dassl.data.transforms import build_transform, settle_input
from dassl.results.tables import Cell, Table
from dassl.utils.files import write_json
from dassl.utils.tools import CHECKOUT

RESULT = RESULTS / "data.json"
WORKERS = (0, 1, 2)
BATCH = 32


@dataclass(frozen=True)
class Size:
    """Size of the measurement; ``files`` is the number of listed image files."""

    classes: int
    train: int
    val: int
    files: int
    images: int
    rounds: int


FULL = Size(classes=1000, train=1_281_167, val=50_000, files=100_000, images=256, rounds=5)
QUICK = Size(classes=20, train=2_000, val=200, files=400, images=32, rounds=2)


def lists(folder: Path, size: Size) -> Split:
    """A split with ImageNet's sizes and name lengths."""
    names = [f"class name {number}" for number in range(size.classes)]

    def items(part: str, count: int) -> list[Datum]:
        labels = sorted(number % size.classes for number in range(count))
        return [Datum(f"{folder}/{part}/n{c:08}/n{c:08}_{i}.JPEG", c) for i, c in enumerate(labels)]

    val = items("val", size.val)
    return Split((Task("object", tuple(names)),), items("train", size.train), val, list(val))


def coop_content(split: Split, folder: Path) -> dict[str, list]:
    """The same split in the format of CoOp's files."""
    names, prefix = split.tasks[0].classnames, f"{folder}/"
    return {
        part: [[item.impath.removeprefix(prefix), item.label, names[item.label]] for item in items]
        for part, items in zip(("train", "val", "test"), split.lists, strict=True)
    }


def list_measures(folder: Path, size: Size) -> list[Measure]:
    """Measures of reading split files, few-shot selection and splitting by ratios."""
    images = folder / "images"
    split = lists(images, size)
    ours, coop = folder / "ours.json", folder / "coop.json"
    write_json(ours, split_content(split, images), indent=None)
    write_json(coop, coop_content(split, images), indent=None)
    total = sum(map(len, split.lists))
    by_class: dict[int, list[str]] = {}
    for item in split.train:
        by_class.setdefault(item.label, []).append(item.impath)
    classes = [ClassImages(paths, (0.5, 0.2, 0.3)) for paths in by_class.values()]
    task, seeds = Task("", ()), iter(range(10**9))
    parsed = "json.loads of a split file"
    return [
        Measure(parsed, lambda: json.loads(ours.read_text(encoding="utf-8")), total),
        Measure("read_split, SoftCPT's format", lambda: read_split(ours, images, task), total, parsed),
        Measure("read_split, CoOp's format", lambda: read_split(coop, images, task), total, parsed),
        Measure("few-shot subset, 16 shots", lambda: draw(split, images, next(seeds)), size.train + size.val),
        Measure("sharing out by ratios", lambda: assign_splits(classes, {}), size.train),
    ]


def draw(split: Split, images: Path, seed: int) -> str:
    """The few-shot subset and its digest, as in a run."""
    return subset_content(*fewshot_split(split.train, split.val, 16, seed), images)["digest"]


def file_measures(folder: Path, size: Size) -> list[Measure]:
    """Measures of listing a tree of (empty) files, and a table of the same files."""
    tree = folder / "tree"
    per_class = size.files // size.classes
    for label in range(size.classes):
        (tree / f"c{label}").mkdir(parents=True)
        for number in range(per_class):
            (tree / f"c{label}" / f"{number}.jpg").touch()
    entries = list_folder(tree, "")
    table = folder / "table.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *((entry.path, entry.label) for entry in entries)])
    walk = "rglob of a tree"
    return [
        Measure(walk, lambda: [path.name for path in tree.rglob("*.jpg")], len(entries)),
        Measure("list_folder of the tree", lambda: list_folder(tree, ""), len(entries), walk),
        Measure(
            "list_table of the same files",
            lambda: list_table(table, "", image="image", labels=OneLabel("label")),
            len(entries),
            walk,
        ),
    ]


def decode_measures(folder: Path, size: Size) -> list[Measure]:
    """Measures of decoding JPEG photographs of 500 x 375 pixels to 224 x 224, for training and testing."""
    items = [Datum(str(photograph(folder / f"{number}.jpg", number)), 0) for number in range(size.images)]
    cfg = get_cfg_default()
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg = settle_input(cfg, {})
    measures = []
    for is_train, name in ((True, "training view"), (False, "test view")):
        images = ImageItems(items, build_transform(cfg, is_train), seed=1 if is_train else None)
        for workers in WORKERS:
            plan = BatchPlan(len(items), BATCH)
            epoch = epochs(ImageSource(images, workers), plan)
            base = "" if workers == 0 else f"decode, {name}, 0 workers"
            measures.append(Measure(f"decode, {name}, {workers} workers", epoch, len(items), base))
    return measures


def epochs(source: ImageSource, plan: BatchPlan) -> Callable[[], int]:
    """One more epoch at each call; the workers stay alive between calls, as in training."""

    def epoch() -> int:
        plan.epoch += 1
        return sum(len(batch["index"]) for batch in source(plan))

    return epoch


def photograph(path: Path, seed: int) -> Path:
    """A JPEG of about as many bytes as a photograph of its size."""
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    noise = rng.normal(0, 12, (375, 500, 3))
    Image.fromarray((np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def memory(folder: Path) -> dict[str, float]:
    """MiB by which a new process grows while it reads the lists, and then while it draws a subset."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_grow, (folder,))


def _grow(folder: Path) -> dict[str, float]:
    before = peak()
    split = read_split(folder / "ours.json", folder / "images", Task("", ()))
    after_reading, kept = peak(), held()
    draw(split, folder / "images", 1)
    return {
        "process before": before,
        "peak while read_split": after_reading - before,
        "lists that stay": kept - before,
        "peak while drawing, beyond that": peak() - after_reading,
    }


def table(measures: Sequence[Measure], seconds: dict[str, list[float]]) -> Table:
    """Medians, range, rate, and the median ratio to the base row, round by round."""
    rows: list[list[Cell]] = []
    for measure in measures:
        times = seconds[measure.name]
        median = statistics.median(times)
        ratio = "-"
        if measure.base:
            ratio = f"{statistics.median(a / b for a, b in zip(times, seconds[measure.base], strict=True)):.2f}"
        spread = f"{min(times):.3f} to {max(times):.3f}"
        rows.append([measure.name, measure.count, f"{median:.3f}", spread, f"{measure.count / median:,.0f}", ratio])
    return Table(["what", "things", "median s", "range s", "per second", "time / base"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="small lists; the result is not written unless --out is given"
    )
    parser.add_argument("--out", type=Path, help=f"JSON file of the figures (default: {RESULT.relative_to(CHECKOUT)})")
    args = parser.parse_args(arguments)
    size = QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures = [*list_measures(folder, size), *file_measures(folder, size), *decode_measures(folder, size)]
        seconds = {name: each.wall for name, each in take_turns(measures, size.rounds).items()}
        grown = memory(folder)
    print(table(measures, seconds).render("markdown"), end="")
    for what, amount in grown.items():
        print(f"memory, {what}: {amount:.0f} MiB")
    out = args.out or (None if args.quick else RESULT)
    if out:
        figures = [
            {"name": m.name, "count": m.count, "base": m.base, "seconds": [round(s, 6) for s in seconds[m.name]]}
            for m in measures
        ]
        write_json(out, {"machine": machine(), "size": vars(size), "memory MiB": grown, "measures": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
