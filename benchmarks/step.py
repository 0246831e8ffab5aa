"""Measure whole training steps and evaluations: images decoded and encoded, or features from a cold or warm store.

A suite with the class names of Plant-6 (6 tasks, 116 classes), JPEG photographs of 500 x 375 pixels, a backbone of
RN50's size with random weights, SoftCPT-NATA, batches of 32 images. All measurements are interleaved in one run, so
that a busy machine affects them equally; the table has medians. "Original" is the released code's formula in its order
(``benchmarks/original.py``), which encodes the class names again for each batch of an evaluation. It has no store;
its rows with a store separate the costs of texts and images. On a CPU no worker processes read the images, so that
the CPU time is known.

  python -m benchmarks.step            the recorded figures (a quarter of an hour on two cores)
  python -m benchmarks.step --quick    the same code on a tiny backbone, in seconds
  python -m benchmarks.step --device cuda --precision fp16 --suite General-10 --batches 50    for a GPU
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from tqdm import tqdm

from benchmarks._common import RESULTS, Measure, Seconds, commit, machine, quiet, recorded, take_turns
from benchmarks.data import photograph
from benchmarks.original import as_released
from benchmarks.text import ratio, suites, synchronized
from dassl.config import get_cfg_default, merge_cfg
from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split, Task
from dassl.data.splits import split_content
from dassl.data.threads import cpu_count
from dassl.engine import build_trainer
from dassl.results.tables import Table
from dassl.utils.files import write_json
from trainers.base import PromptTuner

BATCH = 32
TEST_BATCH = 100
ORIGINAL = "training step, images, original"
ORIGINAL_TEST = "evaluation, images, original"


@dataclass(frozen=True)
class Size:
    """Size of the measurement: training batches of an epoch, test images, rounds, and the backbone's two towers."""

    suite: str
    batches: int
    test: int
    rounds: int
    embed: int
    vision: dict
    text: dict


FULL = Size(
    suite="Plant-6",
    batches=2,
    test=200,
    rounds=5,
    embed=1024,
    vision={"layers": (3, 4, 6, 3), "width": 64, "image_size": 224},
    text={"width": 512, "heads": 8, "layers": 12},
)
QUICK = Size(
    suite="Fashion-20",
    batches=2,
    test=40,
    rounds=2,
    embed=64,
    vision={"layers": (1, 1, 1, 1), "width": 16, "image_size": 64},
    text={"width": 64, "heads": 1, "layers": 2},
)


@DATASET_REGISTRY.register()
class StepSuite(DatasetBase):
    """Noise photographs, in tasks with the class names of a suite in the paper."""

    dataset_dir = "step"


def write_suite(root: Path, size: Size) -> None:
    """Write the images and the split file; labels take all classes in turn."""
    folder = root / StepSuite.dataset_dir
    folder.mkdir(parents=True)
    tasks = [Task(f"task {number}", tuple(names)) for number, names in enumerate(suites()[size.suite])]
    columns = [(t, label) for t, task in enumerate(tasks) for label in range(len(task.classnames))]

    def items(part: str, count: int) -> list[Datum]:
        paths = [photograph(folder / f"{part}{number}.jpg", number) for number in range(count)]
        chosen = [columns[number * 7 % len(columns)] for number in range(count)]
        return [Datum(str(path), label, task) for path, (task, label) in zip(paths, chosen, strict=True)]

    split = Split(tuple(tasks), items("train", size.batches * BATCH), [], items("test", size.test))
    write_json(folder / StepSuite.split_names()[0], split_content(split, folder))


