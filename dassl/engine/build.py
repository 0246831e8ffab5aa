"""Builds the trainer that a config names."""

from typing import TYPE_CHECKING

from yacs.config import CfgNode

from dassl.registries import TRAINER_REGISTRY
from dassl.utils.errors import UserError

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX


def build_trainer(cfg: CfgNode) -> "TrainerX":
    """The trainer called TRAINER.NAME, with its data and model.

    Raises:
        UserError: the name is missing or unknown, or the config does not fit the trainer.
    """
    if not cfg.TRAINER.NAME:
        raise UserError(f"no trainer is named; use --trainer with one of {', '.join(TRAINER_REGISTRY.names())}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
