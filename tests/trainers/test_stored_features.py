"""Runs with images and with stored features: the same numbers, bit for bit."""

import pytest
import torch
from safetensors.torch import save_file

import clip
from dassl.data import loaders, workers
from dassl.data.features.store import ENCODE_BATCH, encode_fixed
from tests.clip.helpers import SIZES, openai_state, random_model
from tests.lab import figures, same_tensors
from tests.trainers.test_all_methods import options
from trainers.base import PromptTuner

SIDE = {kind: size["vision_cfg"]["image_size"] for kind, size in SIZES.items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with the weights of a tiny backbone of each kind."""
    folder = tmp_path_factory.mktemp("weights")
    for kind in SIZES:
        save_file(openai_state(random_model(kind)), folder / f"{kind}.safetensors")
    return {kind: folder / f"{kind}.safetensors" for kind in SIZES}


@pytest.fixture
def encoded(monkeypatch):
    """Numbers of images in the batches that are really encoded."""
    sizes = []
    encode = PromptTuner.encode_images
    monkeypatch.setattr(
        PromptTuner, "encode_images", lambda self, images: (sizes.append(len(images)), encode(self, images))[1]
    )
    return sizes


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", SIZES)
def test_a_feature_depends_on_its_image_alone(weights, kind, precision):
    backbone, _ = clip.load(str(weights[kind]), precision=precision)
    images = torch.randn(ENCODE_BATCH + 9, 3, SIDE[kind], SIDE[kind], generator=torch.Generator().manual_seed(3))
    whole = encode_fixed(backbone.encode_image, images)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(4))
    assert torch.equal(encode_fixed(backbone.encode_image, images[order]), whole[order])
    for count in (1, 2, 5, 31):
        assert torch.equal(encode_fixed(backbone.encode_image, images[:count]), whole[:count])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", SIZES)
def test_online_cold_and_warm_runs_learn_the_same(lab, weights, kind, precision, encoded):
    sizes = {"INPUT__SIZE": f"{SIDE[kind]},{SIDE[kind]}", "TRAINER__MTCOOP__PREC": precision}
    runs = [
        lab.run(name, backbone=str(weights[kind]), DATALOADER__FEATURES=features, **sizes)
        for name, features in (("online", "off"), ("cold", "on"))
    ]
    encoded.clear()
    runs.append(lab.run("warm", backbone=str(weights[kind]), DATALOADER__FEATURES="on", **sizes))
    assert not encoded
    for name, run in zip(("cold", "warm"), runs[1:], strict=True):
        assert same_tensors(lab.learned("online"), lab.learned(name))
        assert figures(run) == figures(runs[0])


def test_the_second_run_of_a_sweep_cell_encodes_no_image(lab, encoded, monkeypatch):
    common = {"DATALOADER__FEATURES": "on", "DATASET__NUM_SHOTS": 2}
    lab.run("first", trainer="MTCoOp", **common)
    assert encoded
    encoded.clear()
    monkeypatch.setattr(workers, "DataLoader", None)
    monkeypatch.setattr(loaders, "read_image", None)
    lab.run("second", trainer="MTCoOpHard", **common)
    lab.run("third", trainer="MTCoOp", **common, OPTIM__LR=0.01, TRAINER__MTCOOP__CSC=True)
    lab.run("fourth", trainer="ZeroshotCLIP", **common)
    assert not encoded


@pytest.mark.parametrize(
    ("trainer", "keys", "other"),
    [
        ("LinearProbe", {}, {"TRAINER__LP__STEPS": 2}),
        ("ProtoNet", {}, {"TRAINER__PROTONET__CENTER": True}),
        ("ProtoNet", {"TRAINER__PROTONET__VIEWS": 2}, {"TRAINER__PROTONET__CENTER": True}),
        ("PLOT", {}, {"OPTIM__LR": 0.01}),
        ("CoCoOp", {}, {"OPTIM__LR": 0.01}),
    ],
)
def test_nor_does_the_second_run_of_another_method(lab, monkeypatch, trainer, keys, other):
    common = options(trainer, DATALOADER__FEATURES="on", INPUT__NO_TRANSFORM=False, **keys)
    lab.run("first", **common)
    monkeypatch.setattr(workers, "DataLoader", None)
    monkeypatch.setattr(loaders, "read_image", None)
    lab.run("second", **common, **other)
    assert lab.files("first") == lab.files("second")


def test_what_is_encoded_for_the_store_counts_for_no_method(lab):
    cold, warm = (lab.run(name, trainer="CoOp", DATALOADER__FEATURES="on") for name in ("cold", "warm"))
    assert cold.seconds["encode"] > 0 == warm.seconds["encode"]
    for run in (cold, warm):
        assert min(run.seconds.values()) >= 0
        assert run.seconds["train"] + run.seconds["test"] + run.seconds["encode"] <= run.seconds["total"]


def test_a_store_tells_apart_what_amp_computes_on_different_devices(lab):
    trainer = lab.trainer(TRAINER__MTCOOP__PREC="amp")
    before = trainer.encoder_id
    trainer.backbone.dtype = torch.float16  # as on a GPU
    assert trainer.encoder_id != before


def test_half_precision_files_change_a_run_but_little(lab):
    full = lab.run("full", DATALOADER__FEATURES="on")
    half = lab.run("half", DATALOADER__FEATURES="on", DATALOADER__FEATURES_DTYPE="fp16")
    lab.run("again", DATALOADER__FEATURES="on", DATALOADER__FEATURES_DTYPE="fp16")
    assert full.config_digest != half.config_digest
    assert same_tensors(lab.learned("half"), lab.learned("again"))
    mine, theirs = lab.learned("full"), lab.learned("half")
    assert not same_tensors(mine, theirs)
    for key, value in mine.items():
        torch.testing.assert_close(theirs[key], value, rtol=0.02, atol=0.002)


def test_a_method_that_scores_in_its_own_way_keeps_the_size_of_test_batches(lab):
    plain = lab.trainer(DATALOADER__FEATURES="on")
    assert len(plain.dm.test_loader) == 1

    class Own(type(plain)):
        test_rows = 0

        def logits(self, image_features, text_features):
            return super().logits(image_features, text_features)

    own = Own(plain.cfg)
    assert len(own.dm.test_loader) == 2
    own.before_test()
    plain.model.load_state_dict(own.model.state_dict())
    plain.before_test()
    (whole,) = plain.dm.test_loader
    parts = [own.model_inference(batch) for batch in own.dm.test_loader]
    torch.testing.assert_close(torch.cat(parts), plain.model_inference(whole), rtol=1e-5, atol=1e-5)
