"""The tables of trainers, data sets and loggers: each is filled from the files of its folder."""

from typing import TYPE_CHECKING

from dassl.utils.registry import Registry

if TYPE_CHECKING:
    from dassl.data.dataset import DatasetBase
    from dassl.engine.reporting import RunLogger
    from dassl.engine.trainer import TrainerX

TRAINER_REGISTRY: "Registry[type[TrainerX]]" = Registry("trainer", "trainers")
DATASET_REGISTRY: "Registry[type[DatasetBase]]" = Registry("data set", "datasets")
LOGGERS: "Registry[type[RunLogger]]" = Registry("logger", "dassl.loggers")
