"""The experiment scripts with a stand-in for Python: what they ask of train.py, where runs go, what they refuse."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import train
from dassl.config import flatten
from dassl.config.comparing import config_digest
from dassl.results.methods import find_method, label_of, paper_labels
from dassl.sweep.grid import Sweep
from dassl.sweep.plan import expand
from scripts import launch
from scripts.arguments import ArgumentError, read_command
from tests.shell import ROOT, SCRIPTS, Shell

NAMES = sorted(path.name for path in SCRIPTS.glob("*.sh") if "common.sh" in path.read_text().split("\n. ")[-1])
MTCOOP = "TRAINER.MTCOOP."
CATA = "4 False 4 False 16 True lin 1"
NATA = "general10 rn50_ep50 16 0 False 4 False 16 False lin 1"
USAGE = re.compile(r"^# usage: sh (\S+) (.*) \[OPTION \.\.\.\]$", re.MULTILINE)
# Arguments of each kind; a script's usage line names the kinds.
GOOD = {
    "DATASET": "plant6",
    "CFG": "rn50_ep50",
    "TRAINER": "MTCoOp",
    **dict.fromkeys(("SHOTS", "LAST_TASK", "PG_RATIO"), "1"),
    **dict.fromkeys(("TASKS", "base|new"), "base"),
    **dict.fromkeys(("N_CTX", "TASK_N_CTX", "CLASS_N_CTX"), "4"),
    **dict.fromkeys(("CSC", "TSC", "CLASS_CSC", "TASK_CSC"), "False"),
    "TASK": "0",
    "PG_TYPE": "lin",
    "TARGETS": "rs8,fashion20",
    "METHOD": "MCoOp",
    "SOURCE": "others",
    "CLS_SAMPLE_RATE": "0.1",
}
BAD = {
    "DATASET": ("plant7", "", "../plant6"),
    "CFG": ("rn51_ep50", "", "a b"),
    **dict.fromkeys(("SHOTS", "N_CTX"), ("0", "-1", "x", "", "1.5", "016", "99999999999")),
    **dict.fromkeys(("CLASS_N_CTX", "TASK_N_CTX", "TASK", "LAST_TASK"), ("-1", "x", "", "*")),
    **dict.fromkeys(("CSC", "TSC", "CLASS_CSC", "TASK_CSC"), ("true", "1", "", "lin")),
    "PG_TYPE": ("linear", "", "lin lin"),
    "PG_RATIO": ("x", "", "."),
    "CLS_SAMPLE_RATE": ("1.5", "-0.1", "", "0.1x", "a"),
    "TASKS": ("old", "", ",", "1,x", "-1", "all"),
    "TRAINER": ("MTCoop", "", "."),
    "TARGETS": ("rs9", "", "*"),
    "METHOD": ("CoOp-MT", "", "mcoop"),
    "SOURCE": ("rs9", "", "task1"),
    "base|new": ("all", "", "old"),
}


TASKS = {"general10": 10, "plant6": 6, "rs8": 8, "fashion20": 20}


@pytest.fixture
def shell(tmp_path, monkeypatch) -> Shell:
    """Scripts whose runs only leave a result, as if the data were there."""
    monkeypatch.setattr(launch, "count_tasks", lambda run: TASKS.get(Path(run.suite).stem, 1))
    return Shell(tmp_path / "work")


def signature(name: str) -> list[str]:
    """The positional arguments that a script's usage line names."""
    (found,) = USAGE.findall((SCRIPTS / name).read_text())
    assert found[0] == name
    return found[1].split()


def good(name: str) -> list[str]:
    """Arguments that a script accepts."""
    values = {**GOOD, "CFG": "rn50"} if name.startswith(("zeroshot", "linearprob")) else GOOD
    return [values[kind] for kind in signature(name)]


def refused(shell: Shell, *words: str, script: str = "", **variables: str) -> str:
    """The sentence that a script refuses its arguments with, before anything is run."""
    done = shell.run(" ".join(["sh", script, *(f"'{word}'" for word in words)]), **variables)
    sentence, usage = done.stderr.splitlines()
    assert (done.returncode, done.stdout, shell.calls) == (2, "", [])
    assert sentence.startswith(f"{script}: ") and usage.startswith(f"usage: sh {script} ")
    return sentence.removeprefix(f"{script}: ")


