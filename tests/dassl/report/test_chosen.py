from dataclasses import replace
from pathlib import Path

import pytest

from dassl.report.chosen import MOST_CHOSEN, choose, lacking, read_tested
from dassl.report.study import suites
from dassl.report.tree import read_tree
from dassl.results.record import Calibration, TaskCalibration, read_results, write_results
from dassl.utils.errors import UserError
from tests.dassl.report.predicted import give_predictions, made_up
from tests.dassl.report.trees import write_run

CLASSES = {"animals": ["ant", "bee", "cat"]}
CALIBRATION = Calibration("x", (TaskCalibration(0, "animals", 2.0, True, 9),))


def write(top, label, *, seed=1, shots=4, skill=0.7, given=True, **options):
    folder = write_run(top, label, tasks=("animals",), metrics=(70.0,), seed=seed, shots=shots, **options)
    if given:
        give_predictions(folder, made_up("animals", CLASSES["animals"], 300, seed=seed, skill=skill), CLASSES)
    return folder


def chosen(top, *asked):
    tree = read_tree(top)
    return choose(tree, suites(tree), [Path(name) for name in asked])


def test_the_usual_run_is_the_median_seed_of_the_best_method_at_the_most_shots(tmp_path):
    write(tmp_path, "CoOp-MT", shots=1, skill=0.99)
    write(tmp_path, "CoOp-CS", shots=16, skill=0.5)
    for seed, skill in ((1, 0.9), (2, 0.7), (3, 0.8)):
        write(tmp_path, "CoOp-MT", shots=16, seed=seed, skill=skill)
    (found,) = chosen(tmp_path)
    assert [record.folder.name for record in found.records] == ["seed3"]
    assert "CoOp-MT, 16 shots, seed 3" in found.title and "best mean at 16 shots" in found.why


def test_a_method_without_seeds_may_be_the_best(tmp_path):
    write(tmp_path, "ZS-CLIP", skill=0.95)
    write(tmp_path, "CoOp-MT", skill=0.5)
    (found,) = chosen(tmp_path)
    assert "ZS-CLIP (" in found.title and "seed" not in found.why


def test_runs_without_predictions_are_passed_over_and_a_suite_of_such_runs_is_named(tmp_path):
    write(tmp_path, "CoOp-MT", skill=0.6)
    write(tmp_path, "CoOp-CS", given=False)
    write(tmp_path, "CoOp-MT", suite="Older", given=False)
    assert [each.records[0].folder.parent.name for each in chosen(tmp_path)] == ["CoOp-MT"]
    assert [suite.key.dataset for suite in lacking(suites(read_tree(tmp_path)))] == ["Older"]


def test_tasks_that_were_trained_one_by_one_are_shown_together(tmp_path):
    for n, task in enumerate(("x", "y")):
        folder = write_run(tmp_path, "CoOp-CA", tasks=(task,), metrics=(70.0,), choice=f"task{n}")
        give_predictions(folder, made_up(task, ["a", "b"], 40, seed=n), {task: ["a", "b"]})
    (found,) = chosen(tmp_path)
    assert [each.task.name for each in read_tested(found)] == ["x", "y"] and "and 1 more" in found.title


def test_runs_are_asked_for_by_their_path_or_the_one_below_the_tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (write(tmp_path / "output", "CoOp-MT", seed=seed) for seed in (1, 2))
    found = chosen(Path("output"), first.relative_to(tmp_path), second.relative_to(tmp_path / "output"), first)
    assert [each.records[0].folder.resolve() for each in found] == [first, second]


def test_what_cannot_be_shown_is_refused_by_name(tmp_path):
    older = write(tmp_path, "CoOp-MT", given=False)
    broken = write_run(tmp_path, "CoOp-MT", seed=2, finished=False)
    for name, words in {older: "--eval-only", broken: "did not finish", tmp_path: "is not a finished run"}.items():
        with pytest.raises(UserError, match=words) as caught:
            chosen(tmp_path, name)
        assert f"--errors {name}" in str(caught.value)
    with pytest.raises(UserError, match="too many"):
        chosen(tmp_path, *[older] * (MOST_CHOSEN + 1))


def test_a_file_of_another_evaluation_is_refused(tmp_path):
    folder = write(tmp_path, "CoOp-MT")
    (folder / "predictions.csv").write_text((folder / "predictions.csv").read_text() + "x.jpg,animals,ant,bee,0,1\n")
    with pytest.raises(UserError, match=r"predictions\.csv"):
        read_tested(chosen(tmp_path)[0])


def test_an_older_run_is_shown_by_the_evaluation_in_its_folder(tmp_path):
    folder = write(tmp_path, "CoOp-MT")
    rows = made_up("animals", CLASSES["animals"], 300, seed=1)
    give_predictions(folder, rows, CLASSES, aside=True)
    forget(folder)
    (task,) = read_tested(chosen(tmp_path, folder)[0])
    assert task.predictions.name == "predictions-eval.csv" and task.mistakes.rows == 300 and not task.remark
    give_predictions(folder, [row._replace(predicted_class="ant") for row in rows], CLASSES, aside=True)
    assert "results-eval.json" in read_tested(chosen(tmp_path, folder)[0])[0].remark


def forget(folder):
    """Make it a result of an older version."""
    write_results(folder, replace(read_results(folder), predictions=None))
    (folder / "predictions.csv").unlink()


def test_a_calibration_in_the_folder_of_a_run_gives_both_diagrams(tmp_path):
    folder = write(tmp_path, "CoOp-MT")
    rows = [
        row._replace(predicted_probability=row.predicted_probability / 2)
        for row in made_up("animals", CLASSES["animals"], 300, seed=1)
    ]
    give_predictions(folder, rows, CLASSES, aside=True, calibration=CALIBRATION)
    (task,) = read_tested(chosen(tmp_path)[0])
    assert task.predictions.name == "predictions.csv" and task.calibration == CALIBRATION
    assert max(n for n, each in enumerate(task.after) if each.count) < 8
    assert task.calibrated.ece != task.task.ece


def test_an_evaluation_of_other_images_or_tasks_does_not_count(tmp_path):
    folder = write(tmp_path, "CoOp-MT")
    rows = made_up("animals", CLASSES["animals"], 200, seed=1)
    give_predictions(folder, rows, CLASSES, aside=True, calibration=CALIBRATION)
    (task,) = read_tested(chosen(tmp_path)[0])
    assert task.calibration is None and task.after == []


def test_rows_that_are_not_of_the_result_are_told(tmp_path):
    folder = write(tmp_path, "CoOp-MT", given=False)
    rows = made_up("animals", CLASSES["animals"], 60)
    give_predictions(folder, [*rows, rows[0]._replace(task="plants")], CLASSES)
    assert read_tested(chosen(tmp_path)[0])[0].remark == ""
    result = read_results(folder)
    write_results(folder, replace(result, tasks=(replace(result.tasks[0], total=61),)))
    assert "60 rows" in read_tested(chosen(tmp_path)[0])[0].remark


def test_classes_whose_names_look_alike_are_told(tmp_path):
    folder = write(tmp_path, "CoOp-MT", given=False)
    names = ["ant\x00", "ant\x01"]
    rows = made_up("animals", names, 60, skill=0.5)
    give_predictions(folder, rows, {"animals": names})
    assert "look alike" in read_tested(chosen(tmp_path)[0])[0].remark
