"""Stand-ins for data when there is none: a trainer then knows only the tasks and their classes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dassl.data.columns import class_offsets, task_of_class
from dassl.data.datum import Datum, Task


@dataclass(frozen=True)
class NoImages:
    """Replaces a data set."""

    tasks: list[Task]
    train_x: list[Datum] = field(default_factory=list)
    val: list[Datum] = field(default_factory=list)
    test: list[Datum] = field(default_factory=list)
    subset_digest: str = ""

    def validated_on_test(self) -> dict[int, int]:
        """No image is in two lists."""
        return {}


class NamesOnly:
    """Replaces the DataManager of a trainer that only scores images.

    Attributes:
        tasks, num_classes, offsets, task_of_class, multi: as those of a DataManager.
    """

    encode_seconds = 0.0
    val_loader = test_loader = label_sets = None

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = list(tasks)
        self.offsets = class_offsets(self.tasks)
        self.task_of_class = task_of_class(self.tasks)
        self.num_classes = len(self.task_of_class)
        self.multi = torch.tensor([task.multi for task in self.tasks])
        self.train_loader_x: list[Any] = []
        self.dataset = NoImages(self.tasks)

    def attach_encoder(self, *_: Any, **__: Any) -> None:
        """Does nothing: there are no images."""
