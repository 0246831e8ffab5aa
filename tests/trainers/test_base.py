"""What the engine does for a method that tunes the image tower; the method here learns the brightness of images."""

import pytest
import torch
from torch import nn

from dassl.data import flat_classnames
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.cache import use_cache
from dassl.utils.errors import UserError
from tests.lab import figures, same_tensors
from trainers._prompts import ContextPrompts
from trainers.base import PromptTuner

SHORT = {"trainer": "Brightness", "OPTIM__MAX_EPOCH": 2, "OPTIM__WARMUP_EPOCH": 0}


class Bright(nn.Module):
    """One context, and a factor for each channel of an image."""

    def __init__(self, backbone, names, options, seed):
        super().__init__()
        self.prompts = ContextPrompts.from_options(backbone.text, names, options, seed=seed, key="bright.ctx")
        self.factor = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, columns=None):
        return self.prompts()


class Brightness(PromptTuner):
    section = "MTCOOPH"
    tunes = ("text", "image")

    def build_prompts(self, backbone, tasks):
        return Bright(backbone, flat_classnames(tasks), self.options, self.cfg.SEED)

    def learned_modules(self):
        return {"bright": self.model}

    def through_tower(self, images):
        return self.backbone.encode_image(self.model.factor * images)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The method is known in these tests only."""
    TRAINER_REGISTRY.names()
    monkeypatch.setitem(TRAINER_REGISTRY._entries, "Brightness", Brightness)


def test_every_method_declares_towers():
    for method in TRAINER_REGISTRY:
        assert isinstance(method.tunes, tuple) and set(method.tunes) <= {"text", "image"}, method.__name__


@pytest.mark.parametrize("features", ["on", "off"])
def test_a_training_batch_passes_the_image_tower_with_gradient_and_a_test_batch_without(lab, features):
    trainer = lab.trainer(**SHORT, DATALOADER__FEATURES=features)
    batch = next(iter(trainer.dm.train_loader_x))
    assert "img" in batch and "feat" not in batch
    trainer.gradients(batch)
    assert trainer.model.factor.grad.abs().sum() > 0
    with torch.no_grad():
        assert not trainer.image_features(batch).requires_grad


def test_the_gradient_is_that_of_the_plain_computation(lab):
    trainer = lab.trainer(**SHORT)
    batch = next(iter(trainer.dm.train_loader_x))
    trainer.gradients(batch)
    factor = torch.ones(3, 1, 1, requires_grad=True)
    image = nn.functional.normalize(trainer.backbone.visual(batch["img"] * factor), dim=-1)
    text = nn.functional.normalize(trainer.model().detach(), dim=-1)
    row, task, column = trainer.parse_batch_train(batch)
    logits = (trainer.backbone.logit_scale * image @ text.T)[row]
    logits = logits.masked_fill(trainer.task_of_class != task[:, None], -torch.inf)
    (nn.functional.cross_entropy(logits, column, reduction="sum") / len(image)).backward()
    torch.testing.assert_close(trainer.model.factor.grad, factor.grad)


def test_nothing_is_stored_and_the_log_says_so(lab):
    lab.run(**SHORT, DATALOADER__FEATURES="on")
    assert "tunes the image tower: nothing is stored" in lab.log()
    assert not list(lab.output.rglob("*.npy"))


def test_a_frozen_method_is_told_that_checkpointing_changes_nothing(lab):
    lab.run(MODEL__IMAGE_CHECKPOINT=True, OPTIM__MAX_EPOCH=1)
    assert "MODEL.IMAGE_CHECKPOINT changes nothing" in lab.log()


@pytest.mark.parametrize("precision", ["amp", "bf16"])
def test_every_precision_learns_in_float32(lab, precision):
    assert lab.run(**SHORT, TRAINER__MTCOOPH__PREC=precision).backbone.precision == precision
    assert all(value.dtype == torch.float32 for value in lab.learned().values())
    assert any((value != 1).any() for key, value in lab.learned().items() if key.endswith("factor"))


def test_the_kept_backbone_stays_as_it_was_loaded(lab):
    use_cache(True)
    trainer = lab.trainer(**SHORT)
    before = {name: value.clone() for name, value in trainer.backbone.state_dict().items()}
    trainer.train()
    again = lab.trainer(**SHORT)
    assert again.backbone is trainer.backbone
    assert same_tensors(before, trainer.backbone.state_dict())
    assert not any(each.requires_grad for each in trainer.backbone.parameters())


def test_it_is_evaluated_on_new_classes_and_to_the_same_figures(lab):
    mine = lab.run(**SHORT, DATASET__SUBSAMPLE_CLASSES="base")
    again = lab.run(
        "again", "--eval-only", "--model-dir", str(lab.folder("run")), **SHORT, DATASET__SUBSAMPLE_CLASSES="base"
    )
    assert figures(mine)[:2] == figures(again)[:2]
    new = lab.run(
        "new", "--eval-only", "--model-dir", str(lab.folder("run")), **SHORT, DATASET__SUBSAMPLE_CLASSES="new"
    )
    assert [task.classes for task in new.tasks] == [1, 2]


def test_validation_images_choose_the_epoch(lab):
    result = lab.run(**SHORT, TEST__FINAL_MODEL="best_val")
    assert result.best_epoch in (1, 2)


@pytest.mark.parametrize("wanted", ["local_features", "image_module"])
def test_what_a_frozen_tower_gives_is_refused_by_name(lab, wanted):
    trainer = lab.trainer(**SHORT)
    arguments = (torch.zeros(1, 3, 32, 32),) if wanted == "local_features" else ()
    with pytest.raises(UserError, match=r"^Brightness tunes the image tower, so .*; .*$"):
        getattr(trainer, wanted)(*arguments)
