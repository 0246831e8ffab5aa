"""Checks of a training: before it begins, and after each epoch whether its numbers are finite."""

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dassl.data.datum import Task
from dassl.engine.checkpoint import not_finite
from dassl.metrics import class_weights
from dassl.optim import learning_rate
from dassl.utils.errors import UserError

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX

FEW_STEPS = 200  # fewer steps train prompts of own tasks badly; see docs/recipe.md
OWN_STEPS = 400  # OPTIM.MIN_STEPS of configs/trainers/_base/own_training.yaml
_log = logging.getLogger(__name__)


def check_splits(trainer: "TrainerX", *, training: bool) -> None:
    """Check before the work begins that splits needed later are not empty and not also training data.

    Raises:
        UserError: a split is empty. If test images are also training or validation images, it only warns.
    """
    cfg = trainer.cfg.TEST
    trainer.choice.check()
    learns = training and trainer.trainable
    tests = not training or not cfg.NO_TEST
    needed = {"train": learns, "val": learns and trainer.choice.on_val}
    needed[cfg.SPLIT] = needed.get(cfg.SPLIT, False) or tests
    for split in (name for name, wanted in needed.items() if wanted):
        trainer.loader(split)
    if learns and needed["val"]:
        warn_of_choice(trainer)
    testing = trainer.dm.dataset.only_for_testing(trainer.cfg) if learns and tests else []
    if testing:
        _log.warning(
            "the training images of %s are its test images, so a figure after training on them means nothing; "
            "train on another data set, and evaluate that run here with --eval-only --model-dir",
            " and ".join(testing),
        )


def warn_of_choice(trainer: "TrainerX") -> None:
    """Warn that the best epoch on val was chosen on test images."""
    data = trainer.dm.dataset
    shared = sum(data.validated_on_test().values())
    if shared:
        _log.warning(
            "TEST.FINAL_MODEL best_val chooses the epoch on %s validation images, of which %s are test images, so "
            "the figure is too high; set TEST.FINAL_MODEL last_step",
            f"{len(data.val):,}",
            f"{shared:,}",
        )


def check_length(trainer: "TrainerX") -> None:
    """Log the length of the training; warn if a training on own tasks has fewer steps than learning takes."""
    optim, images = trainer.cfg.OPTIM, trainer.dm.train_loader_x.plan.count
    if not trainer.sched:
        return
    batches, epochs = len(trainer.dm.train_loader_x), trainer.max_epoch
    steps, batch = epochs * batches, min(images, trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE)
    asked = f"OPTIM.MAX_EPOCH {optim.MAX_EPOCH}" + f", OPTIM.MIN_STEPS {optim.MIN_STEPS}" * (optim.MIN_STEPS > 0)
    _log.info("Training: %d steps, %d epochs of %d x %d images (%s)", steps, epochs, batches, batch, asked)
    if trainer.cfg.DATASET.TASKS and not optim.MIN_STEPS and steps < FEW_STEPS:
        _log.warning(
            "the training has %d steps (%d epochs of %d x %d images), and prompts are hardly trained after fewer than "
            "%d; set OPTIM.MIN_STEPS %d, or take --config-file own, which sets it",
            *(steps, epochs, batches, batch, FEW_STEPS, OWN_STEPS),
        )


def check_warm_up(trainer: "TrainerX") -> None:
    """Warn if no epoch is trained with the rate of OPTIM.LR."""
    optim = trainer.cfg.OPTIM
    if not trainer.sched or optim.WARMUP_EPOCH < optim.MAX_EPOCH:
        return
    epochs = trainer.max_epoch
    steps = [epoch * trainer.schedule_steps_per_epoch for epoch in range(epochs)]
    behind = sum(step * optim.MAX_EPOCH >= optim.WARMUP_EPOCH * epochs for step in steps)
    _log.warning(
        "OPTIM.WARMUP_EPOCH is %d and OPTIM.MAX_EPOCH %d: %s, and the highest learning rate is %g, where OPTIM.LR "
        "is %g; set OPTIM.WARMUP_EPOCH 0 or a larger OPTIM.MAX_EPOCH",
        optim.WARMUP_EPOCH,
        optim.MAX_EPOCH,
        f"{behind} epochs come after the warm-up" if behind else "the schedule never leaves its warm-up",
        max(learning_rate(optim, step, epochs=epochs) for step in steps),
        optim.LR,
    )


def report_mixed(tasks: Sequence[Task]) -> None:
    """Warn that the mean over tasks is one of different figures."""
    several = sum(task.multi for task in tasks)
    if several and several < len(tasks):
        _log.warning(
            "the mean over tasks is one of mAP (%d multi-label tasks) and accuracy (%d other tasks); read the figures "
            "of the tasks",
            several,
            len(tasks) - several,
        )


def report_weights(trainer: "TrainerX") -> None:
    """Log the weights of classes that tasks ask for, or that the method has no use for them."""
    weighted = [task.name for task in trainer.dm.tasks if task.weight]
    if not weighted:
        return
    if trainer.unweighted:
        name, tasks = trainer.cfg.TRAINER.NAME, ", ".join(weighted)
        _log.info("%s has no use for weight: balanced (task %s): %s", name, tasks, trainer.unweighted)
        return
    weights = class_weights(trainer.dm.tasks, trainer.dm.dataset.train_x)
    assert weights is not None
    for task, own in zip(
        trainer.dm.tasks, weights.split([len(each.classnames) for each in trainer.dm.tasks]), strict=True
    ):
        seen = own[own > 0]
        if task.weight and len(seen):
            same = " (its classes have the same number of training images)" if seen.min() == seen.max() else ""
            _log.info("task %s: weights of classes from %.4g to %.4g%s", task.name, seen.min(), seen.max(), same)


def not_finite_loss(trainer: "TrainerX", value: float, *, batch: int, tasks: Iterable[int]) -> UserError:
    """The error that names the batch (counted from 0) whose loss is not finite, and its tasks."""
    names = [trainer.dm.tasks[task].name for task in sorted(set(tasks))]
    return UserError(
        f"the loss is {value} at epoch {trainer.epoch + 1}, batch {batch + 1} (tasks {', '.join(names)}; "
        f"precision {trainer.precision}); {_remedy(trainer)}"
    )


def check_learned(trainer: "TrainerX") -> None:
    """Refuse learned tensors that are not finite (raise UserError): the loss does not see the last step."""
    for name, module in trainer.modules.items():
        if broken := not_finite(module, module.state_dict()):
            raise UserError(
                f"after epoch {trainer.epoch + 1} the learned tensors of {name} are not finite in {broken} (precision "
                f"{trainer.precision}); {_remedy(trainer)}"
            )


def _remedy(trainer: "TrainerX") -> str:
    """The remedy for values that are not finite."""
    return f"lower {trainer.rate_key}" + " or use PREC fp32" * (trainer.precision != "fp32")
