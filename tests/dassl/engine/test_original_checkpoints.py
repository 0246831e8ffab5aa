"""Checkpoints as the original SoftCPT, CoOp and Dassl write them: objects inside, token tables, the whole CLIP."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

import dassl.optim.lr_scheduler as schedulers
from dassl.engine.checkpoint import BEST, epoch_file, load_checkpoint, load_learned
from dassl.utils.errors import UserError
from tests.lab import same_tensors

WARMUP = "ConstantWarmupScheduler"
CLIP_SIZE = 300_000  # values of the frozen model that every file drags along


class Warmup(LRScheduler):
    """The original's warm-up scheduler, as far as it is pickled: it holds its successor, and that the optimiser."""

    def __init__(self, optimizer, successor):
        self.successor, self.warmup_epoch, self.cons_lr = successor, 1, 1e-5
        super().__init__(optimizer)

    def get_lr(self):
        return [self.cons_lr for _ in self.base_lrs]

    def state_dict(self):
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}


Warmup.__module__, Warmup.__qualname__, Warmup.__name__ = schedulers.__name__, WARMUP, WARMUP


def original_content(state, epoch):
    """What the original saves for a module with these tensors."""
    learned = [nn.Parameter(value) for key, value in state.items() if "token" not in key]
    frozen = nn.Linear(CLIP_SIZE // 10 - 1, 10, bias=False).requires_grad_(False)
    optimizer = torch.optim.SGD([*frozen.parameters(), *learned], lr=0.002, momentum=0.9)
    for each in learned:
        each.grad = torch.zeros_like(each)
    optimizer.step()
    scheduler = Warmup(optimizer, CosineAnnealingLR(optimizer, 50.0))
    objects = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    return {"state_dict": state, "epoch": epoch, **objects, "val_result": None}


def write_original(run, modules, *, epoch=50, name="", legacy=False):
    """A run folder of the original with the tensors ``modules``: {folder: {key: tensor}}."""
    setattr(schedulers, WARMUP, Warmup)
    try:
        for module, state in modules.items():
            folder = run / module
            folder.mkdir(parents=True)
            name = name or epoch_file(epoch)
            torch.save(original_content(state, epoch), folder / name, _use_new_zipfile_serialization=not legacy)
            (folder / "checkpoint").write_text(f"{name}\n")
    finally:
        delattr(schedulers, WARMUP)
    return run


def tables(prefix=""):
    """Token tables, of a size that fits no class here."""
    return {f"{prefix}token_prefix": torch.ones(9, 1, 4), f"{prefix}token_suffix": torch.ones(9, 60, 4)}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "old format"])
def test_tensors_and_epoch_are_read_and_nothing_else(tmp_path, legacy):
    ctx = torch.arange(6.0).view(2, 3).half()
    run = write_original(tmp_path / "run", {"prompt_learner": {"ctx": ctx, **tables()}}, legacy=legacy)
    path = run / "prompt_learner" / epoch_file(50)
    assert path.stat().st_size > 4 * CLIP_SIZE, "the frozen model is not in the file"
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
        torch.load(path, weights_only=True)
    content = load_checkpoint(path)
    assert set(content) == {"state_dict", "epoch"}
    assert content["epoch"] == 50
    assert torch.equal(content["state_dict"]["ctx"], ctx)
    module = nn.Module()
    module.ctx = nn.Parameter(torch.zeros(2, 3))
    load_learned(module, content["state_dict"], source=path)
    assert module.ctx.dtype == torch.float32
    assert torch.equal(module.ctx, ctx.float())


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "old format"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_a_file_that_was_cut_off_is_one_line(tmp_path, legacy, share):
    run = write_original(tmp_path / "run", {"prompt_learner": {"ctx": torch.ones(2, 3)}}, legacy=legacy)
    path = run / "prompt_learner" / epoch_file(50)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"^checkpoint [^\n]* is damaged[^\n]*$"):
        load_checkpoint(path)


