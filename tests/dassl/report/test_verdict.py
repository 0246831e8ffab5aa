"""The words of a verdict follow the figures."""

import random

import pytest

from dassl.report.study import suites
from dassl.report.tree import read_tree
from dassl.report.verdict import judge
from dassl.report.verdict_part import commands, verdict_html
from dassl.results.methods import read_methods
from dassl.results.predictions import PredictedImage
from tests.dassl.report.predicted import give_predictions
from tests.dassl.report.trees import write_run

CLASSES = {"crack": ["yes", "no"], "colour": ["red", "green"]}


def rows_of(skill, *, images, seed, bias):
    """Predictions in which image n is right if its own difficulty, the same for all methods, is below ``skill``."""
    noise, found = random.Random(7), []
    for task, names in CLASSES.items():
        for number in range(images):
            right = noise.random() * (1 - bias) + bias * random.Random(f"{seed}{task}{number}").random() < skill[task]
            true = names[number % 2]
            other = true if right else names[1 - number % 2]
            found.append(PredictedImage(f"{task}/{number:04}.jpg", task, true, other, 0.9 if right else 0.1, 0.9))
    return found


def write_runs(top, label, skill, *, shots=4, images=100, seeds=(1, 2, 3), bias=0.1, seconds=10.0, config=None):
    skill = skill if isinstance(skill, dict) else dict.fromkeys(CLASSES, skill)
    known = read_methods().get(label)
    for seed in seeds if known is None or known.learns else (1,):
        changes = {"seconds": {"train": seconds}, "config": config, "place": label.replace(" ", "-")}
        folder = write_run(top, label, shots=shots, seed=seed, tasks=list(CLASSES), metrics=(50.0, 50.0), **changes)
        give_predictions(folder, rows_of(skill, images=images, seed=seed, bias=bias), CLASSES)


def write_runs_alone(top, skill, *, images, bias):
    """SoftCPT on each task alone."""
    config = {**read_methods()["SoftCPT-NATA"].options, "TRAINER.NAME": "MTCoOp"}
    for number, task in enumerate(CLASSES):
        for seed in (1, 2, 3):
            place = {"choice": f"task{number}", "place": "alone", "config": config}
            folder = write_run(top, "MTCoOp", seed=seed, tasks=[task], metrics=(50.0,), **place)
            rows = rows_of(dict.fromkeys(CLASSES, skill), images=images, seed=seed, bias=bias)
            give_predictions(folder, [row for row in rows if row.task == task], CLASSES)


def verdict(top):
    (suite,) = suites(read_tree(top))
    return judge(suite)


def words(top):
    return " ".join(verdict(top).overall.sentences)


def test_a_clear_winner_is_named_with_its_lead(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.9)
    write_runs(tmp_path, "LP-CLIP", 0.6)
    text = words(tmp_path)
    assert text.startswith("Take CoOp-MT with 4 shots: 9")
    assert "points above LP-CLIP, the second" in text and "a measurable lead" in text


def test_what_the_verdict_is_not_about_follows_the_advice(tmp_path, monkeypatch):
    write_runs(tmp_path, "CoOp-MT", 0.9)
    write_runs(tmp_path, "LP-CLIP", 0.6)
    assert "This is about" not in words(tmp_path)
    monkeypatch.setattr("dassl.report.verdict._other_figures", lambda suite: ["tags (mAP)"])
    judged = verdict(tmp_path)
    advice, scope, *_ = judged.overall.sentences
    assert advice.startswith("Take CoOp-MT") and scope.startswith("This is about what is measured by accuracy: crack, ")
    assert "For tags (mAP) another method may be the best" in scope and "tags (mAP)" in judged.left_out[-1]


def test_equal_methods_are_named_and_the_cheapest_of_them(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.801, seconds=100.0)
    write_runs(tmp_path, "LP-CLIP", 0.8, seconds=1.0)
    text = words(tmp_path)
    assert "measurable lead" not in text
    assert "Not measurably worse" in text
    assert "Of these LP-CLIP is the cheapest: 1.0 s of training instead of 100.0 s" in text or text.startswith(
        "Take LP-CLIP"
    )


def test_a_guess_is_called_a_guess(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.5, images=30)
    text = words(tmp_path)
    assert text.startswith("Take none yet: the best, CoOp-MT with 4 shots, has ")
    assert "not measurably more than chance" in text
    assert "the most frequent class alone would get 50.0 % on these 60 test images" in text
    found = verdict(tmp_path)
    assert not found.overall.usable and "none yet (best: CoOp-MT)" in verdict_html(found)
    assert "It is not measurably more than chance. The run" in verdict_html(found)


def test_a_method_above_chance_is_not_called_a_guess(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.9)
    assert "This is more than chance" in words(tmp_path)


