"""Compare the methods: parameters, seconds of a training step and of a test batch, peak memory.

Every method learns the same tasks from the same batch: random images of six tasks with the numbers of classes of
Plant-6 (or ten, of General-10), trained jointly, with a CLIP of RN50's size and random weights. For a method that is
fitted at once, the fit of all tasks counts as its only step. Image features are computed before the measurement, as
with DATALOADER.FEATURES on; --images includes the image encoder. Each measurement has a separate process; the methods
are interleaved, and the table has medians.

  python -m benchmarks.methods                                    the recorded figures (on a GPU if there is one)
  python -m benchmarks.methods --tasks general10 --methods GDA    a fit of a large suite: 1,191 classes
  python -m benchmarks.methods --size small                       a narrower CLIP
  python -m benchmarks.methods --size tiny --steps 1 --rounds 1   the same code in seconds
"""

import argparse
import itertools
import logging
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from benchmarks._common import commit, held, machine, peak, result_file
from dassl.config import get_cfg_default, merge_cfg
from dassl.data.columns import class_offsets, task_of_class
from dassl.data.datum import Datum, Task
from dassl.data.names_only import NoImages
from dassl.engine import TRAINER_REGISTRY
from dassl.results.tables import Table
from dassl.utils.files import write_json
from dassl.utils.tools import device_name, reset_peak_memory, set_random_seed
from trainers._fitted import FittedTrainer
from trainers.base import PromptTuner

# Arguments of open_clip's CLIP; "RN50" has the sizes of OpenAI's.
SIZES: dict[str, dict[str, Any]] = {
    "RN50": {
        "embed_dim": 1024,
        "vision_cfg": {"layers": (3, 4, 6, 3), "width": 64, "image_size": 224},
        "text_cfg": {"width": 512, "heads": 8, "layers": 12},
    },
    "small": {
        "embed_dim": 256,
        "vision_cfg": {"layers": (2, 2, 2, 2), "width": 32, "image_size": 96},
        "text_cfg": {"width": 256, "heads": 4, "layers": 6},
    },
    "tiny": {
        "embed_dim": 64,
        "vision_cfg": {"layers": (1, 1, 1, 1), "width": 8, "image_size": 64},
        "text_cfg": {"width": 64, "heads": 1, "layers": 2},
    },
}
TASKS = {"plant6": (36, 5, 9, 15, 12, 39), "general10": (100, 47, 10, 100, 101, 102, 37, 196, 397, 101)}
LOOKS = ("fresh", "dried", "wild", "garden", "young", "red", "white", "common", "small")
PLANTS = ("apple", "carrot", "tulip", "pepper", "maize", "mushroom", "cherry", "tomato", "grape", "rose", "bean")
COOP16, COOP4 = ("TRAINER.COOP.N_CTX", "16"), ("TRAINER.COOP.N_CTX", "4", "TRAINER.COOP.CTX_INIT", "True")
MTCOOP = ("TRAINER.MTCOOP.TASK_N_CTX", "4", "TRAINER.MTCOOP.CLASS_N_CTX", "4")


@dataclass(frozen=True)
class Row:
    """One row of the table: a method with its official numbers of context vectors."""

    trainer: str
    options: tuple[str, ...] = ()


ROWS = {
    "SoftCPT-NATA": Row("MTCoOp", MTCOOP),
    "SoftCPT-CATA": Row("MTCoOp", (*MTCOOP, "TRAINER.MTCOOP.CSC", "True")),
    "CoOp-MT": Row("CoOp", COOP16),
    "CoOp-CA": Row("MTCoOpHard", ("TRAINER.MTCOOPH.N_CTX", "16", "TRAINER.MTCOOPH.TSC", "True")),
    "CoOp-CS": Row("CoOp", (*COOP16, "TRAINER.COOP.CSC", "True")),
    "CoCoOp": Row("CoCoOp", ("TRAINER.COCOOP.N_CTX", "4")),
    "ProGrad": Row("ProGrad", (*COOP16, "TRAINER.COOP.CTX_INIT", "True")),
    "KgCoOp": Row("KgCoOp", (*COOP4, "TRAINER.COOP.W", "8")),
    "PLOT": Row("PLOT", ("TRAINER.PLOT.N", "4", "TRAINER.PLOT.N_CTX", "16")),
}


def all_rows() -> dict[str, Row]:
    """The rows above, and one for each other learning method of the registry."""
    named = {row.trainer for row in ROWS.values()}
    rest = [t.__name__ for t in TRAINER_REGISTRY if t.trainable and t.__module__.startswith("trainers.")]
    return {**ROWS, **{name: Row(name) for name in rest if name not in named}}


