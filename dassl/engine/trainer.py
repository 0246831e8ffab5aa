"""The training loop. A method subclasses TrainerX and says how a model is built and what a step does."""

import datetime
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.config.keys import Key
from dassl.data.columns import flat_classnames
from dassl.data.datum import Task
from dassl.data.loaders import BatchLoader
from dassl.data.manager import DataManager
from dassl.engine.checkpoint import (
    BEST,
    check_names,
    epoch_file,
    load_checkpoint,
    load_learned,
    load_newest,
    load_optimizer_state,
    not_finite,
    optimizer_state,
    point_to,
    remove_epochs,
    remove_leftovers,
    resume_folder,
    save_checkpoint,
    saved_epochs,
    whole_epochs,
)
from dassl.engine.head import Head
from dassl.engine.published import Published
from dassl.engine.reporting import Clock, Loggers
from dassl.engine.transfer import number_values, refuse_other_config
from dassl.evaluation import build_evaluator
from dassl.optim import EpochSchedule, learning_rate
from dassl.utils.errors import UserError, another_folder
from dassl.utils.meters import MetricMeter

_WITHOUT = {
    "train": "there is nothing to learn from",
    "val": "set TEST.SPLIT test and TEST.FINAL_MODEL last_step",
    "test": "set TEST.SPLIT val",
}
_LEARNED_FROM = {
    "subset": "training images",
    "labels": "labels, classes or tasks of the training images",
    "contents": "pictures under the names of the training images",
}
_log = logging.getLogger(__name__)