def test_training_is_compared_with_hand_written_prompts(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.9)
    write_runs(tmp_path, "ZS-CLIP", 0.6)
    assert "over zero-shot CLIP" in words(tmp_path)
    write_runs(tmp_path / "other", "CoOp-MT", 0.6)
    write_runs(tmp_path / "other", "ZS-CLIP", 0.9)
    assert "No training beats the hand-written prompts" in words(tmp_path / "other")


@pytest.mark.parametrize(("joint", "images", "said"), [
    (0.9, 200, "Sharing between tasks helped SoftCPT"),
    (0.5, 200, "Sharing between tasks hurt SoftCPT"),
    (0.7, 1000, "Sharing between tasks made no difference to SoftCPT"),
    (0.7, 10, "Whether sharing between tasks helped SoftCPT cannot be told"),
])  # fmt: skip
def test_sharing_is_judged_by_the_same_method_on_one_task(tmp_path, joint, images, said):
    write_runs(tmp_path, "SoftCPT-NATA", joint, images=images)
    write_runs_alone(tmp_path, 0.7, images=images, bias=0.1)
    assert said in words(tmp_path)


@pytest.mark.parametrize(("few", "images", "said"), [
    (0.6, 200, "More images still help"),
    (0.9, 2000, "More images of the same kind hardly help"),
    (0.9, 10, "Whether more images would help cannot be told"),
])  # fmt: skip
def test_the_curve_over_shots_is_judged_by_its_last_step(tmp_path, few, images, said):
    write_runs(tmp_path, "CoOp-MT", few, shots=1, images=images)
    write_runs(tmp_path, "CoOp-MT", 0.9, shots=4, images=images)
    assert said in words(tmp_path)


def test_too_few_test_images_are_named(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.9, images=10)
    write_runs(tmp_path, "LP-CLIP", 0.8, images=10)
    text = words(tmp_path)
    assert "There are only 20 test images, so all of this says little" in text
    assert "These test images and seeds show only differences of " in text
    assert "20 are too few to say by how much" in text


def test_a_winner_is_labelled_as_chosen_by_the_test_images_also_for_a_task(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.9)
    write_runs(tmp_path, "LP-CLIP", 0.8)
    found = verdict(tmp_path)
    for each in (found.overall, *found.tasks):
        assert "The choice among 2 methods was made by the test images" in " ".join(each.sentences)


def test_more_images_are_judged_by_a_method_that_learns(tmp_path):
    write_runs(tmp_path, "ZS-CLIP", 0.99, images=200)
    for shots, skill in ((1, 0.9), (4, 0.5)):
        write_runs(tmp_path, "CoOp-MT", skill, shots=shots, images=200)
    text = words(tmp_path)
    assert text.startswith("Take ZS-CLIP")
    assert (
        "More images made it worse, so look at the images that were added: from 1 to 4 images a class CoOp-MT" in text
    )


def test_one_number_of_shots_has_no_curve(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.9)
    assert "Whether more images help was not measured" in words(tmp_path)


def test_tasks_have_verdicts_of_their_own(tmp_path):
    write_runs(tmp_path, "CoOp-MT", {"crack": 0.95, "colour": 0.6})
    write_runs(tmp_path, "LP-CLIP", {"crack": 0.6, "colour": 0.95})
    found = verdict(tmp_path)
    assert {each.task: each.best for each in found.tasks} == {"crack": "CoOp-MT", "colour": "LP-CLIP"}
    (pair, *_) = found.tasks[0].pairs
    assert {pair.true, pair.predicted} == {"yes", "no"} and 0 < pair.share < 0.2


def test_rows_that_cannot_be_compared_are_named(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.9)
    write_run(tmp_path, "ProtoNet", shots=4, tasks=list(CLASSES), metrics=(50.0, 50.0))
    found = verdict(tmp_path)
    assert [each.row for each in found.overall.ranked] == ["CoOp-MT"]
    assert "ProtoNet is not compared: an older version wrote no predictions" in found.left_out


def test_the_exported_run_is_that_of_the_middle_seed(tmp_path):
    for seed, skill in ((1, 0.95), (2, 0.8), (3, 0.6)):
        write_runs(tmp_path, "CoOp-MT", skill, seeds=(seed,), bias=0)
    (line, use) = commands(verdict(tmp_path))
    assert line.startswith("python export.py ") and "/seed2 -o classifier.safetensors" in line
    assert use == "python predict.py classifier.safetensors NEW_IMAGES"


def test_the_section_is_escaped_and_says_everything(tmp_path):
    write_runs(tmp_path, "CoOp-MT", 0.9)
    write_runs(tmp_path, "LP-CLIP", 0.6)
    html = verdict_html(verdict(tmp_path), remarks=["a <toy>"])
    assert "a &lt;toy&gt;" in html and "<strong>Take CoOp-MT" in html and "export.py" in html
    assert html.count("<rect ") == 2


def test_without_comparable_runs_the_section_says_so(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    assert "No method can be compared yet" in verdict_html(verdict(tmp_path))
