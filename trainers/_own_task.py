"""Methods that score an image only against the classes of its own tasks, because pairs are expensive."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clip.device import take_rows, to_device
from dassl.data.loaders import on_host
from dassl.metrics import task_columns
from trainers.base import PromptTuner, Scores


@dataclass(frozen=True)
class Block:
    """Some images of a task against neighbouring classes of it.

    Attributes:
        task: the task.
        rows: (b,) places of the images in the batch, on the CPU.
        start, stop: the classes' columns are start .. stop - 1.
    """

    task: int
    rows: Tensor
    start: int
    stop: int

    @property
    def pairs(self) -> int:
        """Number of (image, class) pairs."""
        return len(self.rows) * (self.stop - self.start)


def own_blocks(
    row: Tensor, task: Tensor, offsets: Sequence[int], *, pairs: int, whole_tasks: bool = False
) -> list[Block]:
    """Cut the (image, class of its task) pairs of a batch into blocks; an image with two tasks is in blocks of both.

    Args:
        row, task: (E,) image and task of each entry, on the CPU.
        offsets: task t owns the columns offsets[t] .. offsets[t + 1] - 1.
        pairs: largest number of pairs in a block.
        whole_tasks: a block holds all classes of its task, even if one image has more of them than ``pairs``.
    """
    blocks = []
    for index in task.unique().tolist():
        first, end = offsets[index], offsets[index + 1]
        width = end - first if whole_tasks else min(end - first, pairs)
        for rows in row[task == index].unique().split(max(1, pairs // width)):
            blocks += [Block(index, rows, start, min(start + width, end)) for start in range(first, end, width)]
    return blocks


def assemble(blocks: Sequence[Block], logits: Sequence[Tensor], shape: tuple[int, int]) -> Tensor:
    """Logits (b, c) of each block -> (B, C), with -inf for classes outside the image's tasks."""
    grids = [torch.meshgrid(b.rows, torch.arange(b.start, b.stop), indexing="ij") for b in blocks]
    values = torch.cat([each.flatten() for each in logits])
    place = tuple(to_device(torch.cat([grid[axis].flatten() for grid in grids]), values.device) for axis in (0, 1))
    return torch.full(shape, -torch.inf, device=values.device).index_put(place, values)


class OwnTaskTuner(PromptTuner):
    """A prompt tuner that cuts a batch into blocks and computes the logits of each block."""

    whole_tasks = False  # see own_blocks
    test_rows = 0

    def pairs_at_once(self, features: Tensor) -> int:
        """Largest number of (image, class) pairs in a block, for features of the batch's shape."""
        raise NotImplementedError

    def block_logits(self, features: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
        """Logits (b, c) float32 of each block. ``features``: the result of ``image_features`` for the batch."""
        raise NotImplementedError

    def own_logits(self, features: Tensor, batch: dict[str, Any]) -> Tensor:
        """Logits (B, C) of a batch, -inf outside the images' own tasks."""
        limits: dict[str, Any] = {"pairs": self.pairs_at_once(features), "whole_tasks": self.whole_tasks}
        blocks = own_blocks(on_host(batch, "row"), on_host(batch, "task"), self.dm.offsets.tolist(), **limits)
        return assemble(blocks, self.block_logits(features, blocks), (len(features), len(self.task_of_class)))

    def scores(self, batch: dict[str, Any]) -> Scores:
        """Logits of a training batch; its class features are None, since each image may have its own."""
        row, task, column = self.parse_batch_train(batch)
        features = self.image_features(batch)
        logits = self.own_logits(features, batch)
        columns = task_columns(task, self.task_of_class)
        return Scores(features, None, take_rows(logits, row), row, column, columns, self.entry_weights(column))

    def before_test(self) -> None:
        """Does nothing: class features depend on the image."""

    def model_inference(self, batch: dict[str, Any]) -> Tensor:
        """Logits (B, C) of a test batch."""
        return self.own_logits(self.image_features(batch), batch)
