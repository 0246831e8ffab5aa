"""The class sub-sampling of a recorded case: which classes each training step scored."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clip.device import take_rows
from dassl.metrics import micro_average_precision, task_columns
from tests.golden.report import Case, leaves
from trainers.base import PromptTuner
from trainers.mtcoop import SAMPLED_OFFSET, sample_columns

SELECTED = re.compile(r"(?:(?P<track>\w+)\.)*?selected(?:_step(?P<step>\d+))?$")
SEEDS = ("torch_seed_before_first_forward", "sub.torch_seed_before_first_forward", "seed")
DRAWS = 6  # five steps and the loss behind them


class Choices:
    """The classes that each step of a recorded case scores; without sub-sampling it does nothing.

    Recorded are a choice for each step (``sub.selected_step0`` ..., or of one track ``plain.selected_step0`` ...), one
    for all steps (``selected``), or the seed alone, from which ours are drawn.
    """

    def __init__(self, trainer: PromptTuner, record: dict[str, Any], values: dict[str, Tensor]) -> None:
        self.active = trainer.kept_columns(torch.zeros(1, dtype=torch.int64)) is not None
        self._sizes = [len(task.classnames) for task in trainer.dm.tasks]
        self.recorded: dict[tuple[str, int | None], tuple[str, Tensor]] = {}
        for name, value in {**leaves(record), **values}.items():
            match = SELECTED.match(name)
            if match:
                step = None if match["step"] is None else int(match["step"])
                self.recorded[match["track"] or "sub", step] = (name, _global_columns(_parts(value), self._sizes))
        seeds = [leaves(record)[name] for name in SEEDS if name in leaves(record)]
        self.drawn: list[Tensor] = []
        if self.active and seeds:
            batch = trainer.dm.train_loader_x[0]
            column = batch["label"] + trainer.offsets.cpu()[batch["task"]]
            generator, rate = torch.Generator().manual_seed(int(seeds[0])), trainer.options.CLS_SAMPLE_RATE
            self.drawn = [sample_columns(column, self._sizes, rate, generator) for _ in range(DRAWS)]

    def at(self, track: str, step: int) -> Tensor | None:
        """Columns that a step of a track scores; None where nothing is recorded of it."""
        for key in ((track, step), ("sub", step), (track, None), ("sub", None)):
            if key in self.recorded:
                return self.recorded[key][1]
        return self.drawn[step] if not self.recorded and step < len(self.drawn) else None

    def use(self, trainer: PromptTuner, track: str, step: int) -> None:
        """Let the trainer's next step score what was recorded."""
        if not self.active:
            return
        kept = self.at(track, step)
        if kept is None:
            raise LookupError(f"step {step} of {track} has no recorded choice of classes")
        trainer.kept_columns = lambda column: kept  # type: ignore[method-assign]

    def compare(self, trainer: PromptTuner, case: Case) -> None:
        """Our rule gives as many classes of each task, has all of the batch, and draws the same from the same seed."""
        batch = trainer.dm.train_loader_x[0]
        column = batch["label"] + trainer.offsets.cpu()[batch["task"]]
        rule = trainer.kept_columns(column) if self.active else column
        for (_, step), (name, kept) in self.recorded.items():
            if self.drawn and step is not None and step < DRAWS and torch.equal(self.drawn[step], kept):
                case.equal(name, kept, self.drawn[step])
                continue
            if self.drawn and step is not None:
                case.notes.append(f"{name} is not draw {step} from the recorded seed; compared by its rule alone")
            mine, theirs = (self._facts(columns, column) for columns in (rule, kept))
            case.equal(name, mine, theirs)

    def _facts(self, kept: Tensor, column: Tensor) -> tuple[list[int], bool]:
        owner = torch.repeat_interleave(torch.arange(len(self._sizes)), torch.tensor(self._sizes))
        counts = torch.bincount(owner[kept], minlength=len(self._sizes)).tolist()
        return counts, bool(torch.isin(column, kept).all())


def filled_logits(trainer: PromptTuner, batch: dict[str, Any], kept: Tensor) -> tuple[Tensor, Tensor]:
    """Class features (C, F) and logits (B, C) as the original fills them up: left-out classes have one feature."""
    with torch.no_grad():
        own = trainer.model(kept)
        text = torch.full((len(trainer.task_of_class), own.shape[1]), SAMPLED_OFFSET)
        text[kept] = own
        return text, trainer.logits(trainer.image_features(batch), text)


def average_precision(trainer: PromptTuner, batch: dict[str, Any], logits: Tensor) -> float:
    """The training metric ``map`` of some logits (B, C)."""
    row, task, column = trainer.parse_batch_train(batch)
    return micro_average_precision(take_rows(logits, row), column, task_columns(task, trainer.task_of_class))


def _parts(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [torch.tensor(part) for part in (value if value and isinstance(value[0], list) else [value])]


def _global_columns(parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Sorted columns from one list or mask over all classes, or from one for each task."""
    columns = [part.nonzero().flatten() if part.dtype == torch.bool else part.long().flatten() for part in parts]
    local = len(columns) == len(sizes) and all(
        not len(part) or int(part.max()) < size for part, size in zip(columns, sizes, strict=True)
    )
    if local:
        columns = [part + sum(sizes[:t]) for t, part in enumerate(columns)]
    return torch.cat(columns).unique()
