"""What a training run reports while it goes on: how long a batch takes, and curves for every chosen logger."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.config import flatten
from dassl.registries import LOGGERS
from dassl.results.methods import label_of
from dassl.utils.meters import AverageMeter


class Clock:
    """Time to get a batch and time per batch (which includes it), in seconds."""

    def __init__(self) -> None:
        self.data_time, self.batch_time = AverageMeter(), AverageMeter()
        self._end = time.perf_counter()

    def data(self) -> None:
        """A batch is there."""
        self.data_time.update(time.perf_counter() - self._end)

    def batch(self) -> None:
        """The step on it is done."""
        now = time.perf_counter()
        self.batch_time.update(now - self._end)
        self._end = now


@dataclass(frozen=True)
class RunInfo:
    """What a logger is told of a run.

    Attributes:
        folder: the run folder.
        name: the run in the order in which one looks for it, such as "Demo6/SoftCPT-NATA/4shots/seed1".
        choices: what tells the runs of a sweep apart: method, trainer, suite, tasks, shots, seed, backbone, epochs
            and learning rate.
        config: the whole config by dotted key.
        first_step: step that training begins at; above 0 where it goes on from a checkpoint, so that later points
            of the run that was cut off should be dropped.
    """

    folder: Path
    name: str
    choices: Mapping[str, str | int | float]
    config: Mapping[str, Any]
    first_step: int = 0


class RunLogger:
    """Takes the points of a run's curves. A subclass is entered in LOGGERS and chosen with TRAIN.LOGGERS."""

    def __init__(self, run: RunInfo) -> None:
        self.run = run

    def add(self, tag: str, value: float, step: int) -> None:
        """A point: "train/..." counts batches, "val/..." and "test/..." count epochs."""
        raise NotImplementedError

    def finish(self, figures: Mapping[str, float]) -> None:
        """The run is done; ``figures`` are its results."""

    def close(self) -> None:
        """Write what is left; called once, and also when the run has failed."""


class Loggers:
    """All loggers of a run."""

    def __init__(self, cfg: CfgNode, *, first_step: int = 0) -> None:
        run = describe_run(cfg, first_step=first_step)
        self._loggers = [LOGGERS.get(name)(run) for name in cfg.TRAIN.LOGGERS]

    def add(self, tag: str, value: float, step: int) -> None:
        """Add a point."""
        for logger in self._loggers:
            logger.add(tag, value, step)

    def finish(self, figures: Mapping[str, float | None]) -> None:
        """Hand over the results; those that could not be computed (None) are left out."""
        known = {name: value for name, value in figures.items() if value is not None}
        for logger in self._loggers:
            logger.finish(known)

    def close(self) -> None:
        """Close all; a second call does nothing."""
        while self._loggers:
            self._loggers.pop().close()


def describe_run(cfg: CfgNode, *, first_step: int = 0) -> RunInfo:
    """What loggers are told of the run of ``cfg``."""
    config = flatten(cfg)
    data, shots = cfg.DATASET, cfg.DATASET.NUM_SHOTS
    choices = {
        "method": cfg.TRAINER.LABEL or label_of(cfg.TRAINER.NAME, config),
        "trainer": cfg.TRAINER.NAME,
        "suite": data.NAME,
        "tasks": data.SUBSAMPLE_TASKS,
        "classes": data.SUBSAMPLE_CLASSES,
        "shots": shots,
        "seed": cfg.SEED,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "epochs": cfg.OPTIM.MAX_EPOCH,
        "learning rate": cfg.OPTIM.LR,
    }
    parts = [data.NAME, choices["method"], f"{shots}shots" if shots > 0 else "all images", f"seed{cfg.SEED}"]
    chosen = [part for part in (data.SUBSAMPLE_TASKS, data.SUBSAMPLE_CLASSES) if part != "all"]
    return RunInfo(Path(cfg.OUTPUT_DIR), "/".join([*parts[:-1], *chosen, parts[-1]]), choices, config, first_step)
