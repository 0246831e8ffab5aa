"""The compared methods beside numbers that their originals gave (tests/trainers/recorded/README.md)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dassl.config import get_cfg_default, merge_cfg
from dassl.data.datum import Datum, Task
from dassl.data.loaders import describe
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation.scores import score_task
from tests.clip.helpers import openai_state, random_model
from tests.golden.prompts import FixedData
from tests.lab import Lab
from tests.trainers.recorded import problem, runs
from trainers._probe import TaskProbe
from trainers.base import PromptTuner
from trainers.linear_probe import GRID, grid_peak, narrow

FOLDER = Path(__file__).with_name("recorded")
FACTS = json.loads((FOLDER / "methods.json").read_text())
TENSORS = load_file(FOLDER / "methods.safetensors")
# Rounding: 3e-6 was seen before the steps; a step multiplies it.
START, AFTER, LOSS = 1e-4, 2e-5, 2e-4
OPTIM = {
    "OPTIM.NAME": "sgd",
    "OPTIM.LR": 0.05,
    "OPTIM.MAX_EPOCH": 10,
    "OPTIM.LR_SCHEDULER": "cosine",
    "OPTIM.WARMUP_EPOCH": 1,
    "OPTIM.WARMUP_TYPE": "constant",
    "OPTIM.WARMUP_CONS_LR": 1e-3,
}


@dataclass(frozen=True)
class Method:
    """A recorded case: the trainer, its network, its keys; a learned tensor that ``draws`` has a recorded start."""

    trainer: str
    section: str
    variant: str = "vit"
    keys: dict[str, Any] | None = None
    draws: bool = True
    template: str = problem.TEMPLATE

    @property
    def settings(self) -> dict[str, Any]:
        """Config keys of the original's run."""
        own = {f"TRAINER.{self.section}.{key}": value for key, value in (self.keys or {}).items() if "." not in key}
        return {
            f"TRAINER.{self.section}.PREC": "fp32",
            **OPTIM,
            **own,
            **{key: value for key, value in (self.keys or {}).items() if "." in key},
        }


METHODS = {
    "CoOp": Method("CoOp", "COOP", keys={"N_CTX": 4}),
    "CoOp-class": Method("CoOp", "COOP", "rn", {"N_CTX": 2, "CSC": True, "CLASS_TOKEN_POSITION": "middle"}),
    "CoOp-front": Method(
        "CoOp", "COOP", keys={"N_CTX": 4, "CTX_INIT": "a photo of a", "CLASS_TOKEN_POSITION": "front"}, draws=False
    ),
    "CoCoOp": Method("CoCoOp", "COCOOP", keys={"N_CTX": 4}),
    "ProGrad": Method("ProGrad", "COOP", keys={"N_CTX": 4}),
    "ProGrad-words": Method(
        "ProGrad",
        "COOP",
        "rn",
        {"N_CTX": 10, "CTX_INIT": True, "LOSS.T": 2.0, "LOSS.LAMBDA": 0.8},
        draws=False,
        template="{} texture.",
    ),
    "KgCoOp": Method("KgCoOp", "COOP", keys={"N_CTX": 4, "W": 8.0}),
    "KgCoOp-words": Method("KgCoOp", "COOP", "rn", {"N_CTX": 4, "W": 2.0, "CTX_INIT": True}, draws=False),
    "PLOT": Method("PLOT", "PLOT", "rn", {"N": 2, "N_CTX": 4}),
    "TaskRes": Method("TaskRes", "TaskRes", keys={"RESIDUAL_SCALE": 0.5, "OPTIM.NAME": "adam", "OPTIM.LR": 0.01}),
    "TaskRes-sgd": Method("TaskRes", "TaskRes", "rn", {"RESIDUAL_SCALE": 1.0}),
}
ZERO_SHOT = {"ZeroshotCLIP": "vit", "ZeroshotCLIP2": "rn"}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Files of the two random networks that the originals were run with."""
    folder = tmp_path_factory.mktemp("networks")
    for variant in problem.SIZE:
        save_file(problem.rounded(openai_state(random_model(variant))), folder / f"{variant}.safetensors")
    return folder


def build(networks: Path, name: str, method: Method) -> PromptTuner:
    """The trainer of a case with its recorded starting values and batch."""
    size = problem.SIZE[method.variant]
    settings = {
        **method.settings,
        "TRAINER.NAME": method.trainer,
        "MODEL.BACKBONE.NAME": networks / f"{method.variant}.safetensors",
        "INPUT.SIZE": f"{size},{size}",
        "USE_CUDA": False,
    }
    cfg = get_cfg_default()
    merge_cfg(cfg, pairs=[str(part) for pair in settings.items() for part in pair])
    items = [Datum(f"image {number}", label) for number, label in enumerate(problem.LABELS)]
    batch = {**describe(items, range(len(items))), "img": problem.images(method.variant)}
    task = Task("pets", problem.NAMES, template=method.template)
    trainer = TRAINER_REGISTRY.get(method.trainer)(cfg, FixedData([task], batch))
    if method.draws:
        for key, parameter in learned(trainer).items():
            with torch.no_grad():
                parameter.copy_(problem.start(name, key, parameter.shape))
    return trainer


def learned(trainer: PromptTuner) -> dict[str, Tensor]:
    """Learned tensors by the originals' names."""
    if not trainer.learned_modules():
        return {}
    return dict(trainer.learned_modules()["prompt_learner"].named_parameters())


