"""The label sets of multi-label tasks in batches."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from dassl.data.columns import class_offsets
from dassl.data.datum import Datum, Task
from dassl.data.sampling import Pair, relabel


class LabelSets:
    """Numbers the label sets that occur, because a label that stands for many classes is too large for a tensor.

    In batches, the label of a multi-label task is the row of its set in ``table``.

    Attributes:
        table: (S, C) bool, the columns of each set.
    """

    def __init__(self, tasks: Sequence[Task], items: Iterable[Datum]) -> None:
        self._tasks = tasks
        pairs = sorted({pair for item in items for pair in item.targets if tasks[pair[0]].multi})
        self._rows = {pair: row for row, pair in enumerate(pairs)}
        offsets = class_offsets(tasks).tolist()
        self.table = torch.zeros(len(pairs), offsets[-1], dtype=torch.bool)
        for row, (number, label) in enumerate(pairs):
            for each in tasks[number].classes_of(label):
                self.table[row, offsets[number] + each] = True

    def numbered(self, items: Sequence[Datum]) -> Sequence[Datum]:
        """The images with the rows of their sets as labels; those of other tasks keep theirs."""
        return relabel(items, self._row)

    def _row(self, pair: Pair) -> Pair:
        return (pair[0], self._rows.get(pair, pair[1]))

    def truth(self, label: Tensor, multi: Tensor) -> Tensor:
        """(E, C) bool, the classes of entries of multi-label tasks; none in other rows.

        Args:
            label: (E,) as in a batch. multi: (E,) whether the entry is of a multi-label task.
        """
        return self.table.to(label.device)[label.where(multi, 0)] & multi[:, None]
