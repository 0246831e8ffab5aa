"""Runs on a suite with a multi-label task and one with a label an image."""

import csv
import json
from collections import Counter

import pytest
import torch

import export
import parse_test_res
import predict
from dassl.engine import TRAINER_REGISTRY
from dassl.inference import load_classifier
from dassl.results.record import Decision
from tests.dassl.engine.cutting import interrupted_after_the_last_step
from tests.lab import figures, same_tensors
from tests.own import own_file, own_lab, write_pictures
from tests.trainers.test_all_methods import METHODS, options

NAMES = [f"pets/{n:02}.png" for n in range(24)]
TAGS = {"name": "pet tags", "table": "pets.csv", "label": "tags", "type": "multi", "none": "nothing"}
KIND = {"name": "pet kind", "table": "pets.csv", "label": "kind"}
ABLE = ["ZeroshotCLIP", "ZeroshotCLIP2", "LinearProbe", "CoOp", "MTCoOpHard", "MTCoOp", "MaPLe", "CLIPLoRA"]


def tags(number):
    found = [tag for tag, every in (("cat", 2), ("dog", 3), ("bird", 5)) if number % every == 0]
    return ";".join(found) or "nothing"


@pytest.fixture
def pets(lab, tmp_path):
    root = tmp_path / "pictures"
    write_pictures(root, NAMES)
    rows = [f"{name},{tags(n)},{'big' if n % 4 else 'small'}" for n, name in enumerate(NAMES)]
    (root / "pets.csv").write_text("\n".join(["image,tags,kind", *rows]), encoding="utf-8")
    return own_lab(lab, root)


def arguments(pets, name, *tasks, **more):
    own = options(name) if name in METHODS else {"trainer": name}
    return own_file(pets.root, *(tasks or (KIND, TAGS))), {"dataset": "MyTasks", **own, **more}


@pytest.mark.parametrize("name", ABLE)
def test_a_mixed_suite_is_trained_and_tested(pets, name):
    flags, keys = arguments(pets, name)
    result = pets.run("run", *flags, **keys)
    kind, tag = result.tasks
    assert (kind.metric_name, tag.metric_name) == ("overall_acc", "mAP")
    assert kind.decision is None and tag.decision.images > 0 and 0 < tag.decision.threshold < 1
    assert all(0 <= value <= 100 for value in (tag.metric, tag.micro_f1, tag.macro_f1))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ABLE])
def test_other_methods_refuse_by_name_before_training(pets, capsys, name):
    flags, keys = arguments(pets, name)
    assert pets.main("run", *flags, **keys) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {name} cannot learn task 'pet tags'") and line.count("\n") == 1
    assert not TRAINER_REGISTRY.get(name).multi_label and not pets.folder("run").exists()


def test_the_mean_over_both_kinds_is_remarked_on(pets):
    flags, keys = arguments(pets, "ZeroshotCLIP")
    (line,) = [text for text in pets.run("run", *flags, **keys).warnings if "mean over tasks" in text]
    assert "one of mAP (1 multi-label tasks) and accuracy (1 other tasks)" in line


@pytest.mark.parametrize("loss", ["bce", "asymmetric"])
def test_the_loss_of_a_mixed_batch_is_the_sum_of_both_kinds(pets, loss):
    flags, keys = arguments(pets, "CoOp", MULTI__LOSS=loss)
    trainer = pets.trainer("run", *flags, **keys)
    (batch, *_) = trainer.dm.plain_loader("train")
    scores = trainer.scores(batch)
    total = torch.zeros((), dtype=torch.float64)
    for row, target, task, truth in zip(scores.logits, scores.target, batch["task"], scores.truth, strict=True):
        logits = row.double()
        if task == 0:
            total -= logits[:2].log_softmax(0)[target]
            continue
        p = logits[2:].sigmoid()
        for chance, true in zip(p, truth[2:].tolist(), strict=True):
            below = (chance - 0.05).clamp_min(0)
            slow = chance.log() if true else (1 - chance).log()
            total -= slow if loss == "bce" or true else below**4 * (1 - below).log()
    torch.testing.assert_close(
        trainer.cross_entropy(scores)[0].double(), total / len(scores.image), rtol=1e-4, atol=1e-5
    )