GRID = {
    "sh main_mtcoop_hard.sh general10 rn50_ep50 1 16 False False": (
        "general10/MTCoOpHard/rn50_ep50_1shots/shared",
        {"TRAINER.MTCOOPH.N_CTX": "16", "TRAINER.MTCOOPH.CSC": "False", "TRAINER.MTCOOPH.TSC": "False"},
    ),
    "sh main_mtcoop_hard.sh general10 rn101_ep50 8 16 False True": (
        "general10/MTCoOpHard/rn101_ep50_8shots/per_task",
        {"TRAINER.MTCOOPH.N_CTX": "16", "TRAINER.MTCOOPH.CSC": "False", "TRAINER.MTCOOPH.TSC": "True"},
    ),
    "sh main_mtcoop_hard.sh plant6 rn50_ep50 1 4 True False": (
        "plant6/MTCoOpHard/rn50_ep50_1shots/per_class-N_CTX=4",
        {"TRAINER.MTCOOPH.N_CTX": "4", "TRAINER.MTCOOPH.CSC": "True", "TRAINER.MTCOOPH.TSC": "False"},
    ),
    f"sh main_mtcoop.sh {NATA}": (
        "general10/MTCoOp/rn50_ep50_16shots/NATA",
        {f"{MTCOOP}TASK_N_CTX": "4", f"{MTCOOP}N_CTX": "16", f"{MTCOOP}CSC": "False", f"{MTCOOP}PG_TYPE": "lin"},
    ),
    "sh main_mtcoop.sh plant6 rn50_ep50_corrected 1 4 True 8 True 16 True linmean 1": (
        "plant6/MTCoOp/rn50_ep50_corrected_1shots/CSTS-TASK_N_CTX=8-PG_TYPE=linmean",
        {
            f"{MTCOOP}CLASS_N_CTX": "4",
            f"{MTCOOP}CLASS_CSC": "True",
            f"{MTCOOP}TASK_CSC": "True",
            f"{MTCOOP}CSC": "True",
        },
    ),
    "sh main_mtcoop.sh general10 rn50_ep50 1 4 False 4 False 16 True lin 1": (
        "general10/MTCoOp/rn50_ep50_1shots/CATA-CLS_SAMPLE_RATE=0",
        {f"{MTCOOP}CLASS_CSC": "False"},
    ),
    "sh main_mtcoop_cls_sample.sh general10 rn50_ep50 1 4 False 4 False 16 True lin 1 0.1": (
        "general10/MTCoOp/rn50_ep50_1shots/CATA",
        {f"{MTCOOP}CLS_SAMPLE_RATE": "0.1", f"{MTCOOP}CLASS_N_CTX": "4"},
    ),
    "sh main_mtcoop_cls_sample.sh rs8 rn50_ep50 1 4 False 4 True 16 True lin 1 0.1": (
        "rs8/MTCoOp/rn50_ep50_1shots/CATS-CLS_SAMPLE_RATE=0.1",
        {f"{MTCOOP}CLS_SAMPLE_RATE": "0.1"},
    ),
    "sh main_mvlpt_source.sh MCoOp plant6 rn50_ep50 1 general10 TRAINER.MTCOOPH.N_CTX 4": (
        "plant6/sources/general10/MTCoOpHard/rn50_ep50_1shots/mcoop-N_CTX=4",
        {"TRAINER.MTCOOPH.N_CTX": "4", "TRAINER.MTCOOPH.UNION": "True"},
    ),
    f"sh main_mtcoop_base2new_train.sh general10 rn50_ep50 1 {CATA} {MTCOOP}CLS_SAMPLE_RATE 0.1": (
        "general10/base2new/base/MTCoOp/rn50_ep50_1shots/CATA",
        {f"{MTCOOP}CLS_SAMPLE_RATE": "0.1", "DATASET.SUBSAMPLE_CLASSES": "base"},
    ),
    f"sh main_mtcoop.sh plant6 rn50_ep50 1 {CATA} {MTCOOP}CLS_SAMPLE_RATE 0.1": (
        "plant6/MTCoOp/rn50_ep50_1shots/CATA-CLS_SAMPLE_RATE=0.1",
        {f"{MTCOOP}CLS_SAMPLE_RATE": "0.1"},
    ),
    f"sh main_mtcoop_newtasks_train.sh {NATA} task7,0,7": (
        "general10/newtasks/tasks0_7/seen/MTCoOp/rn50_ep50_16shots/NATA",
        {"DATASET.SUBSAMPLE_TASKS": "task0,task7"},
    ),
    "sh zeroshot.sh plant6 rn50 all": ("plant6/ZeroshotCLIP/rn50/template", {"DATASET.NUM_SHOTS": "1"}),
    "sh zeroshot_base2new.sh plant6 rn50 all new": (
        "plant6/base2new/new/ZeroshotCLIP/rn50/template",
        {"DATASET.SUBSAMPLE_CLASSES": "new"},
    ),
    "TASKS=1 sh main_single.sh MTCoOpHard plant6 rn50_ep50 2 TRAINER.MTCOOPH.CTX_INIT 'a photo-of a'": (
        "plant6/MTCoOpHard/rn50_ep50_2shots/default-CTX_INIT=a_photo_of_a/task1",
        {"TRAINER.MTCOOPH.CTX_INIT": "a photo-of a", "DATASET.SUBSAMPLE_TASKS": "task1"},
    ),
}


