"""A run folder belongs to one run: what may follow in the same folder, and what is refused."""

import json
import os
import re
import shutil

import pytest
import torch

from dassl.config import get_cfg_default
from dassl.config.comparing import config_digest
from dassl.engine.runfolder import RunFolder
from dassl.results.record import RunResult
from tests.clip.helpers import Hostile, save_script
from tests.dassl.engine.cutting import cut_off
from tests.lab import figures, same_tensors


def snapshot(lab, run="run"):
    """Content and time of every file of a run but the log."""
    paths = [lab.folder(run) / name for name in lab.files(run) if name != "log.txt"]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def refusal(lab, capsys, *arguments, **options):
    """The one line that a refused command prints; no run folder may have changed."""
    folders = sorted(lab.folder("").rglob("*"))
    capsys.readouterr()
    assert lab.main(*arguments, **options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sorted(lab.folder("").rglob("*")) == folders
    return error.removeprefix("error: ").rstrip("\n")


def evaluated(lab, run="run"):
    """The evaluation that stands beside a training."""
    path = lab.folder(run) / "results-eval.json"
    return RunResult.from_json(json.loads(path.read_text()), path)


def test_a_finished_run_is_not_done_again(lab, capsys):
    lab.run()
    before, log = snapshot(lab), lab.log()
    assert lab.main() == 0
    assert "is finished; delete results.json there to run it again" in capsys.readouterr().out
    assert snapshot(lab) == before
    assert lab.log() == log


def test_a_folder_in_which_a_run_is_at_work_is_refused(lab, capsys):
    folder = lab.folder("run")
    with RunFolder(folder).exclusive():
        line = refusal(lab, capsys, OPTIM__LR=0.1)
    who = rf"process {os.getpid()} on .+ since .+, lock {re.escape(str(folder))}/\.lock"
    wanted = rf"another run is at work in {re.escape(str(folder))} \({who}\); wait for it, or use another --output-dir"
    assert re.fullmatch(wanted, line)
    assert not list(folder.iterdir())


def test_a_run_that_goes_on_can_be_evaluated_in_its_folder(lab):
    cut_off(lab, epoch=2, batch=0)
    with RunFolder(lab.folder("run")).exclusive():
        assert lab.main("run", "--eval-only") == 0
    assert evaluated(lab).epochs == 0
    assert ".lock" not in [path.name for path in lab.folder("run").iterdir()]


def test_a_finished_run_can_be_tested_again_by_deleting_its_result(lab):
    first = lab.run()
    (lab.folder("run") / "results.json").unlink()
    assert figures(lab.run()) == figures(first)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "cut off"])
def test_another_config_in_the_same_folder_is_refused(lab, capsys, finished):
    if finished:
        lab.run()
    else:
        cut_off(lab, epoch=1, batch=0)
    line = refusal(lab, capsys, OPTIM__LR=0.1, DATASET__NUM_SHOTS=4, seed=2)
    assert line == (
        f"{lab.folder('run')} holds a run with another config (DATASET.NUM_SHOTS is 2 there, 4 here; "
        "OPTIM.LR is 0.05 there, 0.1 here; SEED is 1 there, 2 here); use another --output-dir, or delete the folder"
    )


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "cut off"])
@pytest.mark.parametrize("epochs", [2, 5], ids=["fewer", "more"])
def test_a_run_that_is_to_have_another_number_of_epochs_says_what_to_do(lab, capsys, finished, epochs):
    if finished:
        lab.run()
    else:
        cut_off(lab, epoch=1, batch=0)
    line = refusal(lab, capsys, OPTIM__MAX_EPOCH=epochs)
    folder = lab.folder("run")
    assert f"(OPTIM.MAX_EPOCH is 3 there, {epochs} here); use another --output-dir, or delete the folder" in line
    assert "it cannot be resumed with another number of epochs" in line and f"MODEL.INIT_WEIGHTS {folder}" in line


def test_other_least_steps_or_batches_are_another_training(lab, capsys):
    cut_off(lab, epoch=1, batch=0, OPTIM__MIN_STEPS=12)
    line = refusal(lab, capsys, OPTIM__MIN_STEPS=15)
    assert "(OPTIM.MIN_STEPS is 12 there, 15 here)" in line and "another number of epochs" in line
    line = refusal(lab, capsys, OPTIM__MIN_STEPS=12, DATALOADER__TRAIN_X__BATCH_SIZE=4)
    assert "(DATALOADER.TRAIN_X.BATCH_SIZE is 5 there, 4 here)" in line


