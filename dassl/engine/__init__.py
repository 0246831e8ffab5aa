"""The training loop, run folders, checkpoints."""

from dassl.engine.build import build_trainer
from dassl.engine.trainer import TrainerX
from dassl.registries import TRAINER_REGISTRY

__all__ = ["TRAINER_REGISTRY", "TrainerX", "build_trainer"]