def write_backbone(path: Path, size: Size) -> Path:
    """Random weights in OpenAI's layout."""
    torch.manual_seed(0)
    model = CLIP(size.embed, size.vision, size.text, quick_gelu=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


def trainer(folder: Path, size: Size, *, text: str, features: str, precision: str, cuda: bool) -> PromptTuner:
    """SoftCPT-NATA on the suite; ``features``: name of the store, or "" for images."""
    side = size.vision["image_size"]
    pairs = {
        "TRAINER.NAME": "MTCoOp",
        "TRAINER.MTCOOP.PREC": precision,
        "TRAINER.MTCOOP.N_CTX": 16,
        "TRAINER.MTCOOP.TASK_N_CTX": 4,
        "MODEL.BACKBONE.NAME": folder / "backbone.safetensors",
        "MODEL.BACKBONE.ACTIVATION": "quickgelu",
        "MODEL.BACKBONE.HEAD_WIDTHS": "64,64",
        "MODEL.TEXT_ENCODING": text,
        "DATASET.NAME": "StepSuite",
        "DATASET.ROOT": folder,
        "OUTPUT_DIR": folder / "run",
        "INPUT.SIZE": f"{side},{side}",
        "INPUT.INTERPOLATION": "bicubic",
        "INPUT.TRANSFORMS": "random_resized_crop,random_flip,normalize",
        "DATALOADER.NUM_WORKERS": min(8, cpu_count()) if cuda else 0,
        "DATALOADER.TRAIN_X.BATCH_SIZE": BATCH,
        "DATALOADER.TEST.BATCH_SIZE": TEST_BATCH,
        "DATALOADER.FEATURES": bool(features),
        "DATALOADER.FEATURES_DIR": folder / (features or "none"),
        "OPTIM.LR": 1e-6,
        "TRAIN.PRINT_FREQ": size.batches,
        "SEED": 1,
        "USE_CUDA": cuda,
    }
    cfg = get_cfg_default()
    merge_cfg(cfg, pairs=[str(part) for pair in pairs.items() for part in pair])
    built = build_trainer(cfg)
    assert isinstance(built, PromptTuner)
    return built


def measures(folder: Path, size: Size, precision: str, cuda: bool) -> list[Measure]:
    """Measures of an epoch and an evaluation in every way; they count steps or test images."""

    def make(text: str, features: str) -> PromptTuner:
        return trainer(folder, size, text=text, features=features, precision=precision, cuda=cuda)

    original = {source: as_released(make("plain", store)) for source, store in (("images", ""), ("warm store", "warm"))}
    tree = {source: make("auto", store) for source, store in (("images", ""), ("warm store", "warm"))}
    cold = make("auto", "cold")
    steps = {f"{source}, original": epoch(each) for source, each in original.items()}
    steps |= {f"{source}, tree": epoch(each) for source, each in tree.items()}
    steps["cold store, tree"] = emptied(folder, epoch(cold))
    tests = {f"{source}, original": batch_by_batch(each) for source, each in original.items()}
    tests |= {f"{source}, tree": evaluation(each) for source, each in tree.items()}
    tests["cold store, tree"] = emptied(folder, evaluation(cold))
    found = [Measure(f"training step, {way}", action, size.batches, ORIGINAL) for way, action in steps.items()]
    return found + [Measure(f"evaluation, {way}", action, size.test, ORIGINAL_TEST) for way, action in tests.items()]


def epoch(model: PromptTuner) -> Callable[[], None]:
    """Repeat the first epoch."""

    def run() -> None:
        with tqdm(disable=True) as bar:
            model.run_epoch(bar)
        synchronized(model.device)

    return run


def evaluation(model: PromptTuner) -> Callable[[], None]:
    """A test by the engine's method."""

    def run() -> None:
        model.test()
        synchronized(model.device)

    return run


def batch_by_batch(model: PromptTuner) -> Callable[[], None]:
    """A test by the original's method, always in batches of TEST_BATCH images."""

    def run() -> None:
        model.set_model_mode("eval")
        model.evaluator.reset()
        with torch.no_grad():
            for batch in model.loader("test"):
                for part in parts_of(batch):
                    model.before_test()
                    logits = model.model_inference(part)
                    model.evaluator.process(logits, part["label"], part["task"], row=part["row"])
        model.evaluator.evaluate()

    return run


def parts_of(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A batch with one task per image, cut to TEST_BATCH images, because batches from a store are larger."""
    names = [name for name in ("img", "feat", "label", "task", "row") if name in batch]
    for first in range(0, len(batch["label"]), TEST_BATCH):
        piece: dict[str, Any] = {name: batch[name][first : first + TEST_BATCH] for name in names}
        piece["row"] = piece["row"] - first
        yield piece


def emptied(folder: Path, action: Callable[[], None]) -> Callable[[], None]:
    """The same, after the store is emptied."""

    def run() -> None:
        shutil.rmtree(folder / "cold", ignore_errors=True)
        action()

    return run


def table(found: Sequence[Measure], seconds: dict[str, Seconds]) -> Table:
    """Medians, and how many times faster than the original way."""
    rows = []
    for measure in found:
        times, base = seconds[measure.name], seconds[measure.base]
        steps = 1 if measure.base == ORIGINAL_TEST else measure.count
        wall = [1000 * t / steps for t in times.wall]
        low, middle, high = (f"{t:,.1f}" for t in (min(wall), statistics.median(wall), max(wall)))
        cpu = f"{1000 * statistics.median(times.cpu) / steps:,.1f}"
        ratios = (f"{ratio(getattr(base, kind), getattr(times, kind)):.1f}" for kind in ("wall", "cpu"))
        rows.append([measure.name, middle, f"{low} to {high}", cpu, *ratios])
    return Table(["what", "median ms", "range ms", "CPU ms", "x cheaper", "x CPU"], rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny backbone; nothing is written unless --out is given"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the frozen encoders")
    parser.add_argument("--suite", choices=suites(), help="suite for tasks and class names (default: Plant-6)")
    parser.add_argument("--batches", type=int, help="training steps per epoch (default: 2; short steps need more)")
    parser.add_argument("--rounds", type=int, help="measured rounds (default: 5)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--out",
        type=Path,
        help="JSON file of the figures (default: benchmarks/results/step-DEVICE-PRECISION.json, "
        "with --suite step-SUITE-DEVICE-PRECISION.json)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures; returns 0."""
    args = parse(arguments)
    size = QUICK if args.quick else FULL
    size = replace(size, suite=args.suite or size.suite, batches=args.batches or size.batches)
    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(name)
        write_suite(folder, size)
        write_backbone(folder / "backbone.safetensors", size)
        found = measures(folder, size, args.precision, args.device == "cuda")
        seconds = take_turns(found, args.rounds or size.rounds)
    print(table(found, seconds).render("markdown"), end="")
    name = "-".join(filter(None, ("step", args.suite, args.device, args.precision)))
    out = args.out or (None if args.quick else RESULTS / f"{name}.json")
    if out:
        about = {"machine": machine(), "commit": commit(), "size": vars(size), "precision": args.precision}
        write_json(out, {**about, "measures": recorded(found, seconds)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
