"""Which epoch's model is tested, and when a training stops."""

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.data.datum import Datum
from dassl.engine import choice
from dassl.engine.choice import EpochChoice
from dassl.results.record import ModelChoice
from tests.dassl.engine.cutting import cut_off
from tests.lab import BATCHES, figures, same_tensors

# Validation worsens after the first epochs at this rate.
WILD = {"OPTIM__LR": 0.5, "OPTIM__MAX_EPOCH": 8, "seed": 2}


def chooser(val=(), *, model="auto", freq=0, patience=0, batches=3, epochs=10, shared=0):
    """The choice of a training of two tasks whose validation images are ``val``; its validations are set by hand."""
    cfg = SimpleNamespace(
        TEST=SimpleNamespace(FINAL_MODEL=model, NO_TEST=False), TRAIN=SimpleNamespace(VAL_FREQ=freq, PATIENCE=patience)
    )
    dataset = SimpleNamespace(val=list(val), validated_on_test=lambda: {0: shared} if shared else {})
    tasks = [SimpleNamespace(name="kind"), SimpleNamespace(name="tool")]
    data = SimpleNamespace(dataset=dataset, tasks=tasks, train_loader_x=range(batches))
    saved = []
    trainer = SimpleNamespace(cfg=cfg, dm=data, max_epoch=epochs, epoch=0, saved=saved)
    trainer.checkpoints = SimpleNamespace(save=lambda epoch, best: saved.append(epoch))
    return EpochChoice(trainer), trainer


def images(*counts):
    return [Datum(f"{task}-{number}", 0, task) for task, count in enumerate(counts) for number in range(count)]


ENOUGH, EACH = choice.ENOUGH_VAL, choice.ENOUGH_VAL_OF_TASK


@pytest.mark.parametrize(
    ("counts", "shared", "model", "reason"),
    [
        ((0, 0), 0, "last_step", f"there are 0 validation images, and {ENOUGH} are"),
        ((ENOUGH - EACH, EACH - 1), 0, "last_step", f"there are {ENOUGH - 1} validation images"),
        ((ENOUGH, EACH - 1), 0, "last_step", f"task tool has {EACH - 1} validation images, and {EACH} of every task"),
        ((ENOUGH, 0), 0, "last_step", "task tool has 0 validation images"),
        ((ENOUGH, EACH), 2, "last_step", "2 of the validation images are test images"),
        ((ENOUGH, EACH), 0, "best_val", f"there are {ENOUGH + EACH} to choose on"),
    ],
)
def test_auto_chooses_on_enough_validation_images(counts, shared, model, reason):
    found = chooser(images(*counts), shared=shared)[0]
    assert found.model.model == model and reason in found.model.reason
    assert found.on_val == (model == "best_val")


def test_an_image_of_several_tasks_counts_for_each():
    both = [Datum(str(number), 0, 0, ((1, 0),)) for number in range(ENOUGH)]
    assert chooser(both)[0].on_val