def test_what_is_advised_for_more_epochs_works(lab):
    lab.run()
    folder = lab.folder("run")
    assert lab.run("longer", OPTIM__MAX_EPOCH=5).epochs == 5
    assert lab.run("further", OPTIM__MAX_EPOCH=5, MODEL__INIT_WEIGHTS=folder).epochs == 5
    shutil.rmtree(folder)
    assert figures(lab.run(OPTIM__MAX_EPOCH=5)) == figures(lab.result("longer"))


DAMAGE = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "no config": lambda path: path.write_text("- 1\n"),
    "cut": lambda path: path.write_text(path.read_text().partition("OPTIM:")[0]),
    "not YAML": lambda path: path.write_text("{"),
    "an impossible date": lambda path: path.write_text("VERSION: 2024-99-99\n"),
    "a bomb": lambda path: path.write_text(
        "a: &a0 [1, 1]\n"
        + "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
        + "VERSION: 1\n"
    ),
}


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "cut off"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_without_its_config_a_run_still_belongs_to_it(lab, capsys, damage, finished):
    if finished:
        lab.run()
    else:
        cut_off(lab, epoch=2, batch=0)
    damage(lab.folder("run") / "config.yaml")
    line = refusal(lab, capsys, OPTIM__LR=0.1)
    assert "holds a run with another config (OPTIM.LR is 0.05 there, 0.1 here)" in line
    assert figures(lab.run()) == figures(lab.run("whole"))


def test_a_finished_run_without_config_and_checkpoints_is_known_by_its_digest(lab, capsys):
    lab.run(trainer="ZeroshotCLIP")
    (lab.folder("run") / "config.yaml").unlink()
    assert lab.main(trainer="ZeroshotCLIP") == 0
    assert "its config.yaml is gone or damaged" in refusal(lab, capsys, trainer="ZeroshotCLIP", seed=2)


def test_the_config_of_a_run_whose_file_is_gone_decides_about_an_evaluation(lab, capsys):
    lab.run()
    (lab.folder("run") / "config.yaml").unlink()
    flags = ("other", "--eval-only", "--model-dir", str(lab.folder("run")))
    line = refusal(lab, capsys, *flags, TRAINER__MTCOOP__PG_TYPE="linmean")
    assert "TRAINER.MTCOOP.PG_TYPE is 'lin' there, 'linmean' here" in line


def test_another_method_in_the_folder_of_a_cut_off_run_is_refused(lab, capsys):
    cut_off(lab, epoch=1, batch=0)
    assert "TRAINER.NAME is 'MTCoOp' there, 'MTCoOpHard' here" in refusal(lab, capsys, trainer="MTCoOpHard")


def test_settings_that_change_no_figure_may_change(lab):
    cut_off(lab, epoch=1, batch=0)
    changed = {"TRAIN__PRINT_FREQ": 7, "DATALOADER__TEST__BATCH_SIZE": 3, "VERBOSE": True}
    mine = lab.run(**changed)
    assert figures(mine) == figures(lab.run("whole"))
    assert lab.main(TRAIN__PRINT_FREQ=2) == 0


def test_the_digest_speaks_of_what_changes_a_figure():
    cfg, same, other = get_cfg_default(), get_cfg_default(), get_cfg_default()
    same.OUTPUT_DIR, same.DATASET.ROOT, same.TRAIN.PRINT_FREQ = "elsewhere", "there", 99
    other.OPTIM.LR = 0.5
    assert config_digest(same) == config_digest(cfg) != config_digest(other)


@pytest.mark.parametrize("final", ["last_step", "best_val"])
def test_an_evaluation_repeats_the_runs_own_test(lab, final):
    keys = {"TEST__FINAL_MODEL": final, "OPTIM__LR": 0.5}
    result = lab.run(**keys)
    before = snapshot(lab)
    assert lab.main("run", "--eval-only", **keys) == 0
    assert {path: value for path, value in snapshot(lab).items() if path in before} == before
    again = evaluated(lab)
    assert (again.mode, again.metric, again.tasks) == ("eval", result.metric, result.tasks)
    elsewhere = lab.run("elsewhere", "--eval-only", "--model-dir", str(lab.folder("run")), **keys)
    assert (elsewhere.mode, elsewhere.metric, elsewhere.tasks) == ("eval", result.metric, result.tasks)
    assert lab.files("elsewhere") == ["config.yaml", "log.txt", "predictions.csv", "results.json", "tasks.json"]


