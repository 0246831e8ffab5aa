"""Optimisers and learning-rate schedules."""

from dassl.optim.length import planned_epochs
from dassl.optim.lr_scheduler import EpochSchedule, build_lr_scheduler, learning_rate
from dassl.optim.optimizer import build_optimizer

__all__ = ["EpochSchedule", "build_lr_scheduler", "build_optimizer", "learning_rate", "planned_epochs"]