@pytest.mark.parametrize("line", GRID)
def test_a_command_asks_for_the_right_runs(shell, line):
    folder, keys = GRID[line]
    assert shell.run(line, SEEDS="1 2 3").returncode == 0
    seeds = ["1"] if "zeroshot" in line else ["1", "2", "3"]
    assert shell.runs() == [f"{folder}/seed{seed}" for seed in seeds]
    assert [call.flag("--seed") for call in shell.calls] == seeds
    for call in shell.calls:
        assert keys.items() <= call.keys.items()
        cfg = train.setup_cfg(train.parse(call.words))
        assert call.flag("--trainer") == cfg.TRAINER.NAME and Path(cfg.OUTPUT_DIR).is_absolute()
    assert shell.run(line, SEEDS="1 2 3").stdout.count(" is done\n") == len(seeds) == len(shell.calls)


@pytest.mark.parametrize(("source", "setting"), [("others", "mcoop_adapted"), ("rs8", "mcoop_adapted-from=rs8")])
def test_the_second_stage_waits_for_the_first_and_starts_from_its_mean(shell, source, setting):
    words = f"MCoOp plant6 vit_b16_ep200 4 {source}"
    early = shell.run(f"sh main_mvlpt_target.sh {words}", SEEDS="1 2")
    assert (early.returncode, shell.calls) == (2, [])
    assert "has no finished run; train it by main_mvlpt_source.sh with the same arguments" in early.stderr
    assert shell.run(f"sh main_mvlpt_source.sh {words}", SEEDS="1 2").returncode == 0
    first = {call.flag("--output-dir"): call.keys for call in shell.calls}
    assert len(first) == (6 * 2 if source == "others" else 2)
    assert all("MODEL.INIT_WEIGHTS" not in keys for keys in first.values())
    assert shell.run(f"sh main_mvlpt_target.sh {words}", SEEDS="1 2").returncode == 0
    second = shell.calls[len(first) :]
    assert [(call.keys["DATASET.SUBSAMPLE_TASKS"], call.flag("--seed")) for call in second] == [
        (f"task{task}", seed) for task in range(6) for seed in "12"
    ]
    for call in second:
        starts = call.keys["MODEL.INIT_WEIGHTS"].split(",")
        assert [Path(start).name for start in starts] == ["seed1", "seed2"] and set(starts) <= first.keys()
        others = {first[start].get("DATASET.SUBSAMPLE_TASKS") for start in starts}
        assert others == {f"not:{call.keys['DATASET.SUBSAMPLE_TASKS']}" if source == "others" else None}
    assert f"plant6/MTCoOpHard/vit_b16_ep200_4shots/{setting}/task0/seed1" in shell.runs()


