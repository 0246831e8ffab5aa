"""Every method that learns on the embedded suite, with the settings that it ships for it but two epochs of one view."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.results.record import read_results
from dassl.utils.cache import use_cache
from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT
from tests.dassl.engine.cutting import interrupted_after_the_last_step
from tests.lab import figures, same_tensors
from tests.trainers.test_all_methods import METHODS, OWN_CLASSES_ONLY, training_loss
from trainers.base import PromptTuner

# Two epochs of three batches are few steps: larger ones than most of the shipped settings take.
RATES = {"MTCoOp": 0.002, "TaskRes": 0.01, "TCP": 0.002, "CLIPLoRA": 0.002}
CLASSES = [10, 8, 8, 8, 6, 8]


@dataclass(frozen=True)
class Demo:
    """Runs of one method on Demo6; data and features are shared by all methods."""

    folder: Path
    name: str

    def place(self, run: str) -> Path:
        """The folder of a run."""
        return self.folder / self.name / run

    def command(self, run: str, *flags: str, **keys: object) -> list[str]:
        """Arguments of train.py."""
        files = {"--dataset-config-file": "datasets/demo6", "--config-file": f"trainers/{self.name}/demo"}
        named = [part for flag, file in files.items() for part in (flag, str(CHECKOUT / "configs" / f"{file}.yaml"))]
        places = ["--root", str(self.folder / "data"), "--output-dir", str(self.place(run)), "--seed", "1"]
        settings = {
            "DATASET__NUM_SHOTS": 2,
            "INPUT__NO_TRANSFORM": True,
            "OPTIM__LR": RATES.get(self.name, 0.02),
            "OPTIM__MAX_EPOCH": 2,
            "OPTIM__WARMUP_EPOCH": 0,
            "DATALOADER__FEATURES_DIR": self.folder / "features",
            "DATASET__CACHE_DIR": self.folder / "cache",
            "USE_CUDA": False,
            "VERBOSE": False,
            **keys,
        }
        pairs = [part for key, value in settings.items() for part in (key.replace("__", "."), str(value))]
        return ["--trainer", self.name, *named, *places, *flags, *pairs]

    def trainer(self) -> PromptTuner:
        """The trainer, ready to train."""
        return build_trainer(train.setup_cfg(train.parse(self.command("look"))))

    def learned(self, run: str) -> dict[str, torch.Tensor]:
        """What a run has learned."""
        files = sorted(self.place(run).rglob("model.pth.tar-*"))
        states = {file.parent.name: torch.load(file, weights_only=True)["state_dict"] for file in files}
        return {f"{name}:{key}": value for name, state in states.items() for key, value in state.items()}


def own_loss(trainer: PromptTuner) -> float:
    """What the method minimises, over all training images; for one that is fitted, the cross-entropy."""
    if trainer.optim is None:
        return training_loss(trainer)
    trainer.before_test()
    with torch.no_grad():
        return sum(float(trainer.loss(batch)[0]) for batch in trainer.dm.plain_loader("train"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where images and features lie."""
    return tmp_path_factory.mktemp("demo6")


# One of the methods on stored features stands for all; tests/trainers/test_all_methods.py has each of them.
ON_FEATURES = {"CLAP", "CLIPAdapter", "CrossModal", "GDA", "LPPlusPlus", "ProLIP", "TipAdapterF"}

# They refuse the ResNet of the demo, and have the demo's ViT in their configs.
VIT_ONLY = {"CLIPLoRA", "MVLPT", "MaPLe", "PromptSRC"}


@pytest.fixture(params=[name for name in METHODS if name not in ON_FEATURES])
def demo(request: pytest.FixtureRequest, shared: Path) -> Iterator[Demo]:
    """Runs of each method, in a process that keeps the backbone."""
    use_cache()
    yield Demo(shared, request.param)
    use_cache(False)


def test_two_epochs_learn_go_on_after_a_cut_and_are_evaluated_to_the_same_figures(demo):
    trainer = demo.trainer()
    before = own_loss(trainer)
    assert train.main(demo.command("whole")) == 0
    trainer.checkpoints.load(demo.place("whole"))
    assert own_loss(trainer) < before

    with interrupted_after_the_last_step():
        assert train.main(demo.command("cut")) == 130
    assert train.main(demo.command("cut")) == 0
    whole = read_results(demo.place("whole"))
    assert figures(read_results(demo.place("cut"))) == figures(whole)
    assert demo.learned("cut") and same_tensors(demo.learned("cut"), demo.learned("whole"))
    assert [task.classes for task in whole.tasks] == CLASSES and whole.counts["test"] == 1536

    assert train.main(demo.command("again", "--eval-only", "--model-dir", str(demo.place("whole")))) == 0
    again = read_results(demo.place("again"))
    assert (again.metric, again.tasks, again.parameters) == (whole.metric, whole.tasks, whole.parameters)


@pytest.mark.parametrize("name", sorted(VIT_ONLY))
def test_a_method_that_needs_a_vit_refuses_the_demo_in_one_line(shared, capsys, name):
    command = Demo(shared, name).command("refused", "--backbone", "demo")
    assert train.main(command) == 2
    cfg = train.setup_cfg(train.parse(command))
    # As a sweep does, before its first run.
    with pytest.raises(UserError, match=r"demo takes no learned tokens|cannot tune demo"):
        TRAINER_REGISTRY.get(name).check_model(cfg, fetch=False)
    assert re.search(r"error: .*demo.*; choose (one|a ViT,) such as ViT-B/16\n$", capsys.readouterr().err)


def test_base_classes_lead_to_new_ones_or_are_refused_in_one_line(demo, capsys):
    assert train.main(demo.command("base", DATASET__SUBSAMPLE_CLASSES="base")) == 0
    capsys.readouterr()
    trained = ["--eval-only", "--model-dir", str(demo.place("base"))]
    code = train.main(demo.command("new", *trained, DATASET__SUBSAMPLE_CLASSES="new"))
    if demo.trainer().bound_names:
        (line,) = capsys.readouterr().err.splitlines()
        assert code == 2 and OWN_CLASSES_ONLY in line
    else:
        assert code == 0
        assert [task.classes for task in read_results(demo.place("new")).tasks] == [count // 2 for count in CLASSES]
