"""The command line: what it accepts, and that every mistake is one line, exit code 2 and nothing written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import train
from dassl.config import get_cfg_default
from dassl.utils.files import read_json, write_json
from tests.dassl.data.toy import write_toy
from tests.lab import Lab

ROOT = Path(train.__file__).parent


def config(*arguments):
    return train.setup_cfg(train.parse(arguments))


def program(*arguments, cwd=ROOT):
    """The program as a person starts it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_the_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for flag in re.findall(r"--[a-z-]+", (ROOT / "train.py").read_text()):
        hidden = flag in ("--old-data-path", "--new-data-path")
        assert (flag in text) != hidden, flag
    assert "KEY VALUE" in text
    assert "docs/config.md" in text


def test_flags_override_files_and_pairs_override_flags(tmp_path):
    first, second = tmp_path / "data.yaml", tmp_path / "method.yaml"
    first.write_text("SEED: 1\nOPTIM: {LR: 1}\nDATASET: {NAME: FromData, ROOT: a}")
    second.write_text("SEED: 2\nOPTIM: {LR: 2}\nTRAINER: {NAME: FromMethod}")
    files = ["--dataset-config-file", str(first), "--config-file", str(second)]
    cfg = config(*files)
    assert (cfg.SEED, cfg.OPTIM.LR, cfg.DATASET.NAME, cfg.TRAINER.NAME) == (2, 2.0, "FromData", "FromMethod")
    cfg = config(*files, "--seed", "0", "--trainer", "MTCoOp", "--backbone", "RN50", "--root", "data", "OPTIM.LR", "3")
    assert (cfg.SEED, cfg.TRAINER.NAME, cfg.MODEL.BACKBONE.NAME, cfg.OPTIM.LR) == (0, "MTCoOp", "RN50", 3.0)
    assert str(Path.cwd() / "data") == cfg.DATASET.ROOT
    assert config(*files, "--seed", "0", "SEED", "4").SEED == 4


def test_flags_that_are_not_given_change_nothing():
    cfg = get_cfg_default()
    assert config("--root", "", "--output-dir", "", "--trainer", "") == cfg
    assert config("--eval-only", "--model-dir", "x", "--load-epoch", "3", "--no-train") == cfg


def test_every_flag_sets_its_key(tmp_path):
    cfg = config("--output-dir", "out", "--resume", "from", "--head", "mlp", "--seed", "-1")
    assert (cfg.OUTPUT_DIR, cfg.RESUME, cfg.MODEL.HEAD.NAME, cfg.SEED) == ("out", "from", "mlp", -1)


@pytest.mark.parametrize("behind", [("OPTIM.LR", "1"), ("SEED", "1"), ("--seed", "1", "OPTIM.LR", "1")])
def test_keys_may_stand_behind_the_transforms(behind):
    cfg = config("--transforms", "random_flip", "normalize", *behind)
    assert cfg.INPUT.TRANSFORMS == ("random_flip", "normalize")
    assert (1.0 if "OPTIM.LR" in behind else get_cfg_default().OPTIM.LR) == cfg.OPTIM.LR
    assert (1 if "SEED" in behind or "--seed" in behind else -1) == cfg.SEED


def test_config_files_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config("--config-file", "configs/trainers/MTCoOp/rn50_ep50.yaml").MODEL.BACKBONE.NAME == "RN50"


def spoiled(lab: Lab, tmp_path: Path, spoil) -> Lab:
    """The lab with a copy of the toy data that ``spoil`` changes."""
    root = write_toy(tmp_path / "data")
    spoil(root)
    return Lab(root, lab.backbone, lab.output)


def truncate(root: Path) -> None:
    path = root / "tools" / "test" / "kind1_2.png"
    path.write_bytes(path.read_bytes()[:200])


