"""What was learned on some classes or tasks is evaluated on others only under a config that it fits."""

import pytest

from dassl.engine import TRAINER_REGISTRY
from dassl.utils.files import read_json, write_json
from tests.dassl.engine.test_run import refusal

CLASS_CSC = {"TRAINER__MTCOOP__CSC": True, "TRAINER__MTCOOP__CLASS_CSC": True}
CAUSES = {
    "TRAINER.MTCOOP.CLASS_CSC True": CLASS_CSC,
    "TRAINER.MTCOOPH.CSC True": {"trainer": "MTCoOpHard", "TRAINER__MTCOOPH__CSC": True},
    "TRAINER.MTCOOP.TASK_CSC True": {"TRAINER__MTCOOP__TASK_CSC": True},
    "TRAINER.MTCOOPH.TSC True": {"trainer": "MTCoOpHard", "TRAINER__MTCOOPH__TSC": True},
}
NEW_TASK = {"DATASET__SUBSAMPLE_TASKS": "task1"}
NEW_CLASSES = {"DATASET__SUBSAMPLE_CLASSES": "new"}


def evaluation(lab, run="new"):
    """Arguments that evaluate the run called "trained"."""
    return run, "--eval-only", "--model-dir", str(lab.folder("trained"))


@pytest.mark.parametrize(
    ("trained", "now", "named"),
    [
        ({}, {"TRAINER__MTCOOP__N_CTX": 3}, "TRAINER.MTCOOP.N_CTX is 2 there, 3 here"),
        ({}, {"TRAINER__MTCOOP__PG_TYPE": "linmean"}, "TRAINER.MTCOOP.PG_TYPE is 'lin' there, 'linmean' here"),
        (
            {},
            {"TRAINER__MTCOOP__TOKEN_POSITION": "front"},
            "TRAINER.MTCOOP.TOKEN_POSITION is 'end' there, 'front' here",
        ),
        ({}, {"trainer": "MTCoOpHard"}, "TRAINER.NAME is 'MTCoOp' there, 'MTCoOpHard' here"),
        (
            {"TRAINER__MTCOOP__TASK_CSC": True},
            {"TRAINER__MTCOOP__N_CTX": 4},
            "TRAINER.MTCOOP.TASK_CSC is True there, False here; TRAINER.MTCOOP.N_CTX is 2 there, 4 here",
        ),
    ],
)
def test_a_run_of_another_method_is_refused_with_the_keys(lab, capsys, trained, now, named):
    lab.run("trained", **trained)
    line = refusal(lab, capsys, *evaluation(lab), **now)
    folder = lab.folder("trained")
    assert line == f"the run in {folder} does not fit the config: {named}; give the options it was trained with"


def test_another_backbone_is_refused_by_its_name(lab, capsys):
    lab.run("trained")
    line = refusal(lab, capsys, *evaluation(lab), backbone="RN50")
    assert f"MODEL.BACKBONE.NAME is '{lab.backbone}' there, 'RN50' here" in line


def test_other_weights_of_the_same_name_are_refused(lab, capsys):
    lab.run("trained")
    path = lab.folder("trained") / "results.json"
    content = read_json(path)
    content["backbone"]["digest"] = "0123456789abcdef"
    write_json(path, content)
    line = refusal(lab, capsys, *evaluation(lab))
    assert f"was trained with other weights of {lab.backbone} (digest 0123456789ab there, " in line
    path.unlink()
    lab.run(*evaluation(lab))


def test_what_does_not_belong_to_the_method_may_differ(lab):
    whole = lab.run("trained")
    other = {"OPTIM__LR": 1, "DATASET__NUM_SHOTS": 1, "seed": 2, "TRAINER__MTCOOP__PREC": "amp", "OPTIM__MAX_EPOCH": 7}
    assert lab.run(*evaluation(lab), **other).counts["test"] == whole.counts["test"]


def test_a_run_of_an_earlier_version_had_the_defaults_of_new_keys(lab):
    lab.run("trained")
    path = lab.folder("trained") / "config.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "PG_RATIO" not in line))
    lab.run(*evaluation(lab))