def test_the_scripts_of_two_stages_share_their_runs_with_a_sweep(shell):
    for script in ("source", "target"):
        shell.run(f"sh main_mvlpt_{script}.sh MCoOp plant6 rn50_ep200 1 others", SEEDS="1 2 3")
    sweep = Sweep(
        "two", ("plant6",), (find_method("MCoOp-adapted"),), (1,), (1, 2, 3), output=str(shell.output / "plant6")
    )
    cells = {str(run.folder): config_digest(run.config()) for run in expand(sweep)}
    configs = {call.flag("--output-dir"): train.setup_cfg(train.parse(call.words)) for call in shell.calls}
    assert {folder: config_digest(cfg) for folder, cfg in configs.items()} == cells
    assert {label_of(cfg.TRAINER.NAME, flatten(cfg)) for cfg in configs.values()} == {"MCoOp", "MCoOp-adapted"}


def test_a_suite_is_no_source_of_itself(shell):
    done = shell.run("sh main_mvlpt_source.sh MCoOp plant6 vit_b16_ep200 4 plant6")
    assert (done.returncode, shell.calls) == (2, []) and "learned the same tasks" in done.stderr


def test_linear_probe_runs_its_grid(shell):
    shell.run("sh linearprob.sh general10 rn50 9", SEEDS="1 2 3")
    kinds = {
        (call.keys["DATASET.NUM_SHOTS"], call.keys["DATASET.SUBSAMPLE_TASKS"], call.flag("--seed"))
        for call in shell.calls
    }
    assert len(shell.calls) == len(kinds) == len(shell.runs()) == 5 * 10 * 3
    assert "general10/LinearProbe/rn50_16shots/probe/task9/seed3" in shell.runs()


def test_single_counts_the_tasks_itself(shell):
    shell.run("sh main_single.sh MTCoOpHard plant6 rn50_ep50 4", DATA="/some where", SEEDS="2 5")
    assert {call.keys["DATASET.ROOT"] for call in shell.calls} == {"/some where"}
    assert [(c.keys["DATASET.SUBSAMPLE_TASKS"], c.flag("--seed")) for c in shell.calls] == [
        (f"task{task}", seed) for task in range(6) for seed in ("2", "5")
    ]


@pytest.mark.parametrize("kind", sorted(BAD))
def test_a_wrong_argument_is_told_in_one_sentence(shell, kind):
    for name in (name for name in NAMES if kind in signature(name)):
        for wrong in BAD[kind]:
            words = [wrong if each == kind else word for each, word in zip(signature(name), good(name), strict=True)]
            sentence = refused(shell, *words, script=name)
            assert sentence.startswith("CLASSES" if kind == "base|new" else kind)
            assert f"'{wrong}'" in sentence or sentence.endswith(f", not {wrong}"), sentence


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_argument_is_named(shell, name):
    arguments = good(name)
    for count, kind in enumerate(signature(name)):
        assert refused(shell, *arguments[:count], script=name) == f"argument {kind} is missing"
    assert "is one argument too many" in refused(shell, *arguments, "0.1", script=name)


