"""A folder, a picture or a clock that changes under a run."""

import json
import shutil
import time
from pathlib import Path

import pytest

from dassl.utils.files import write_error
from tests.chaos.states import differences, state
from trainers.base import PromptTuner

FOLDER = "was removed or replaced while a run was at work there; start it again"


def at_step(monkeypatch, epoch, batch, action):
    """Do something when the step on a batch begins."""
    step = PromptTuner.forward_backward

    def then(trainer, data):
        if (trainer.epoch, trainer.batch_index) == (epoch, batch):
            action(trainer)
        return step(trainer, data)

    monkeypatch.setattr(PromptTuner, "forward_backward", then)


def lines(text):
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("action", [shutil.rmtree, lambda folder: folder.rename(f"{folder}-moved")])
def test_a_run_folder_that_vanishes_ends_the_run(lab, monkeypatch, capsys, action):
    with monkeypatch.context() as patch:
        at_step(patch, 1, 1, lambda trainer: action(lab.folder("run")))
        assert lab.main() == 2
    [line] = lines(capsys.readouterr().err)
    told = (f"error: {lab.folder('run')} {FOLDER}", f"error: cannot write {lab.folder('run')}")  # by log or by curves
    assert line.startswith(told)
    assert not lab.folder("run").exists() or not (lab.folder("run") / "results.json").exists()
    assert lab.main() == 0


@pytest.mark.parametrize("features", [True, False])
def test_a_picture_that_vanishes_ends_the_run_in_one_line(lab, monkeypatch, capsys, tmp_path, features):
    root = tmp_path / "data"
    shutil.copytree(lab.root, root)

    def vanish(trainer):
        for item in trainer.dm.dataset.train_x:
            Path(item.impath).unlink()

    keys = {"DATALOADER__FEATURES": features, "DATALOADER__FEATURES_DIR": tmp_path / "features"}
    with monkeypatch.context() as patch:
        at_step(patch, 0, 2, vanish)
        assert lab.main("run", "--root", str(root), **keys) == 2
    [line] = lines(capsys.readouterr().err)
    assert str(root) in line
    assert (lab.folder("run") / "prompt_gen" / "model.pth.tar-1").is_file()


def test_a_picture_that_changes_is_told(lab, monkeypatch, tmp_path):
    """Without stored features, which notice it by themselves, the result says so."""
    root = tmp_path / "data"
    shutil.copytree(lab.root, root)

    def change(trainer):
        first, second = (trainer.dm.dataset.train_x[index].impath for index in (0, 1))
        shutil.copyfile(second, first)

    at_step(monkeypatch, 1, 0, change)
    result = lab.run("run", "--root", str(root), DATALOADER__FEATURES=False)
    [told] = [text for text in result.warnings if "changed or replaced while the run read" in text]
    assert told.startswith("1 pictures")


def test_a_clock_that_jumps_back_changes_nothing(lab, monkeypatch):
    lab.run("steady", DATALOADER__FEATURES=True)
    now, began = time.time, time.monotonic()
    jumping = lambda: now() - 86_400 * (time.monotonic() - began > 0.5)  # noqa: E731
    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))
    lab.run("jumping", DATALOADER__FEATURES=True)
    assert differences(state(lab.folder("steady")), state(lab.folder("jumping"))) == ["config.yaml differs"]
    seconds = json.loads((lab.folder("jumping") / "results.json").read_text())["seconds"]
    assert all(value >= 0 for value in seconds.values())


def test_a_limit_on_the_size_of_files_is_named():
    assert "ulimit -f" in str(write_error("model", OSError(27, "File too large")))
