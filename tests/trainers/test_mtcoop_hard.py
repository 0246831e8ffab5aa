"""Hard sharing: the loss over the classes of all tasks, and runs that start from others."""

import logging
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from dassl.data.datum import Task
from trainers._union import names_in_several

HARD = {"trainer": "MTCoOpHard", "DATALOADER__TRAIN_X__BATCH_SIZE": 16}
UNION = {**HARD, "TRAINER__MTCOOPH__UNION": True}


def loss_of_a_batch(trainer):
    (batch,) = trainer.dm.train_loader_x
    trainer.printing = False
    loss, _ = trainer.loss(batch)
    return batch, loss


def test_union_compares_an_image_with_the_classes_of_all_tasks(lab):
    trainer = lab.trainer(**UNION)
    batch, loss = loss_of_a_batch(trainer)
    trainer.before_test()
    logits = trainer.model_inference(batch)[batch["row"]]
    column = batch["label"] + trainer.dm.offsets[batch["task"]]
    plain = functional.cross_entropy(logits, column)
    assert loss.item() == pytest.approx(plain.item(), abs=1e-5)
    _, masked = loss_of_a_batch(lab.trainer(**HARD))
    assert loss > masked


def test_union_pushes_away_the_classes_of_other_tasks(lab):
    for keys, reached in ((UNION, True), (HARD, False)):
        trainer = lab.trainer(**keys, OUTPUT_DIR=lab.folder(str(reached)))
        (batch,) = trainer.dm.train_loader_x
        scores = trainer.scores(batch)
        logits = scores.logits.detach().requires_grad_()
        trainer.printing = False
        trainer.cross_entropy(replace(scores, logits=logits))[0].backward()
        assert bool((logits.grad[~scores.columns] > 0).all()) is reached


def test_equal_names_in_several_tasks_are_found():
    tasks = [Task("pets", ("Cat", "dog")), Task("wild", ("cat ", "big_fox")), Task("more", ("big fox", "owl"))]
    assert names_in_several(tasks) == {"cat": ["pets", "wild"], "big fox": ["wild", "more"]}


def test_training_starts_from_the_mean_of_several_runs(lab, caplog):
    for seed in (1, 2, 3):
        lab.run(f"seed{seed}", seed=seed, **HARD)
    folders = [lab.folder(f"seed{seed}") for seed in (1, 2, 3)]
    own = [torch.load(next(f.glob("prompt_learner/model.pth.tar-*")))["state_dict"]["ctx"] for f in folders]
    with caplog.at_level(logging.INFO):
        trainer = lab.trainer(**HARD, MODEL__INIT_WEIGHTS=", ".join(map(str, folders)))
    assert torch.allclose(trainer.model.prompt_learner.ctx, torch.stack(own).mean(0), atol=1e-7)
    assert "mean over 3 runs" in caplog.text
    one = lab.trainer(**HARD, MODEL__INIT_WEIGHTS=str(folders[1]))
    assert torch.equal(one.model.prompt_learner.ctx, own[1])
