"""Numbers of learned values at the sizes of RN50 (F 1024, D 512), as the paper's settings give them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default
from dassl.data.datum import Task
from trainers.mtcoop import SoftContext
from trainers.mtcoop_hard import SharedContext, TaskContexts

SUITES = {"General-10": (10, 1191), "Plant-6": (6, 116), "RS-8": (8, 208), "Fashion-20": (20, 78)}
# By suite, in the order of SUITES.
SOFT = {
    "NATA": (8_390_656, 8_390_656, 8_390_656, 8_390_656),
    "NATS": (8_409_088, 8_400_896, 8_404_992, 8_429_568),
    "CATA": (16_781_312, 16_781_312, 16_781_312, 16_781_312),
    "CATS": (16_799_744, 16_791_552, 16_795_648, 16_820_224),
    "CSTA": (19_218_432, 17_016_832, 17_205_248, 16_939_008),
    "CSTS": (19_236_864, 17_027_072, 17_219_584, 16_977_920),
}
HARD = {
    "CoOp-CA": (81_920, 49_152, 65_536, 163_840),
    "CoOp-CS": (9_756_672, 950_272, 1_703_936, 638_976),
    "CoOp-MT": (8_192, 8_192, 8_192, 8_192),
}
RN50, VIT = (1024, 512), (512, 512)


def backbone(embed_dim, width):
    """Something of a frozen CLIP's widths, without weights."""
    text = SimpleNamespace(token_embedding=nn.Embedding(1, width), causal_mask=torch.zeros(1, 1))
    return SimpleNamespace(text=text, embed_dim=embed_dim, text_width=width)


def tasks_of(suite):
    """T tasks with C classes in all."""
    count, classes = SUITES[suite]
    sizes = [classes // count + (t < classes % count) for t in range(count)]
    return [Task(f"task {t}", tuple(f"class {c}" for c in range(size))) for t, size in enumerate(sizes)]


def learned(model):
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.fixture(autouse=True)
def without_drawing(monkeypatch):
    """Only the shapes count here, and drawing a hundred million numbers takes seconds."""
    monkeypatch.setattr(torch, "randn", lambda *shape, generator: torch.zeros(()).expand(shape))


def soft_options(variant):
    options = get_cfg_default().TRAINER.MTCOOP
    options.CLASS_N_CTX = options.TASK_N_CTX = 4
    options.CSC, options.CLASS_CSC, options.TASK_CSC = variant[0] == "C", variant[:2] == "CS", variant[2:] == "TS"
    return options


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("variant", SOFT)
def test_soft_sharing(variant, suite):
    model = SoftContext(backbone(*RN50), tasks_of(suite), soft_options(variant), seed=0)
    assert learned(model) == SOFT[variant][list(SUITES).index(suite)]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("mode", HARD)
def test_hard_sharing(mode, suite):
    options = get_cfg_default().TRAINER.MTCOOPH
    options.CSC = mode == "CoOp-CS"
    kind = TaskContexts if mode == "CoOp-CA" else SharedContext
    model = kind(backbone(*RN50), tasks_of(suite), options, seed=0)
    assert learned(model) == HARD[mode][list(SUITES).index(suite)]


@pytest.mark.parametrize(("variant", "count"), [("NATA", 4_196_352), ("CATA", 8_392_704)])
def test_soft_sharing_with_narrower_features(variant, count):
    model = SoftContext(backbone(*VIT), tasks_of("Plant-6"), soft_options(variant), seed=0)
    assert learned(model) == count


@pytest.mark.parametrize("kind", ["linmean", "lincls"])
def test_other_meta_networks_read_one_feature(kind):
    options = soft_options("CATA")
    options.PG_TYPE = kind
    model = SoftContext(backbone(*RN50), tasks_of("Plant-6"), options, seed=0)
    assert model.prompt_gen.proj.shape == (1024, 16 * 512)


def test_the_papers_sixteen_task_vectors():
    options = soft_options("NATA")
    options.TASK_N_CTX = 16
    assert learned(SoftContext(backbone(*RN50), tasks_of("RS-8"), options, seed=0)) == 8_396_800
