"""Measure predict.py from JPEG files to JSON lines, and its parts: decoding, encoding, scoring.

A finished run of zero-shot CLIP on the class names of General-10 (10 tasks, 1,191 classes), JPEG photographs of
500 x 375 pixels, batches of 64, a backbone of the size of RN50 or ViT-B/32 with random weights. Ratios are to the bare
encoder: open_clip's network on tensors in memory. All rows are interleaved in one run, so that a busy machine affects
them equally; the table has medians. No worker processes read the images, so that the CPU time is known.

  python -m benchmarks.predict                     the recorded figures (some minutes on two cores)
  python -m benchmarks.predict --tower ViT-B/32    the fastest published tower
  python -m benchmarks.predict --quick             the same code on a tiny backbone, in seconds
"""

import argparse
import io
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file
from torch import Tensor

from benchmarks import step
from benchmarks._common import RESULTS, Measure, Seconds, commit, machine, quiet, recorded, take_turns
from benchmarks.text import ratio, synchronized
from dassl.config import get_cfg_default, merge_cfg
from dassl.engine.run import run
from dassl.inference import Classifier, load_classifier
from dassl.inference.formats import JsonLines
from dassl.inference.stream import Batch, find_images, read_batches
from dassl.results.tables import Table
from dassl.utils.files import write_json
from predict import main as predict
from predict import write_answers

BATCH = 64
TOP_K = 5
BARE = "bare encoder, tensors in memory"
WHOLE = "predict.py, files to JSON lines"
SCORE = "score: features to JSON lines"
TOWERS: dict[str, dict[str, Any]] = {
    "RN50": {"layers": (3, 4, 6, 3), "width": 64, "image_size": 224},
    "ViT-B/32": {"layers": 12, "width": 768, "patch_size": 32, "image_size": 224},
}


@dataclass(frozen=True)
class Size:
    """Size of the measurement: images and rounds, and the suite and towers of :mod:`benchmarks.step`."""

    images: int
    rounds: int
    of: step.Size


FULL = Size(images=128, rounds=3, of=replace(step.FULL, suite="General-10", batches=0))
QUICK = Size(images=8, rounds=1, of=replace(step.QUICK, batches=0))


def finished_run(folder: Path, size: Size, *, cuda: bool) -> Path:
    """The folder of a run of zero-shot CLIP, which was tested on the photographs to predict."""
    of = replace(size.of, test=size.images)
    step.write_suite(folder, of)
    backbone = step.write_backbone(folder / "backbone.safetensors", of)
    side = of.vision["image_size"]
    pairs = {
        "TRAINER.NAME": "ZeroshotCLIP",
        "TRAINER.ZSCLIP.PREC": "fp32",
        "MODEL.BACKBONE.NAME": backbone,
        "MODEL.BACKBONE.ACTIVATION": "quickgelu",
        "MODEL.BACKBONE.HEAD_WIDTHS": "64,64",
        "DATASET.NAME": "StepSuite",
        "DATASET.ROOT": folder,
        "OUTPUT_DIR": folder / "run",
        "INPUT.SIZE": f"{side},{side}",
        "DATALOADER.NUM_WORKERS": 0,
        "SEED": 1,
        "USE_CUDA": cuda,
    }
    cfg = get_cfg_default()
    merge_cfg(cfg, pairs=[str(part) for pair in pairs.items() for part in pair])
    run(cfg)
    return folder / "run"


