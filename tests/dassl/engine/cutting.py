"""Ways to cut a run off."""

from contextlib import contextmanager

import pytest

from dassl.engine import TrainerX
from tests.lab import Lab
from trainers.base import PromptTuner


@contextmanager
def interrupted(*, epoch: int, batch: int, error: type[BaseException] = KeyboardInterrupt):
    """Raise ``error`` when the step on ``batch`` of ``epoch`` (both counted from 0) begins."""
    step = PromptTuner.forward_backward

    def stop_there(trainer, data):
        if (trainer.epoch, trainer.batch_index) == (epoch, batch):
            raise error
        return step(trainer, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptTuner, "forward_backward", stop_there)
        yield


@contextmanager
def interrupted_after_the_last_step():
    """Interrupt a run in its last epoch, when all batches are done and nothing of the epoch is saved yet.

    Works for methods without steps, too.
    """
    step = TrainerX.step_schedule

    def cut(trainer):
        if trainer.epoch + 1 == trainer.max_epoch:
            raise KeyboardInterrupt
        step(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainerX, "step_schedule", cut)
        yield


def cut_off(lab: Lab, *arguments: str, epoch: int, batch: int, **options: object) -> None:
    """Start a run that a person interrupts in the middle of an epoch."""
    with interrupted(epoch=epoch, batch=batch):
        assert lab.main(*arguments, **options) == 130
