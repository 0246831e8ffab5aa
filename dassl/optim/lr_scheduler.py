"""Learning-rate schedules in closed form: the rate is a function of the number of schedule steps taken."""

import math
from bisect import bisect_right
from typing import Any

from torch.optim import Optimizer
from yacs.config import CfgNode


def learning_rate(optim_cfg: CfgNode, step: float, *, base_lr: float | None = None, epochs: int | None = None) -> float:
    """Rate after ``step`` schedule steps (normally one per epoch, so ``step`` is the 0-based epoch).

    A training of other than MAX_EPOCH ``epochs`` has the whole schedule, warm-up included, stretched over them.

    During WARMUP_EPOCH steps the rate is WARMUP_CONS_LR ("constant"), or rises from WARMUP_MIN_LR ("linear").
    Then the main schedule starts at its beginning (WARMUP_RECOUNT), or continues from the base rate along the rest of
    its curve. The cosine goes down and up again beyond MAX_EPOCH, which only happens with
    several schedule steps per epoch.
    """
    base = optim_cfg.LR if base_lr is None else base_lr
    if epochs not in (None, optim_cfg.MAX_EPOCH):
        step = step * optim_cfg.MAX_EPOCH / epochs
    warmup = max(optim_cfg.WARMUP_EPOCH, 0)
    if step < warmup:
        if optim_cfg.WARMUP_TYPE == "constant":
            return optim_cfg.WARMUP_CONS_LR
        return base * step / warmup if step else optim_cfg.WARMUP_MIN_LR
    if optim_cfg.WARMUP_RECOUNT:
        return base * _shape(optim_cfg, step - warmup)
    start = _shape(optim_cfg, warmup)
    return base * _shape(optim_cfg, step) / start if start else 0.0


def _shape(optim_cfg: CfgNode, step: float) -> float:
    """The main schedule relative to its first value."""
    if optim_cfg.LR_SCHEDULER == "cosine":
        return (1 + math.cos(math.pi * step / optim_cfg.MAX_EPOCH)) / 2
    stepsize = optim_cfg.STEPSIZE
    if optim_cfg.LR_SCHEDULER == "multi_step":
        return optim_cfg.GAMMA ** bisect_right(sorted(epoch for epoch in stepsize if epoch > 0), step)
    last = stepsize[-1] if stepsize else -1
    return optim_cfg.GAMMA ** (step // (last if last > 0 else optim_cfg.MAX_EPOCH))


class EpochSchedule:
    """Sets the rate of every parameter group of an optimiser; its whole state is the number of steps taken.

    Args:
        epochs: of the training, if they are not MAX_EPOCH.
    """

    def __init__(self, optimizer: Optimizer, optim_cfg: CfgNode, *, epochs: int | None = None) -> None:
        self._optimizer, self._cfg, self._epochs = optimizer, optim_cfg, epochs
        self._base = [group["lr"] for group in optimizer.param_groups]
        self.steps = 0
        self._apply()

    def step(self) -> None:
        """Advance by one schedule step."""
        self.steps += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """Rate in force, per parameter group."""
        return [group["lr"] for group in self._optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint and set the optimiser's rate."""
        self.steps = int(state["steps"])
        self._apply()

    def _apply(self) -> None:
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = learning_rate(self._cfg, self.steps, base_lr=base, epochs=self._epochs)


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode, *, epochs: int | None = None) -> EpochSchedule:
    """The schedule that ``optim_cfg`` (the OPTIM node) describes, over MAX_EPOCH or ``epochs`` epochs."""
    return EpochSchedule(optimizer, optim_cfg, epochs=epochs)
