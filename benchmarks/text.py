"""Measure the text side of a training step: forward and backward pass of all class prompts of a suite.

Four exact ways are interleaved in one run, so that a busy machine affects them equally: the released code's formula in
its order (``benchmarks/original.py``), all 77 columns of every prompt in ours, the columns up to the longest prompt,
and the prefix tree. Ratios are to the first. The tower has the size of RN50's (width 512, 12 layers, 8 heads) and
random weights; 16 context vectors of each task precede the name. If all classes do not fit into memory, all ways
except the tree encode them in chunks, of which only some are run, and the time is scaled.

  python -m benchmarks.text                    the recorded figures (an hour on two cores)
  python -m benchmarks.text --device cuda      on a GPU, the default if there is one
  python -m benchmarks.text --sizes Plant-6    one suite
  python -m benchmarks.text --quick            the same code on a small tower, in seconds
"""

import argparse
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from open_clip.model import CLIP, convert_weights_to_lp
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._common import RESULTS, commit, held, machine, peak
from benchmarks.original import OriginalText
from clip.precision import choose_precision
from clip.text import PromptLayout, TextEncoder, prompt_layout
from clip.tree import TreePlan, Trie
from dassl.results.tables import Cell, Table
from dassl.utils.files import write_json
from dassl.utils.tools import collector_paused, reset_peak_memory
from datasets.general10 import General10
from datasets.plant6 import Plant6
from datasets.rs8 import RS8
from tests.miniature.box import known
from tests.miniature.fashion20 import TASKS as FASHION

N_CTX = 16
MIB = 2**20
# Classes per chunk for the ways without sharing, and the number of chunks that are run per round.
CHUNK, RUN = 120, 2
MANY = "21,000"  # a size that is measured only on request
WAYS = {"original": "original", "77 columns": "plain", "cut at the longest": "cut", "prefix tree": "auto"}


@dataclass(frozen=True)
class Tower:
    """Size of the text tower and number of measured rounds."""

    width: int
    layers: int
    embed: int
    rounds: int


FULL, QUICK = Tower(512, 12, 1024, 5), Tower(64, 2, 32, 2)


@dataclass(frozen=True)
class Problem:
    """The class prompts of a suite: layout (N), task of each class (N,), contexts (T, M, D)."""

    name: str
    layout: PromptLayout
    owner: Tensor
    contexts: Tensor

    def parts(self) -> "list[Problem]":
        """The same prompts in chunks."""
        rows = torch.arange(len(self.layout), device=self.owner.device).split(CHUNK)
        return [Problem(self.name, self.layout.select(part), self.owner[part], self.contexts) for part in rows]


@dataclass
class Figures:
    """Measurements of one way: seconds of each round, FLOP, MiB kept for the backward pass, peak MiB."""

    size: str
    precision: str
    way: str
    classes: int
    tokens: int
    scaled: float
    flop: float = 0.0
    kept: float = 0.0
    peak: float = 0.0
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def suites() -> dict[str, list[list[str]]]:
    """Class names of each task of the paper's four suites; those of Fashion-20 are invented."""
    members = {"Plant-6": Plant6.members, "RS-8": RS8.members, "General-10": General10.members}
    named = {suite: [known(member) for member in names] for suite, names in members.items()}
    return {"Fashion-20": [list(names) for names in FASHION.values()], **named}


def many(tasks: int = 20, classes: int = 1050) -> list[list[str]]:
    """A suite of some tens of thousands of classes: each name is one to three words of the paper's class names."""
    words = sorted({word for suite in suites().values() for task in suite for name in task for word in name.split()})
    draw = random.Random(0)
    names: dict[str, None] = {}
    while len(names) < tasks * classes:
        names[" ".join(draw.sample(words, draw.randint(1, 3)))] = None
    drawn = list(names)
    return [drawn[first : first + classes] for first in range(0, len(drawn), classes)]


def problem(name: str, tasks: Sequence[Sequence[str]], width: int, device: torch.device) -> Problem:
    """Prompts with random contexts around the class names of ``tasks``."""
    layout = prompt_layout([each for names in tasks for each in names], n_ctx=N_CTX).to(device)
    sizes = torch.tensor([len(names) for names in tasks])
    owner = torch.repeat_interleave(torch.arange(len(tasks)), sizes).to(device)
    contexts = torch.randn(len(tasks), N_CTX, width, generator=torch.Generator().manual_seed(0)) * 0.02
    return Problem(name, layout, owner, contexts.to(device).requires_grad_())


