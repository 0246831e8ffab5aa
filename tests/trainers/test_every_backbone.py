"""Every method on backbones of other kinds than OpenAI's: built, one step or one fit, and a test batch."""

import re

import pytest
import torch
from PIL import Image

import trainers.base
from dassl.engine import TRAINER_REGISTRY
from dassl.explain.interpreting import interpret
from dassl.inference.classifier import load_classifier
from dassl.inference.export import export_file
from dassl.utils.errors import UserError
from tests.clip.architectures import small_backbone
from tests.trainers.test_all_methods import SMALL

METHODS = {t.__name__: t for t in TRAINER_REGISTRY if t.__module__.startswith("trainers.")}
# A tree with GELU; a bidirectional tower with another tokenizer; one with a class token; a tree beside a tower of timm.
KINDS = ("GELU", "SigLIP", "CoCa", "MobileCLIP-B")
# What a backbone lacks for a method, and which backbones do.
LACKED = {
    "PLOT": "has no local features .*VisionTransformer",
    "ProLIP": "tunes the last projection",
    "MVLPT": "takes no learned tokens",
    "MaPLe": "takes no learned tokens",
    "PromptSRC": "takes no learned tokens",
    "CLIPLoRA": "cannot tune",
}
NO_VIT = ("SigLIP", "CoCa", "MobileCLIP-B")
LACKING = {"PLOT": ("CoCa",), **dict.fromkeys(["ProLIP", "MVLPT", "MaPLe", "PromptSRC"], NO_VIT)}
LACKING["CLIPLoRA"] = ("SigLIP", "MobileCLIP-B")
STEPS = {
    "MaPLe": {"TRAINER__MAPLE__DEPTH": 1},  # some of these towers have one block
    "PromptSRC": {"TRAINER__PROMPTSRC__DEPTH": 1},
    "LPPlusPlus": {"TRAINER__LPPP__STEPS": 3},
    "CLAP": {"TRAINER__CLAP__VIEWS": 1, "TRAINER__CLAP__EPOCHS": 2},
    "CrossModal": {"TRAINER__CMLP__STEPS": 3},
    "TipAdapterF": {"TRAINER__TIPF__EPOCHS": 1},
    "ProLIP": {"TRAINER__PROLIP__EPOCHS": 3},
    "LinearProbe": {"TRAINER__LP__STEPS": 1},
}


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    """A kind of backbone; every run of the test has it."""

    def frozen(name, device, *, precision="fp32", text_encoding="auto", text_chunk=0, text_memory=0, **others):
        texts = {"text_encoding": text_encoding, "text_chunk": text_chunk, "text_memory": text_memory}
        return small_backbone(request.param, precision=precision, **texts)

    monkeypatch.setattr(trainers.base, "frozen_backbone", frozen)
    return request.param


def options(name, kind, **more):
    section = METHODS[name].section
    return {
        "trainer": name,
        "OPTIM__MAX_EPOCH": 1,
        "OPTIM__WARMUP_EPOCH": 0,
        "DATASET__NUM_SHOTS": 1,
        "INPUT__NO_TRANSFORM": True,
        "INPUT__SIZE": ",".join([str(small_backbone(kind).image_size)] * 2),
        f"TRAINER__{section}__PREC": "fp32",
        **SMALL.get(name, {}),
        **STEPS.get(name, {}),
        **more,
    }


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_and_scores_or_names_what_it_lacks(lab, kind, name):
    try:
        trainer = lab.trainer(**options(name, kind))
    except UserError as error:
        assert kind in LACKING[name] and re.search(LACKED[name], str(error)) and kind in str(error)
        return
    assert kind not in LACKING.get(name, ())
    if trainer.trainable and trainer.optim is not None:
        before = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
        summary = trainer.forward_backward(next(iter(trainer.dm.train_loader_x)))
        assert torch.isfinite(torch.as_tensor(summary["loss"]))
        after = [p.detach() for p in trainer.model.parameters() if p.requires_grad]
        assert any(not torch.equal(mine, theirs) for mine, theirs in zip(before, after, strict=True))
    elif trainer.trainable:
        trainer.train()
    trainer.set_model_mode("eval")
    trainer.before_test()
    batch = next(iter(trainer.dm.test_loader))
    with torch.no_grad():
        logits = trainer.model_inference(batch)
    assert logits.shape == (len(batch["index"]), len(trainer.task_of_class))


def test_a_finished_run_is_used_exported_and_explained(lab, kind, tmp_path):
    assert lab.main(**options("MTCoOp", kind)) == 0
    classifier = load_classifier(lab.folder("run"))
    picture = Image.new("RGB", (90, 70), (200, 30, 60))
    (answer,) = classifier.predict([picture], task=0)
    export_file(classifier, tmp_path / "run.safetensors")
    (again,) = load_classifier(tmp_path / "run.safetensors").predict([picture], task=0)
    expected = {each.name: pytest.approx(each.probability, abs=1e-5) for each in answer.classes}
    assert {each.name: each.probability for each in again.classes} == expected
    found = interpret(classifier, top_k=2)
    assert found.words is not None and found.similarities
    module = classifier.trainer.image_module()
    images = torch.randn(2, 3, *classifier.input.SIZE)
    torch.testing.assert_close(module(images), classifier.trainer.encode_images(images), rtol=1e-4, atol=1e-5)