def test_the_bias_begins_where_it_expects_the_labels_that_there_are_and_is_learned(pets):
    flags, keys = arguments(pets, "CoOp", TAGS)
    trainer = pets.trainer("run", *flags, **keys)
    (batch, *_) = trainer.dm.plain_loader("train")
    assert trainer.label_bias.waits
    scores = trainer.scores(batch)
    assert not trainer.label_bias.waits
    wanted = (scores.truth.sum() + 0.5) / (scores.truth.numel() + 1)
    torch.testing.assert_close(scores.logits.sigmoid().mean(), wanted, rtol=1e-4, atol=1e-5)
    trainer.train()
    assert trainer.label_bias.shift.abs().sum() > 0


@pytest.mark.parametrize("name", ["CoOp", "MTCoOp", "LinearProbe"])
def test_a_run_that_was_cut_off_ends_as_a_whole_one_and_is_evaluated_with_its_threshold(pets, name):
    flags, keys = arguments(pets, name)
    with interrupted_after_the_last_step():
        assert pets.main("run", *flags, **keys) == 130
    mine, whole = pets.run("run", *flags, **keys), pets.run("whole", *flags, **keys)
    assert figures(mine) == figures(whole) and same_tensors(pets.learned(), pets.learned("whole"))
    again = pets.run("again", *flags, "--eval-only", "--model-dir", str(pets.folder("run")), **keys)
    assert again.tasks == mine.tasks
    assert "those of the run" in pets.log("again")


def test_without_validation_images_the_threshold_is_fixed_and_said(pets):
    tasks = [{**each, "ratios": [0.7, 0, 0.3]} for each in (KIND, TAGS)]
    flags, keys = arguments(pets, "CoOp", *tasks)
    result = pets.run("run", *flags, **keys)
    assert result.tasks[1].decision == Decision(0.5, 0)
    assert any("has no validation image to choose a threshold on" in text for text in result.warnings)


def test_zero_shot_is_fitted_to_training_images_where_there_is_no_other(pets):
    flags, keys = arguments(pets, "ZeroshotCLIP", {**TAGS, "ratios": [0.7, 0, 0.3]})
    (task,) = pets.run("run", *flags, **keys).tasks
    assert task.decision.bias is not None and task.decision.bias != 0
    assert task.micro_f1 is not None


def test_temperatures_are_for_one_label_an_image(pets):
    flags, keys = arguments(pets, "CoOp", TEST__CALIBRATE=True)
    result = pets.run("run", *flags, **keys)
    assert result.calibration.tasks[1].temperature == 1 and not result.calibration.tasks[1].fitted
    assert any("a temperature is for one label an image" in text for text in result.warnings)


def test_the_best_epoch_is_that_of_the_best_map(pets):
    flags, keys = arguments(pets, "CoOp", TAGS, TEST__FINAL_MODEL="best_val")
    result = pets.run("run", *flags, **keys)
    assert result.best_epoch is not None and result.val is not None


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        (
            "MTCoOp",
            {"TRAINER__MTCOOP__CSC": True, "TRAINER__MTCOOP__CLS_SAMPLE_RATE": 0.5},
            "CLS_SAMPLE_RATE leaves out",
        ),
        ("LinearProbe", {"TRAINER__LP__METRICS": "released"}, "METRICS released is for tasks with one label an image"),
        ("CoOp", {"DATASET__SUBSAMPLE_CLASSES": "base"}, "may have classes of both halves"),
        ("CoOp", {"MULTI__GAMMA_NEG": 0.5}, "must be 0 or at least 1"),
    ],
)
def test_what_does_not_go_with_several_labels_is_refused(pets, capsys, name, keys, words):
    flags, own = arguments(pets, name, **keys)
    assert pets.main("run", *flags, **own) == 2
    line = capsys.readouterr().err
    assert words in line and line.count("\n") == 1


