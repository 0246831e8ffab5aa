"""The training loop and the table of trainers."""

from dassl.utils.registry import Registry

TRAINER_REGISTRY: Registry = Registry("trainer", "trainers")

from dassl.engine.build import build_trainer  # noqa: E402
from dassl.engine.trainer import TrainerX  # noqa: E402

__all__ = ["TRAINER_REGISTRY", "TrainerX", "build_trainer"]
