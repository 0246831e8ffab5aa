"""What multi-label tasks add to a method that scores by cosines: a bias for each such task, and the loss."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.data.columns import task_of_class
from dassl.data.datum import Task
from dassl.metrics.multilabel import Asymmetric, fitted_bias


class LabelBias(nn.Module):
    """The bias b_t of each multi-label task: label c has the probability sigmoid(s cos(x, w_c) - b_t).

    CLIP's scaled cosines s cos are all positive, and a sigmoid needs to know from where on they mean "present". Scale
    and bias in front of a sigmoid: Zhai et al., "Sigmoid loss for language image pre-training", ICCV 2023; there both
    are learned, here the scale is CLIP's own, as in the softmax of other tasks. A bias starts where it expects as many
    labels as the first training images of its task have (:func:`fitted_bias`), and is learned from there.

    Attributes:
        start: (M,) float32, where the biases of the M multi-label tasks start. begun: (M,) bool, whether they have.
        shift: (M,) what was learned since.
    """

    start: Tensor
    begun: Tensor
    _owner: Tensor
    _own: Tensor

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        numbers = [number for number, task in enumerate(tasks) if task.multi]
        self.numbers = numbers
        self.register_buffer("start", torch.zeros(len(numbers)))
        self.register_buffer("begun", torch.zeros(len(numbers), dtype=torch.bool))
        self.shift = nn.Parameter(torch.zeros(len(numbers)))
        place = torch.zeros(len(tasks), dtype=torch.int64)
        place[numbers] = torch.arange(len(numbers))
        owner = task_of_class(tasks)
        self.register_buffer("_owner", place[owner], persistent=False)
        self.register_buffer("_own", torch.isin(owner, torch.tensor(numbers)), persistent=False)

    def forward(self) -> Tensor:
        """The bias of each column (C,), 0 in tasks with one label an image."""
        return torch.where(self._own, (self.start + self.shift)[self._owner], 0.0)

    @property
    def waits(self) -> bool:
        """Whether a bias has not begun."""
        return not bool(self.begun.all())

    @torch.no_grad()
    def begin(self, logits: Tensor, truth: Tensor, task: Tensor) -> None:
        """Start the biases of the tasks that are met for the first time.

        Args:
            logits: (E, C) with the present biases. truth: (E, C) bool. task: (E,).
        """
        for place, number in enumerate(self.numbers):
            rows = task == number
            if not self.begun[place] and rows.any():
                columns = self._own & (self._owner == place)
                self.put(number, fitted_bias(logits[rows][:, columns], truth[rows][:, columns]))

    @torch.no_grad()
    def put(self, task: int, bias: float) -> None:
        """Set the bias of a task."""
        place = self.numbers.index(task)
        self.start[place], self.begun[place] = bias, True
        self.shift[place] = 0

    def of_task(self, task: int) -> float:
        """The bias of a task."""
        place = self.numbers.index(task)
        return float(self.start[place] + self.shift[place])


def loss_of(cfg: CfgNode) -> Asymmetric | None:
    """The asymmetric loss if MULTI.LOSS says so; None: binary cross-entropy."""
    node = cfg.MULTI
    return Asymmetric(node.GAMMA_NEG, node.GAMMA_POS, node.CLIP) if node.LOSS == "asymmetric" else None