def encoder(tower: Tower, precision: str, encoding: str, device: torch.device) -> TextEncoder | OriginalText:
    """A random text tower."""
    torch.manual_seed(0)
    chosen = choose_precision(precision, device)
    vision = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}
    text = {"width": tower.width, "heads": max(1, tower.width // 64), "layers": tower.layers}
    model = CLIP(tower.embed, vision, text, quick_gelu=True, cast_dtype=chosen.cast_dtype).eval().requires_grad_(False)
    if chosen.cast_dtype:
        convert_weights_to_lp(model, chosen.cast_dtype)
    if encoding == "original":
        return OriginalText(TextEncoder(model, chosen, encoding="plain")).to(device)
    return TextEncoder(model, chosen, encoding=encoding).to(device)


def step(text: TextEncoder | OriginalText, part: Problem, *, count: bool = True) -> float:
    """Forward and backward pass of some prompts; returns the bytes kept between them if ``count``."""
    part.contexts.grad = None
    watch: AbstractContextManager[dict[int, int]] = kept_bytes(text) if count else nullcontext({})
    with watch as kept:
        features = text(part.layout, part.contexts, part.owner)
    total = sum(kept.values())
    features.float().square().sum().backward()
    return total


def synchronized(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Way:
    """One way to encode a problem, with its figures."""

    def __init__(self, name: str, task: Problem, text: TextEncoder | OriginalText, precision: str) -> None:
        self.text, self.device = text, text.causal_mask.device
        count = len(task.layout)
        parts = [task] if text.encoding == "auto" else task.parts()
        # From both ends, because tasks differ in the length of names; the last chunk is shorter than the others.
        self.parts = parts if len(parts) <= RUN else [parts[0], *parts[-RUN:-1]]
        run = sum(len(part.layout) for part in self.parts)
        self.figures = Figures(task.name, precision, name, count, self._tokens(task), round(count / run, 4))

    def _tokens(self, task: Problem) -> int:
        if self.text.encoding == "auto":
            return Trie.of(task.layout.slots, task.layout.eot, n_ctx=N_CTX, group=task.owner).plan().rows
        if self.text.encoding in ("original", "plain"):
            return len(task.layout) * len(self.text.causal_mask)
        return sum(len(part.layout) * (int(part.layout.eot.max()) + 1) for part in task.parts())

    def once(self) -> None:
        """Warm up; this also counts operations and measures memory."""
        reset_peak_memory()
        before = held(self.device)
        kept: list[float] = []
        with FlopCounterMode(display=False) as counter:
            for part in self.parts:
                kept.append(step(self.text, part))
        # Chunks run one after the other, so the peak memory is that of one chunk.
        share = len(self.parts[0].layout) / self.figures.classes
        self.figures.peak = round((peak(self.device) - before) / share, 1)
        self.figures.kept = round(kept[0] / share / MIB, 1)
        self.figures.flop = counter.get_total_flops() * self.figures.scaled

    def run(self) -> None:
        """The measured work."""
        for part in self.parts:
            step(self.text, part, count=False)
        synchronized(self.device)

    def round(self) -> None:
        """Add one measurement."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.run()
        self.figures.wall.append(round((time.perf_counter() - wall) * self.figures.scaled, 5))
        self.figures.cpu.append(round((time.process_time() - cpu) * self.figures.scaled, 5))


@contextmanager
def kept_bytes(text: nn.Module) -> Iterator[dict[int, int]]:
    """Count the bytes that automatic differentiation keeps, by storage, without the frozen weights."""
    kept: dict[int, int] = {}
    frozen = {parameter.untyped_storage().data_ptr() for parameter in text.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def needed_flop(task: Problem, tower: Tower) -> float:
    """Lower bound of operations for exact methods with frozen weights that keep no results between steps.

    It counts each common prefix once, attention only to ancestors, in the last layer only the end-of-text rows, and
    below the first layer only the gradient of context nodes.
    """
    plan = Trie.of(task.layout.slots, task.layout.eot, n_ctx=N_CTX, group=task.owner).plan()
    nodes, leaves, slots = plan.nodes, len(plan.leaf), len(plan.slot)
    width, square = tower.width, tower.width**2
    seen = float((plan.depth[:nodes] + 1).sum()) * width
    seen_by_leaves = float((plan.depth[plan.leaf] + 1).sum()) * width
    forward = (tower.layers - 1) * (12 * square * nodes + 2 * seen)
    forward += 2 * square * nodes + 10 * square * leaves + 2 * seen_by_leaves + leaves * width * tower.embed
    attention = (tower.layers - 1) * 2 * seen + 2 * seen_by_leaves
    backward = forward + attention - 3 * square * (nodes - slots)
    return 2 * (forward + backward)


def attention_cores(task: Problem, tower: Tower, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """Forward and backward pass of one layer's masked attention, as two products and as torch's fused kernel."""
    device = task.contexts.device
    plan = Trie.of(task.layout.slots, task.layout.eot, n_ctx=N_CTX, group=task.owner).plan().to(device)
    blocks, _, size, seen = plan.hidden.shape
    heads, width = max(1, tower.width // 64), min(64, tower.width)
    shapes = [(blocks, heads, rows, width) for rows in (size, seen, seen)]
    q, k, v = (torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for shape in shapes)
    bias = torch.zeros(plan.hidden.shape, device=device, dtype=dtype).masked_fill_(plan.hidden, float("-inf"))

    def products() -> None:
        (torch.softmax(torch.add(bias, q @ k.mT, alpha=width**-0.5), -1) @ v).sum().backward()
        synchronized(device)

    def fused() -> None:
        functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).sum().backward()
        synchronized(device)

    return {"attention of a layer: products": products, "attention of a layer: fused kernel": fused}


def planning(task: Problem) -> dict[str, Callable[[], TreePlan]]:
    """Costs of planning the tree: for a new set of names, and for a tenth of the classes of a known one."""
    trie = Trie.of(task.layout.slots, task.layout.eot, n_ctx=N_CTX, group=task.owner)
    count = len(task.layout)
    some = torch.randperm(count, generator=torch.Generator().manual_seed(0))[: -(-count // 10)].sort().values
    return {
        "plan of a new layout": lambda: Trie.of(
            task.layout.slots, task.layout.eot, n_ctx=N_CTX, group=task.owner
        ).plan(),
        "plan of a tenth of the classes": lambda: trie.select(some).plan(),
    }


def take_turns(ways: Sequence[Way], others: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Measure all ways in each round; returns the seconds of ``others``."""
    seconds: dict[str, list[float]] = {name: [] for name in others}
    for way in ways:
        way.once()
    for action in others.values():
        action()
    for number in range(rounds):
        for way in ways:
            way.round()
        for name, action in others.items():
            started = time.perf_counter()
            action()
            seconds[name].append(round(time.perf_counter() - started, 6))
        done = f"{ways[0].figures.size} {ways[0].figures.precision}: round {number + 1} of {rounds}"
        print(done, *(f"{way.figures.wall[-1]:.2f} s" for way in ways), file=sys.stderr)
    return seconds


def ratio(base: Sequence[float], other: Sequence[float]) -> float:
    """How many times faster: the median over rounds."""
    return statistics.median(a / b for a, b in zip(base, other, strict=True))


def rows(ways: Sequence[Way], needed: float) -> list[list[Cell]]:
    """Table rows of the ways of one problem; ratios are medians over rounds."""
    base = ways[0].figures
    found: list[list[Cell]] = []
    for way in ways:
        f = way.figures
        wall, cpu = (ratio(getattr(base, kind), getattr(f, kind)) for kind in ("wall", "cpu"))
        found.append(
            [
                f"{f.size}, {f.precision}",
                f.way + ("" if f.scaled == 1 else f" (1/{f.scaled:.1f} of it run)"),
                f"{f.tokens:,}",
                f"{statistics.median(f.wall):.3f}",
                f"{wall:.1f}",
                f"{statistics.median(f.cpu):.3f}",
                f"{cpu:.1f}",
                f"{f.flop / 1e9:,.0f}",
                f"{base.flop / f.flop:.1f}",
                f"{f.flop / needed:.2f}",
                f"{f.kept:,.0f}",
                f"{base.kept / max(f.kept, 1e-9):.1f}",
                f"{f.peak:,.0f}",
            ]
        )
    return found


HEADERS = [
    "suite",
    "way",
    "tokens",
    "wall s",
    "x",
    "CPU s",
    "x",
    "GFLOP",
    "x",
    "of needed",
    "kept MiB",
    "x",
    "peak MiB",
]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small tower; nothing is written unless --out is given")
    parser.add_argument(
        "--sizes", nargs="+", choices=[*suites(), MANY], default=list(suites()), help="suites (default: the paper's)"
    )
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16", "fp16"), default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, help="measured rounds (default: 5)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--out", type=Path, help="JSON file of the figures (default: benchmarks/results/text-DEVICE.json)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures; returns 0."""
    args = parse(arguments)
    tower, device = QUICK if args.quick else FULL, torch.device(args.device)
    tower = replace(tower, rounds=args.rounds or tower.rounds)
    table: list[list[Cell]] = []
    figures, others, needs = [], {}, {}
    for size in args.sizes:
        task = problem(size, many() if size == MANY else suites()[size], tower.width, device)
        needs[size] = needed_flop(task, tower)
        for precision in args.precisions:
            texts = {way: encoder(tower, precision, encoding, device) for way, encoding in WAYS.items()}
            ways = [Way(way, task, text, precision) for way, text in texts.items()]
            tree = ways[-1].text
            assert isinstance(tree, TextEncoder)
            dtype = tree.transformer.get_cast_dtype()
            extra = {**attention_cores(task, tower, dtype), **planning(task)}
            gc.collect()
            with collector_paused():
                others[f"{size}, {precision}"] = take_turns(ways, extra, tower.rounds)
            table += rows(ways, needs[size])
            figures += [asdict(way.figures) for way in ways]
    print(Table(HEADERS, table).render("markdown"), end="")
    for name, seconds in others.items():
        parts = (f"{what} {statistics.median(each) * 1000:.1f} ms" for what, each in seconds.items())
        print(f"{name}: {'; '.join(parts)}")
    out = args.out or (None if args.quick else RESULTS / f"text-{device.type}.json")
    if out:
        about = {"machine": machine(), "commit": commit(), "tower": asdict(tower), "needed FLOP": needs}
        write_json(out, {**about, "ways": figures, "other seconds": others})
    return 0


if __name__ == "__main__":
    sys.exit(main())
