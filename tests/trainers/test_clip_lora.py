"""CLIP-LoRA: parameters, the rate of each step, dropout that a resume repeats, and what is tuned."""

import math

import pytest
import torch
from torch import nn

import export
import train
from clip.lora import LowRank
from dassl.inference import load_classifier
from dassl.utils.errors import UserError
from trainers.clip_lora import draw_start

OPTIONS = {
    "trainer": "CLIPLoRA",
    "OPTIM__NAME": "adamw",
    "OPTIM__LR": 0.01,
    "OPTIM__WARMUP_EPOCH": 0,
    "OPTIM__MAX_EPOCH": 2,
    "INPUT__NO_TRANSFORM": True,
    "TRAINER__CLIPLORA__PREC": "fp32",
}


def test_the_count_of_the_authors_on_vit_b16():
    towers = [LowRank(width, 2, scale=1.0, dropout=0.0, device=torch.device("meta")) for width in (512, 768)]
    assert 12 * sum(p.numel() for tower in towers for p in tower.parameters()) == 184_320


def test_the_start_is_that_of_kaiming_with_the_root_of_five():
    added = nn.ModuleDict({"text": nn.ModuleList([LowRank(64, 4, scale=1, dropout=0, device=torch.device("cpu"))])})
    draw_start(added, 1)
    low = added["text"][0]
    fan_in = 64
    bound = math.sqrt(2 / (1 + 5)) * math.sqrt(3 / fan_in)  # gain of a leaky ReLU with slope sqrt(5)
    assert (
        not low.b.any()
        and float(low.a.detach().abs().max()) <= bound
        and float(low.a.detach().abs().max()) > 0.9 * bound
    )
    kept = low.a.clone()
    draw_start(added, 1)
    assert torch.equal(low.a, kept)
    draw_start(added, 2)
    assert not torch.equal(low.a, kept)


def test_every_step_has_the_rate_of_its_place_on_one_cosine(lab):
    trainer = lab.trainer(**OPTIONS)
    used, steps = [], len(trainer.dm.train_loader_x)
    real = trainer.optim.step
    trainer.optim.step = lambda *a, **k: (used.append(trainer.optim.param_groups[0]["lr"]), real(*a, **k))[1]
    trainer.train()
    total = 2 * steps
    expected = [1e-6 + (0.01 - 1e-6) * 0.5 * (1 + math.cos(math.pi * step / total)) for step in range(total)]
    assert len(used) == total > 2
    assert used == pytest.approx(expected, rel=1e-9)


def test_dropout_is_the_draw_of_its_step_and_tests_have_none(lab):
    trainer = lab.trainer(**OPTIONS)
    trainer.model.lora.train()
    batch = next(iter(trainer.dm.train_loader_x))
    trainer.set_model_mode("train")
    for low in (each for each in trainer.model.modules() if isinstance(each, LowRank)):
        low.b.data.fill_(0.05)
    losses = []
    for epoch in (0, 0, 1):
        trainer.epoch, trainer.batch_index = epoch, 0
        losses.append(float(trainer.gradients(batch)["loss"]))
    assert losses[0] == losses[1] != losses[2]
    trainer.set_model_mode("eval")
    with torch.no_grad():
        first, second = (trainer.image_features(batch) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("shots", [1, 3, 16, 32])
def test_the_authors_number_of_steps(shots):
    files = ["configs/datasets/oxford_pets.yaml", "configs/trainers/CLIPLoRA/vit_b16.yaml"]
    flags = ["--trainer", "CLIPLoRA", "--dataset-config-file", files[0], "--config-file", files[1]]
    cfg = train.setup_cfg(train.parse([*flags, "DATASET.NUM_SHOTS", str(shots)]))
    assert 500 * shots == cfg.OPTIM.MIN_STEPS and cfg.OPTIM.MAX_EPOCH == 1
    assert (cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.WEIGHT_DECAY) == ("adamw", 2e-4, 0.01)
    assert (cfg.OPTIM.ADAM_BETA1, cfg.OPTIM.ADAM_BETA2, cfg.DATALOADER.TRAIN_X.BATCH_SIZE) == (0.9, 0.999, 32)
    assert (cfg.TRAINER.CLIPLORA.RANK, cfg.TRAINER.CLIPLORA.DROPOUT) == (2, 0.25)
    assert (cfg.OPTIM.WARMUP_EPOCH, cfg.TEST.FINAL_MODEL) == (-1, "last_step")


def test_a_resnet_is_refused_by_name(lab):
    with pytest.raises(UserError, match=r"cannot tune .*: its image tower, a ModifiedResNet, .*; choose a ViT"):
        lab.trainer(**OPTIONS, MODEL__BACKBONE__NAME="demo", INPUT__SIZE="64,64")


def test_an_adapter_file_answers_exactly_as_the_run_does_whatever_is_computed_again(lab):
    lab.run(**OPTIONS, MODEL__IMAGE_CHECKPOINT=True)
    path = lab.output / "tuned.safetensors"
    assert export.main([str(lab.folder("run")), "-o", str(path)]) == 0
    run, adapter = load_classifier(lab.folder("run")), load_classifier(path)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    theirs = adapter.probabilities(images)
    assert theirs and all(torch.equal(mine, theirs[task]) for task, mine in run.probabilities(images).items())
    module = run.trainer.image_module()
    assert not module.transformer.grad_checkpointing and not any(isinstance(m, LowRank) for m in module.modules())
    with torch.no_grad():
        torch.testing.assert_close(module(images), run.trainer.encode_images(images), rtol=1e-4, atol=1e-5)


def test_checkpointing_changes_no_learned_number(lab):
    for run, again in (("run", False), ("again", True)):
        lab.run(run, **OPTIONS, MODEL__IMAGE_CHECKPOINT=again)
    mine, theirs = lab.learned("run"), lab.learned("again")
    assert lab.result("run").config_digest == lab.result("again").config_digest
    assert mine and all(torch.equal(value, theirs[key]) for key, value in mine.items())
