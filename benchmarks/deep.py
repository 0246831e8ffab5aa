"""Measure deep rows: the text side of a training step whose context is replaced before later blocks.

The tower has the size of ViT-B/16's and RN50's (width 512, 12 layers, 8 heads) and random weights; 4 context vectors,
the same for all prompts, precede the name. Three kinds of step are measured with the prefix tree and with all columns,
interleaved in one run, all prompts at once: without deep rows (CoOp), with rows of each class before the ninth block
(TCP), and with rows that all classes share before the second to ninth (deep prompts).

  python -m benchmarks.deep                    Fashion-20 on a CPU, in minutes; needs 4 GiB
  python -m benchmarks.deep --quick            the same code on a small tower, in seconds
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._common import commit, machine
from benchmarks.text import FULL, QUICK, Tower, encoder, suites
from clip.text import PromptLayout, TextEncoder, prompt_layout
from dassl.results.tables import Cell, Table
from dassl.utils.files import write_json

N_CTX = 4
WAYS = {"all columns": "plain", "prefix tree": "auto"}
KINDS = ("no deep rows", "rows of each class", "shared rows")


@dataclass
class Step:
    """A kind of step in one way, with its CPU seconds in each round."""

    kind: str
    way: str
    text: TextEncoder
    layout: PromptLayout
    contexts: Tensor
    deep: dict[int, Tensor]
    flop: float = 0.0
    seconds: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Forward and backward pass of all prompts."""
        self.text(self.layout, self.contexts, deep=self.deep).square().sum().backward()

    def once(self) -> None:
        """Plan, and count operations."""
        with FlopCounterMode(display=False) as counter:
            self.run()
        self.flop = counter.get_total_flops()

    def round(self) -> None:
        """Add one measurement."""
        started = time.process_time()
        self.run()
        self.seconds.append(round(time.process_time() - started, 4))

    @property
    def rows(self) -> list[int]:
        """Rows of each span of blocks; of all columns their number."""
        if not self.layout.known:
            return [len(self.layout) * len(self.text.causal_mask)]
        return [plan.rows for plan in self.layout.known[0].forest.plans[0]]


def deep_rows(kind: str, classes: int, tower: Tower) -> dict[int, Tensor]:
    """The deep rows of a kind of step, by block."""
    middle = max(1, tower.layers * 2 // 3)
    draw = torch.Generator().manual_seed(1)
    if kind == "no deep rows":
        return {}
    if kind == "rows of each class":
        return {middle: torch.randn(classes, N_CTX, tower.width, generator=draw).requires_grad_()}
    return {layer: torch.randn(N_CTX, tower.width, generator=draw).requires_grad_() for layer in range(1, middle + 1)}


def steps(suite: str, tower: Tower) -> list[Step]:
    """Every kind of step in every way, on the same prompts."""
    names = [name for task in suites()[suite] for name in task]
    contexts = torch.randn(1, N_CTX, tower.width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for way, encoding in WAYS.items():
        text = encoder(tower, "fp32", encoding, torch.device("cpu"))
        assert isinstance(text, TextEncoder)
        text.memory = 2**40  # no chunks, which compute the forward pass twice
        for kind in KINDS:
            layout = prompt_layout(names, n_ctx=N_CTX)
            found.append(Step(kind, way, text, layout, contexts, deep_rows(kind, len(names), tower)))
    return found


def table(done: Sequence[Step]) -> Table:
    """A line for each kind of step; ratios of times are medians over rounds."""
    lines: list[list[Cell]] = []
    for kind in KINDS:
        plain, tree = (next(s for s in done if (s.kind, s.way) == (kind, way)) for way in WAYS)
        ratio = statistics.median(a / b for a, b in zip(plain.seconds, tree.seconds, strict=True))
        spans = ", ".join(f"{rows:,}" for rows in dict.fromkeys(tree.rows))
        cpu = [f"{statistics.median(each.seconds):.2f}" for each in (plain, tree)]
        flop = [f"{each.flop / 1e9:,.1f}" for each in (plain, tree)]
        lines.append([kind, f"{plain.rows[0]:,}", spans, *flop, f"{plain.flop / tree.flop:.1f}", *cpu, f"{ratio:.1f}"])
    heads = ["step", "columns", "rows by span", "GFLOP: columns", "tree", "x", "CPU s: columns", "tree", "x"]
    return Table(heads, lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small tower")
    parser.add_argument("--suite", choices=list(suites()), default="Fashion-20", help="whose class names")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds (default: 3)")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures; returns 0."""
    args = parse(arguments)
    tower = QUICK if args.quick else FULL
    done = steps(args.suite, tower)
    for step in done:
        step.once()
    for _ in range(args.rounds):
        for step in done:
            step.round()
    print(table(done).render("markdown"), end="")
    if args.out:
        figures = [{n: getattr(s, n) for n in ("kind", "way", "rows", "flop", "seconds")} for s in done]
        write_json(args.out, {"machine": machine(), "commit": commit(), "suite": args.suite, "steps": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
