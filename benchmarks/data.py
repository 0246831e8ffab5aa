"""Measure dassl/data: reading lists, few-shot selection, decoding with 0, 1 and 2 workers.

All measurements are interleaved in one run, so that a busy machine affects them equally; the table has medians. Lists
have the size of ImageNet: 1,281,167 training and 50,000 validation images, also used for testing, in 1,000 classes.

  python -m benchmarks.data            the recorded figures (some minutes)
  python -m benchmarks.data --quick    the same code on small lists, in seconds
  python -m benchmarks.data --large    photographs of 12 megapixels, with every pixel and reduced (some minutes)
"""

import argparse
import csv
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from yacs.config import CfgNode

import clip
from benchmarks._common import RESULTS, Measure, Seconds, commit, held, machine, peak, recorded, take_turns
from dassl.config import get_cfg_default
from dassl.data.checking import look_at
from dassl.data.datum import Datum, Split, Task
from dassl.data.images import Reading, read_image, reading_of
from dassl.data.loaders import BatchPlan, ImageItems, ImageSource
from dassl.data.own.cells import OneLabel
from dassl.data.own.listing import list_folder, list_table
from dassl.data.own.splitfile import ClassImages, assign_splits
from dassl.data.reduced import ReducedImages
from dassl.data.sampling import fewshot_split
from dassl.data.splits import read_split, split_content, subset_content
from dassl.data.transforms import build_transform, keyed_transform, settle_input
from dassl.results.tables import Cell, Table
from dassl.utils.files import write_json
from dassl.utils.tools import CHECKOUT

RESULT, RESULT_LARGE = RESULTS / "data.json", RESULTS / "data-large.json"
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


@dataclass(frozen=True)
class LargeSize:
    """Photographs of the measurement with --large: how many, width and height, and epochs of a training."""

    images: int
    size: tuple[int, int]
    epochs: int
    rounds: int
    crops: int


FULL_LARGE = LargeSize(images=8, size=(4000, 3000), epochs=30, rounds=3, crops=20)
QUICK_LARGE = LargeSize(images=2, size=(800, 600), epochs=2, rounds=1, crops=2)


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
    cfg = input_config()
    measures = []
    for is_train, name in ((True, "training view"), (False, "test view")):
        images = ImageItems(items, build_transform(cfg, is_train), seed=1 if is_train else None)
        for workers in WORKERS:
            plan = BatchPlan(len(items), BATCH)
            epoch = epochs(ImageSource(images, workers), plan)
            base = "" if workers == 0 else f"decode, {name}, 0 workers"
            measures.append(Measure(f"decode, {name}, {workers} workers", epoch, len(items), base))
    return measures


def input_config(side: int = 224, smallest: float = 0.08, largest: float = 1.0) -> CfgNode:
    """A config with the usual transforms, for an input of ``side`` pixels and random crops of some areas."""
    cfg = get_cfg_default()
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.SIZE, cfg.INPUT.RRCROP_SCALE = (side, side), (smallest, largest)
    return settle_input(cfg, {})


def epochs(source: ImageSource, plan: BatchPlan) -> Callable[[], int]:
    """One more epoch at each call; the workers stay alive between calls, as in training."""

    def epoch() -> int:
        plan.epoch += 1
        return sum(len(batch["index"]) for batch in source(plan))

    return epoch


