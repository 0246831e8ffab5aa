"""Ways to cut a run off."""

from contextlib import contextmanager

import pytest

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


def cut_off(lab: Lab, *arguments: str, epoch: int, batch: int, **options: object) -> None:
    """Start a run that a person interrupts in the middle of an epoch."""
    with interrupted(epoch=epoch, batch=batch):
        assert lab.main(*arguments, **options) == 130
