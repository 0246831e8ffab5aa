"""Ctrl-C and SIGTERM end every program with the usual exit code, and leave nothing half-written."""

import os
import signal

import pytest

import demo_app
import predict
import sweep
from dassl.engine.checkpoint import load_checkpoint
from datasets import check, fetch
from tests.chaos.states import leftovers
from trainers.base import PromptTuner

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def send(number):
    """In place of a function: the process gets a signal when it is called."""

    def called(*_, **__):
        os.kill(os.getpid(), number)
        raise AssertionError("the signal did not arrive")

    return called


@pytest.mark.parametrize("number", CODES)
def test_a_run_leaves_a_whole_checkpoint(lab, monkeypatch, capsys, number):
    step, before = PromptTuner.forward_backward, signal.getsignal(signal.SIGTERM)

    def struck(trainer, batch):
        return send(number)() if (trainer.epoch, trainer.batch_index) == (2, 1) else step(trainer, batch)

    monkeypatch.setattr(PromptTuner, "forward_backward", struck)
    assert lab.main() == CODES[number]
    assert "same command" in capsys.readouterr().err
    for module in ("prompt_gen", "task_prompt_learner"):
        assert load_checkpoint(lab.folder("run") / module / "model.pth.tar-2")["epoch"] == 2
    assert leftovers(lab.output) == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(
    ("program", "function", "arguments"),
    [
        (sweep, "expand", ["demo", "--dry-run"]),
        (predict, "load_classifier", ["run", "image.png"]),
        (demo_app, "check_installed", ["run"]),
        (fetch, "read_choice", ["demo6", "--root", "data"]),
        (check, "read_choice", ["demo6", "--root", "data"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_program_says_how_it_ended(monkeypatch, program, function, arguments, number):
    monkeypatch.setattr(program, function, send(number))
    assert program.main(arguments) == CODES[number]