def test_an_evaluation_with_other_settings_leaves_the_training_alone(lab):
    first = lab.run()
    assert lab.main("run", "--eval-only", TEST__SPLIT="val") == 0
    assert evaluated(lab).split == "val"
    assert lab.result() == first
    assert lab.main() == 0, "the training's config is still the folder's"


def test_a_cut_off_run_can_be_evaluated_and_gone_on_with(lab):
    cut_off(lab, epoch=2, batch=0)
    assert lab.main("run", "--eval-only") == 0
    assert "results.json" not in lab.files()
    assert figures(lab.run()) == figures(lab.run("whole"))
    assert same_tensors(lab.learned(), lab.learned("whole"))


def test_a_chosen_epoch_is_evaluated(lab, capsys):
    lab.run(TRAIN__CHECKPOINT_FREQ=1)
    early = lab.run("early", "--eval-only", "--model-dir", str(lab.folder("run")), "--load-epoch", "1")
    short = lab.run("short", OPTIM__MAX_EPOCH=1)
    assert early.tasks == short.tasks
    line = refusal(lab, capsys, "other", "--eval-only", "--model-dir", str(lab.folder("run")), "--load-epoch", "9")
    assert line.endswith("model.pth.tar-9 does not exist; existing epochs: 1, 2, 3")


def test_training_in_the_folder_of_an_evaluation_is_refused(lab, capsys):
    lab.run("trained")
    lab.run("run", "--eval-only", "--model-dir", str(lab.folder("trained")))
    assert "holds an evaluation; use another --output-dir" in refusal(lab, capsys, "run")


def test_new_classes_are_evaluated_with_what_the_base_classes_taught(lab):
    # Both toy tasks have an odd number of classes, so that base and new differ in number.
    lab.run("base", DATASET__SUBSAMPLE_CLASSES="base")
    new = {"DATASET__SUBSAMPLE_CLASSES": "new"}
    result = lab.run("new", "--eval-only", "--model-dir", str(lab.folder("base")), **new)
    assert [task.classes for task in lab.result("base").tasks] == [2, 3]
    assert [task.classes for task in result.tasks] == [1, 2]


def test_own_contexts_of_base_classes_do_not_fit_new_ones(lab, capsys):
    keys = {"TRAINER__MTCOOP__CSC": True, "TRAINER__MTCOOP__CLASS_CSC": True}
    lab.run("base", DATASET__SUBSAMPLE_CLASSES="base", **keys)
    new = ("new", "--eval-only", "--model-dir", str(lab.folder("base")))
    line = refusal(lab, capsys, *new, DATASET__SUBSAMPLE_CLASSES="new", **keys)
    assert line == (
        "TRAINER.MTCOOP.CLASS_CSC True learns something for each class, so the run in "
        f"{lab.folder('base')} has nothing for a class that it was not trained on (DATASET.SUBSAMPLE_CLASSES is "
        "'base' there, 'new' here); choose a method that shares it"
    )


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.write_bytes(b"not a checkpoint"), "is damaged or not a checkpoint of this program"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is damaged or not a checkpoint of this program"),
        (lambda path: torch.save({"weights": torch.ones(1)}, path), "has no 'state_dict' and 'epoch'"),
        (lambda path: torch.save({"state_dict": {"w": torch.ones(1)}, "epoch": 3}, path), "proj is missing; w is not"),
    ],
    ids=["noise", "truncated", "foreign", "other tensors"],
)
def test_a_bad_checkpoint_is_named(lab, capsys, spoil, problem):
    lab.run("trained")
    path = lab.folder("trained") / "prompt_gen/model.pth.tar-3"
    spoil(path)
    line = refusal(lab, capsys, "run", "--eval-only", "--model-dir", str(lab.folder("trained")))
    assert line.startswith(f"checkpoint {path} ")
    assert problem in line
    refusal(lab, capsys, "start", MODEL__INIT_WEIGHTS=lab.folder("trained"))


