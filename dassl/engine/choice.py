"""The model that is tested: that of the last epoch, or the best one on the validation images; and when to stop."""

import logging
import math
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dassl.results.record import ModelChoice
from dassl.utils.errors import UserError

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX

ENOUGH_VAL, ENOUGH_VAL_OF_TASK = 100, 30  # see docs/recipe.md
_log = logging.getLogger(__name__)


class EpochChoice:
    """Chooses the epoch whose model is tested, as TEST.FINAL_MODEL says, and ends a training as TRAIN.PATIENCE says.

    Its state is the best epoch with its figures, which checkpoints hold. Of two epochs that one is better whose metric
    on the validation images is higher; with TEST.FINAL_MODEL auto, of equal metrics that of the lower NLL.

    Attributes:
        epoch: the best epoch so far, counted from 1; None before the first validation.
        metric, nll: its figures on the validation images.
    """

    def __init__(self, trainer: "TrainerX") -> None:
        self._trainer, self._cfg = trainer, trainer.cfg
        self.epoch: int | None = None
        self.metric, self.nll = -math.inf, math.inf

    # ---- the rule -----------------------------------------------------------------------------

    @cached_property
    def model(self) -> ModelChoice:
        """Which model is tested, and why; TEST.FINAL_MODEL auto depends on the validation images."""
        wanted = self._cfg.TEST.FINAL_MODEL
        if wanted != "auto":
            return ModelChoice(wanted, f"TEST.FINAL_MODEL is {wanted}")
        lack = self._lack()
        images = len(self._trainer.dm.dataset.val)
        return ModelChoice("last_step", lack) if lack else ModelChoice("best_val", f"there are {images} to choose on")

    @property
    def on_val(self) -> bool:
        """Whether the training is validated and its best epoch tested."""
        return self.model.model == "best_val" and not self._cfg.TEST.NO_TEST

    def _lack(self) -> str:
        """What TEST.FINAL_MODEL auto lacks to choose an epoch on validation images; "": nothing."""
        trainer, data = self._trainer, self._trainer.dm.dataset
        counts = Counter(task for item in data.val for task, _ in item.targets)
        fewest = min(range(len(trainer.dm.tasks)), key=lambda task: counts[task])
        if shared := sum(data.validated_on_test().values()):
            return f"{shared} of the validation images are test images"
        if len(data.val) < ENOUGH_VAL:
            return f"there are {len(data.val)} validation images, and {ENOUGH_VAL} are enough to choose on"
        if counts[fewest] < ENOUGH_VAL_OF_TASK:
            return (
                f"task {trainer.dm.tasks[fewest].name} has {counts[fewest]} validation images, and "
                f"{ENOUGH_VAL_OF_TASK} of every task are enough to choose on"
            )
        return ""

    def check(self) -> None:
        """Refuse a patience that has nothing to wait for (raise UserError)."""
        if self._cfg.TRAIN.PATIENCE and self._cfg.TEST.FINAL_MODEL == "last_step":
            raise UserError(
                f"TRAIN.PATIENCE {self._cfg.TRAIN.PATIENCE} stops a training whose validation does not improve, and "
                "TEST.FINAL_MODEL last_step validates none; set TEST.FINAL_MODEL best_val or auto, or TRAIN.PATIENCE 0"
            )

    def announce(self) -> None:
        """Log what auto comes to."""
        if self._cfg.TEST.FINAL_MODEL == "auto":
            tested = "the best epoch on val" if self.on_val else "the last epoch"
            _log.info("TEST.FINAL_MODEL auto: %s is tested, because %s", tested, self.model.reason)

    # ---- a training ---------------------------------------------------------------------------

    def due(self, epoch: int) -> bool:
        """Whether validation follows ``epoch``, counted from 1: the last one, and as often as TRAIN.VAL_FREQ says."""
        freq, batches = self._cfg.TRAIN.VAL_FREQ, len(self._trainer.dm.train_loader_x)
        return epoch == self._trainer.max_epoch or not freq or epoch * batches // freq > (epoch - 1) * batches // freq

    def validate(self) -> None:
        """Validate the present epoch; save its model if it is the best so far."""
        trainer = self._trainer
        metric, nll = trainer.test("val")["metric"], trainer.evaluator.overall_quality.nll
        if metric is None:
            return
        nll = math.inf if nll is None or self._cfg.TEST.FINAL_MODEL != "auto" else nll
        if (metric, -nll) > (self.metric, -self.nll):
            self.epoch, self.metric, self.nll = trainer.epoch + 1, metric, nll
            trainer.checkpoints.save(trainer.epoch + 1, best=True)

    def stops(self, epoch: int) -> bool:
        """Whether the training ends after ``epoch`` finished epochs: TRAIN.PATIENCE validations were not better."""
        patience = self._cfg.TRAIN.PATIENCE
        if not (patience and self.on_val and self.epoch):
            return False
        worse = sum(map(self.due, range(self.epoch + 1, epoch + 1)))
        if stops := worse >= patience and epoch < self._trainer.max_epoch:
            _log.info(
                "Stopped after epoch %d of %d: val has been no better than at epoch %d in %d validations",
                *(epoch, self._trainer.max_epoch, self.epoch, worse),
            )
        return stops

    # ---- checkpoints --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"epoch": self.epoch, "result": self.metric, "nll": self.nll}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint; older ones have no NLL."""
        self.epoch, self.metric, self.nll = state["epoch"], state["result"], state.get("nll", math.inf)