class Parts:
    """predict.py and its parts on the same photographs; every method processes all of them.

    Attributes:
        batches: the decoded photographs.
        features: their features from the classifier's encoder, a tensor for each batch.
    """

    def __init__(self, folder: Path, size: Size, *, cuda: bool) -> None:
        self.run, self.photos = finished_run(folder, size, cuda=cuda), folder / step.StepSuite.dataset_dir
        self.device = "cuda" if cuda else "cpu"
        self.classifier: Classifier = load_classifier(self.run, device=self.device)
        self.network = CLIP(size.of.embed, size.of.vision, size.of.text, quick_gelu=True).eval()
        self.network.load_state_dict(load_file(folder / "backbone.safetensors"))
        self.network.to(self.device)
        self.batches = list(self.decode())
        self.features = self.encode()

    def decode(self) -> Iterator[Batch]:
        """From files to tensors."""
        reading, transform = self.classifier.reading, self.classifier.transform
        return read_batches(find_images([str(self.photos)]), reading, transform, batch_size=BATCH, workers=0)

    def encode(self) -> list[Tensor]:
        """The tower as in predict.py."""
        trainer: Any = self.classifier.trainer
        found = [trainer.encode_images(batch.images) for batch in self.batches]
        synchronized(torch.device(self.device))
        return found

    @torch.no_grad()
    def bare(self) -> None:
        """open_clip's network in a plain loop."""
        for batch in self.batches:
            self.network.encode_image(batch.images.to(self.device))
        synchronized(torch.device(self.device))

    def score(self) -> str:
        """From features to the lines of the output: logits, softmax, the best classes, JSON."""
        trainer: Any = self.classifier.trainer
        trainer.encode_images = lambda features: features
        try:
            return self.written(Batch(b.paths, f, []) for b, f in zip(self.batches, self.features, strict=True))
        finally:
            del trainer.encode_images

    def whole(self) -> str:
        """From files to the lines of the output, by a loaded classifier."""
        return self.written(self.decode())

    def written(self, batches: Iterator[Batch]) -> str:
        """The lines that predict.py writes for some batches."""
        stream = io.StringIO()
        write_answers(self.classifier, batches, JsonLines(stream, threshold=0, top_k=TOP_K))
        return stream.getvalue()

    def command(self) -> None:
        """Run the command line, which loads the run first."""
        out = self.run.parent / "answers.jsonl"
        flags = ["--format", "jsonl", "--out", str(out), "--workers", "0", "--batch-size", str(BATCH)]
        assert predict([str(self.run), str(self.photos), "--device", self.device, *flags]) == 0

    def measures(self) -> list[Measure]:
        """The measures of all rows; they count photographs."""
        actions = {
            BARE: self.bare,
            WHOLE: self.whole,
            "decode: files to tensors": lambda: list(self.decode()),
            "encode: tensors to features": self.encode,
            SCORE: self.score,
            "predict.py as a command, the run loaded first": self.command,
        }
        count = sum(len(batch.paths) for batch in self.batches)
        return [Measure(name, action, count, BARE) for name, action in actions.items()]


def table(found: Sequence[Measure], seconds: dict[str, Seconds]) -> Table:
    """Medians; the ratios are medians over rounds."""
    rows = []
    for measure in found:
        times, base, whole = seconds[measure.name], seconds[measure.base], seconds[WHOLE]
        wall, cpu = (statistics.median(getattr(times, kind)) / measure.count for kind in ("wall", "cpu"))
        ratios = [f"{ratio(getattr(times, kind), getattr(base, kind)):.3f}" for kind in ("wall", "cpu")]
        share = [f"{100 * ratio(getattr(times, kind), getattr(whole, kind)):.2f}" for kind in ("wall", "cpu")]
        rows.append([measure.name, f"{1 / wall:,.1f}", f"{1000 * wall:.2f}", f"{1000 * cpu:.2f}", *ratios, *share])
    names = ["what", "images / s", "ms / image", "CPU ms", "time / bare", "CPU / bare", "% of whole", "% CPU"]
    return Table(names, rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--quick", action="store_true", help="a tiny backbone; nothing is written unless --out is given")
    add("--tower", choices=list(TOWERS), default="RN50", help="size of the image tower (default: RN50)")
    add("--rounds", type=int, help="measured rounds (default: 3)")
    add("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--out", type=Path, help="JSON file of the figures (default: benchmarks/results/predict-TOWER-DEVICE.json)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures; returns 0."""
    args = parse(arguments)
    size = QUICK if args.quick else replace(FULL, of=replace(FULL.of, vision=TOWERS[args.tower]))
    with tempfile.TemporaryDirectory() as name, quiet():
        parts = Parts(Path(name), size, cuda=args.device == "cuda")
        assert parts.score() == parts.whole(), "the parts are those of the whole"
        found = parts.measures()
        seconds = take_turns(found, args.rounds or size.rounds)
        tasks = parts.classifier.tasks
    print(table(found, seconds).render("markdown"), end="")
    out = args.out or (
        None if args.quick else RESULTS / f"predict-{args.tower.replace('/', '-').lower()}-{args.device}.json"
    )
    if out:
        about = {"machine": machine(), "commit": commit(), "images": size.images, "batch": BATCH, "size": vars(size.of)}
        about |= {"tasks": len(tasks), "classes": sum(len(task.classnames) for task in tasks)}
        write_json(out, {**about, "measures": recorded(found, seconds)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