@dataclass(frozen=True)
class Work:
    """The work of every method."""

    size: str
    weights: str
    tasks: str
    batch: int
    shots: int
    precision: str
    steps: int
    images: bool
    cpu: bool


def random_tasks(suite: str) -> list[Task]:
    """Tasks with a suite's numbers of classes; names of two words, in every task from the first on."""
    names = [f"{look} {plant}" for look, plant in itertools.product(LOOKS, PLANTS)]
    names += [f"{name} {number}" for number in range(1, 6) for name in names[: len(LOOKS) * len(PLANTS)]]
    return [Task(f"kind of plant {t}", tuple(names[:n])) for t, n in enumerate(TASKS[suite])]


class Batches(list[dict[str, Any]]):
    """Batches, of which every epoch has the same."""

    def set_epoch(self, epoch: int) -> None:
        """Does nothing."""


class RandomData:
    """Replaces a DataManager: tasks, one training batch, and K images of each class as features or pictures."""

    def __init__(self, tasks: list[Task], work: Work, side: int) -> None:
        self.tasks, self.offsets, self.task_of_class = tasks, class_offsets(tasks), task_of_class(tasks)
        self.multi, self.label_sets = torch.zeros(len(tasks), dtype=torch.bool), None
        self.num_classes = len(self.task_of_class)
        self._shots = work.shots
        owners = zip(self.task_of_class.tolist(), range(self.num_classes), strict=True)
        labels = [(task, column - int(self.offsets[task])) for task, column in owners]
        items = [Datum("", label, task) for task, label in labels for _ in range(work.shots)]
        self.dataset = NoImages(tasks, train_x=items)
        column = torch.randint(self.num_classes, (work.batch,))
        self.images = torch.rand(work.batch, 3, side, side)
        self.batch = self.describe(column, {"img": self.images})
        self.train_loader_x = self.test_loader = [self.batch]
        self.val_loader = None

    def attach_encoder(self, encode: Callable[[Tensor], Tensor], encoder_id: str, *, test_rows: int = 0) -> None:
        """Use images, not features."""

    def truth(self, batch: dict[str, Any]) -> None:
        """No task is multi-label."""

    def describe(self, column: Tensor, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """A batch of images of the given classes."""
        task = self.task_of_class[column]
        rows = torch.arange(len(column))
        return {**tensors, "label": column - self.offsets[task], "task": task, "row": rows, "index": rows}

    def store_features(self, trainer: PromptTuner) -> None:
        """Replace the batch's images with features."""
        del self.batch["img"]
        self.batch["feat"] = trainer.encode_images(self.images).cpu()

    def plain_loader(self, split: str, *, augmented: bool = False) -> Batches:
        """K copies of the first picture's features, slightly changed, for each class of "train"; at most 4 of "val"."""
        count = self._shots if split == "train" else min(self._shots, 4)
        column = torch.arange(self.num_classes).repeat_interleave(count)
        first = self.batch["feat"][:1]
        features = first + 0.1 * first.std() * torch.randn(len(column), *first.shape[1:])
        return Batches([self.describe(column, {"feat": features})])


def measure(row: Row, work: Work) -> dict[str, Any]:
    """Parameters, seconds of each step and test batch, and MiB in addition to the built trainer's."""
    set_random_seed(1)
    trainer, data = build(row, work)
    train, test = actions(trainer, data)
    reset_peak_memory()
    before = held(trainer.device)
    fits = isinstance(trainer, FittedTrainer)
    if not fits:
        train()  # warm-up; its memory counts, because a process does not return freed host memory
    steps = [timed(train, trainer.device) for _ in range(1 if fits else work.steps)]
    grown = peak(trainer.device) - before
    tests = [timed(test, trainer.device)[0] for _ in range(work.steps)]
    return {
        "parameters": trainer.num_parameters,
        "step": [wall for wall, _ in steps],
        "step CPU": [cpu for _, cpu in steps],
        "test": tests,
        "held MiB": before,
        "step MiB": max(grown, 0.0),
        "device": device_name(trainer.device),
    }


def build(row: Row, work: Work) -> tuple[PromptTuner, RandomData]:
    """The trainer of a row, ready for its first step."""
    cfg, method = get_cfg_default(), TRAINER_REGISTRY.get(row.trainer)
    assert issubclass(method, PromptTuner)
    side = str(SIZES[work.size]["vision_cfg"]["image_size"])
    style = ("MODEL.BACKBONE.ACTIVATION", "quickgelu", "MODEL.BACKBONE.HEAD_WIDTHS", "64,64")
    fixed: tuple[str, ...] = (
        "MODEL.BACKBONE.NAME",
        work.weights,
        *style,
        "INPUT.SIZE",
        f"{side},{side}",
        "OPTIM.NAME",
        "sgd",
        "SEED",
        "1",
    )
    fixed += ("TRAINER.NAME", row.trainer, "USE_CUDA", str(not work.cpu))
    merge_cfg(cfg, pairs=(*fixed, f"TRAINER.{method.section}.PREC", work.precision, *row.options))
    data = RandomData(random_tasks(work.tasks), work, int(side))
    trainer = method(cfg, data)
    if not work.images or isinstance(trainer, FittedTrainer):
        data.store_features(trainer)
    trainer.set_model_mode("train")
    return trainer, data


def actions(trainer: PromptTuner, data: RandomData) -> tuple[Callable[[], object], Callable[[], object]]:
    """A training step (or the whole fit) and the scoring of a test batch."""

    @torch.no_grad()
    def test() -> None:
        trainer.before_test()
        trainer.model_inference(data.batch)

    if isinstance(trainer, FittedTrainer):
        splits = [trainer.gather(data.plain_loader(split)) for split in ("train", "val")]
        return lambda: trainer.fit(*splits), test
    return lambda: trainer.forward_backward(data.batch), test


def timed(action: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall-clock seconds of an action, including its last kernel, and CPU seconds of the process."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started, used = time.perf_counter(), time.process_time()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, time.process_time() - used


def write_weights(size: str, path: Path) -> None:
    """A CLIP of the given size with open_clip's random initialisation, as a file for ``clip.load``."""
    torch.manual_seed(0)
    model = CLIP(**SIZES[size], quick_gelu=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)


def take_turns(rows: dict[str, Row], work: Work, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """The measurements of every method in every round, each in a new process."""
    found: dict[str, list[dict[str, Any]]] = {label: [] for label in rows}
    context = multiprocessing.get_context("spawn")
    for number, (label, row) in itertools.product(range(rounds), rows.items()):
        with context.Pool(1, logging.disable, (logging.WARNING,)) as pool:
            found[label].append(pool.apply(measure, (row, work)))
        print(f"round {number + 1} of {rounds}: {label}", file=sys.stderr)
    return found


def table(found: dict[str, list[dict[str, Any]]]) -> Table:
    """Medians over all rounds; step times also relative to the first row."""
    rows, base = [], 0.0
    for label, each in found.items():
        step, test = (statistics.median(s for one in each for s in one[key]) for key in ("step", "test"))
        base = base or step
        memory = statistics.median(one["step MiB"] for one in each)
        cpu = statistics.median(s for one in each for s in one["step CPU"])
        times = [f"{1000 * step:.1f}", f"{1000 * cpu:.1f}", f"{step / base:.2f}", f"{1000 * test:.1f}"]
        rows.append([label, f"{each[0]['parameters']:,}", *times, f"{memory:.0f}"])
    return Table(["method", "parameters", "step ms", "CPU ms", "relative", "test batch ms", "step MiB"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="RN50", help="size of the CLIP (default: RN50)")
    parser.add_argument("--methods", nargs="+", metavar="LABEL", help="rows to measure (default: all)")
    parser.add_argument(
        "--tasks", choices=list(TASKS), default="plant6", help="whose numbers of classes (default: plant6)"
    )
    parser.add_argument("--batch", type=int, default=32, help="images of a batch (default: 32)")
    parser.add_argument("--shots", type=int, default=16, help="images per class for a fitted method")
    parser.add_argument("--precision", default="fp32", help="PREC of every method (default: fp32)")
    parser.add_argument("--steps", type=int, default=5, help="measured steps per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", action="store_true", help="encode the images inside each step")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    parser.add_argument("--out", type=Path, help="JSON file (default: in results/, only for the full size)")
    args = parser.parse_args(arguments)
    rows = all_rows()
    unknown = [label for label in args.methods or () if label not in rows]
    if unknown:
        parser.error(f"no method {unknown[0]!r}; choose from {', '.join(rows)}")
    rows = {label: rows[label] for label in args.methods or rows}
    with tempfile.TemporaryDirectory() as name:
        weights = Path(name) / "clip.safetensors"
        write_weights(args.size, weights)
        given = (args.tasks, args.batch, args.shots, args.precision, args.steps, args.images, args.cpu)
        work = Work(args.size, str(weights), *given)
        found = take_turns(rows, work, args.rounds)
    print(table(found).render("markdown"), end="")
    out = args.out or (
        result_file("methods", cpu=args.cpu)
        if args.size == "RN50" and not args.methods and args.tasks == "plant6"
        else None
    )
    if out:
        size = {key: value for key, value in asdict(work).items() if key != "weights"}
        figures = {label: {"trainer": rows[label].trainer, "rounds": each} for label, each in found.items()}
        write_json(
            out,
            {"machine": machine(), "commit": commit(), "tasks": TASKS[args.tasks], "size": size, "methods": figures},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