class TrainerX:
    """Trains registered modules on the training split, one optimiser step per batch and one schedule step per epoch.

    A subclass implements ``build_model`` (which calls ``register_model``), ``forward_backward`` and
    ``model_inference``; it may declare ``config_keys`` of its own and settings that its authors ``published``, and
    refuse a config in ``check_cfg``.
    """

    config_keys: tuple[Key, ...] = ()
    published: tuple[Published, ...] = ()  # what its authors set by shots or data set; of several for a key the last
    no_table = "it scores images in a way of its own"
    trainable = True
    precision = "fp32"  # of the frozen encoders, for messages and results

    def __init__(self, cfg: CfgNode, data: DataManager | None = None) -> None:
        self.cfg = cfg
        self.output_dir = Path(cfg.OUTPUT_DIR)
        self.device = torch.device("cuda" if cfg.USE_CUDA and torch.cuda.is_available() else "cpu")
        self.check_cfg(cfg)
        self.before_data()
        self.dm = data or DataManager(cfg, self.image_facts())
        self.modules: dict[str, nn.Module] = {}
        self.optim: torch.optim.Optimizer | None = None
        self.sched: EpochSchedule | None = None
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.best_result, self.best_epoch = -math.inf, None
        self.printing, self.batch_index = False, 0
        self.seconds = {"train": 0.0, "test": 0.0}
        self.seconds_before, self._started = 0.0, 0.0  # seconds of training in earlier sessions, start of this one's
        self._loggers: Loggers | None = None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        self.build_model()
        self.evaluator = build_evaluator(cfg, self.scored_tasks)

    # ---- what a method says -------------------------------------------------------------------

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a config that the method cannot run (raise UserError)."""

    @classmethod
    def check_unbuilt(cls, cfg: CfgNode) -> None:
        """``check_cfg`` before there is a trainer, of whom it asks nothing but the config."""
        unbuilt = cls.__new__(cls)
        unbuilt.cfg = cfg
        unbuilt.check_cfg(cfg)

    @classmethod
    def check_model(cls, cfg: CfgNode, *, fetch: bool) -> str:
        """Refuse a frozen model that is not there or does not fit (raise UserError), before there is a trainer.

        Args:
            fetch: download what is missing.

        Returns:
            What will be downloaded, in a sentence; "" nothing.
        """
        return ""

    @classmethod
    def learned_for(cls, cfg: CfgNode) -> dict[str, str]:
        """What the learned tensors belong to one by one: "class" or "task" -> the method or setting that says so.

        Such a run cannot be evaluated on other classes or tasks. The default: they belong to all of them together.
        """
        return {}

    def before_data(self) -> None:
        """Load what can fail quickly (e.g. the frozen model) before the data is read and every image checked."""

    def image_facts(self) -> dict[str, Any]:
        """What the model expects of images, by key below INPUT; called after ``before_data``."""
        return {}

    def build_model(self) -> None:
        """Build the modules and register what is learned."""
        raise NotImplementedError

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor | float]:
        """One training step; returns what the log shows, first of all "loss" (a detached scalar tensor)."""
        raise NotImplementedError

    def model_inference(self, batch: dict[str, Any]) -> Tensor:
        """Logits (B, C) of a test batch."""
        raise NotImplementedError

    def head(self) -> Head:
        """What was learned as one table that scores image features, after ``before_test``.

        Raises:
            UserError: the method scores images in another way; the message says why and what to use instead.
        """
        raise UserError(
            f"{self.cfg.TRAINER.NAME} cannot be exported as one table: {self.no_table}; use the run folder "
            "with predict.py"
        )

    def before_test(self) -> None:
        """Called once before an evaluation, e.g. to encode the class names."""

    @property
    def bound_names(self) -> list[str]:
        """Names of what learned tensors belong to one by one (``learned_for``); they fit no others."""
        units = self.learned_for(self.cfg)
        if "class" in units:
            return flat_classnames(self.dm.tasks)
        return [task.name for task in self.dm.tasks] if "task" in units else []

    @property
    def scored_tasks(self) -> list[Task]:
        """The tasks with the metrics that are reported."""
        return self.dm.tasks

    @property
    def steps_per_batch(self) -> int:
        """Optimiser steps taken with the gradient of one batch."""
        return 1

    @property
    def schedule_steps_per_epoch(self) -> int:
        """Steps of the learning-rate schedule after each epoch."""
        return 1

    # ---- modules ------------------------------------------------------------------------------

    def register_model(
        self,
        name: str,
        model: nn.Module,
        optim: torch.optim.Optimizer | None = None,
        sched: EpochSchedule | None = None,
    ) -> None:
        """Enter a learned module: it is saved in the folder ``name``. All modules share one optimiser and schedule."""
        assert name not in self.modules, f"module {name} is registered twice"
        assert self.optim is None or optim in (None, self.optim), "modules must share one optimiser"
        self.modules[name] = model
        self.optim, self.sched = optim or self.optim, sched or self.sched

    @property
    def num_parameters(self) -> int:
        """Number of learned values."""
        return sum(p.numel() for m in self.modules.values() for p in m.parameters() if p.requires_grad)

    @property
    def train_seconds(self) -> float:
        """Time spent in the training loop so far, with the sessions before an interruption.

        Features that are encoded for the store do not count: they serve other runs too, and which run comes first
        says nothing about its method.
        """
        return self.seconds_before + time.monotonic() - self._started - self.dm.encode_seconds

    def set_model_mode(self, mode: str) -> None:
        """Put the registered modules into "train" or "eval" mode; the frozen encoders stay in evaluation mode."""
        for module in self.modules.values():
            module.train(mode == "train")

    def model_backward_and_update(self, loss: Tensor) -> None:
        """Backward pass and the optimiser step(s) of one batch."""
        assert self.optim is not None
        self.optim.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.model_update()

    def model_update(self) -> None:
        """The optimiser step(s) of one batch with the gradients that are there (in the units of ``scaler``)."""
        assert self.optim is not None
        for _ in range(1 if self.scaler.is_enabled() else self.steps_per_batch):
            self.scaler.step(self.optim)
        self.scaler.update()

    def step_schedule(self) -> None:
        """Set the learning rate of the next epoch; methods without an optimiser have none."""
        for _ in range(self.schedule_steps_per_epoch if self.sched else 0):
            self.sched.step()

    # ---- training -----------------------------------------------------------------------------

    def train(self) -> None:
        """Train from ``start_epoch`` to the last epoch; then test."""
        self.before_train()
        if self.trainable:
            self._started = time.monotonic() - self.dm.encode_seconds  # what was encoded before does not count either
            total = self.max_epoch * len(self.dm.train_loader_x)
            done = self.start_epoch * len(self.dm.train_loader_x)
            with tqdm(total=total, initial=done, unit="batch", disable=None, leave=False) as bar:
                for epoch in range(self.start_epoch, self.max_epoch):
                    self.epoch = epoch
                    self.run_epoch(bar)
                    self.after_epoch()
            self.seconds["train"] = self.train_seconds
        self.after_train()

    def before_train(self) -> None:
        """Go on from a checkpoint if there is one, and open the loggers."""
        if self.trainable:
            self.start_epoch = self.resume_model_if_exist(resume_folder(self.cfg))
            self.epoch = max(self.start_epoch - 1, 0)
        self._check_warm_up()
        self._loggers = Loggers(self.cfg, first_step=self.start_epoch * len(self.dm.train_loader_x))

    def _check_warm_up(self) -> None:
        """Say so when no epoch is trained with the rate that OPTIM.LR asks for."""
        optim = self.cfg.OPTIM
        if not self.sched or optim.WARMUP_EPOCH < optim.MAX_EPOCH:
            return
        steps = [epoch * self.schedule_steps_per_epoch for epoch in range(optim.MAX_EPOCH)]
        behind = sum(step >= optim.WARMUP_EPOCH for step in steps)
        _log.warning(
            "OPTIM.WARMUP_EPOCH is %d and OPTIM.MAX_EPOCH %d: %s, and the highest learning rate is %g, where OPTIM.LR "
            "is %g; set OPTIM.WARMUP_EPOCH 0 or a larger OPTIM.MAX_EPOCH",
            optim.WARMUP_EPOCH,
            optim.MAX_EPOCH,
            f"{behind} epochs come after the warm-up" if behind else "the schedule never leaves its warm-up",
            max(learning_rate(optim, step) for step in steps),
            optim.LR,
        )

    def run_epoch(self, bar: tqdm) -> None:
        """One pass over the training split; augmentation and order depend on the epoch only."""
        self.set_model_mode("train")
        loader = self.dm.train_loader_x
        loader.set_epoch(self.epoch)
        losses, clock = MetricMeter(), Clock()
        pending: list[tuple[int, Tensor, Tensor]] = []
        for index, batch in enumerate(loader):
            clock.data()
            last = index + 1 == len(loader)
            self.printing = (
                last or len(loader) < self.cfg.TRAIN.PRINT_FREQ or not (index + 1) % self.cfg.TRAIN.PRINT_FREQ
            )
            self.batch_index = index
            summary = self.forward_backward(batch)
            clock.batch()
            pending.append((index, summary.pop("loss"), batch["task"]))
            bar.update()
            if self.printing:
                self._settle(pending, losses)
                losses.update(summary)
                self._report(index, losses, clock)
                bar.set_postfix(loss=f"{losses.meters['loss'].avg:.3f}")

    def _settle(self, pending: list[tuple[int, Tensor, Tensor]], losses: MetricMeter) -> None:
        """Fetch the losses of the batches since the last log line, and stop if one is not finite."""
        values = torch.stack([loss for _, loss, _ in pending]).tolist()
        for (index, _, task), value in zip(pending, values, strict=True):
            if not math.isfinite(value):
                raise UserError(self._not_finite(index, value, task))
            losses.update({"loss": value})
        pending.clear()

    def _not_finite(self, index: int, value: float, task: Tensor) -> str:
        names = [self.dm.tasks[t].name for t in sorted(set(task.tolist()))]
        return (
            f"the loss is {value} at epoch {self.epoch + 1}, batch {index + 1} (tasks {', '.join(names)}; "
            f"precision {self.precision}); {self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        """What to do where training leaves the finite numbers."""
        return "lower OPTIM.LR" + " or use PREC fp32" * (self.precision != "fp32")

    def check_learned(self) -> None:
        """Refuse learned tensors that are not finite (raise UserError): the loss does not see the last step."""
        for name, module in self.modules.items():
            if broken := not_finite(module, module.state_dict()):
                raise UserError(
                    f"after epoch {self.epoch + 1} the learned tensors of {name} are not finite in {broken} (precision "
                    f"{self.precision}); {self._remedy}"
                )

    def after_epoch(self) -> None:
        """Step the schedule, test on val for best_val, save."""
        self.check_learned()
        self.step_schedule()
        if self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST:
            result = self.test("val")["metric"]
            if result is not None and result > self.best_result:
                self.best_result, self.best_epoch = result, self.epoch + 1
                self.save_model(self.epoch + 1, best=True)
        self.save_model(self.epoch + 1)
        for name in self.modules:
            folder = self.output_dir / name
            remove_epochs(folder, [e for e in saved_epochs(folder) if e <= self.epoch and not self._is_kept(e)])

    def _is_kept(self, epoch: int) -> bool:
        """Whether the checkpoint of ``epoch`` stays when the next one is written."""
        freq = self.cfg.TRAIN.CHECKPOINT_FREQ
        return epoch == self.max_epoch or bool(freq and epoch % freq == 0)

    def after_train(self) -> None:
        """Test the final model, once."""
        if self.trainable:
            _log.info("Finished training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val" and self.best_epoch is not None:
                _log.info("Deploy the model with the best val performance (epoch %d)", self.best_epoch)
                self.load_model(self.output_dir)
            elif self.trainable:
                _log.info("Deploy the last-epoch model")
            metric = self.test()["metric"]
            if self._loggers is not None:
                self._loggers.finish({"metric": metric, "train seconds": self.seconds["train"]})
        self.close_loggers()

    def close_loggers(self) -> None:
        """Let the loggers write what is left; also called when the run has failed."""
        if self._loggers is not None:
            self._loggers.close()

    # ---- testing ------------------------------------------------------------------------------

    def loader(self, split: str) -> BatchLoader:
        """The batches of "train", "val" or "test".

        Raises:
            UserError: there is no image in the split.
        """
        data = self.dm
        loader = {"train": data.train_loader_x, "val": data.val_loader, "test": data.test_loader}[split]
        if not loader:
            raise UserError(f"data set {self.cfg.DATASET.NAME} has no {split} image; {_WITHOUT[split]}")
        return loader

    def check_splits(self, *, training: bool) -> None:
        """Find out before the work begins that a split, which is needed only later, is empty or no use.

        Raises:
            UserError: it is empty. That images are tested which were trained on or chosen on is only a warning.
        """
        cfg = self.cfg.TEST
        learns = training and self.trainable
        tests = not training or not cfg.NO_TEST
        needed = {"train": learns, "val": learns and tests and cfg.FINAL_MODEL == "best_val"}
        needed[cfg.SPLIT] = needed.get(cfg.SPLIT, False) or tests
        for split in (name for name, wanted in needed.items() if wanted):
            self.loader(split)
        if learns and needed["val"]:
            self._warn_of_choice()
        testing = self.dm.dataset.only_for_testing(self.cfg) if learns and tests else []
        if testing:
            _log.warning(
                "the training images of %s are its test images, so the figure of what is trained on them says nothing; "
                "train on another data set, and evaluate that run here with --eval-only --model-dir",
                " and ".join(testing),
            )

    def _warn_of_choice(self) -> None:
        """Say that the best epoch on val was chosen on test images."""
        shared = sum(self.dm.dataset.validated_on_test().values())
        if shared:
            _log.warning(
                "TEST.FINAL_MODEL best_val chooses the epoch on %s validation images, of which %s are test images, so "
                "the figure is too high; set TEST.FINAL_MODEL last_step",
                f"{len(self.dm.dataset.val):,}",
                f"{shared:,}",
            )

    @torch.no_grad()
    def test(self, split: str | None = None) -> dict[str, float | None]:
        """Evaluate on ``split`` (default TEST.SPLIT; test when there is no val) and log the result."""
        started, encoded = time.monotonic(), self.dm.encode_seconds
        split = split or self.cfg.TEST.SPLIT
        loader = self.loader(split)
        self.set_model_mode("eval")
        self.evaluator.reset()
        _log.info("Do evaluation on %s set", split)
        self.before_test()
        for batch in tqdm(loader, desc=split, disable=None, leave=False):
            self.evaluator.process(self.model_inference(batch), batch["label"], batch["task"], row=batch["row"])
        results = self.evaluator.evaluate()
        for key, value in results.items():
            if value is not None:
                self.write_scalar(f"{split}/{key}", value, self.epoch)
        self.seconds["test"] += time.monotonic() - started - (self.dm.encode_seconds - encoded)
        return results

    # ---- checkpoints --------------------------------------------------------------------------

    def save_model(self, epoch: int, *, best: bool = False) -> None:
        """Save every registered module after ``epoch`` finished epochs."""
        for name, module in self.modules.items():
            content = {
                "state_dict": {key: value.cpu() for key, value in module.state_dict().items()},
                "epoch": epoch,
                "optimizer": {} if self.optim is None else optimizer_state(self.optim, module),
                "scheduler": {} if self.sched is None else self.sched.state_dict(),
                "scaler": self.scaler.state_dict(),
                "seconds": self.train_seconds,
                **self.dm.train_digests,
                "config": number_values(self.cfg),
                "best": {"epoch": self.best_epoch, "result": self.best_result},
            }
            if self.bound_names:
                content["names"] = self.bound_names
            save_checkpoint(self.output_dir / name, content, best=best, quiet=not best and not self._is_kept(epoch))

    def load_model(self, directory: Path | str, *, epoch: int | None = None) -> None:
        """Load learned tensors for evaluation: of ``epoch``, else the best on val, else the last.

        Raises:
            UserError: there is no such checkpoint, or it does not fit the config.
        """
        directory, chosen_elsewhere = Path(directory), False
        for name, module in self.modules.items():
            path = self._find_checkpoint(directory, name, epoch)
            chosen_elsewhere |= path.name == BEST and self.best_epoch is None
            content = load_checkpoint(path)
            check_names(content, self.bound_names, source=path)
            load_learned(module, content["state_dict"], source=path)
            _log.info('Loaded %s from "%s" (epoch %d)', name, path, content["epoch"])
        if chosen_elsewhere:  # a training of this process has said it before it began
            self._warn_of_choice()

    def _find_checkpoint(self, directory: Path, name: str, epoch: int | None) -> Path:
        folder = directory / name
        if not folder.is_dir():
            lack = f"holds no trained {name}" if directory.is_dir() else "is no folder"
            raise UserError(f"{directory} {lack}; give the run folder of a {self.cfg.TRAINER.NAME} run")
        if epoch is not None:
            return folder / epoch_file(epoch)
        best = folder / BEST
        whole = whole_epochs(directory, list(self.modules))
        if not whole or (best.is_file() and self.cfg.TEST.FINAL_MODEL == "best_val"):
            return best
        return folder / epoch_file(whole[0])

    def resume_model_if_exist(self, directory: Path) -> int:
        """Go on from the newest whole checkpoint below ``directory``; returns the number of finished epochs.

        Raises:
            UserError: the checkpoint does not fit the config, or RESUME names a folder without one.
        """
        for name in self.modules:
            remove_leftovers(self.output_dir / name)
        contents = load_newest(directory, list(self.modules))
        if contents is None:
            self.check_resume()
            return 0
        for name, module in self.modules.items():
            content = contents[name]
            load_learned(module, content["state_dict"], source=directory / name / epoch_file(content["epoch"]))
            if self.optim is not None and self.sched is not None:
                load_optimizer_state(self.optim, module, content["optimizer"])
                self.sched.load_state_dict(content["scheduler"])
            self.seconds_before = content.get("seconds", 0.0)
            if content["scaler"]:  # empty if the run was begun where nothing is scaled, e.g. amp on a CPU
                self.scaler.load_state_dict(content["scaler"])
            if directory == self.output_dir:  # the run may have been killed before it wrote this file
                point_to(directory / name, content["epoch"])
            self.best_epoch, self.best_result = content["best"]["epoch"], content["best"]["result"]
            if self.best_epoch is not None and directory != self.output_dir:
                save_checkpoint(self.output_dir / name, load_checkpoint(directory / name / BEST), best=True)
        _log.info('Resumed from "%s" after epoch %d', directory, content["epoch"])
        return content["epoch"]

    def check_resume(self) -> None:
        """Refuse a RESUME folder in which nothing can be gone on with, another config and other images (UserError)."""
        folder = resume_folder(self.cfg)
        contents = load_newest(folder, list(self.modules))
        if contents is None and self.cfg.RESUME and folder != self.output_dir:
            raise UserError(f"nothing to resume in {folder}: no epoch has a whole checkpoint of every learned module")
        for content in (contents or {}).values():
            refuse_other_config(
                folder, content.get("config"), self.cfg
            )  # a damaged config.yaml may be readable in part
            self._refuse_other_data(folder, content)

    def _refuse_other_data(self, folder: Path, content: Mapping[str, Any]) -> None:
        for kind, what in _LEARNED_FROM.items():
            mine, there = self.dm.train_digests.get(kind), content.get(kind)
            if mine and there and mine != there:
                raise UserError(
                    f"the run in {folder} was begun on other {what} ({kind} {there[:12]} there, {mine[:12]} here); put "
                    f"them back, use {another_folder()}, or delete the folder"
                )

    def backbone_identity(self) -> tuple[str, str, str]:
        """Name, digest and precision of the frozen model, for results.json."""
        return self.cfg.MODEL.BACKBONE.NAME, "", self.precision

    # ---- reporting ----------------------------------------------------------------------------

    def _report(self, index: int, losses: MetricMeter, clock: Clock) -> None:
        batches = len(self.dm.train_loader_x)
        rate = self.sched.get_last_lr()[0] if self.sched else 0.0
        left = batches - index - 1 + (self.max_epoch - self.epoch - 1) * batches
        eta = datetime.timedelta(seconds=int(clock.batch_time.avg * left))
        fields = [
            f"epoch [{self.epoch + 1}/{self.max_epoch}][{index + 1}/{batches}]",
            f"time {clock.batch_time.val:.3f} ({clock.batch_time.avg:.3f})",
            f"data {clock.data_time.val:.3f} ({clock.data_time.avg:.3f})",
            f"eta {eta}",
            str(losses),
            f"lr {rate:.6e}",
        ]
        _log.info("\t".join(fields))
        step = self.epoch * batches + index
        for name, meter in losses.meters.items():
            self.write_scalar(f"train/{name}", meter.avg, step)
        self.write_scalar("train/lr", rate, step)

    def write_scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point to a curve; nothing happens with --eval-only."""
        if self._loggers is not None:
            self._loggers.add(tag, value, step)
