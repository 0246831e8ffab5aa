"""Backbones of several families side by side: images, and the text side of a training step as the log would run it.

    python -m benchmarks.backbones            true sizes, random weights
    python -m benchmarks.backbones --quick    small sizes, in seconds

For each backbone: a batch of images through the image tower, and the class prompts of Fashion-20 (78 classes, 20 tasks,
16 context vectors per task), forward and backward, in the way that is chosen for its text tower and over all columns.
SigLIP's own tokenizer needs a network: its prompts have CLIP's tokens here, which changes no figure, because it runs
over all of its columns. Operations do not depend on the machine; times and peaks do: compare them within a run only.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from open_clip.model import CLIP, CustomTextCLIP
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._common import Measure, commit, held, machine, peak, quiet, recorded, result_file, take_turns
from benchmarks.text import N_CTX, suites, synchronized
from clip.backbones import Backbone
from clip.openclip import listed
from clip.precision import choose_precision
from clip.tokenizer import BytePairs
from clip.tree import Trie
from dassl.utils.files import write_text
from dassl.utils.tools import reset_peak_memory

BACKBONES = {
    "RN50": "RN50-quickgelu",
    "ViT-L/14": "ViT-L-14",
    "SigLIP2-B/16": "ViT-B-16-SigLIP2",
    "MobileCLIP2-S0": "MobileCLIP2-S0",
}
SUITE = "Fashion-20"
WAYS = ("chosen", "plain")
SMALL = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}
MIB = 2**20


@dataclass
class Row:
    """What one action costs, beside its times.

    Attributes:
        backbone: its name. what: "images" or the way of the text side.
        way: how prompts are encoded: "tree", "cut" or "plain"; "" for images.
        count: images, or columns of prompts (rows of the tree).
        flop: operations. peak: MiB beyond what was held before.
    """

    backbone: str
    what: str
    way: str
    count: int
    flop: int = 0
    peak: float = 0.0

    @property
    def name(self) -> str:
        """In the table."""
        return f"{self.backbone}, {self.what}"


def random_backbone(name: str, encoding: str, device: torch.device, *, quick: bool) -> Backbone:
    """A backbone of the true sizes, or of small ones, with random weights."""
    config = deepcopy(listed(BACKBONES[name]).model)
    if quick:
        config["vision_cfg"] = SMALL
        config["text_cfg"] |= {"width": 64, "heads": 1, "layers": 2}
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    torch.manual_seed(0)
    model = kind(**config).eval().requires_grad_(False)
    tokenizer = BytePairs(model.context_length)
    precision = choose_precision("fp32", device)
    found = Backbone(model, precision, name=name, digest="", tokenizer=tokenizer, text_encoding=encoding)
    return found.to(device)


def images_of(backbone: Backbone, batch: int, device: torch.device) -> Callable[[], object]:
    """Encode a batch."""
    images = torch.randn(batch, 3, backbone.image_size, backbone.image_size, device=device)

    @torch.no_grad()
    def encode() -> None:
        backbone.encode_image(images)
        synchronized(device)

    return encode


def text_of(backbone: Backbone, device: torch.device) -> tuple[Callable[[], object], int]:
    """A training step's text side, and the columns (or rows) that it runs over."""
    text, tasks = backbone.text, suites()[SUITE]
    layout = text.layout([name for names in tasks for name in names], n_ctx=N_CTX)
    owner = torch.repeat_interleave(torch.arange(len(tasks)), torch.tensor([len(names) for names in tasks])).to(device)
    contexts = (torch.randn(len(tasks), N_CTX, text.width, device=device) * 0.02).requires_grad_()

    def step() -> None:
        contexts.grad = None
        text(layout, contexts, owner).float().square().sum().backward()
        synchronized(device)

    if text.encoding == "auto":
        return step, Trie.of(layout.slots, layout.eot, n_ctx=N_CTX, group=owner).plan().rows
    lengths = layout.eot + 1 if text.encoding == "cut" else torch.full_like(layout.eot, text.facts.length)
    return step, int(lengths.sum())


def prepared(name: str, batch: int, device: torch.device, *, quick: bool) -> list[tuple[Row, Callable[[], object]]]:
    """The rows of a backbone with their actions, each run once for operations and peak."""
    found: list[tuple[Row, Callable[[], object]]] = []
    for way in WAYS:
        backbone = random_backbone(name, "auto" if way == "chosen" else "plain", device, quick=quick)
        if not found:
            found.append((Row(name, "images", "", batch), images_of(backbone, batch, device)))
        action, count = text_of(backbone, device)
        encoding = "tree" if backbone.text.encoding == "auto" else backbone.text.encoding
        found.append((Row(name, f"text, {way}", encoding, count), action))
    for row, action in found:
        reset_peak_memory()
        before = held(device)
        with FlopCounterMode(display=False) as counter:
            action()
        row.peak, row.flop = round(peak(device) - before, 1), counter.get_total_flops()
    return found


def measured(names: Sequence[str], batch: int, rounds: int, *, quick: bool) -> list[dict[str, object]]:
    """All rows with their times; backbones come one after the other, which bounds the memory."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, object]] = []
    for name in names:
        with quiet():
            found = prepared(name, batch, device, quick=quick)
            base = f"{name}, text, plain"
            bases = [base if row.way else "" for row, _ in found]
            measures = [Measure(r.name, act, r.count, b) for (r, act), b in zip(found, bases, strict=True)]
            times = recorded(measures, take_turns(measures, rounds))
        rows += [{**asdict(row), **each} for (row, _), each in zip(found, times, strict=True)]
    return rows


def table(rows: Sequence[dict[str, object]]) -> str:
    """The rows as Markdown: ratios of the text side against all columns, images per second."""
    lines = ["| what | way | columns or images | GFLOP | wall s | CPU s | plain / this: CPU | operations | peak MiB |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    by_name = {str(row["name"]): row for row in rows}
    for row in rows:
        wall, cpu = (sorted(row[kind])[len(row[kind]) // 2] for kind in ("wall", "cpu"))  # type: ignore[call-overload,arg-type]
        base = by_name.get(str(row["base"]))
        ratios = [f"{1 / wall * int(str(row['count'])):.1f} images/s", ""]
        if base is not None:
            theirs = sorted(base["cpu"])  # type: ignore[call-overload]
            flops = float(str(base["flop"])) / max(1.0, float(str(row["flop"])))
            ratios = [f"{theirs[len(theirs) // 2] / cpu:.1f}", f"{flops:.1f}"]
        flop = float(str(row["flop"])) / 1e9
        cells = [row["name"], row["way"], f"{row['count']:,}", f"{flop:,.1f}", f"{wall:.3g}", f"{cpu:.3g}", *ratios]
        lines.append("| " + " | ".join(map(str, [*cells, row["peak"]])) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="images at once")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    args = parser.parse_args(arguments)
    rows = measured(args.backbones, args.batch, args.rounds, quick=args.quick)
    print(table(rows))
    out = args.out or (None if args.quick else result_file("backbones"))
    if out is not None:
        content = {"machine": machine(), "commit": commit(), "suite": SUITE, "quick": args.quick, "rows": rows}
        write_text(out, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