def test_one_task_alone_may_be_learned_by_any_method(pets):
    flags, keys = arguments(pets, "KgCoOp", DATASET__SUBSAMPLE_TASKS="task0")
    assert [task.name for task in pets.run("run", *flags, **keys).tasks] == ["pet kind"]


@pytest.mark.parametrize("name", ABLE)
def test_predictions_and_exports_have_the_runs_thresholds(pets, capsys, tmp_path, name):
    flags, keys = arguments(pets, name)
    result = pets.run("run", *flags, **keys)
    threshold = result.tasks[1].decision.threshold
    rows = list(csv.DictReader((pets.folder("run") / "predictions-labels.csv").open(encoding="utf-8")))
    assert len(rows) == result.predicted_labels.rows == 3 * result.tasks[1].total
    hits = Counter(row["label"] for row in rows if row["true"] == row["predicted"] == "1")
    assert {each.name: each.correct for each in result.tasks[1].per_class} == {
        n: hits[n] for n in ("bird", "cat", "dog")
    }
    exported = tmp_path / "tuned.safetensors"
    assert export.main([str(pets.folder("run")), "-o", str(exported)]) == 0
    for place in (pets.folder("run"), exported):
        classifier = load_classifier(place, device="cpu")
        assert classifier.tasks[1].multi and classifier.thresholds == {1: threshold}
        image = rows[0]["image"]
        kind, tag = classifier.predict(pets.root / image)
        assert kind.threshold is None and sum(each.probability for each in kind.classes) == pytest.approx(1)
        told = {row["label"]: float(row["probability"]) for row in rows if row["image"] == image}
        assert {each.name: each.probability for each in tag.classes} == pytest.approx(told, abs=1e-4)
        assert {each.name for each in tag.labels} == {n for n, p in told.items() if p >= threshold}


def test_answers_in_all_formats(pets, capsys, monkeypatch):
    flags, keys = arguments(pets, "CoOp")
    pets.run("run", *flags, **keys)
    capsys.readouterr()
    command = [str(pets.folder("run")), str(pets.root / NAMES[0]), "--workers", "0", "--device", "cpu", "--top-k", "1"]
    said = {}
    for form in ("jsonl", "csv", "table"):
        assert predict.main([*command, "--format", form, "--threshold", "0.0001"]) == 0
        said[form] = capsys.readouterr().out.splitlines()
    answer = json.loads(said["jsonl"][1])
    assert set(answer["labels"]) == {"cat", "dog", "bird"} and answer["threshold"] == 0.0001
    assert "answer" not in answer and len(answer["classes"]) == 3
    _, _, row = csv.reader(said["csv"])
    assert row[1] == "pet tags" and set(row[2].split(";")) == {"cat", "dog", "bird"} and len(row) == 5
    assert said["table"][2].startswith("  pet tags: ") and said["table"][2].count("%") == 3
    assert predict.main([*command, "--format", "table", "--threshold", "0.999999"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "  pet tags: (none)"


def test_tables_and_the_page_show_the_figures(pets, capsys):
    flags, keys = arguments(pets, "CoOp")
    result = pets.run("run", *flags, **keys)
    page = pets.output / "page.html"
    capsys.readouterr()
    assert parse_test_res.main([str(pets.output), "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert f"pet tags: mAP {result.tasks[1].metric:.2f} %" in text
    assert "An image may have several of the classes, so there is no confusion matrix" in text
    capsys.readouterr()
    table = [str(pets.output), "--per-task", "--metrics", "accuracy,f1,micro_f1", "--format", "csv"]
    assert parse_test_res.main(table) == 0
    assert f"{result.tasks[1].micro_f1:.2f}"[:4] in capsys.readouterr().out


def test_confusion_matrices_are_those_of_the_other_tasks(pets):
    flags, keys = arguments(pets, "CoOp", TEST__COMPUTE_CMAT=True)
    pets.run("run", *flags, **keys)
    assert list(json.loads((pets.folder("run") / "cmat.json").read_text())) == ["pet kind"]