@pytest.mark.parametrize("name", NAMES)
def test_help(shell, name):
    done = shell.run(f"sh {name} -h")
    assert (done.returncode, done.stderr, shell.calls) == (0, "", [])
    assert f"\nusage: sh {name} {' '.join(signature(name))} [OPTION ...]\n" in done.stdout
    assert "DATA    folder that holds the data folders" in done.stdout
    for example in re.findall(rf"^  ((?:\w+=\S+ )*sh {name} .*)$", done.stdout, re.MULTILINE):
        assert len(example.split("#")[0].split()) >= len(signature(name))


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--seed 5", 'seeds are given as SEEDS="1 2 3", not with --seed'),
        ("--output-dir=x", "the folder of all runs is given as OUTPUT=DIR, not with --output-dir"),
        ("OPTIM.LR 1 SEED 4", 'seeds are given as SEEDS="1 2 3", not with SEED'),
        ("--trainer CoOp", "--trainer is set by this script; leave it out"),
        ("DATASET.NUM_SHOTS 2", "DATASET.NUM_SHOTS follows from the arguments of this script; leave it out"),
        ("TRAINER.MTCOOP.N_CTX 2", "TRAINER.MTCOOP.N_CTX follows from the arguments of this script; leave it out"),
    ],
)
def test_an_option_that_the_script_sets_is_refused(shell, option, sentence):
    assert refused(shell, *NATA.split(), *option.split(), script="main_mtcoop.sh") == sentence


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("main_mtcoop.sh", "plant6 rn50_ep50 1 4 True 4 False 16 False lin 1", "CLASS_CSC is True but CSC is False"),
        (
            "main_mtcoop_base2new_train.sh",
            "plant6 rn50_ep50 1 4 True 4 False 16 True lin 1",
            "for each class, so it has nothing for new classes",
        ),
        (
            "main_mtcoop_base2new_test.sh",
            "plant6 rn50_ep50 1 4 True 4 True 16 True lin 1",
            "for each class, so it has nothing for new classes",
        ),
        (
            "main_mtcoop_hard_base2new_train.sh",
            "plant6 rn50_ep50 1 16 True False",
            "for each class, so it has nothing for new classes",
        ),
        (
            "main_mtcoop_newtasks_train.sh",
            "plant6 rn50_ep50 1 4 False 4 True 16 True lin 1 base",
            "so it has nothing for new tasks",
        ),
        (
            "main_mtcoop_newtasks_test.sh",
            "plant6 rn50_ep50 1 4 True 4 False 16 True lin 1 base",
            "so it has nothing for new tasks",
        ),
        (
            "main_mtcoop_hard_newtasks_train.sh",
            "plant6 rn50_ep50 1 16 False True base",
            "so it has nothing for new tasks",
        ),
    ],
)
def test_variants_that_cannot_do_it_are_refused(shell, script, arguments, sentence):
    done = shell.run(f"sh {script} {arguments}")
    assert (done.returncode, done.stdout, shell.calls) == (2, "", [])
    assert f"{sentence}" in done.stderr and len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize("value", ["1 x", " ", "1,2", "-1"])
@pytest.mark.parametrize(
    ("name", "script"), [("SEEDS", "main_mtcoop.sh"), ("TASKS", "main_single.sh"), ("SHOTS", "linearprob.sh")]
)
def test_lists_of_numbers_are_checked(shell, name, script, value):
    assert refused(shell, *good(script), script=script, **{name: value}).startswith(f"{name} must be ")


def test_other_variables_are_checked(shell):
    assert refused(shell, *good("main_mtcoop.sh"), script="main_mtcoop.sh", TAG="a/b").startswith("TAG must be ")
    assert refused(shell, *good("zeroshot.sh"), script="zeroshot.sh", METHOD="CLIP").startswith(
        "METHOD must be one of "
    )


def test_an_interpreter_that_is_not_there_is_told(shell):
    done = shell.start(f"sh main_mtcoop.sh {NATA}", PYTHON="/nowhere/python")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "PYTHON=/nowhere/python cannot be run" in done.stderr


def test_options_are_passed_on_flags_before_keys(shell):
    assert (
        shell.run(
            f"sh main_mtcoop.sh {NATA} --backbone RN101 --transforms random_flip normalize OPTIM.LR 0.1"
        ).returncode
        == 0
    )
    cfg = train.setup_cfg(train.parse(shell.calls[0].words))
    assert (cfg.MODEL.BACKBONE.NAME, cfg.INPUT.TRANSFORMS, cfg.OPTIM.LR) == ("RN101", ("random_flip", "normalize"), 0.1)
    assert (cfg.DATASET.NUM_SHOTS, cfg.TRAINER.MTCOOP.TASK_N_CTX) == (16, 4)


def test_scripts_start_from_any_folder(shell, tmp_path):
    (tmp_path / "data").mkdir()
    lines = {SCRIPTS: "main_mtcoop.sh", ROOT: "scripts/main_mtcoop.sh", tmp_path: str(SCRIPTS / "main_mtcoop.sh")}
    for folder, path in lines.items():
        for directly in ("sh ", "") if os.sep in path else ("sh ",):
            assert shell.run(f"{directly}{shlex.quote(path)} {NATA}", cwd=folder).returncode == 0
    assert len(shell.calls) == 1, "it is the same run each time"


