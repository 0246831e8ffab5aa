"""ProLIP: its steps by a plain module, per task and for all tasks, and its features in the store."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from clip.projection import last_projection
from tests.trainers.features import work

OPTIONS = {
    "trainer": "ProLIP",
    "TRAINER__PROLIP__PREC": "fp32",
    "TRAINER__PROLIP__VIEWS": 2,
    "TRAINER__PROLIP__EPOCHS": 6,
    "TRAINER__PROLIP__LR": 0.01,
}


def by_hand(trainer, tasks, strength):
    """The projection after six steps, with the bias of the tower."""
    first, bias = trainer._projection()
    layer = nn.Linear(first.shape[1], first.shape[0])
    layer.weight.data.copy_(first)
    layer.bias.data.copy_(bias)
    layer.bias.requires_grad_(False)
    optimiser = torch.optim.Adam([layer.weight], lr=0.01, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 6)
    for step in range(6):
        losses = []
        for task in tasks:
            for x, y in zip(task.views[step % 2], task.label, strict=True):
                logits = task.scale * functional.cosine_similarity(layer(x)[None], task.text, dim=-1)
                losses.append(functional.cross_entropy(logits[None], y[None]))
        loss = torch.stack(losses).mean() + strength * (layer.weight - first).pow(2).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return layer.weight.detach()


def random_task(trainer, *, classes, seed):
    """A task with features of the tower's widths, two images of each class."""
    weight, _ = trainer._projection()
    task = work(classes=classes, width=weight.shape[1], train=2 * classes, views=2, seed=seed)
    text = torch.randn(classes, len(weight), generator=torch.Generator().manual_seed(seed))
    return type(task)(0, task.task, 5.0, text, task.views, torch.arange(2 * classes) // 2, task.val, task.val_label)


def test_a_fit_is_that_of_a_plain_layer_held_near_its_start(lab):
    trainer = lab.trainer(**OPTIONS)
    task = random_task(trainer, classes=4, seed=0)
    found = trainer.fit_task(task).tensors["weight"]
    torch.testing.assert_close(found, by_hand(trainer, [task], 0.5), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(found, trainer._projection()[0], atol=1e-3)


def test_a_shared_projection_learns_from_all_images(lab):
    trainer = lab.trainer(**OPTIONS, TRAINER__PROLIP__SHARED=True)
    tasks = [random_task(trainer, classes=classes, seed=classes) for classes in (3, 5)]
    found = trainer._descend(tasks)
    torch.testing.assert_close(found, by_hand(trainer, tasks, 0.5), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("shared", "count"), [(False, 2), (True, 1)])
def test_a_run_counts_its_projections_and_starts_as_zero_shot_clip(lab, shared, count):
    keys = {**OPTIONS, "TRAINER__PROLIP__SHARED": shared}
    trainer = lab.trainer(**keys)
    weight, _ = last_projection(trainer.backbone.visual)
    batch = next(iter(trainer.dm.test_loader))
    image, text = trainer.backbone.encode_image(batch["img"]), trainer.model.text
    cosine = functional.cosine_similarity(image[:, None], text[None], dim=-1)
    found = trainer.model_inference(batch)
    own = found.isfinite()
    torch.testing.assert_close(found[own], (trainer.backbone.logit_scale * cosine)[own], rtol=1e-3, atol=1e-3)
    assert lab.run(**keys).parameters == count * weight.numel()


def test_a_shared_projection_is_evaluated_on_other_classes_and_its_features_are_stored_apart(lab):
    keys = {**OPTIONS, "TRAINER__PROLIP__SHARED": True, "DATALOADER__FEATURES": "on"}
    lab.run("base", **keys, DATASET__SUBSAMPLE_CLASSES="base")
    trained = ["--eval-only", "--model-dir", str(lab.folder("base"))]
    assert lab.run("new", *trained, **keys, DATASET__SUBSAMPLE_CLASSES="new").metric is not None
    other = lab.trainer("other", trainer="GDA", TRAINER__GDA__PREC="fp32")
    assert lab.trainer("look", **keys).encoder_id == f"{other.encoder_id}-before-projection"