class Bomb:
    """Calls ``function(*arguments)`` when it is unpickled the usual way."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "old format"])
@pytest.mark.parametrize("place", ["whole", "state", "scheduler", "key"])
@pytest.mark.parametrize("caller", ["os.system", "subprocess", "eval", "print", "touch"])
def test_nothing_in_a_file_is_executed(tmp_path, legacy, place, caller, capfd):
    mark = tmp_path / "executed"
    command = f"{sys.executable} -c \"open({str(mark)!r}, 'w')\""
    bombs = {
        "os.system": Bomb(os.system, command),
        "subprocess": Bomb(subprocess.Popen, command.split(" ", 1)),
        "eval": Bomb(eval, f"open({str(mark)!r}, 'w')"),
        "print": Bomb(print, "executed"),
        "touch": Bomb(Path.touch, mark),
    }
    bomb, ctx = bombs[caller], torch.ones(2)
    contents = {
        "whole": bomb,
        "state": {"state_dict": {"ctx": ctx, "other": bomb}, "epoch": 1},
        "scheduler": {"state_dict": {"ctx": ctx}, "epoch": 1, "scheduler": {"successor": bomb}},
        "key": {"state_dict": {"ctx": ctx}, "epoch": 1, "optimizer": (bomb, [bomb])},
    }
    path = tmp_path / "file"
    torch.save(contents[place], path, _use_new_zipfile_serialization=not legacy)
    try:
        assert torch.equal(load_checkpoint(path)["state_dict"]["ctx"], ctx)
    except UserError as error:
        assert "damaged or not a checkpoint" in str(error)
        assert not any(word in str(error) for word in ("\n", "trust", "weights_only"))
    assert not mark.exists()
    assert "executed" not in "".join(capfd.readouterr())


def test_a_bomb_would_go_off_in_the_usual_reader(tmp_path):
    mark = tmp_path / "executed"
    torch.save({"epoch": Bomb(Path.touch, mark)}, tmp_path / "file")
    torch.load(tmp_path / "file", weights_only=False)
    assert mark.exists()


@pytest.mark.filterwarnings("ignore")
def test_archives_of_other_kinds_are_refused(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "program")
    (tmp_path / "text").write_text("state_dict epoch")
    for name in ("program", "text"):
        with pytest.raises(UserError, match="damaged or not a checkpoint") as caught:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)


HARD = {"per task": {"TSC": True}, "shared": {}, "per class": {"CSC": True}}


@pytest.mark.parametrize("mode", HARD)
@pytest.mark.parametrize("name", ["", BEST], ids=["last", "best"])
def test_coop_and_hard_sharing_runs_are_evaluated(lab, tmp_path, mode, name):
    options = {f"TRAINER__MTCOOPH__{key}": value for key, value in HARD[mode].items()}
    trained = lab.run("mine", trainer="MTCoOpHard", **options)
    state = lab.checkpoints("mine")["prompt_learner/model.pth.tar-3"]["state_dict"]
    prefixes = ("learners.0.", "learners.1.") if mode == "per task" else ("",)
    assert all(key.endswith("ctx") for key in state)
    state = {**state, **{key: value for prefix in prefixes for key, value in tables(prefix).items()}}
    write_original(tmp_path / "theirs", {"prompt_learner": state}, epoch=200, name=name)
    flags = ("--eval-only", "--model-dir", str(tmp_path / "theirs"))
    assert lab.run("evaluated", *flags, trainer="MTCoOpHard", **options).tasks == trained.tasks
    assert "was written by other code" in lab.log("evaluated")


@pytest.mark.parametrize("csc", [False, True])
@pytest.mark.parametrize("trainer", ["CoOp", "MTCoOpHard"])
def test_coop_runs_of_one_task_are_evaluated_by_both_trainers(lab, tmp_path, trainer, csc):
    keys = {"DATASET__SUBSAMPLE_TASKS": "task1"}
    options = {"COOP": {"N_CTX": 2, "CSC": csc, "PREC": "fp32"}, "MTCOOPH": {"CSC": csc}}
    own = {f"TRAINER__{node}__{key}": value for node, each in options.items() for key, value in each.items()}
    trained = lab.run("mine", trainer="CoOp", **keys, **own)
    state = lab.checkpoints("mine")["prompt_learner/model.pth.tar-3"]["state_dict"]
    folder = write_original(tmp_path / "theirs", {"prompt_learner": {**state, **tables()}}, epoch=200)
    flags = ("--eval-only", "--model-dir", str(folder))
    assert lab.run("evaluated", *flags, trainer=trainer, **keys, **own).tasks == trained.tasks


UNUSED = {
    "KgCoOp": {"bias_vectors": torch.ones(1, 512), "meta_net.linear1.weight": torch.ones(512, 512), **tables()},
    "TaskRes": {"base_text_features": torch.ones(5, 7).half()},
}


@pytest.mark.parametrize("trainer", UNUSED)
def test_what_kgcoop_and_taskres_save_beside_what_they_learn_is_named_and_left_out(lab, tmp_path, trainer):
    options = {"DATASET__SUBSAMPLE_TASKS": "task1", "TRAINER__COOP__N_CTX": 4, "TRAINER__COOP__PREC": "fp32"}
    trained = lab.run("mine", trainer=trainer, **options)
    state = lab.checkpoints("mine")["prompt_learner/model.pth.tar-3"]["state_dict"]
    folder = write_original(tmp_path / "theirs", {"prompt_learner": {**state, **UNUSED[trainer]}}, epoch=100)
    result = lab.run("evaluated", "--eval-only", "--model-dir", str(folder), trainer=trainer, **options)
    assert result.tasks == trained.tasks
    (warning,) = [text for text in result.warnings if "left out" in text]
    assert all(name in warning for name in UNUSED[trainer] if "token" not in name)


def test_unknown_tensors_are_refused(lab, tmp_path, capsys):
    options = {"DATASET__SUBSAMPLE_TASKS": "task1", "TRAINER__COOP__N_CTX": 4, "TRAINER__COOP__PREC": "fp32"}
    lab.run("mine", trainer="CoOp", **options)
    state = lab.checkpoints("mine")["prompt_learner/model.pth.tar-3"]["state_dict"]
    folder = write_original(tmp_path / "theirs", {"prompt_learner": {**state, "adapter": torch.ones(2)}})
    assert lab.main("evaluated", "--eval-only", "--model-dir", str(folder), trainer="CoOp", **options) == 2
    assert "adapter is not part of the model" in capsys.readouterr().err


@pytest.fixture
def softcpt(lab, tmp_path):
    """A run of ours, and the same as a folder of the original (keys of the CSTA variant)."""
    options = {"TRAINER__MTCOOP__CSC": True, "TRAINER__MTCOOP__CLASS_CSC": True}
    mine = lab.run("mine", **options)
    modules = {"prompt_learner": {**tables("0."), **tables("1.")}}
    for path, content in lab.checkpoints("mine").items():
        module = path.split("/")[0]
        modules[module] = dict(content["state_dict"]) | ({} if module == "prompt_gen" else tables())
    assert set(modules) == {"prompt_learner", "prompt_gen", "task_prompt_learner", "class_prompt_learner"}
    return mine, options, write_original(tmp_path / "theirs", modules, epoch=3)


def test_softcpt_runs_are_evaluated(lab, softcpt):
    mine, options, folder = softcpt
    for number, flags in enumerate(((), ("--load-epoch", "3"))):
        name = f"evaluated{number}"
        assert lab.run(name, "--eval-only", "--model-dir", str(folder), *flags, **options).tasks == mine.tasks


def test_training_starts_from_their_weights(lab, softcpt):
    _, options, folder = softcpt
    trainer = lab.trainer("next", MODEL__INIT_WEIGHTS=str(folder), **options)
    for name, module in trainer.modules.items():
        state = {f"{name}/model.pth.tar-3:{key}": value for key, value in module.state_dict().items()}
        learned = {key: value for key, value in lab.learned("mine").items() if key.startswith(name)}
        assert same_tensors(state, learned)


@pytest.mark.parametrize("where", ["resume", "own folder"])
def test_going_on_with_their_training_is_refused(lab, softcpt, where, capsys):
    _, options, folder = softcpt
    before = sorted(path.name for path in folder.iterdir())
    flags = ("--resume", str(folder)) if where == "resume" else ("--output-dir", str(folder))
    capsys.readouterr()
    assert lab.main("next", *flags, **options) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"start from their weights with MODEL.INIT_WEIGHTS {folder}" in message
    assert sorted(path.name for path in folder.iterdir() if path.name != "cache") == before
    assert not lab.folder("next").exists()


def test_other_sizes_are_named(lab, softcpt, capsys):
    _, options, folder = softcpt
    flags = ("--eval-only", "--model-dir", str(folder))
    assert lab.main("other", *flags, **options, TRAINER__MTCOOP__TASK_N_CTX=3) == 2
    assert "does not fit the config: ctx is (2, 128) there, (3, 128) here" in capsys.readouterr().err