def test_places_come_from_set_env(tmp_path):
    """The defaults, an edited file, and the environment; in a checkout at a path with blanks."""
    checkout = tmp_path / "a check out"
    shutil.copytree(SCRIPTS, checkout / "scripts")
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s|" "$DATA" "$OUTPUT" "$SEEDS" "$PYTHONPATH" "$@"\n')
    python.chmod(0o755)

    def words(**variables: str) -> list[str]:
        command = ["sh", "main_mtcoop.sh", *NATA.split()]
        environment = {"PATH": os.environ["PATH"], **variables}
        done = subprocess.run(
            command, cwd=checkout / "scripts", env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.removesuffix("|").split("|")

    data, output, seeds, path, *rest = words(PYTHONPATH="/other")
    assert (data, output, seeds) == (str(checkout / "data"), str(checkout / "output"), "1 2 3")
    assert path == f"{checkout}:/other"
    scripts = checkout / "scripts"
    assert rest == [str(scripts / "launch.py"), str(scripts / "main_mtcoop.sh"), "softcpt", *NATA.split()]
    env = checkout / "scripts/set_env.sh"
    env.write_text(env.read_text().replace("DATA:=$checkout/data", "DATA:=/my data"))
    assert words()[0] == "/my data"
    assert words(DATA="/other")[0] == "/other"


def test_the_first_failure_ends_the_script_with_its_code(shell):
    shell.answer = lambda words: 3 if words[words.index("--seed") + 1] == "2" else 0
    done = shell.run(f"sh main_mtcoop.sh {NATA}", SEEDS="1 2 3")
    assert done.returncode == 3 and [call.flag("--seed") for call in shell.calls] == ["1", "2"]
    assert re.search(r"stopped at \S*/NATA/seed2 \(exit code 3\)", done.stderr)


def test_a_run_is_done_only_by_a_whole_result_of_the_same_config(shell):
    line = f"sh main_mtcoop.sh {NATA}"
    path = shell.output / "general10/MTCoOp/rn50_ep50_16shots/NATA/seed1"

    def asks(line: str = line, **variables: str) -> bool:
        before = len(shell.calls)
        assert shell.run(line, **variables).returncode == 0
        return len(shell.calls) > before

    assert asks() and not asks()
    assert asks(f"{line} OPTIM.LR 1") and not asks(f"{line} OPTIM.LR 1")
    assert asks(), "train.py is asked when the config is another than that of the result"
    assert asks(f"{line} --backbone RN101") and asks(), "so it is after a flag that stands for a config key"
    assert not asks(DATA="/elsewhere"), "where the data lie changes no figure"
    (path / "results.json").write_text("{")
    assert asks() and not asks()


def test_the_words_of_the_run_stay_beside_its_result(shell):
    shell.run(f"sh main_mtcoop.sh {NATA} --backbone RN101 OPTIM.LR 0.1")
    path = shell.output / "general10/MTCoOp/rn50_ep50_16shots/NATA/seed1"
    assert (path / "command.txt").read_text().splitlines() == shell.calls[0].words


@pytest.mark.parametrize("name", [*NAMES, "common.sh", "set_env.sh"])
def test_scripts_are_plain_sh_in_form(name):
    """Every shell reads them; each is executable and sources the shared file instead of copying it."""
    path = SCRIPTS / name
    assert subprocess.run(["sh", "-n", path], capture_output=True, check=False).returncode == 0
    assert not re.search(r"\[\[|^function |\blocal\b|<<<|\$'", path.read_text(), re.MULTILINE)
    assert os.access(path, os.X_OK) == (name in NAMES)


def documented() -> list[str]:
    """Every command of docs/protocols.md, from its blocks and its tables."""
    text = (ROOT / "docs/protocols.md").read_text(encoding="utf-8")
    lines = re.findall(r"^((?:\w+=(?:\"[^\"]*\"|\S+) )*sh \S+\.sh .*)$", text, re.MULTILINE)
    return [*lines, *re.findall(r"^\|.*?`(sh [^`]*)`", text, re.MULTILINE)]


@pytest.mark.parametrize("line", documented())
def test_documented_commands_are_accepted(shell, line):
    folder = str(shell.folder / "scratch/output")
    for suite in ("general10", "plant6", "rs8", "fashion20") if "$SUITE" in line else ("",):
        filled = line.replace("$SUITE", suite).replace("$CFG", "rn50").replace("$SHOTS", "16")
        if "_test.sh" in line:
            shell.run(re.sub(r"_test\.sh", "_train.sh", filled), OUTPUT=folder)
        done = shell.run(filled.replace("/scratch/output", folder), OUTPUT=folder)
        assert (done.returncode, done.stderr) == (0, "")
    assert {"DATASET.ROOT", "--seed"} < set(shell.calls[-1].words)


ROWS = re.findall(
    r"^\| (\S+?),?(?: .*)? \| `(.*sh \S+\.sh [^`]*)`", (ROOT / "docs/protocols.md").read_text(), re.MULTILINE
)
CFG_OF_SHOTS = {1: "rn50_ep50", 4: "rn50_ep100", 16: "rn50"}


def test_the_rows_of_the_paper_are_documented():
    assert [label for label, _ in ROWS][:13] == paper_labels()


@pytest.mark.parametrize(("label", "line"), ROWS)
def test_the_line_of_a_row_makes_runs_of_its_sweep(shell, label, line):
    """Same folders and configs, so that a sweep resumes what a script began, and tables call both by one name."""
    suite = "plant6" if "plant6" in line else "general10"
    for shots, cfg in CFG_OF_SHOTS.items():
        filled = line.replace("$SUITE", suite).replace("$CFG", cfg).replace("$SHOTS", str(shots))
        done = shell.run(filled, TASKS="0 5", SHOTS=str(shots))
        assert (done.returncode, done.stderr) == (0, "")
    sweep = Sweep("rows", (suite,), (find_method(label),), tuple(CFG_OF_SHOTS), (1,), output=str(shell.output / suite))
    runs = expand(replace(sweep, backbone="vit_b16") if "vit_b16" in line else sweep)
    cells = {str(run.folder): (run.kind, config_digest(run.config())) for run in runs}
    configs = {call.flag("--output-dir"): train.setup_cfg(train.parse(call.words)) for call in shell.calls}
    assert all(cells[folder][1] == config_digest(cfg) for folder, cfg in configs.items())
    assert {cells[folder][0] for folder in configs} == {run.kind for run in runs}
    assert {label_of(cfg.TRAINER.NAME, flatten(cfg)) for cfg in configs.values()} == {label}


@pytest.mark.parametrize(
    ("line", "argument", "task"),
    [
        ("sh linearprob.sh plant6 rn50 6", "LAST_TASK", 6),
        ("TASKS='0 9' sh main_single.sh CoOp plant6 rn50 1", "TASKS", 9),
        ("TASKS=7 sh main_single_base2new_train.sh CoOp plant6 rn50 1", "TASKS", 7),
        ("sh zeroshot.sh plant6 rn50 6", "TASK", 6),
        ("sh zeroshot_base2new.sh plant6 rn50 12 new", "TASK", 12),
        ("sh main_mtcoop_newtasks_train.sh plant6 rn50_ep50 1 0 False 4 False 16 False lin 1 0,task6", "TASKS", 6),
        ("sh main_mtcoop_hard_newtasks_test.sh plant6 rn50_ep50 1 16 False False 5,8", "TASKS", 8),
    ],
)
def test_a_task_that_is_not_there_is_refused_before_anything_runs(shell, line, argument, task):
    done = shell.run(line)
    sentence = f"{argument}: there is no task{task}; the data set has 6 tasks, task0 to task5"
    assert (done.returncode, done.stdout, shell.calls) == (2, "", [])
    assert f"{sentence}\n" in done.stderr


def test_a_script_runs_by_a_link_to_it(shell, tmp_path):
    """Also by a link to a link, by a relative one, and from a folder with a blank."""
    folder = tmp_path / "my tools"
    folder.mkdir()
    (folder / "soft").symlink_to(SCRIPTS / "main_mtcoop.sh")
    (tmp_path / "again").symlink_to("my tools/soft")
    for path in (folder / "soft", tmp_path / "again"):
        assert shell.run(f"sh '{path}' {NATA}", cwd=tmp_path).returncode == 0
        assert shell.run(f"'{path}' {NATA}", cwd=tmp_path).returncode == 0
    assert len(shell.calls) == 1, "it is the same run each time"
    assert "usage: sh main_mtcoop.sh" in shell.run("sh again", cwd=tmp_path).stderr


def test_the_variable_of_the_released_scripts_names_the_data(shell):
    shell.run(f"sh main_mtcoop.sh {NATA}", YOUR_DATA_PATH="/their data")
    shell.run(f"sh main_mtcoop.sh {NATA}", YOUR_DATA_PATH="/their data", DATA="/mine", SEEDS="2")
    assert [call.keys["DATASET.ROOT"] for call in shell.calls] == ["/their data", "/mine"]


def test_train_is_told_how_a_script_names_another_folder(shell):
    """A script refuses --output-dir, so its advice would lead nowhere."""
    seen = shell.folder / "seen"
    seen.parent.mkdir(parents=True)
    program = shell.folder / "note"
    program.write_text(f'#!/bin/sh\nprintf "%s" "$RUN_FOLDER_BY" >"{seen}"\n')
    program.chmod(0o755)
    assert shell.start(f"sh main_mtcoop.sh {NATA}", PYTHON=str(program)).returncode == 0
    assert seen.read_text() == "TAG or OUTPUT"


# -- the program behind the scripts --------------------------------------------------------------------------------


@pytest.mark.parametrize("interpreter", ["sh", "dash", "bash", "bash --posix"])
def test_every_shell_starts_them(shell, interpreter):
    if not shutil.which(interpreter.split()[0]):
        pytest.skip(f"{interpreter} is not on this machine")
    assert shell.run(f"{interpreter} main_mtcoop.sh {NATA}").returncode == 0
    assert shell.runs() == ["general10/MTCoOp/rn50_ep50_16shots/NATA/seed1"]
    assert "argument CFG is missing" in shell.run(f"{interpreter} main_mtcoop.sh general10").stderr


def test_arguments_are_checked_before_torch_is_imported():
    code = (
        "import sys\n"
        "from scripts import launch\n"
        "code = launch.main([sys.argv[1], 'softcpt', 'plant7'])\n"
        "sys.exit(code if 'torch' not in sys.modules and 'yaml' not in sys.modules else 9)"
    )
    words = [sys.executable, "-c", code, str(SCRIPTS / "main_mtcoop.sh")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "argument CFG is missing" in done.stderr) == (2, True)


def test_an_interpreter_without_the_packages_is_told(shell, monkeypatch):
    monkeypatch.setitem(sys.modules, "train", None)
    done = shell.run(f"sh main_mtcoop.sh {NATA}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"{sys.executable} has no module train; name another interpreter with PYTHON" in done.stderr


WAITING = """#!/bin/sh
case $1 in
*/launch.py) exec "{python}" -c 'import sys; from scripts.launch import start_train; sys.exit(start_train([]))' ;;
esac
trap 'echo TERM >"{folder}/said"; exit 143' TERM
trap 'echo INT >"{folder}/said"; exit 130' INT
echo started
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("INT", 130)])
def test_a_signal_ends_the_run_and_the_script(tmp_path, name, code):
    """SIGTERM to the script alone reaches its run as well; Ctrl-C is for all processes of a terminal."""
    program = tmp_path / "waiting"
    program.write_text(WAITING.format(python=sys.executable, folder=tmp_path))
    program.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(program)}
    command = ["sh", str(SCRIPTS / "main_mtcoop.sh"), *NATA.split()]
    pipes = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == "started\n"
        if name == "TERM":
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == code
    assert (tmp_path / "said").read_text() == f"{name}\n"


@given(st.sampled_from(NAMES), st.data())
def test_any_words_make_a_command_or_one_sentence(name, data):
    kind = re.search("^kind='(.*)'$", (SCRIPTS / name).read_text(), re.MULTILINE)[1]
    kinds = signature(name)
    words = [data.draw(st.sampled_from([GOOD[each], *BAD.get(each, ())]) | st.text(max_size=5)) for each in kinds]
    variables = data.draw(st.dictionaries(st.sampled_from(["SEEDS", "TAG", "TASKS", "SHOTS", "METHOD"]), st.text()))
    try:
        command = read_command(kinds, kind, words, variables)
    except ArgumentError as error:
        assert str(error)
        return
    assert re.fullmatch(r"[\w.+-]+", f"{command.setting}{command.tag}") and command.shots and command.seeds


def test_an_option_without_a_value_is_told_in_one_line(shell):
    done = shell.run(f"sh main_mtcoop.sh {NATA} OPTIM.LR")
    assert (done.returncode, shell.calls) == (2, [])
    assert done.stderr == "error: command line: 'OPTIM.LR' has no value; options after the flags come as KEY VALUE\n"
