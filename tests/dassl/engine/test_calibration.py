"""TEST.CALIBRATE: what it is fitted on, what it changes, and where it goes."""

import dataclasses
import random

import pytest
import torch

import export
from dassl.engine import calibration as engine_calibration
from dassl.engine.calibration import calibrate, learned_digest
from dassl.inference import load_classifier
from dassl.inference.exported import read_exported
from dassl.metrics.temperature import fit_temperature
from dassl.results.predictions import read_predictions
from dassl.results.record import read_results
from tests.dassl.engine.test_predictions import NAMES, agree, options
from tests.dassl.engine.test_run import refusal


@pytest.fixture
def fitted(monkeypatch):
    """Temperatures that do not depend on whether noise can be classified: 2 for the 3 classes, 4 for the 5."""
    monkeypatch.setattr(engine_calibration, "fit_temperature", lambda logits, label: logits.shape[1] - 1.0)


def evaluated(lab, run="run"):
    """The evaluation beside a training."""
    return read_results(lab.folder(run), name="results-eval.json")


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_no_prediction_changes_and_probabilities_do(lab, name, features, fitted):
    stored = {"DATALOADER__FEATURES": "on"} if features else {}
    plain = lab.run(**options(name, **stored))
    calibrated = lab.run("calibrated", **options(name, **stored, TEST__CALIBRATE=True))
    mine, theirs = (read_predictions(lab.folder(run)) for run in ("run", "calibrated"))
    assert [row[:4] for row in mine] == [row[:4] for row in theirs]
    assert [row[4:] for row in mine] != [row[4:] for row in theirs]
    agree(calibrated, theirs)
    assert plain.calibration is None
    for before, after, told in zip(plain.tasks, calibrated.tasks, calibrated.calibration.tasks, strict=True):
        assert (before.metric, before.per_class, before.macro_f1) == (after.metric, after.per_class, after.macro_f1)
        assert (told.temperature, told.fitted) == (after.classes - 1.0, True)
        figures = (before.ece, before.nll, after.ece, after.nll)
        said = (told.test.ece_before, told.test.nll_before, told.test.ece_after, told.test.nll_after)
        assert said == tuple(each if each is None else pytest.approx(each, rel=1e-4, abs=1e-4) for each in figures)
    assert [task.images for task in calibrated.calibration.tasks] == [6, 10]
    assert lab.log("calibrated").count("calibration of task") == 4


@pytest.mark.parametrize("name", ["MTCoOp", "LinearProbe", "CoCoOp", "ZeroshotCLIP"])
def test_temperatures_are_those_of_the_validation_scores(lab, name):
    trainer = lab.trainer(**options(name, TEST__CALIBRATE=True))
    trainer.train()
    found = trainer.calibration
    trainer.before_test()
    by_task = {0: [], 1: []}
    for item in trainer.dm.val_loader:
        with torch.no_grad():
            logits = trainer.model_inference(item)
        for row, task, label in zip(item["row"], item["task"], item["label"], strict=True):
            start, stop = trainer.dm.offsets[task : task + 2].tolist()
            by_task[int(task)].append((logits[row, start:stop], label))
    for told in found.tasks:
        logits, label = (torch.stack(each) for each in zip(*by_task[told.index], strict=True))
        expected = fit_temperature(logits, label)
        assert told.fitted == (expected is not None)
        assert told.temperature == (1.0 if expected is None else pytest.approx(expected, rel=1e-4))
        if told.fitted:
            assert told.val.nll_after <= told.val.nll_before


def test_test_labels_are_not_read(lab, fitted, monkeypatch):
    seen = []
    monkeypatch.setattr(
        engine_calibration, "fit_temperature", lambda *given: seen.append(given) or 1.0 + float(given[0].abs().mean())
    )
    trainer = lab.trainer(**options("ZeroshotCLIP", TEST__CALIBRATE=True))
    first = trainer.test()
    temperatures = [task.temperature for task in trainer.calibration.tasks]
    items, shuffled = trainer.dm.dataset.test, list(trainer.dm.dataset.test)
    labels = [item.label for item in items]
    random.Random(1).shuffle(labels)
    items[:] = [
        dataclasses.replace(item, label=label % len(trainer.dm.tasks[item.task].classnames))
        for item, label in zip(shuffled, labels, strict=True)
    ]
    assert trainer.test() != first
    assert [task.temperature for task in trainer.calibration.tasks] == temperatures
    assert len(seen) == 4


def test_test_images_are_left_out(lab, fitted):
    trainer = lab.trainer(**options("ZeroshotCLIP", TEST__CALIBRATE=True))
    data = trainer.dm.dataset
    trainer.before_test()
    first = next(item for item in data.val if item.task == 0)
    data.test.append(first)
    assert [task.images for task in calibrate(trainer).tasks] == [5, 10]


def test_a_task_without_validation_images_is_said(lab, caplog, fitted):
    trainer = lab.trainer(**options("ZeroshotCLIP", TEST__CALIBRATE=True))
    data = trainer.dm.dataset
    trainer.before_test()
    data.test += [item for item in data.val if item.task == 0]
    told = calibrate(trainer).tasks[0]
    assert (told.temperature, told.fitted, told.images, told.val) == (1.0, False, 0, None)
    assert (
        "task 0 (pet_kind) keeps its probabilities as they are: it has no validation image that is not a test image, "
        "too (6 are); list some under val in its split file"
    ) in caplog.text


