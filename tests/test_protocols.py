"""The commands of the original README on miniatures: whole runs, their folders, skipping, resuming, transfer."""

import csv
import io
import os
import signal
import sys
import time
from pathlib import Path
from statistics import fmean

import pytest

import parse_test_res
import train
from dassl.results.record import RunResult, read_results
from tests.lab import figures
from tests.miniature import SUITES, write_miniature, write_suite
from tests.shell import ROOT, Shell

TINY = {
    "INPUT.SIZE": "32,32",
    "OPTIM.MAX_EPOCH": "2",
    "DATALOADER.NUM_WORKERS": "0",
    "DATALOADER.TEST.BATCH_SIZE": "500",
    "DATASET.CHECK_IMAGES": "False",
    "VERBOSE": "False",
}
# Most lines of General-10 run on three of its members: they are about commands, and few classes are quick.
FEW = "DATASET.MEMBERS Caltech101,DescribableTextures,Food101"
NATA, SOFTCPT = "1 0 False 4 False 16 False lin 1", "MTCoOp/rn50_ep50_1shots"
HARD = "MTCoOpHard/rn50_ep50_1shots"
LINES = {
    f"sh main_mtcoop_hard.sh general10 rn50_ep50 1 16 False False {FEW}": f"general10/{HARD}/shared",
    f"sh main_mtcoop_hard.sh general10 rn50_ep50 1 16 False True {FEW}": f"general10/{HARD}/per_task",
    f"sh main_mtcoop_hard.sh general10 rn50_ep50 1 16 True False {FEW}": f"general10/{HARD}/per_class",
    f"sh main_mtcoop.sh general10 rn50_ep50 1 0 False 4 False 16 False lin 1 {FEW}": f"general10/{SOFTCPT}/NATA",
    f"sh main_mtcoop.sh general10 rn50_ep50 1 0 False 4 True 16 False lin 1 {FEW}": f"general10/{SOFTCPT}/NATS",
    "sh main_mtcoop.sh plant6 rn50_ep50 1 4 False 4 False 16 True lin 1": f"plant6/{SOFTCPT}/CATA",
    "sh main_mtcoop.sh fashion20 rn50_ep50 1 4 False 4 False 16 True lin 1": f"fashion20/{SOFTCPT}/CATA",
    **{
        f"sh main_mtcoop_cls_sample.sh general10 rn50_ep50 1 4 {c} 4 {t} 16 True lin 1 0.1 {FEW}": (
            f"general10/{SOFTCPT}/{variant}"
        )
        for variant, c, t in (
            ("CATA", False, False),
            ("CSTA", True, False),
            ("CATS", False, True),
            ("CSTS", True, True),
        )
    },
    "sh main_single.sh MTCoOpHard plant6 rn50_ep50 1": f"plant6/{HARD}/default/task5",
}
SIZES = {"general10": 10, "plant6": 6, "rs8": 8, "fashion20": 20}


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory) -> Path:
    """A data root with miniatures of the four suites, in which few classes have images."""
    root = tmp_path_factory.mktemp("suites")
    for name in sorted({*SUITES["General10"], *SUITES["Plant6"], *SUITES["RS8"]}):
        write_miniature(name, root, per_class=4, classes=4)
    write_suite("Fashion20", root, per_class=6)
    return root


@pytest.fixture
def shell(miniatures, tiny_clip, tmp_path) -> Shell:
    """Scripts with short runs on the miniatures."""
    settings = {"MODEL.BACKBONE.NAME": str(tiny_clip), **TINY}
    words = [word for pair in settings.items() for word in pair]
    return Shell(tmp_path / "work", answer=train.main, options=words, variables={"DATA": str(miniatures)})


def must(shell: Shell, line: str, **variables: str) -> list[RunResult]:
    """Run a command that must succeed; returns the results of the runs that it started."""
    before = len(shell.calls)
    done = shell.run(line, **variables)
    assert (done.returncode, done.stderr) == (0, ""), line
    return [read_results(call.flag("--output-dir")) for call in shell.calls[before:]]


def figure_files(shell: Shell) -> dict[str, int]:
    """When each result was written."""
    return {run: (shell.output / run / "results.json").stat().st_mtime_ns for run in shell.runs()}


