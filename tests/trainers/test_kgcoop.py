"""KgCoOp: the distance from hand-written prompts, and that its gradient pulls towards them."""

import math

import pytest
import torch

import clip
from dassl.utils.cache import use_cache
from tests.lab import same_tensors
from trainers.kgcoop import knowledge_gap

KEYS = {"trainer": "KgCoOp", "TRAINER__COOP__N_CTX": 4, "TRAINER__COOP__CTX_INIT": True, "TRAINER__COOP__PREC": "fp32"}
TEXTS = [f"a photo of a {name}, a type of pet." for name in ("cat", "dog", "grey parrot")]
TEXTS += [f"a photo of a {name}." for name in ("hammer", "saw", "drill", "file", "rasp")]


def test_the_distance_is_none_for_equal_and_two_for_opposite_features():
    features = torch.randn(5, 7)
    assert knowledge_gap(features, 3 * features).item() == pytest.approx(0, abs=1e-6)
    assert knowledge_gap(features, -features).item() == pytest.approx(2, abs=1e-6)


def test_it_is_half_the_mean_squared_distance_on_the_sphere():
    learned, teacher = torch.randn(5, 7).double(), torch.randn(5, 7)
    total = 0.0
    for mine, theirs in zip(learned.tolist(), teacher.tolist(), strict=True):
        a, b = math.hypot(*mine), math.hypot(*theirs)
        total += sum((x / a - y / b) ** 2 for x, y in zip(mine, theirs, strict=True))
    assert knowledge_gap(learned, teacher).item() == pytest.approx(total / 5 / 2, rel=1e-5)


@pytest.mark.parametrize("weight", [0, 1, 8])
def test_the_loss_is_coops_and_the_weighted_distance(lab, weight):
    trainer = lab.trainer(**KEYS, TRAINER__COOP__W=weight)
    plain = lab.trainer(**{**KEYS, "trainer": "CoOp"})
    batch = next(iter(trainer.dm.train_loader_x))
    trainer.printing = True
    loss, shown = trainer.loss(batch)
    teacher = clip.load(str(lab.backbone))[0].encode_text(clip.tokenize(TEXTS))
    torch.testing.assert_close(trainer.teacher, teacher)
    gap = 1 - torch.nn.functional.cosine_similarity(trainer.model(), teacher, dim=1).mean()
    assert shown["gap"] == pytest.approx(gap.item(), rel=1e-4)
    assert loss.item() == pytest.approx(plain.loss(batch)[0].item() + weight * gap.item(), rel=1e-5)


def test_a_strong_pull_brings_the_classes_to_the_hand_written_prompts(lab):
    lab.run("free", **KEYS, TRAINER__COOP__W=0, OPTIM__MAX_EPOCH=4)
    lab.run("held", **KEYS, TRAINER__COOP__W=100, OPTIM__MAX_EPOCH=4, OPTIM__LR=0.005)
    gaps = {}
    for run in ("free", "held"):
        trainer = lab.trainer(run, **KEYS)
        trainer.checkpoints.load(lab.folder(run))
        gaps[run] = knowledge_gap(trainer.model(), trainer.teacher).item()
    start = lab.trainer("start", **KEYS)
    assert gaps["held"] < knowledge_gap(start.model(), start.teacher).item() < gaps["free"]


def test_the_teacher_is_encoded_once_and_in_fp32(lab, monkeypatch):
    loads = []
    load = clip.load
    monkeypatch.setattr(clip, "load", lambda *a, **k: loads.append(k["precision"]) or load(*a, **k))
    lab.run(**{**KEYS, "TRAINER__COOP__PREC": "bf16"})
    assert loads == ["bf16", "fp32"]


def test_a_process_of_many_runs_encodes_the_teacher_once(lab, monkeypatch):
    use_cache()
    loads = []
    load = clip.load
    monkeypatch.setattr(clip, "load", lambda *a, **k: loads.append(k["precision"]) or load(*a, **k))
    keys = {**KEYS, "TRAINER__COOP__PREC": "bf16"}
    lab.run("first", **keys)
    lab.run("second", **keys)
    assert loads == ["bf16", "fp32"]
    assert same_tensors(lab.learned("first"), lab.learned("second"))
    other = lab.trainer("other", **keys, DATASET__SUBSAMPLE_TASKS="task0").teacher
    torch.testing.assert_close(other, lab.trainer("whole", **keys).teacher[:3], rtol=1e-4, atol=1e-5)


def test_an_evaluation_needs_no_teacher(lab, monkeypatch):
    lab.run(**KEYS)
    monkeypatch.setattr("trainers.kgcoop.template_prompts", None)
    lab.run("again", "--eval-only", "--model-dir", str(lab.folder("run")), **KEYS)