@pytest.mark.parametrize("cause", CAUSES)
def test_own_contexts_stay_with_their_tasks_and_classes(lab, capsys, cause):
    keys = CAUSES[cause]
    lab.run("trained", **{**keys, "DATASET__SUBSAMPLE_TASKS": "task0"})
    line = refusal(lab, capsys, *evaluation(lab), **keys, **NEW_TASK)
    unit = "class" if ".CSC" in cause or "CLASS" in cause else "task"
    assert line == (
        f"{cause} learns something for each {unit}, so the run in {lab.folder('trained')} has nothing for a "
        f"{unit} that it was not trained on (DATASET.SUBSAMPLE_TASKS is 'task0' there, 'task1' here); "
        "choose a method that shares it"
    )
    lab.run(*evaluation(lab, "again"), **keys, DATASET__SUBSAMPLE_TASKS="task0")


@pytest.mark.parametrize("cause", [cause for cause in CAUSES if "TASK" in cause or "TSC" in cause])
def test_contexts_of_tasks_serve_their_new_classes(lab, cause):
    lab.run("trained", **CAUSES[cause], DATASET__SUBSAMPLE_CLASSES="base")
    result = lab.run(*evaluation(lab), **CAUSES[cause], **NEW_CLASSES)
    assert (result.mode, result.classes, len(result.tasks)) == ("eval", "new", 2)


def test_tensors_of_the_right_shape_do_not_slip_through(lab, capsys):
    """Two classes there, two here, and they are others."""
    keys = {"trainer": "MTCoOpHard", "TRAINER__MTCOOPH__CSC": True}
    result = lab.run("trained", **keys, dataset="ToyPets", DATASET__SUBSAMPLE_CLASSES="base")
    line = refusal(lab, capsys, *evaluation(lab), **keys, **NEW_CLASSES, dataset="ToyTools")
    assert "(DATASET.NAME is 'ToyPets' there, 'ToyTools' here; DATASET.SUBSAMPLE_CLASSES is 'base' there, " in line
    shared = lab.run("shared", trainer="MTCoOpHard", dataset="ToyTools", **NEW_CLASSES)
    assert shared.tasks[0].classes == result.tasks[0].classes == 2


def test_shared_contexts_go_to_new_tasks(lab):
    names = [task.name for task in lab.run("all", trainer="ZeroshotCLIP").tasks]
    for number, keys in enumerate(({}, {"TRAINER__MTCOOP__CSC": True}, {"trainer": "MTCoOpHard"})):
        lab.run(f"trained{number}", **keys, DATASET__SUBSAMPLE_TASKS="task0")
        model_dir = str(lab.folder(f"trained{number}"))
        result = lab.run(f"new{number}", "--eval-only", "--model-dir", model_dir, **keys, **NEW_TASK)
        assert ([task.name for task in result.tasks], result.task_choice) == (names[1:], "task1")


def test_the_context_of_a_new_task_comes_from_its_name(lab):
    """The same learned tensors, another name, another context."""
    lab.run("trained", DATASET__SUBSAMPLE_TASKS="task0")
    mine = lab.trainer("a", DATASET__SUBSAMPLE_TASKS="task1")
    mine.checkpoints.load(lab.folder("trained"))
    both = lab.trainer("b")
    both.checkpoints.load(lab.folder("trained"))
    new, all_tasks = mine.model.contexts()[0], both.model.contexts()[0]
    assert new.shape[0] == 1 and all_tasks.shape[0] == 2
    assert new[0].allclose(all_tasks[1], atol=1e-5) and not new[0].allclose(all_tasks[0], atol=1e-3)


def test_every_method_says_what_its_tensors_belong_to():
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    for name in TRAINER_REGISTRY.names():
        assert TRAINER_REGISTRY.get(name).learned_for(cfg).keys() <= {"class", "task"}


def test_an_evaluation_tells_the_suite_that_was_learned_if_it_is_another(lab):
    lab.run("trained")
    assert lab.result("trained").learned_on is None
    assert lab.run(*evaluation(lab, "classes"), **NEW_CLASSES).learned_on is None
    other = lab.run(*evaluation(lab, "pets"), dataset="ToyPets").learned_on
    assert other is not None and other.suite == lab.result("trained").dataset != "ToyPets"