def table(shell: Shell, option: str, capsys) -> list[dict[str, str]]:
    """The rows of the means over tasks that the table program makes of all runs."""
    assert parse_test_res.main([str(shell.output), option, "--format", "csv"]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    return [row for row in rows if row["task"] == "mean over tasks"]


# -- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_readme_trains_and_is_done(shell, line):
    results = must(shell, line)
    single = "main_single" in line
    suite = LINES[line].split("/")[0]
    assert f"{LINES[line]}/seed1" in shell.runs()
    assert len(results) == (SIZES[suite] if single else 1)
    for result in results:
        assert (result.mode, result.epochs, result.shots, result.seed) == ("train", 2, 1, 1)
        assert len(result.tasks) == (1 if single else 3 if FEW in line else SIZES[suite])
        assert result.parameters > 0 and 0 <= result.metric <= 100
    before, asked = figure_files(shell), len(shell.calls)
    assert must(shell, line) == []
    assert figure_files(shell) == before
    assert len(shell.calls) == asked
    assert {path.name for path in shell.folder.iterdir()} == {"output", "request", "answer", "errors", "python"}


STARTER = """
import os, runpy, signal, sys
from trainers.base import PromptTuner

step = PromptTuner.forward_backward

def die(trainer, batch):
    if trainer.epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(trainer, batch)

PromptTuner.forward_backward = die
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_killed_run_ends_with_the_numbers_of_one_that_was_not(shell, tmp_path):
    line = "sh main_mtcoop.sh plant6 rn50_ep50 1 4 False 4 False 16 True lin 1"
    starter, python = tmp_path / "starter.py", tmp_path / "killed"
    starter.write_text(STARTER)
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "{starter}" "$@"\n')
    python.chmod(0o755)
    killed = shell.start(line, PYTHON=str(python))
    assert killed.returncode == 128 + signal.SIGKILL
    run = shell.output / f"plant6/{SOFTCPT}/CATA/seed1"
    assert f"stopped at {run} (exit code 137)" in killed.stderr
    assert (run / "prompt_gen/model.pth.tar-1").is_file() and not (run / "results.json").exists()
    (mine,) = must(shell, line)
    assert "after epoch 1" in (run / "log.txt").read_text()
    shell.folder = tmp_path / "whole"
    (whole,) = must(shell, line)
    assert figures(mine) == figures(whole)


# -- base to new ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SIZES)
def test_base_to_new(shell, suite, capsys):
    few = FEW if suite == "general10" else ""
    arguments = f"{suite} rn50_ep50 {NATA} {few}"
    early = shell.run(f"sh main_mtcoop_base2new_test.sh {arguments}")
    assert early.returncode == 2 and shell.runs() == []
    assert "train it by main_mtcoop_base2new_train.sh with the same arguments" in early.stderr
    (base,) = must(shell, f"sh main_mtcoop_base2new_train.sh {arguments}")
    (new,) = must(shell, f"sh main_mtcoop_base2new_test.sh {arguments}")
    assert shell.runs() == [f"{suite}/base2new/{part}/{SOFTCPT}/NATA/seed1" for part in ("base", "new")]
    assert (base.mode, base.classes, new.mode, new.classes) == ("train", "base", "eval", "new")
    assert [task.name for task in base.tasks] == [task.name for task in new.tasks]
    assert all(0 <= task.classes - other.classes <= 1 for task, other in zip(base.tasks, new.tasks, strict=True))
    asked = len(shell.calls)
    must(shell, f"sh main_mtcoop_base2new_test.sh {arguments}")
    assert len(shell.calls) == asked
    (row,) = table(shell, "--base2new", capsys)
    figures = [float(row[f"{part} mean"]) for part in ("base", "new", "H")]
    h = 2 * base.metric * new.metric / (base.metric + new.metric)
    assert row["method"] == "SoftCPT-NATA" and figures == pytest.approx([base.metric, new.metric, h])


def test_an_evaluation_is_repeated_when_the_training_was(shell):
    arguments = f"plant6 rn50_ep50 {NATA}"
    must(shell, f"sh main_mtcoop_base2new_train.sh {arguments}")
    assert len(must(shell, f"sh main_mtcoop_base2new_test.sh {arguments}")) == 1
    later = time.time() + 5
    os.utime(shell.output / f"plant6/base2new/base/{SOFTCPT}/NATA/seed1/results.json", (later, later))
    assert len(must(shell, f"sh main_mtcoop_base2new_test.sh {arguments}")) == 1


def test_an_epoch_is_evaluated_in_a_folder_of_its_own(shell, capsys):
    arguments = f"plant6 rn50_ep50 {NATA}"
    must(shell, f"sh main_mtcoop_base2new_train.sh {arguments} TRAIN.CHECKPOINT_FREQ 1")
    (last,) = must(shell, f"sh main_mtcoop_base2new_test.sh {arguments}")
    must(shell, f"sh main_mtcoop_base2new_test.sh {arguments} --load-epoch 1")
    (again,) = must(shell, f"sh main_mtcoop_base2new_test.sh {arguments} --load-epoch 2")
    assert [run.split("/")[-2] for run in shell.runs()] == ["NATA", "NATA-epoch=1", "NATA-epoch=2", "NATA"]
    assert last.tasks == again.tasks
    methods = [row["method"] for row in table(shell, "--base2new", capsys)]
    assert methods == ["SoftCPT-NATA", "SoftCPT-NATA [epoch 1]", "SoftCPT-NATA [epoch 2]"]
    asked = len(shell.calls)
    assert must(shell, f"sh main_mtcoop_base2new_test.sh {arguments}") == [] and len(shell.calls) == asked
    missing = shell.run(f"sh main_mtcoop_base2new_test.sh {arguments} --load-epoch=7")
    assert missing.returncode == 2
    assert "model.pth.tar-7 does not exist; existing epochs: 1, 2" in missing.stderr


def test_missing_data_is_told_before_the_first_run(shell):
    done = shell.run("sh main_single.sh MTCoOpHard plant6 rn50_ep50 1", DATA="/nowhere")
    assert (done.returncode, shell.runs()) == (2, [])
    assert done.stderr.startswith("error: data folder /nowhere does not exist")


def test_hard_sharing_and_single_methods_go_from_base_to_new(shell):
    for script, arguments in (
        ("mtcoop_hard", "plant6 rn50_ep50 1 16 False True"),
        ("single", "MTCoOpHard plant6 rn50_ep50 1"),
    ):
        for part in ("train", "test"):
            assert must(shell, f"sh main_{script}_base2new_{part}.sh {arguments}", TASKS="2 4")
    places = ["default/task2", "default/task4", "per_task"]
    assert shell.runs() == [
        f"plant6/base2new/{part}/{HARD}/{place}/seed1" for part in ("base", "new") for place in places
    ]


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("CoOp plant6 rn50_ep50 1 TRAINER.COOP.CSC True", "TRAINER.COOP.CSC True"),
        ("TaskRes plant6 adam_lr2e-3_B256_ep100 1 --backbone RN50", "TaskRes"),
        ("ProtoNet plant6 rn50 1", "ProtoNet"),
    ],
)
@pytest.mark.parametrize("tasks", ["", "0", "all"])
def test_what_belongs_to_single_classes_is_not_trained_for_others(shell, arguments, cause, tasks):
    done = shell.run(f"sh main_single_base2new_train.sh {arguments}", TASKS=tasks)
    assert (done.returncode, shell.runs()) == (2, [])
    assert f"{cause} learns something for each class" in done.stderr


# -- new tasks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "folder", "unseen"), [("base", "base", [3, 4, 5]), ("4,task0", "tasks0_4", [1, 2, 3, 5])]
)
def test_new_tasks(shell, tasks, folder, unseen, capsys):
    (seen,) = must(shell, f"sh main_mtcoop_newtasks_train.sh plant6 rn50_ep50 {NATA} {tasks}")
    (new,) = must(shell, f"sh main_mtcoop_newtasks_test.sh plant6 rn50_ep50 {NATA} {tasks}")
    assert shell.runs() == [f"plant6/newtasks/{folder}/{part}/{SOFTCPT}/NATA/seed1" for part in ("seen", "unseen")]
    (whole,) = must(shell, "sh zeroshot.sh plant6 rn50 all")
    names = [task.name for task in whole.tasks]
    assert [task.name for task in new.tasks] == [names[number] for number in unseen]
    assert sorted(task.name for task in (*seen.tasks, *new.tasks)) == sorted(names)
    rows = {row["method"]: row for row in table(shell, "--new-tasks", capsys)}
    assert list(rows) == ["ZS-CLIP", "SoftCPT-NATA"]
    trained = [float(rows["SoftCPT-NATA"][f"{part} tasks mean"]) for part in ("seen", "new")]
    assert trained == pytest.approx([seen.metric, new.metric])
    zero_shot = fmean(task.metric for task in whole.tasks if task.name in {each.name for each in new.tasks})
    assert float(rows["ZS-CLIP"]["new tasks mean"]) == pytest.approx(zero_shot)


def test_hard_sharing_goes_to_new_tasks(shell):
    for part in ("train", "test"):
        assert must(shell, f"sh main_mtcoop_hard_newtasks_{part}.sh plant6 rn50_ep50 1 16 False False new")
    assert [run.split("/")[3] for run in shell.runs()] == ["seen", "unseen"]


# -- methods that are not trained ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "folder", "tasks", "classes"),
    [
        ("sh zeroshot.sh plant6 rn50 5", "plant6/ZeroshotCLIP/rn50/template/task5/seed1", 1, "all"),
        ("sh zeroshot.sh rs8 rn50 7", "rs8/ZeroshotCLIP/rn50/template/task7/seed1", 1, "all"),
        ("sh zeroshot.sh fashion20 rn50 all", "fashion20/ZeroshotCLIP/rn50/template/seed1", 20, "all"),
        ("sh zeroshot.sh general10 rn50 all", "general10/ZeroshotCLIP/rn50/template/seed1", 10, "all"),
        ("METHOD=ZeroshotCLIP2 sh zeroshot.sh plant6 rn50 all", "plant6/ZeroshotCLIP2/rn50/ensemble/seed1", 6, "all"),
        (
            "sh zeroshot_base2new.sh plant6 rn50 2 base",
            "plant6/base2new/base/ZeroshotCLIP/rn50/template/task2/seed1",
            1,
            "base",
        ),
        (
            "sh zeroshot_base2new.sh fashion20 rn50 all new",
            "fashion20/base2new/new/ZeroshotCLIP/rn50/template/seed1",
            20,
            "new",
        ),
    ],
)
def test_zero_shot(shell, line, folder, tasks, classes):
    (result,) = must(shell, line, SEEDS="1 2 3")
    assert shell.runs() == [folder]
    assert (result.mode, len(result.tasks), result.classes, result.parameters) == ("eval", tasks, classes, 0)
    assert must(shell, line, SEEDS="1 2 3") == []


def test_a_task_that_is_not_there_is_told(shell):
    done = shell.run("sh zeroshot.sh plant6 rn50 6")
    assert done.returncode == 2 and shell.runs() == []
    assert "there is no task6; the data set has 6 tasks" in done.stderr


@pytest.mark.parametrize(("suite", "last"), [("general10", 9), ("plant6", 5), ("fashion20", 19)])
def test_linear_probe(shell, suite, last):
    results = must(shell, f"sh linearprob.sh {suite} rn50 {last}", SHOTS="1")
    folders = {f"{suite}/LinearProbe/rn50_1shots/probe/task{task}/seed1" for task in range(last + 1)}
    assert set(shell.runs()) == folders and SIZES[suite] == last + 1
    (whole,) = must(shell, f"sh linearprob.sh {suite} rn50 all", SHOTS="1")
    assert [task.metric for task in whole.tasks] == [run.metric for run in results]


# -- other options -------------------------------------------------------------------------------------------------


def test_changed_options_never_pass_for_an_old_result(shell):
    line = f"sh main_mtcoop.sh plant6 rn50_ep50 {NATA}"
    (first,) = must(shell, line)
    refused = shell.run(f"{line} OPTIM.LR 0.5")
    assert refused.returncode == 2
    assert "holds a run with another config (OPTIM.LR is 0.002 there, 0.5 here)" in refused.stderr
    (other,) = must(shell, f"{line} OPTIM.LR 0.5", TAG="fast")
    assert other.config_digest != first.config_digest
    must(shell, f"{line} TRAIN.PRINT_FREQ 7")  # changes no figure
    assert [run.split("/")[-2] for run in shell.runs()] == ["NATA-fast", "NATA"]


def test_a_broken_result_is_made_again(shell):
    line = f"sh main_mtcoop.sh plant6 rn50_ep50 {NATA}"
    (first,) = must(shell, line)
    path = shell.output / shell.runs()[0] / "results.json"
    path.write_text(path.read_text()[:100])
    (again,) = must(shell, line)
    assert figures(again) == figures(first)