MISTAKES = {
    "trainer": (("run",), {"trainer": "MTCop"}, "unknown trainer 'MTCop'; did you mean MTCoOp"),
    "no trainer": (("run",), {"trainer": ""}, "no trainer is named; use --trainer with one of"),
    "data set": (("run",), {"dataset": "ToyPet"}, "unknown data set 'ToyPet'; did you mean ToyPets"),
    "no data set": (("run",), {"dataset": ""}, "no data set is named; use"),
    "backbone": (("run",), {"backbone": "RN51"}, "'RN51'"),
    "backbone file": (("run",), {"backbone": "missing.safetensors"}, "'missing.safetensors'"),
    "weights": (("run",), {"MODEL__BACKBONE__WEIGHTS": "/no.pt"}, "MODEL.BACKBONE.WEIGHTS /no.pt is neither a file"),
    "weights, demo": (("run",), {"backbone": "demo", "MODEL__BACKBONE__WEIGHTS": "/no.pt"}, "/no.pt is neither a file"),
    "key": (("run",), {"OPTIM__LRR": 1}, "unknown key 'OPTIM.LRR'; did you mean OPTIM.LR"),
    "type": (("run",), {"OPTIM__LR": "fast"}, "OPTIM.LR is 'fast': expected a number"),
    "choice": (("run",), {"OPTIM__NAME": "sdg"}, "OPTIM.NAME is 'sdg': choose one of 'sgd'"),
    "transform": (("run",), {"INPUT__TRANSFORMS": "random_flop"}, "random_flop"),
    "root": (("run", "--root", "/nowhere"), {}, "/nowhere does not exist; name the folder"),
    "task": (("run",), {"DATASET__SUBSAMPLE_TASKS": "task2"}, "task2"),
    "tasks": (("run",), {"DATASET__SUBSAMPLE_TASKS": "first"}, "first"),
    "member": (("run",), {"DATASET__MEMBERS": "1,2"}, "unknown data set '1'"),
    "checkpoint": (("run", "--eval-only", "--model-dir", "/nowhere"), {}, "/nowhere is no folder; give the run folder"),
    "start": (("run",), {"MODEL__INIT_WEIGHTS": "/nowhere"}, "/nowhere is no folder"),
    "flag": (("run", "--sead", "1"), {}, "unrecognized arguments: --sead"),
    "flag value": (("run", "--load-epoch", "last"), {}, "argument --load-epoch: invalid int value: 'last'"),
    "flags apart": (("run", "--model-dir", "x"), {}, "add --eval-only"),
    "flag behind pairs": (
        ("run",),
        {"SEED": 3, "--eval-only": "TEST.SPLIT"},
        "--eval-only comes after the first KEY",
    ),
    "config file": (
        ("run", "--config-file", "configs/trainers/MTCoOp/rn50_ep5.yaml"),
        {},
        "no such file; did you mean rn50",
    ),
    "not YAML": (("run", "--config-file", "README.md"), {}, "README.md"),
    "folder": (("run", "--output-dir", "/dev/null/run"), {}, "cannot write /dev/null/run"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(lab, capsys, mistake):
    arguments, options, message = MISTAKES[mistake]
    assert lab.main(*arguments, **options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert lab.files() == []
    assert not lab.folder("run").exists()


def test_several_mistakes_are_told_at_once(lab, capsys):
    assert lab.main(OPTIM__LRR=1, OPTIM__LR="fast") == 2
    first, second = sorted(capsys.readouterr().err.splitlines())
    assert first.startswith("error: command line: OPTIM.LR is 'fast'")
    assert second.startswith("error: command line: unknown key 'OPTIM.LRR'")


def test_a_truncated_image_is_named_before_training(lab, tmp_path, capsys):
    bad = spoiled(lab, tmp_path, truncate)
    assert bad.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: 1 unreadable image: ")
    assert "tools/test/kind1_2.png" in line
    assert bad.files() == []
    result = bad.run(DATASET__SKIP_UNREADABLE=True)
    assert result.counts["test"] == 31


def test_an_image_that_breaks_after_the_check_stops_the_run_with_its_name(lab, tmp_path, capsys):
    bad = spoiled(lab, tmp_path, truncate)
    assert bad.main(DATASET__CHECK_IMAGES=False) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: cannot read image \S*/tools/test/kind1_2\.png: ", line)
    assert "results.json" not in bad.files()


def drop_val(root: Path) -> None:
    for path in root.rglob("split_*.json"):
        write_json(path, {**read_json(path), "val": []})


@pytest.mark.parametrize("keys", [{"TEST__FINAL_MODEL": "best_val"}, {"TEST__SPLIT": "val"}], ids=["best", "tested"])
def test_a_missing_val_split_is_said_before_training(lab, tmp_path, capsys, keys):
    bad = spoiled(lab, tmp_path, drop_val)
    assert bad.main(**keys) == 2
    assert (
        "data set ToyBoth has no val image; set TEST.SPLIT test and TEST.FINAL_MODEL last_step"
        in capsys.readouterr().err
    )
    assert bad.files() == []
    assert bad.main() == 0


def test_more_shots_than_images_use_all_and_say_so_once(lab):
    result = lab.run(DATASET__NUM_SHOTS=16, OPTIM__MAX_EPOCH=1)
    assert result.counts["train"] == 40
    assert lab.log().count("have fewer than 16 training images") == 1


def test_the_program_trains_and_evaluates(lab, tmp_path):
    run = [*lab.command(dataset="Unknown"), "DATASET.NAME", "ToyBoth"]
    starter = tmp_path / "start.py"
    starter.write_text("import sys\nimport tests.lab\nimport train\nsys.exit(train.main(sys.argv[1:]))\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, starter, *run], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(lab.log()[-40:])
    assert lab.result().metric is not None
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("start.py", "output")] == []


def test_the_program_says_a_mistake_in_one_line(tmp_path):
    done = program("--trainer", "Nobody", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: unknown trainer 'Nobody'; choose one of {done.stderr.split('one of ')[1]}"
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "trainer", "setting"),
    [
        ("SoftCPT", "MTCoOp", ("MTCOOP", "CSC", False)),
        ("softcpt-nats", "MTCoOp", ("MTCOOP", "CSC", False)),
        ("CoOp-CS", "CoOp", ("COOP", "CSC", True)),
        ("CoOp-MT", "MTCoOpHard", ("MTCOOPH", "TSC", False)),
        ("MTCoOpHard", "MTCoOpHard", ("MTCOOPH", "TSC", False)),
    ],
)
def test_a_method_is_taken_by_its_name_in_tables(name, trainer, setting):
    cfg = config("--trainer", name)
    section, key, value = setting
    assert trainer == cfg.TRAINER.NAME
    assert cfg.TRAINER[section][key] == value


def test_pairs_win_over_the_options_of_a_named_method():
    assert config("--trainer", "CoOp-CS", "TRAINER.COOP.CSC", "False").TRAINER.COOP.CSC is False


def test_config_files_are_found_by_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = config("--trainer", "SoftCPT", "--dataset-config-file", "demo6", "--config-file", "demo")
    assert (cfg.DATASET.NAME, cfg.MODEL.BACKBONE.NAME) == ("Demo6", "demo")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("TRAIN.EPOCHS", "3"), "did you mean OPTIM.MAX_EPOCH?"),
        (("lr.base_lr", "3"), "did you mean OPTIM.LR?"),
        (("--trainer", "CoOp-NT"), "did you mean CoOp-MT or CoOp"),
        (("--trainer", "CoOp", "--config-file", "configs/trainers/MTCoOp/demo.yaml"), "is a config of MTCoOp"),
    ],
)
def test_words_of_other_programs_and_methods_are_answered(arguments, words, capsys):
    assert train.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_methods_that_share_their_keys_share_their_configs():
    assert config("--trainer", "KgCoOp", "--config-file", "configs/trainers/CoOp/rn50.yaml").TRAINER.NAME == "KgCoOp"


@pytest.mark.parametrize("name", ["train.py", "sweep.py", "predict.py", "export.py", "parse_test_res.py"])
def test_every_program_says_its_version(name):
    done = subprocess.run([sys.executable, str(ROOT / name), "--version"], capture_output=True, text=True, timeout=60)
    version = re.search(r'version = "(.*)"', (ROOT / "pyproject.toml").read_text())
    assert done.returncode == 0
    assert done.stdout.startswith(f"SoftCPT {version[1]} (python {sys.version.split()[0]}, torch ")


def test_scripts_and_train_take_the_options_of_a_named_method_from_one_place():
    pairs = train.flag_pairs(train.parse(["--trainer", "CoOp-CS", "--backbone", "RN50"]))
    assert dict(zip(pairs[::2], pairs[1::2], strict=True)) == {
        "TRAINER.NAME": "CoOp",
        "MODEL.BACKBONE.NAME": "RN50",
        "TRAINER.COOP.CSC": "True",
    }
