"""Reports of a training run: the time of batches, and curves for every chosen logger."""

import datetime
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.config import flatten
from dassl.engine.checks import not_finite_loss
from dassl.registries import LOGGERS
from dassl.results.methods import label_of
from dassl.utils.meters import AverageMeter, MetricMeter

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX

_log = logging.getLogger(__name__)


class Clock:
    """Time to get a batch and time per batch (which includes it), in seconds."""

    def __init__(self) -> None:
        self.data_time, self.batch_time = AverageMeter(), AverageMeter()
        self._end = time.perf_counter()

    def data(self) -> None:
        """A batch has arrived."""
        self.data_time.update(time.perf_counter() - self._end)

    def batch(self) -> None:
        """The step on it is done."""
        now = time.perf_counter()
        self.batch_time.update(now - self._end)
        self._end = now


class EpochLog:
    """Losses and times of the batches of one epoch, and the log lines that show them.

    A loss is fetched from the device only when a line is written, so that no step waits for it.
    """

    def __init__(self, trainer: "TrainerX") -> None:
        self.trainer, self.losses, self.clock = trainer, MetricMeter(), Clock()
        self._batches = len(trainer.dm.train_loader_x)
        self._pending: list[tuple[int, Tensor, Tensor]] = []

    def is_due(self, index: int) -> bool:
        """Whether a line follows the batch ``index``: the last one, and every TRAIN.PRINT_FREQ-th."""
        freq = self.trainer.cfg.TRAIN.PRINT_FREQ
        return index + 1 == self._batches or self._batches < freq or not (index + 1) % freq

    def add(self, index: int, loss: Tensor, task: Tensor) -> None:
        """Note the loss of a batch and the tasks of its entries."""
        self._pending.append((index, loss, task))

    def write(self, shown: Mapping[str, Any]) -> None:
        """Write a line, with further values of the step.

        Raises:
            UserError: a loss since the last line is not finite.
        """
        index = self._pending[-1][0]
        self._settle()
        self.losses.update(shown)
        rate = self.trainer.sched.get_last_lr()[0] if self.trainer.sched else 0.0
        _log.info(self._line(index, rate))
        step = self.trainer.epoch * self._batches + index
        for name, meter in self.losses.meters.items():
            self.trainer.loggers.add(f"train/{name}", meter.avg, step)
        self.trainer.loggers.add("train/lr", rate, step)

    def _settle(self) -> None:
        values = torch.stack([loss for _, loss, _ in self._pending]).tolist()
        for (index, _, task), value in zip(self._pending, values, strict=True):
            if not math.isfinite(value):
                raise not_finite_loss(self.trainer, value, batch=index, tasks=task.tolist())
            self.losses.update({"loss": value})
        self._pending.clear()

    def _line(self, index: int, rate: float) -> str:
        epoch, epochs, clock = self.trainer.epoch, self.trainer.max_epoch, self.clock
        left = self._batches - index - 1 + (epochs - epoch - 1) * self._batches
        fields = [
            f"epoch [{epoch + 1}/{epochs}][{index + 1}/{self._batches}]",
            f"time {clock.batch_time.val:.3f} ({clock.batch_time.avg:.3f})",
            f"data {clock.data_time.val:.3f} ({clock.data_time.avg:.3f})",
            f"eta {datetime.timedelta(seconds=int(clock.batch_time.avg * left))}",
            str(self.losses),
            f"lr {rate:.6e}",
        ]
        return "\t".join(fields)


@dataclass(frozen=True)
class RunInfo:
    """Facts about a run for a logger.

    Attributes:
        folder: the run folder.
        name: the run from general to special, such as "Demo6/SoftCPT-NATA/4shots/seed1".
        choices: what distinguishes the runs of a sweep: method, trainer, suite, tasks, shots, seed, backbone, epochs
            and learning rate.
        config: the whole config by dotted key.
        first_step: step that training begins at; above 0 where it resumes from a checkpoint, so later points
            of the interrupted run should be dropped.
    """

    folder: Path
    name: str
    choices: Mapping[str, str | int | float]
    config: Mapping[str, Any]
    first_step: int = 0


class RunLogger:
    """Receives the points of a run's curves. A subclass registers in LOGGERS; TRAIN.LOGGERS chooses it."""

    def __init__(self, run: RunInfo) -> None:
        self.run = run

    def add(self, tag: str, value: float, step: int) -> None:
        """Add a point: "train/..." counts batches, "val/..." and "test/..." count epochs."""
        raise NotImplementedError

    def finish(self, figures: Mapping[str, float]) -> None:
        """The run is done; ``figures`` are its results."""

    def close(self) -> None:
        """Write the rest; called once, also when the run has failed."""


class Loggers:
    """All loggers of a run."""

    def __init__(self, loggers: Sequence[RunLogger] = ()) -> None:
        self._loggers = list(loggers)

    def add(self, tag: str, value: float, step: int) -> None:
        """Add a point."""
        for logger in self._loggers:
            logger.add(tag, value, step)

    def finish(self, figures: Mapping[str, float | None]) -> None:
        """Pass on the results, without those that could not be computed (None)."""
        known = {name: value for name, value in figures.items() if value is not None}
        for logger in self._loggers:
            logger.finish(known)

    def close(self) -> None:
        """Close all; a second call does nothing."""
        while self._loggers:
            self._loggers.pop().close()


def open_loggers(cfg: CfgNode, *, first_step: int = 0, epochs: int = 0) -> Loggers:
    """The loggers that TRAIN.LOGGERS names."""
    run = describe_run(cfg, first_step=first_step, epochs=epochs)
    return Loggers([LOGGERS.get(name)(run) for name in cfg.TRAIN.LOGGERS])


def describe_run(cfg: CfgNode, *, first_step: int = 0, epochs: int = 0) -> RunInfo:
    """Facts about the run of ``cfg`` for loggers; ``epochs`` are those planned, if they are not OPTIM.MAX_EPOCH."""
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
        "epochs": epochs or cfg.OPTIM.MAX_EPOCH,
        "learning rate": cfg.OPTIM.LR,
    }
    parts = [data.NAME, choices["method"], f"{shots}shots" if shots > 0 else "all images", f"seed{cfg.SEED}"]
    chosen = [part for part in (data.SUBSAMPLE_TASKS, data.SUBSAMPLE_CLASSES) if part != "all"]
    return RunInfo(Path(cfg.OUTPUT_DIR), "/".join([*parts[:-1], *chosen, parts[-1]]), choices, config, first_step)
