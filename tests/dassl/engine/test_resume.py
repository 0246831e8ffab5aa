"""A run that was cut off ends with the same tensors and figures as one that was not."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from dassl.utils.files import read_json, write_json
from tests.dassl.data.toy import write_toy
from tests.dassl.engine.cutting import cut_off
from tests.lab import BATCHES, Lab, figures, same_tensors

NATA = ["prompt_gen", "task_prompt_learner"]
WITH_CLASSES = {"TRAINER__MTCOOP__CSC": True, "TRAINER__MTCOOP__CLASS_CSC": True}
KINDS = {
    "sgd": {},
    "adam": {"OPTIM__NAME": "adam", "OPTIM__LR": 0.01},
    "adamw, linear warm-up": {"OPTIM__NAME": "adamw", "OPTIM__WARMUP_TYPE": "linear", "OPTIM__WARMUP_EPOCH": 2},
    "rmsprop, steps": {"OPTIM__NAME": "rmsprop", "OPTIM__LR_SCHEDULER": "multi_step", "OPTIM__STEPSIZE": "1,2"},
    "released": {"TRAINER__MTCOOP__RECIPE": "released"},
    "class sub-sampling": {**WITH_CLASSES, "TRAINER__MTCOOP__CLS_SAMPLE_RATE": 0.3},
    "frozen class prompts": {**WITH_CLASSES, "TRAINER__MTCOOP__FREEZE_CLS_PROMPT": True},
    "hard": {"trainer": "MTCoOpHard", "TRAINER__MTCOOPH__TSC": True},
    "best on val": {"TEST__FINAL_MODEL": "best_val", "OPTIM__LR": 0.5},
    "features": {"DATALOADER__FEATURES": "on"},
    "every checkpoint": {"TRAIN__CHECKPOINT_FREQ": 1},
    "drawn seed": {"seed": -1},
    "least steps": {"OPTIM__MAX_EPOCH": 1, "OPTIM__MIN_STEPS": 4 * BATCHES - 1},
}


@pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)
def test_a_run_that_is_interrupted_twice(lab, keys):
    keys = {"OPTIM__MAX_EPOCH": 4, **keys}
    cut_off(lab, epoch=2, batch=1, **keys)
    assert "results.json" not in lab.files()
    cut_off(lab, epoch=3, batch=BATCHES - 1, **keys)
    mine = lab.run(**keys)
    whole = lab.run("whole", **{**keys, "seed": mine.seed})
    assert figures(mine) == figures(whole)
    assert same_tensors(lab.learned(), lab.learned("whole"))
    assert lab.files() == lab.files("whole")
    assert re.findall(r'^Resumed from ".*" after epoch (\d)$', lab.log(), re.MULTILINE) == ["2", "3"]


def test_an_interruption_in_the_first_epoch_starts_anew(lab):
    cut_off(lab, epoch=0, batch=2)
    lab.run()
    lab.run("whole")
    assert same_tensors(lab.learned(), lab.learned("whole"))
    assert "Resumed" not in lab.log()


def test_an_interruption_before_the_test_needs_no_more_training(lab, monkeypatch):
    from dassl.engine.trainer import TrainerX

    with monkeypatch.context() as patch:
        patch.setattr(TrainerX, "after_train", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert lab.main() == 130
    before = lab.learned()
    mine = lab.run()
    assert same_tensors(lab.learned(), before)
    assert figures(mine) == figures(lab.run("whole"))
    assert lab.log().count("epoch [3/3]") == BATCHES
    assert lab.log().count("Finished training") == 1


CHILD = """
import os, signal, sys
from pathlib import Path
from tests import lab
import train

write = Path.write_bytes