def photograph(path: Path, seed: int, size: tuple[int, int] = (500, 375)) -> Path:
    """A JPEG of about as many bytes as a photograph of its size."""
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.normal(0, 12, (size[1], size[0], 3))
    Image.fromarray((np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def large_measures(folder: Path, size: LargeSize) -> list[Measure]:
    """Measures of trainings on large photographs (check and epochs), and of reading them once, as in predicting."""
    paths = [str(photograph(folder / f"{number}.jpg", number, size.size)) for number in range(size.images)]
    cfg, views = input_config(), size.images * size.epochs
    reduced = reading_of(cfg, as_seen=True)
    whole, cache = replace(reduced, shortest=0), folder / "cache"

    def training(reading: Reading, gib: float, *, cold: bool = True) -> None:
        if cold:
            shutil.rmtree(cache, ignore_errors=True)
        store = ReducedImages(cache, gib)
        look_at(paths, cache, reading, store)
        items = [Datum(path, 0) for path in paths]
        images = ImageItems(items, build_transform(cfg, True), seed=1, reading=reading, reduced=store)
        plan = BatchPlan(len(items), BATCH)
        epoch = epochs(ImageSource(images, 0), plan)
        for _ in range(size.epochs):
            epoch()

    def predicting(reading: Reading) -> None:
        transform = build_transform(cfg, False)
        for path in paths:
            transform(read_image(path, reading))

    every, once = f"training of {size.epochs} epochs, every pixel", "reading once, test view, every pixel"
    return [
        Measure(every, lambda: training(whole, 0), views),
        Measure("the same, reduced, nothing stored", lambda: training(reduced, 0), views, every),
        Measure("the same, reduced, stored", lambda: training(reduced, 4), views, every),
        Measure("the same, reduced, stored by an earlier run", lambda: training(reduced, 4, cold=False), views, every),
        Measure(once, lambda: predicting(whole), size.images),
        Measure("the same, reduced", lambda: predicting(reduced), size.images, once),
    ]


def differences(paths: Sequence[Path], side: int, crops: int, *, features: bool) -> list[dict[str, object]]:
    """By how much the input made of reduced images differs from that of the full decode.

    Args:
        side: of the input, pixels.
        crops: random crops of each image, all of 8 % of its area.
        features: compare features of the demo backbone as well, whose input ``side`` must be.
    """
    cfg = input_config(side, 0.08, 0.08)
    reduced = reading_of(cfg, as_seen=True)
    pairs = [(read_image(path, replace(reduced, shortest=0)), read_image(path, reduced)) for path in paths]
    encode = clip.load("demo")[0].encode_image if features else None
    found: list[dict[str, object]] = []
    for name, random, count in (("centre crop", False, 1), ("random crop of 8 % of the area", True, crops)):
        transform = build_transform(cfg, random)
        views = [(pair, (1, view, str(path))) for pair, path in zip(pairs, paths, strict=True) for view in range(count)]
        one, other = (
            torch.stack([keyed_transform(transform, pair[which], key) for pair, key in views]) for which in (0, 1)
        )
        found.append({"what": name, "side": side, **_apart(one, other, cfg, encode)})
    return found


@torch.no_grad()
def _apart(
    one: Tensor, other: Tensor, cfg: CfgNode, encode: Callable[[Tensor], Tensor] | None
) -> dict[str, float | None]:
    levels = (one - other).abs() * torch.tensor(cfg.INPUT.PIXEL_STD)[:, None, None] * 255
    cosines = None if encode is None else torch.cosine_similarity(encode(one).float(), encode(other).float())
    return {
        "images": len(one),
        "largest, of 255 levels": round(levels.max().item(), 1),
        "largest mean of an image": round(levels.mean(dim=(1, 2, 3)).max().item(), 2),
        "mean": round(levels.mean().item(), 2),
        "smallest cosine": None if cosines is None else round(cosines.min().item(), 5),
        "mean cosine": None if cosines is None else round(cosines.mean().item(), 5),
    }


def run_large(folder: Path, size: LargeSize, out: Path | None) -> None:
    """Measure, print and write what is said about large photographs."""
    measures = large_measures(folder, size)
    seconds = take_turns(measures, size.rounds)
    print(table(measures, {name: each.wall for name, each in seconds.items()}).render("markdown"), end="")
    print(cpu_table(measures, seconds).render("markdown"), end="")
    apart = differences(sorted(folder.glob("*.jpg")), clip.load("demo")[0].image_size, size.crops, features=True)
    apart += differences(real_photographs(), 48, size.crops, features=False)
    for each in apart:
        print(", ".join(f"{name}: {value}" for name, value in each.items()))
    if out:
        facts = {"machine": machine(), "commit": commit(), "size": vars(size)}
        write_json(out, {**facts, "measures": recorded(measures, seconds), "differences": apart})


def real_photographs() -> list[Path]:
    """The two photographs of 640 x 427 pixels that scikit-learn brings along."""
    return sorted(Path(find_spec("sklearn").origin).parent.glob("datasets/images/*.jpg"))  # type: ignore[union-attr,arg-type]


def cpu_table(measures: Sequence[Measure], seconds: dict[str, Seconds]) -> Table:
    """The medians of the CPU seconds, and their ratio to the base row."""
    rows: list[list[Cell]] = []
    for measure in measures:
        cpu, base = seconds[measure.name].cpu, seconds[measure.base or measure.name].cpu
        ratio = f"{statistics.median(a / b for a, b in zip(cpu, base, strict=True)):.3f}" if measure.base else "-"
        rows.append([measure.name, f"{statistics.median(cpu):.3f}", ratio])
    return Table(["what", "median CPU s", "CPU time / base"], rows)


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
    parser.add_argument("--large", action="store_true", help="only photographs of 12 megapixels")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"JSON file of the figures (default: {RESULT.relative_to(CHECKOUT)}, or with --large {RESULT_LARGE.name})",
    )
    args = parser.parse_args(arguments)
    size = QUICK if args.quick else FULL
    if args.large:
        with tempfile.TemporaryDirectory() as name:
            out = args.out or (None if args.quick else RESULT_LARGE)
            run_large(Path(name), QUICK_LARGE if args.quick else FULL_LARGE, out)
        return 0
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
