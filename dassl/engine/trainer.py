"""The training loop. A method subclasses TrainerX, builds a model and defines a training step."""

import logging
import time

import torch
from torch import Tensor, nn
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data.loaders import BatchLoader
from dassl.data.manager import DataManager
from dassl.engine.calibration import calibrate, tested
from dassl.engine.checks import check_learned, check_length, check_warm_up, report_mixed, report_weights
from dassl.engine.choice import EpochChoice
from dassl.engine.decisions import decide
from dassl.engine.method import Method
from dassl.engine.reporting import EpochLog, Loggers, open_loggers
from dassl.engine.saving import Checkpoints
from dassl.evaluation import build_evaluator
from dassl.optim import EpochSchedule, planned_epochs
from dassl.results.record import Calibration, Decision, TrainingLength
from dassl.utils.errors import UserError

_WITHOUT = {
    "train": "there is nothing to learn from",
    "val": "set TEST.SPLIT test and TEST.FINAL_MODEL last_step",
    "test": "set TEST.SPLIT val",
}
_log = logging.getLogger(__name__)


class TrainerX(Method):
    """Trains registered modules on the training split, one optimiser step per batch and one schedule step per epoch.

    A subclass implements ``build_model`` (which calls ``register_model``), ``forward_backward`` and
    ``model_inference``; it may declare its own ``config_keys`` and the settings that its authors ``published``, and
    refuse a config in ``check_cfg``.
    """

    def __init__(self, cfg: CfgNode, data: DataManager | None = None) -> None:
        self.cfg = cfg
        self.device = torch.device("cuda" if cfg.USE_CUDA and torch.cuda.is_available() else "cpu")
        self.check_cfg(cfg)
        self.check_multi_label(cfg)
        self.before_data()
        self.dm = data or DataManager(cfg, self.image_facts())
        self.check_tasks([task.name for task in self.dm.tasks if task.multi])
        self.modules: dict[str, nn.Module] = {}
        self.optim: torch.optim.Optimizer | None = None
        self.sched: EpochSchedule | None = None
        self.start_epoch = self.epoch = 0
        self.max_epoch = planned_epochs(cfg.OPTIM, len(self.dm.train_loader_x))
        self.choice = EpochChoice(self)
        self.printing, self.batch_index = False, 0
        self.seconds = {"train": 0.0, "test": 0.0}
        self.seconds_before, self._started = 0.0, 0.0  # seconds of training in earlier sessions, start of this one's
        self.chunk_before = 0  # text_chunk of earlier sessions
        self.remarks: dict[str, None] = {}  # warnings of the run so far
        self.loggers = Loggers()  # none before the training begins
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        self.checkpoints = Checkpoints(self)
        self.build_model()
        self.evaluator = build_evaluator(cfg, self.scored_tasks)
        self.calibration: Calibration | None = None  # of the last test, with TEST.CALIBRATE
        self.known_decisions: dict[int, Decision] = {}  # those of the run that is evaluated
        self.decisions: dict[int, Decision] = {}  # of the last test, by multi-label task

    # ---- modules ------------------------------------------------------------------------------

    def register_model(
        self,
        name: str,
        model: nn.Module,
        optim: torch.optim.Optimizer | None = None,
        sched: EpochSchedule | None = None,
    ) -> None:
        """Register a learned module, saved in the folder ``name``. All modules share one optimiser and schedule."""
        assert name not in self.modules, f"module {name} is registered twice"
        assert self.optim is None or optim in (None, self.optim), "modules must share one optimiser"
        self.modules[name] = model
        self.optim, self.sched = optim or self.optim, sched or self.sched

    @property
    def num_parameters(self) -> int:
        """Number of learned values."""
        return sum(p.numel() for m in self.modules.values() for p in m.parameters() if p.requires_grad)

    @property
    def length(self) -> TrainingLength | None:
        """The length of the training up to the present epoch; None for a method without a schedule."""
        if self.sched is None:
            return None
        batches, asked = len(self.dm.train_loader_x), self.cfg.OPTIM
        return TrainingLength((self.epoch + 1) * batches, batches, asked.MIN_STEPS, asked.MAX_EPOCH, self.max_epoch)

    @property
    def train_seconds(self) -> float:
        """Time spent in the training loop so far, in all sessions.

        Encoding features for the store does not count: other runs use them, too, and which run comes first says
        nothing about its method.
        """
        return self.seconds_before + time.monotonic() - self._started - self.dm.encode_seconds

    @property
    def smallest_chunk(self) -> int:
        """``text_chunk`` over all sessions of a run."""
        return min(filter(None, (self.text_chunk, self.chunk_before)), default=0)

    def set_model_mode(self, mode: str) -> None:
        """Put the registered modules into "train" or "eval" mode; the frozen encoders stay in evaluation mode."""
        for module in self.modules.values():
            module.train(mode == "train")

    def model_backward_and_update(self, loss: Tensor) -> None:
        """Backward pass and the optimiser step(s) of one batch."""
        self.model_backward(loss)
        self.model_update()

    def model_backward(self, loss: Tensor) -> None:
        """Backward pass of one batch."""
        assert self.optim is not None
        self.optim.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()

    def model_update(self) -> None:
        """The optimiser step(s) of one batch with the present gradients (in the units of ``scaler``)."""
        assert self.optim is not None
        for _ in range(1 if self.scaler.is_enabled() else self.steps_per_batch):
            self.scaler.step(self.optim)
        self.scaler.update()

    def step_schedule(self) -> None:
        """Set the learning rate of the next epoch; methods without an optimiser have none."""
        if self.sched is not None:
            for _ in range(self.schedule_steps_per_epoch):
                self.sched.step()

    # ---- training -----------------------------------------------------------------------------

    def train(self) -> None:
        """Train from ``start_epoch`` to the last epoch, unless the choice of the model stops it; then test."""
        self.before_train()
        if self.trainable:
            self._started = time.monotonic() - self.dm.encode_seconds  # earlier encoding does not count either
            total = self.max_epoch * len(self.dm.train_loader_x)
            done = self.start_epoch * len(self.dm.train_loader_x)
            with tqdm(total=total, initial=done, unit="batch", disable=None, leave=False) as bar:
                for epoch in range(self.start_epoch, self.max_epoch):
                    if self.choice.stops(epoch):
                        break
                    self.epoch = epoch
                    self.run_epoch(bar)
                    self.after_epoch()
            self.seconds["train"] = self.train_seconds
        self.after_train()

    def before_train(self) -> None:
        """Resume from a checkpoint if there is one, and open the loggers."""
        if self.trainable:
            self.start_epoch = self.checkpoints.resume()
            self.epoch = max(self.start_epoch - 1, 0)
            self.choice.announce()
        check_length(self)
        check_warm_up(self)
        report_weights(self)
        first_step = self.start_epoch * len(self.dm.train_loader_x)
        self.loggers = open_loggers(self.cfg, first_step=first_step, epochs=self.max_epoch)

    def run_epoch(self, bar: tqdm) -> None:
        """One pass over the training split; augmentation and order depend only on the epoch."""
        self.set_model_mode("train")
        loader = self.dm.train_loader_x
        loader.set_epoch(self.epoch)
        log = EpochLog(self)
        for index, batch in enumerate(loader):
            log.clock.data()
            self.batch_index, self.printing = index, log.is_due(index)
            summary = self.forward_backward(batch)
            log.clock.batch()
            loss = summary.pop("loss")
            assert isinstance(loss, Tensor), "forward_backward() returns its loss as a tensor"
            log.add(index, loss, batch["task"])
            bar.update()
            if self.printing:
                log.write(summary)
                bar.set_postfix(loss=f"{log.losses.meters['loss'].avg:.3f}")

    def after_epoch(self) -> None:
        """Step the schedule, validate if it is time, save."""
        check_learned(self)
        self.step_schedule()
        if self.choice.on_val and self.choice.due(self.epoch + 1):
            self.choice.validate()
        self.checkpoints.save(self.epoch + 1)
        self.checkpoints.remove_old(self.epoch + 1)

    def after_train(self) -> None:
        """Test the final model, once."""
        if self.trainable:
            _log.info("Finished training")
        if not self.cfg.TEST.NO_TEST:
            if self.choice.on_val and self.choice.epoch is not None:
                _log.info("Deploy the model with the best val performance (epoch %d)", self.choice.epoch)
                self.checkpoints.load(self.cfg.OUTPUT_DIR)
            elif self.trainable:
                _log.info("Deploy the last-epoch model")
            metric = self.test()["metric"]
            self.loggers.finish({"metric": metric, "train seconds": self.seconds["train"]})
        self.loggers.close()

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

    @torch.no_grad()
    def test(self, split: str | None = None) -> dict[str, float | None]:
        """Evaluate on ``split`` (default TEST.SPLIT) and log the result."""
        started, encoded = time.monotonic(), self.dm.encode_seconds
        calibrates = split is None and self.cfg.TEST.CALIBRATE
        split = split or self.cfg.TEST.SPLIT
        loader = self.loader(split)
        self.set_model_mode("eval")
        self.evaluator.reset()
        _log.info("Do evaluation on %s set", split)
        self.before_test()
        if calibrates:
            self.calibration = calibrate(self)
            self.evaluator.calibrate([task.temperature for task in self.calibration.tasks])
        if split == self.cfg.TEST.SPLIT and self.dm.multi.any():
            report_mixed(self.dm.tasks)
            self.decisions = decide(self)
            self.evaluator.decide({task: decision.threshold for task, decision in self.decisions.items()})
        for batch in tqdm(loader, desc=split, disable=None, leave=False):
            entries = {"row": batch["row"], "index": batch["index"], "truth": self.dm.truth(batch)}
            self.evaluator.process(self.model_inference(batch), batch["label"], batch["task"], **entries)
        results = self.evaluator.evaluate()
        _log.info("mean over tasks: %s", self.evaluator.overall_quality)
        if calibrates and self.calibration is not None:
            self.calibration = tested(self.calibration, self.evaluator)
        for key, value in results.items():
            if value is not None:
                self.loggers.add(f"{split}/{key}", value, self.epoch)
        self.seconds["test"] += time.monotonic() - started - (self.dm.encode_seconds - encoded)
        return results