def test_scores_that_are_no_numbers_are_said(lab, caplog, fitted, monkeypatch):
    trainer = lab.trainer(**options("ZeroshotCLIP", TEST__CALIBRATE=True))
    infer = trainer.model_inference
    monkeypatch.setattr(trainer, "model_inference", lambda batch: infer(batch) * torch.nan)
    assert trainer.test()["metric"] is None
    assert not any(task.fitted for task in trainer.calibration.tasks)
    assert "logits that are not finite; use PREC fp32" in caplog.text


def test_what_cannot_be_fitted_is_said(lab, caplog, monkeypatch):
    monkeypatch.setattr(engine_calibration, "fit_temperature", lambda *_: None)
    result = lab.run(**options("ZeroshotCLIP", TEST__CALIBRATE=True))
    assert any("so no temperature is the best; more images may help" in text for text in result.warnings)
    assert all(task.test.nll_before == task.test.nll_after for task in result.calibration.tasks)


def test_what_contradicts_it_is_refused(lab, capsys):
    line = refusal(lab, capsys, **options("MTCoOp", TEST__CALIBRATE=True, TEST__SPLIT="val"))
    assert "TEST.SPLIT val reports figures of the same images; set TEST.SPLIT test" in line
    line = refusal(lab, capsys, **options("MTCoOp", TEST__CALIBRATE=True, TEST__NO_TEST=True))
    assert "TEST.NO_TEST True leaves it out" in line


def test_an_evaluation_of_a_finished_run_calibrates_it(lab, fitted):
    first = lab.run(**options("MTCoOp"))
    folder = lab.folder("run")
    assert load_classifier(folder).temperatures == [1.0, 1.0]
    assert lab.main("run", "--eval-only", **options("MTCoOp", TEST__CALIBRATE=True)) == 0
    assert lab.result() == first
    assert [task.temperature for task in evaluated(lab).calibration.tasks] == [2.0, 4.0]
    assert load_classifier(folder).temperatures == [2.0, 4.0]
    elsewhere = lab.run("b", "--eval-only", "--model-dir", str(folder), **options("MTCoOp", TEST__CALIBRATE=True))
    assert elsewhere.calibration == evaluated(lab).calibration
    assert lab.main(**options("MTCoOp")) == 0, "the training is still the folder's"


def test_an_evaluation_of_something_else_calibrates_nothing(lab, fitted, caplog):
    lab.run(**options("MTCoOp", OPTIM__MAX_EPOCH=2, TRAIN__CHECKPOINT_FREQ=1))
    keys = options("MTCoOp", OPTIM__MAX_EPOCH=2, TRAIN__CHECKPOINT_FREQ=1, TEST__CALIBRATE=True)
    folder = lab.folder("run")
    assert lab.main("run", "--eval-only", "--load-epoch", "1", **keys) == 0
    assert load_classifier(folder).temperatures == [1.0, 1.0]
    assert "are for other learned tensors and are not used; evaluate the run again" in caplog.text
    assert lab.main("run", "--eval-only", **keys, INPUT__INTERPOLATION="bilinear") == 0
    assert load_classifier(folder).temperatures == [1.0, 1.0]
    assert "has another config than the run" in caplog.text


@pytest.mark.parametrize("name", ["MTCoOp", "ProtoNet", "LinearProbe"])
def test_temperatures_travel_into_probabilities_and_exported_files(lab, name, fitted):
    lab.run(**options(name, TEST__CALIBRATE=True))
    folder, path = lab.folder("run"), lab.output / "tuned.safetensors"
    assert export.main([str(folder), "-o", str(path)]) == 0
    assert read_exported(path).about["temperature"] == [2.0, 4.0]
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    run, file = load_classifier(folder), load_classifier(path)
    logits = run.logits(images)
    for task, value in enumerate((2.0, 4.0)):
        expected = (logits[task] / value).softmax(dim=1)
        assert torch.allclose(run.probabilities(images)[task], expected)
        assert torch.allclose(file.probabilities(images)[task], expected, atol=1e-5)
    answers = run.answers(list("abcd"), images)
    assert [each.best.name for each in answers if each.task == "tool"] == [
        run.tasks[1].classnames[best] for best in logits[1].argmax(dim=1).tolist()
    ]


def test_the_probabilities_of_predict_are_those_of_the_test(lab, fitted):
    lab.run(**options("MTCoOp", TEST__CALIBRATE=True))
    classifier, rows = load_classifier(lab.folder("run")), read_predictions(lab.folder("run"))
    for row in rows[::5]:
        (answer,) = classifier.predict(lab.root / row.image, task=row.task)
        assert (answer.best.name, answer.best.probability) == (
            row.predicted_class,
            pytest.approx(row.predicted_probability, rel=1e-4),
        )


def test_other_class_names_have_no_temperature(lab, fitted):
    lab.run(**options("MTCoOp", TEST__CALIBRATE=True))
    classifier = load_classifier(lab.folder("run"))
    assert classifier.with_classes({"tool": ["spoon", "fork"]}).temperatures == [2.0, 1.0]


def test_the_digest_is_that_of_everything_learned():
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    found = {learned_digest({"a": one}), learned_digest({"a": other}), learned_digest({"b": one}), learned_digest({})}
    assert len(found) == 4
    with torch.no_grad():
        other.weight.copy_(one.weight)
        other.bias.copy_(one.bias)
    assert learned_digest({"a": one}) == learned_digest({"a": other})