def test_an_archive_with_a_program_is_run_by_no_door(lab, capsys, tmp_path):
    mark = tmp_path / "written"
    archive = save_script(Hostile(str(mark)), tmp_path / "hostile.pt")
    lab.run("trained")
    for path in lab.folder("trained").glob("*/model.pth.tar-3"):
        path.write_bytes(archive.read_bytes())
    trained = lab.folder("trained")
    refusal(lab, capsys, "run", "--eval-only", "--model-dir", str(trained))
    refusal(lab, capsys, "run", MODEL__INIT_WEIGHTS=trained)
    (trained / "results.json").unlink()
    assert lab.main("trained") == 0  # starts anew
    refusal(lab, capsys, "run", backbone=str(archive))
    refusal(lab, capsys, "run", backbone="RN50", MODEL__BACKBONE__WEIGHTS=archive)
    assert not mark.exists()


def test_a_git_lfs_pointer_in_the_place_of_a_checkpoint_is_named(lab, capsys):
    lab.run("trained")
    path = lab.folder("trained") / "prompt_gen/model.pth.tar-3"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 99\n")
    line = refusal(lab, capsys, "run", "--eval-only", "--model-dir", str(lab.folder("trained")))
    assert line == f"checkpoint {path} is a Git LFS pointer instead of the file; get the file by `git lfs pull`"


@pytest.mark.parametrize("where", ["missing", "empty"])
def test_a_folder_without_the_methods_checkpoints_is_named(lab, capsys, where):
    folder = lab.folder("trained")
    if where == "empty":
        folder.mkdir(parents=True)
    line = refusal(lab, capsys, "run", "--eval-only", "--model-dir", str(folder))
    lack = "holds no trained task_prompt_learner" if where == "empty" else "is no folder"
    assert line == f"{folder} {lack}; give the run folder of a MTCoOp run"


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("prompt_gen/model.pth.tar-3", "{run}/prompt_gen lacks model.pth.tar-3; copy the folder of the run again"),
        ("prompt_gen", "{run}/prompt_gen lacks model.pth.tar-3; copy the folder of the run again"),
        ("*/model.pth.tar-3", "prompt_gen lacks a checkpoint (model.pth.tar-EPOCH); copy the folder of the run again"),
    ],
)
def test_a_checkpoint_that_is_lost_is_named_with_the_remedy(lab, capsys, lost, message):
    lab.run("trained")
    for path in lab.folder("trained").glob(lost):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    evaluation = ("run", "--eval-only", "--model-dir", str(lab.folder("trained")))
    assert message.format(run=lab.folder("trained")) in refusal(lab, capsys, *evaluation)
    (lab.folder("trained") / "results.json").unlink()
    lab.run("trained")
    lab.run(*evaluation)


def test_the_last_epoch_does_not_take_the_place_of_the_best_one(lab, capsys):
    best = {"TEST__FINAL_MODEL": "best_val", "OPTIM__LR": 0.5}
    assert lab.run("trained", **best).best_epoch not in (None, 3)
    for path in lab.folder("trained").glob("*/model-best.pth.tar"):
        path.unlink()
    evaluation = ("run", "--eval-only", "--model-dir", str(lab.folder("trained")))
    line = refusal(lab, capsys, *evaluation, **best)
    assert "lacks model-best.pth.tar, the best epoch on val (" in line
    lab.run(*evaluation)


def test_no_train_builds_everything_and_stops(lab):
    assert lab.main("run", "--no-train") == 0
    assert lab.files() == ["config.yaml", "log.txt", "tasks.json"]
    lab.run()


def test_a_damaged_result_is_named(lab, capsys):
    lab.run()
    (lab.folder("run") / "results.json").write_text("{}")
    told = refusal(lab, capsys)
    assert "results.json is not the result of a run" in told and "; delete the file, and the same command" in told


@pytest.mark.parametrize("content", ["", "a: [", "- 1"], ids=["empty", "not YAML", "a list"])
def test_a_lost_config_does_not_stop_a_run_from_going_on(lab, content):
    cut_off(lab, epoch=1, batch=0)
    (lab.folder("run") / "config.yaml").write_text(content)
    assert figures(lab.run()) == figures(lab.run("whole"))