def logits(trainer: PromptTuner) -> Tensor:
    with torch.no_grad():
        trainer.before_test()
        return trainer.model_inference(trainer.dm.train_loader_x[0])


def close(mine: Tensor, theirs: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_steps_of_its_original(networks, name):
    trainer, fact = build(networks, name, METHODS[name]), FACTS[name]
    close(logits(trainer), TENSORS[f"{name}.logits"], START)
    trainer.printing = True
    for step, (losses, rate) in enumerate(zip(fact["losses"], fact["rates"], strict=True)):
        assert trainer.sched.get_last_lr()[0] == pytest.approx(rate, rel=1e-9)
        shown = trainer.forward_backward(trainer.dm.train_loader_x[0])
        assert [float(shown[key]) for key in ("loss", "kl") if key in shown] == pytest.approx(losses, abs=LOSS)
        if step == 0:
            for key, parameter in learned(trainer).items():
                close(parameter.grad, TENSORS[f"{name}.grad.{key}"], START)
        trainer.step_schedule()
    for key, parameter in learned(trainer).items():
        close(parameter.detach(), TENSORS[f"{name}.after.{key}"], AFTER)
    close(logits(trainer), TENSORS[f"{name}.logits_after"], 10 * START)


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_zero_shot_clip_scores_as_its_original(networks, name):
    trainer = build(networks, name, Method(name, "ZSCLIP", ZERO_SHOT[name]))
    close(logits(trainer), TENSORS[f"{name}.logits"], START)


def test_the_linear_probe_chooses_and_scores_as_its_original():
    parts = {part: tuple(map(torch.from_numpy, problem.probe_features(part))) for part in ("train", "val", "test")}
    task = Task("toy", ("a", "b", "c", "d"))
    probe = TaskProbe(0, task, train=parts["train"], val=parts["val"])
    test, truth = (part.numpy() for part in parts["test"])
    peak = grid_peak([probe.score(c) for c in GRID])
    for steps, (c, accuracy) in enumerate(FACTS["LinearProbe"]["steps"], start=1):
        mine = narrow(peak, probe.score, steps=steps)
        assert mine == pytest.approx(c, rel=1e-9)
        confusion = torch.zeros(4, 4, dtype=torch.int64)
        for label, found in zip(truth, probe.fit(mine).predict(test), strict=True):
            confusion[label, found] += 1
        assert score_task(0, task, confusion.numpy()).metric == pytest.approx(accuracy, abs=0.005)


def test_every_recorded_number_is_compared():
    assert set(FACTS) == {*METHODS, "LinearProbe"}
    names = {key.split(".")[0] for key in TENSORS}
    assert names == {*METHODS, *ZERO_SHOT}


WHOLE_RUNS = json.loads((FOLDER / "runs.json").read_text())


@pytest.mark.parametrize("name", runs.RUNS)
def test_a_whole_run_prints_the_figures_of_its_original(networks, toy_root, tmp_path, name):
    lab = Lab(toy_root, networks / "vit.safetensors", tmp_path)
    lab.run(**runs.RUNS[name])
    mine, theirs = runs.printed(lab.log()), WHOLE_RUNS[name]
    assert mine["result"] == theirs["result"]
    assert len(mine["steps"]) == len(theirs["steps"]) == runs.EPOCHS
    for found, recorded in zip(mine["steps"], theirs["steps"], strict=True):
        assert found[:-1] == pytest.approx(recorded[:-1], rel=1e-4)
    # At the last batch of an epoch the original prints the rate of the next one.
    rates = [[step[-1] for step in each["steps"]] for each in (mine, theirs)]
    assert rates[0][1:] == pytest.approx(rates[1][:-1], rel=1e-6)