def die_in_the_middle(path, data):
    if "model.pth.tar-2" in path.name and path.parent.name == "prompt_gen":
        write(path, bytes(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, data)

Path.write_bytes = die_in_the_middle
train.main(sys.argv[1:])
"""


def test_a_run_that_is_killed_while_it_writes_a_checkpoint(lab):
    keys = {"OPTIM__MAX_EPOCH": 4, "OPTIM__NAME": "adam"}
    # Sums are rounded in another order on another number of threads.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    root = Path(__file__).resolve().parents[3]
    child = subprocess.run([sys.executable, "-c", CHILD, *lab.command(**keys)], cwd=root, env=environment, timeout=120)
    assert child.returncode == -signal.SIGKILL
    left = [name for name in lab.files() if "/" in name]
    assert {"prompt_gen/model.pth.tar-1", "task_prompt_learner/model.pth.tar-2"} < set(left)
    assert any(name.startswith("prompt_gen/.model.pth.tar-2.") for name in left)
    mine = lab.run(**keys)
    whole = lab.run("whole", **keys)
    assert figures(mine) == figures(whole)
    assert same_tensors(lab.learned(), lab.learned("whole"))
    assert lab.files() == lab.files("whole")


def cut_off_with_history(lab):
    """A cut-off run with checkpoints of epochs 1 to 3, and the config keys that resume it."""
    keys = {"OPTIM__MAX_EPOCH": 5, "TRAIN__CHECKPOINT_FREQ": 1}
    cut_off(lab, epoch=3, batch=1, **keys)
    assert list(lab.checkpoints()) == [f"{name}/model.pth.tar-{epoch}" for name in NATA for epoch in (1, 2, 3)]
    return keys


def test_a_run_is_not_gone_on_with_on_other_images(lab, capsys, tmp_path):
    cut_off(lab, epoch=1, batch=0)
    other = Lab(write_toy(tmp_path / "other"), lab.backbone, lab.output)
    (split,) = (other.root / "tools").glob("split_*.json")
    content = read_json(split)
    write_json(split, {**content, "train": content["train"][3:]})
    before = lab.learned()
    capsys.readouterr()
    assert other.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the run in {lab.folder('run')} was begun on other training images (subset " in line
    assert same_tensors(lab.learned(), before)
    assert other.main("new", "--resume", str(lab.folder("run"))) == 2
    assert not lab.folder("new").exists()
    lab.run()


def relabel(root):
    """Exchange the labels of two classes in the training list."""
    (split,) = (root / "tools").glob("split_*.json")
    content = read_json(split)
    for row in content["train"]:
        row[1] = [1 - label if label < 2 else label for label in row[1]]
    write_json(split, content)


def rename(root):
    """Call a class otherwise."""
    (split,) = (root / "tools").glob("split_*.json")
    write_json(split, json.loads(split.read_text().replace('"hammer"', '"mallet"')))


def paint(root):
    """Make every picture black, with the sizes and times that the files had."""
    for path in root.rglob("*.png"):
        before, size = path.stat(), Image.open(path).size
        Image.new("RGB", size).save(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (relabel, "other training images|other labels, classes or tasks of the training images"),
        (rename, "other labels, classes or tasks of the training images"),
        (paint, "other pictures under the names of the training images"),
    ],
)
def test_a_run_is_not_gone_on_with_on_other_labels_or_pictures(lab, capsys, tmp_path, change, words):
    own = Lab(write_toy(tmp_path / "own"), lab.backbone, lab.output)
    cut_off(own, epoch=1, batch=0)
    change(own.root)
    capsys.readouterr()
    assert own.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"was begun on ({words})", line), line


def test_images_that_are_not_checked_any_more_do_not_stop_a_run(lab):
    cut_off(lab, epoch=1, batch=0)
    assert figures(lab.run(DATASET__CHECK_IMAGES=False)) == figures(lab.run("whole"))


def lose(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-300])


def empty(path):
    path.write_bytes(b"")


def strip(path):
    """What another program with the same layout may have left: tensors only."""
    import torch

    content = torch.load(path, weights_only=True)
    torch.save({"state_dict": content["state_dict"], "epoch": content["epoch"]}, path)


@pytest.mark.parametrize("damage", [lose, truncate, empty, strip])
def test_the_newest_whole_epoch_is_gone_on_with(lab, damage):
    keys = cut_off_with_history(lab)
    damaged = lab.folder("run") / "prompt_gen/model.pth.tar-3"
    damage(damaged)
    mine = lab.run(**keys)
    assert "after epoch 2\n" in lab.log()
    if damage in (truncate, empty):
        assert f"warning: checkpoint {damaged} is damaged" in lab.log()
    whole = lab.run("whole", **keys)
    assert figures(mine) == figures(whole)
    assert same_tensors(lab.learned(), lab.learned("whole"))


def test_with_nothing_but_damaged_checkpoints_the_run_starts_anew(lab):
    cut_off(lab, epoch=2, batch=1)
    truncate(lab.folder("run") / "prompt_gen/model.pth.tar-2")
    lab.run()
    lab.run("whole")
    assert lab.log().count("epoch [1/3][1/3]") == 2
    assert same_tensors(lab.learned(), lab.learned("whole"))


@pytest.mark.parametrize("keys", [KINDS["adam"], KINDS["best on val"]], ids=["adam", "best on val"])
def test_another_folder_can_be_gone_on_from(lab, keys):
    keys = {**keys, "OPTIM__MAX_EPOCH": 4}
    cut_off(lab, "first", epoch=2, batch=0, **keys)
    before = lab.files("first")
    resume = ["--resume", str(lab.folder("first"))]
    # The second run is interrupted, too, and then resumes from its own folder.
    cut_off(lab, "second", *resume, epoch=3, batch=1, **keys)
    mine = lab.run("second", *resume, **keys)
    assert re.findall(r"after epoch (\d)", lab.log("second")) == ["2", "3"]
    assert figures(mine) == figures(lab.run("whole", **keys))
    assert same_tensors(lab.learned("second"), lab.learned("whole"))
    assert lab.files("first") == before


def test_the_best_model_of_the_folder_that_was_gone_on_from_is_kept(lab):
    keys = {"TEST__FINAL_MODEL": "best_val", "OPTIM__MAX_EPOCH": 4, "seed": 3}
    whole = lab.run("whole", **keys)
    assert whole.best_epoch <= 2, "the test needs a run whose best epoch lies before the cut"
    cut_off(lab, "first", epoch=2, batch=0, **keys)
    mine = lab.run("second", "--resume", str(lab.folder("first")), **keys)
    assert figures(mine) == figures(whole)
    assert same_tensors(lab.learned("second"), lab.learned("whole"))


def test_a_run_begun_without_loss_scaling_can_go_on_with_it(lab):
    """As with amp, begun on a CPU and resumed on a GPU."""
    cut_off(lab, epoch=1, batch=1)
    trainer = lab.trainer()
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    assert trainer.checkpoints.resume() == 1
    assert trainer.scaler.is_enabled() and trainer.scaler.get_scale() == 8.0


def test_a_drawn_seed_is_kept_in_the_folder_that_is_gone_on_from(lab):
    cut_off(lab, "first", epoch=1, batch=0, seed=-1)
    mine = lab.run("second", "--resume", str(lab.folder("first")), seed=-1)
    assert f"SEED: {mine.seed}\n" in (lab.folder("first") / "config.yaml").read_text()


def test_a_folder_without_a_checkpoint_cannot_be_resumed(lab, capsys):
    nothing = lab.output / "nothing"
    assert lab.main("run", "--resume", str(nothing)) == 2
    assert capsys.readouterr().err == (
        f"error: nothing to resume in {nothing}: no epoch has a whole checkpoint of every learned module\n"
    )
    assert lab.files() == []


def test_a_folder_of_another_config_cannot_be_resumed(lab, capsys):
    cut_off(lab, "first", epoch=1, batch=0)
    assert lab.main("second", "--resume", str(lab.folder("first")), OPTIM__LR=1) == 2
    assert "OPTIM.LR is 0.05 there, 1.0 here" in capsys.readouterr().err
    assert lab.files("second") == []


@pytest.mark.parametrize("name", ["model.pth.tar-2", "checkpoint", "results.json"])
def test_a_full_disk_leaves_no_half_file(lab, capsys, monkeypatch, name):
    def full(write):
        def write_some(path, data, *arguments, **options):
            if name in path.name:
                write(path, data[: len(data) // 2], *arguments, **options)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return write(path, data, *arguments, **options)

        return write_some

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full(Path.write_bytes))
        patch.setattr(Path, "write_text", full(Path.write_text))
        assert lab.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"error: no space left while writing \S*/{name}; free some space and .*", line)
    assert [path for path in lab.files() if "/." in path or path.startswith(".") or path.endswith(name)] == []
    mine = lab.run()
    assert figures(mine) == figures(lab.run("whole"))
    assert same_tensors(lab.learned(), lab.learned("whole"))


def test_a_run_that_was_killed_before_it_wrote_which_epoch_is_the_newest(lab, monkeypatch):
    keys = {"TRAIN__CHECKPOINT_FREQ": 1}
    with monkeypatch.context() as patch:
        patch.setattr("dassl.engine.trainer.TrainerX.test", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert lab.main(**keys) == 130
    pointer = lab.folder("run") / "prompt_gen" / "checkpoint"
    pointer.write_text("model.pth.tar-2\n")
    lab.run(**keys)
    assert pointer.read_text() == "model.pth.tar-3\n"
