"""predictions.csv of whole runs agrees with their results.json."""

import json
import math
from collections import defaultdict

import pytest

from dassl.data.images import identity
from dassl.engine import run as engine_run
from dassl.engine.predictions import predicted_images
from dassl.registries import TRAINER_REGISTRY
from dassl.results.predictions import read_predictions
from dassl.utils.digests import ChangedError
from dassl.utils.errors import UserError
from tests.trainers.test_all_methods import METHODS, SMALL

NAMES = sorted(t.__name__ for t in TRAINER_REGISTRY if t.__module__.startswith("trainers."))


def options(name, **more):
    """The options of a run as short as can be."""
    fp32 = {f"TRAINER__{METHODS[name].section}__PREC": "fp32"} if name in METHODS else {}
    return {"trainer": name, "OPTIM__MAX_EPOCH": 1, "OPTIM__WARMUP_EPOCH": 0, **fp32, **SMALL.get(name, {}), **more}


def agree(result, rows):
    """Each figure of a result, counted again from the rows."""
    by_task = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row)
    assert [task.name for task in result.tasks if task.total] == list(dict.fromkeys(by_task)) or len(by_task) > 1
    for task in result.tasks:
        own = by_task[task.name]
        counts = {each.name: (each.correct, each.total) for each in task.per_class}
        for name, (correct, total) in counts.items():
            mine = [row for row in own if row.true_class == name]
            assert (sum(row.predicted_class == name for row in mine), len(mine)) == (correct, total)
        recalls = [correct / total for correct, total in counts.values() if total]
        hits = sum(correct for correct, _ in counts.values())
        metric = sum(recalls) / len(recalls) if task.metric_name == "mean_acc" else hits / len(own)
        assert task.metric == pytest.approx(100 * metric)
        assert (len(own), len(counts)) == (task.total, task.classes)
        if task.nll is not None:
            assert task.nll == pytest.approx(-sum(math.log(row.true_probability) for row in own) / len(own), rel=1e-4)
        assert all(row.true_probability <= row.predicted_probability for row in own)
    for name in ("macro_f1", "nll", "ece"):
        values = [getattr(task, name) for task in result.tasks if task.total]
        mean = None if None in values else pytest.approx(sum(values) / len(values))
        assert getattr(result, name) == mean


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_predictions_of_every_method_agree_with_its_results(lab, name, features):
    result = lab.run(**options(name, DATALOADER__FEATURES="on" if features else "False"))
    rows = read_predictions(lab.folder("run"))
    agree(result, rows)
    assert (result.predictions.file, result.predictions.rows) == ("predictions.csv", 32)
    split = json.loads(next((lab.root / "pets").glob("*.json")).read_text())["test"]
    assert rows[0].image.startswith("pets/images/") and len({row.image for row in rows}) == 32 and len(split) == 12


def test_an_image_of_several_tasks_has_a_row_for_each(lab):
    result = lab.run(**options("MTCoOp", dataset="ToyShapes", DATALOADER__TRAIN_X__BATCH_SIZE=3))
    rows = read_predictions(lab.folder("run"))
    agree(result, rows)
    images = defaultdict(list)
    for row in rows:
        images[row.image].append(row.task)
    assert ["colour", "shape"] in images.values() and ["colour"] in images.values() and ["shape"] in images.values()


def test_the_run_of_a_single_task(lab):
    result = lab.run(**options("CoOp", DATASET__SUBSAMPLE_TASKS="task1"))
    rows = read_predictions(lab.folder("run"))
    agree(result, rows)
    assert {row.task for row in rows} == {"tool"}


def test_an_evaluation_beside_a_training_has_a_file_of_its_own(lab):
    lab.run(**options("MTCoOp"))
    first = (lab.folder("run") / "predictions.csv").read_bytes()
    assert lab.main("run", "--eval-only", **options("MTCoOp", TEST__SPLIT="val")) == 0
    assert (lab.folder("run") / "predictions.csv").read_bytes() == first
    theirs = read_predictions(lab.folder("run"), results="results-eval.json")
    assert len(theirs) == 16 and len(read_predictions(lab.folder("run"))) == 32


def test_an_evaluation_elsewhere_says_the_same(lab):
    lab.run(**options("MTCoOp"))
    lab.run("again", "--eval-only", "--model-dir", str(lab.folder("run")), **options("MTCoOp"))
    assert read_predictions(lab.folder("again")) == read_predictions(lab.folder("run"))


def test_images_without_a_prediction_have_a_row(lab, monkeypatch):
    trainer = lab.trainer(**options("ZeroshotCLIP"))
    infer = trainer.model_inference
    monkeypatch.setattr(trainer, "model_inference", lambda batch: infer(batch) * math.nan)
    trainer.test()
    rows = list(predicted_images(trainer))
    assert len(rows) == 32
    assert {row[3:] for row in rows} == {("", None, None)}


def test_rows_come_in_the_order_of_the_split(lab):
    trainer = lab.trainer(**options("ZeroshotCLIP"))
    trainer.test()
    data = trainer.dm.dataset
    assert [row.image for row in predicted_images(trainer)] == [identity(d.impath, data.root) for d in data.test]
    assert not any(row.image.startswith("/") for row in predicted_images(trainer))


def test_without_a_test_there_are_no_predictions(lab):
    result = lab.run(**options("MTCoOp", TEST__NO_TEST=True))
    assert result.predictions is None and "predictions.csv" not in lab.files()
    with pytest.raises(UserError, match=r"names no predictions\.csv"):
        read_predictions(lab.folder("run"))


def test_a_run_killed_between_the_two_files_is_finished_by_the_same_command(lab, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine_run, "write_results", die)
        assert lab.main(**options("MTCoOp")) == 130
    assert "predictions.csv" in lab.files() and "results.json" not in lab.files()
    agree(lab.run(**options("MTCoOp")), read_predictions(lab.folder("run")))


def test_a_mixed_pair_is_noticed(lab, monkeypatch):
    """Two evaluations into one folder, the second killed between its two files."""
    first = options("ZeroshotCLIP")
    lab.run("run", "--eval-only", **first)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine_run, "write_results", die)
        assert lab.main("run", "--eval-only", **options("ZeroshotCLIP", TEST__SPLIT="val")) == 130
    with pytest.raises(ChangedError, match=r"does not belong to results\.json"):
        read_predictions(lab.folder("run"))
