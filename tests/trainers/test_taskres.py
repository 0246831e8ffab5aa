"""TaskRes: class features are those of the templates and a scaled residual."""

import pytest
import torch

from dassl.config import get_cfg_default, merge_cfg
from dassl.utils.tools import CHECKOUT

KEYS = {"trainer": "TaskRes"}


def test_it_starts_as_zero_shot_clip(lab):
    start = lab.trainer("start", **KEYS)
    zero_shot = lab.trainer("zero", trainer="ZeroshotCLIP")
    torch.testing.assert_close(start.model(), zero_shot.model())
    assert start.num_parameters == start.model().numel()


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_a_step_moves_the_features_by_the_scaled_residual(lab, alpha):
    keys = {"OPTIM__LR": 0.1, "OPTIM__MOMENTUM": 0, "OPTIM__WEIGHT_DECAY": 0, "OPTIM__WARMUP_EPOCH": 0}
    trainer = lab.trainer(**KEYS, **keys, TRAINER__TaskRes__RESIDUAL_SCALE=alpha)
    before = trainer.model().detach()
    batch = next(iter(trainer.dm.train_loader_x))
    trainer.forward_backward(batch)

    features = before.clone().requires_grad_()
    images = torch.nn.functional.normalize(trainer.backbone.encode_image(batch["img"]), dim=1)
    scores = trainer.backbone.logit_scale * images @ torch.nn.functional.normalize(features, dim=1).T
    loss = 0
    for row, task, label in zip(scores, batch["task"].tolist(), batch["label"].tolist(), strict=True):
        loss = loss - (row[:3] if task == 0 else row[3:]).log_softmax(0)[label] / len(images)
    (gradient,) = torch.autograd.grad(loss, features)
    # x moves by -lr * alpha * dL/dw, and w by alpha times that.
    torch.testing.assert_close(trainer.model().detach(), before - 0.1 * alpha**2 * gradient, rtol=1e-4, atol=1e-5)


def test_the_base_is_no_part_of_the_checkpoint(lab):
    lab.run(**KEYS)
    backbone = lab.trainer("look", **KEYS).backbone
    assert [tuple(value.shape) for value in lab.learned().values()] == [(8, backbone.embed_dim)]


@pytest.mark.parametrize(("shots", "epochs"), [("ep100", 100), ("ep200", 200)])
@pytest.mark.parametrize("backbone", ["", "_RN101", "_ViT32", "_ViT16"])
def test_shipped_settings_are_the_official_ones(shots, epochs, backbone):
    cfg = get_cfg_default()
    merge_cfg(cfg, files=[CHECKOUT / "configs/trainers/TaskRes" / f"adam_lr2e-3_B256_{shots}{backbone}.yaml"])
    found = {**cfg.OPTIM, **cfg.DATALOADER.TRAIN_X, **cfg.TRAINER.TaskRes}
    expected = {"NAME": "adam", "LR": 0.002, "MAX_EPOCH": epochs, "WEIGHT_DECAY": 5e-4, "BATCH_SIZE": 256}
    assert {key: found[key] for key in expected} == expected
    assert found["RESIDUAL_SCALE"] == 0.5