@pytest.mark.parametrize("model", ["last_step", "best_val"])
def test_a_model_that_is_named_is_the_tested_one(model):
    assert chooser(model=model)[0].model == ModelChoice(model, f"TEST.FINAL_MODEL is {model}")


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 40))
def test_validations_are_as_far_apart_as_asked_and_one_is_last(freq, batches, epochs):
    found, _ = chooser(freq=freq, batches=batches, epochs=epochs)
    due = [epoch for epoch in range(1, epochs + 1) if found.due(epoch)]
    assert due[-1] == epochs
    if not freq:
        assert len(due) == epochs
    else:
        passed = {epoch * batches // freq for epoch in due[:-1]}
        assert len(passed) == len(due) - 1 and len(due) <= epochs * batches // freq + 1


def validated(figures, **options):
    """The epochs that were the best so far when the validations gave ``figures``, and the one that stops training."""
    found, trainer = chooser(images(ENOUGH, EACH), epochs=len(figures) + 1, **options)
    for epoch, (metric, nll) in enumerate(figures):
        if found.stops(epoch):
            return trainer.saved, epoch
        trainer.epoch = epoch
        trainer.test = lambda split, metric=metric: {"metric": metric}
        trainer.evaluator = SimpleNamespace(overall_quality=SimpleNamespace(nll=nll))
        found.validate()
    return trainer.saved, None


TIED = [(50.0, 1.0), (50.0, 0.9), (50.0, 0.95), (40.0, 0.1), (None, 0.0), (60.0, None), (60.0, 2.0)]


def test_of_equal_metrics_the_lower_nll_is_better_with_auto():
    assert validated(TIED) == ([1, 2, 6, 7], None)
    assert validated(TIED, model="best_val") == ([1, 6], None)


@pytest.mark.parametrize(("patience", "stop"), [(0, None), (1, 3), (2, 4), (3, 5), (4, None)])
def test_training_stops_after_validations_that_are_not_better(patience, stop):
    assert validated(TIED, patience=patience)[1] == stop


@pytest.fixture
def enough(monkeypatch):
    """The 16 validation images of the toy data are enough."""
    monkeypatch.setattr(choice, "ENOUGH_VAL", 16)
    monkeypatch.setattr(choice, "ENOUGH_VAL_OF_TASK", 6)


def test_auto_without_enough_images_is_the_last_step(lab):
    mine = lab.run(TEST__FINAL_MODEL="auto")
    assert mine.choice == ModelChoice("last_step", "there are 16 validation images, and 100 are enough to choose on")
    assert f"auto: the last epoch is tested, because {mine.choice.reason}" in lab.log()
    last = lab.run("last")
    assert (mine.tasks, mine.val, mine.best_epoch) == (last.tasks, None, None)
    assert same_tensors(lab.learned(), lab.learned("last")) and lab.files() == lab.files("last")


@pytest.mark.usefixtures("enough")
def test_auto_with_enough_images_is_the_best_epoch_and_is_evaluated_again(lab):
    mine = lab.run(TEST__FINAL_MODEL="auto", **WILD)
    assert mine.choice == ModelChoice("best_val", "there are 16 to choose on")
    assert mine.best_epoch < 8 and mine.val.metric >= 0
    again = lab.main("again", "--eval-only", "--model-dir", str(lab.folder("run")), TEST__FINAL_MODEL="auto", **WILD)
    assert again == 0 and lab.result("again").tasks == mine.tasks
    assert f"(epoch {mine.best_epoch})" in lab.log("again")


@pytest.mark.usefixtures("enough")
@pytest.mark.parametrize("cut", [1, 3, "at the test"])
def test_a_training_that_stops_early_ends_alike_after_an_interruption(lab, cut, monkeypatch):
    keys = {"TEST__FINAL_MODEL": "auto", "TRAIN__PATIENCE": 2, **WILD}
    whole = lab.run("whole", **keys)
    stopped = whole.epochs
    assert whole.best_epoch + 2 == stopped < 8
    assert (whole.length.steps, whole.length.epochs_planned) == (stopped * BATCHES, 8)
    said = f"Stopped after epoch {stopped} of 8: val has been no better than at epoch {whole.best_epoch} in 2"
    assert said in lab.log("whole")
    if cut == "at the test":
        from dassl.engine.trainer import TrainerX

        with monkeypatch.context() as patch:
            patch.setattr(TrainerX, "after_train", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
            assert lab.main(**keys) == 130
    else:
        cut_off(lab, epoch=cut, batch=1, **keys)
    mine = lab.run(**keys)
    assert figures(mine) == figures(whole) and (mine.epochs, mine.length) == (whole.epochs, whole.length)
    assert same_tensors(lab.learned(), lab.learned("whole")) and lab.files() == lab.files("whole")


def test_validation_can_be_rarer(lab):
    lab.run(TEST__FINAL_MODEL="best_val", TRAIN__VAL_FREQ=2 * BATCHES, OPTIM__MAX_EPOCH=5)
    parts = re.split(r"Do evaluation on val set", lab.log())[:-1]
    assert [max(map(int, re.findall(r"epoch \[(\d)/5\]", part))) for part in parts] == [2, 4, 5]


def test_a_patience_that_has_nothing_to_wait_for_is_refused(lab, capsys):
    assert lab.main(TRAIN__PATIENCE=2) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: TRAIN.PATIENCE 2 stops") and "set TEST.FINAL_MODEL best_val or auto" in line
    assert not lab.folder("run").exists()
