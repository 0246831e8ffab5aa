"""Images are prepared as the backbone reads them, and what a config says otherwise is never silent."""

import pytest
import torch
from PIL import Image

import clip
from dassl.config import get_cfg_default, merge_cfg
from dassl.data.images import ORIGINAL
from dassl.data.transforms import transform_id
from tests.dassl.config.recorded import shipped
from tests.lab import SETTINGS, Lab, figures
from trainers.base import check_preprocessing

SHIPPED = shipped("trainers")
EMPTY = {"INPUT__SIZE": "", "INPUT__INTERPOLATION": "", "INPUT__TRANSFORMS": ""}
SPELT = {
    "INPUT__SIZE": "32,32",
    "INPUT__INTERPOLATION": "bicubic",
    "INPUT__TRANSFORMS": "normalize",
    "INPUT__PIXEL_MEAN": "0.48145466,0.4578275,0.40821073",
    "INPUT__PIXEL_STD": "0.26862954,0.26130258,0.27577711",
}


def test_the_settings_of_the_lab_leave_mean_and_deviation_out():
    assert not {"INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD"} & SETTINGS.keys()


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "MTCoOp"])
def test_an_empty_config_sees_what_the_backbones_own_preprocessing_gives(lab: Lab, trainer):
    empty, spelt = (lab.trainer(trainer=trainer, **keys) for keys in (EMPTY, SPELT))
    _, preprocess = clip.load(str(lab.backbone))
    for is_train in (False, True):
        assert transform_id(empty.dm.cfg, is_train, ORIGINAL) == transform_id(spelt.dm.cfg, is_train, ORIGINAL)
    batch = next(iter(empty.dm.test_loader))
    expected = torch.stack([preprocess(Image.open(path)) for path in batch["impath"]])
    torch.testing.assert_close(batch["img"], expected, rtol=0, atol=1e-5)


def test_an_empty_config_gives_the_figures_of_one_that_spells_the_backbone_out(lab):
    empty, spelt = lab.run("empty", trainer="ZeroshotCLIP", **EMPTY), lab.run("spelt", trainer="ZeroshotCLIP", **SPELT)
    assert figures(empty)[:2] == figures(spelt)[:2]
    assert not empty.warnings and not spelt.warnings


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("INTERPOLATION", "bilinear", "INPUT.INTERPOLATION is bilinear"),
        ("PIXEL_MEAN", "0.485,0.456,0.406", "INPUT.PIXEL_MEAN is (0.485, 0.456, 0.406)"),
        ("PIXEL_MEAN", "0,0,0", "INPUT.PIXEL_MEAN is (0.0, 0.0, 0.0)"),
        ("PIXEL_STD", "0.5,0.5,0.5", "INPUT.PIXEL_STD is (0.5, 0.5, 0.5)"),
        ("TRANSFORMS", "random_flip", "INPUT.TRANSFORMS (random_flip) has no normalize"),
    ],
)
def test_other_preprocessing_is_followed_and_said_in_the_results(lab, key, value, said):
    result = lab.run(trainer="ZeroshotCLIP", **{f"INPUT__{key}": value})
    (warning,) = result.warnings
    assert said in warning and str(lab.backbone) in warning
    cfg = lab.trainer(trainer="ZeroshotCLIP", **{f"INPUT__{key}": value}).dm.cfg
    plain = lab.trainer(trainer="ZeroshotCLIP").dm.cfg
    assert transform_id(cfg, False, ORIGINAL) != transform_id(plain, False, ORIGINAL)


def test_another_size_is_refused(lab, capsys):
    assert lab.main(INPUT__SIZE="64,64") == 2
    assert "INPUT.SIZE is (64, 64) but" in (line := capsys.readouterr().err) and "set INPUT.SIZE 32,32 or leave" in line


def test_shipped_configs_agree_with_clips_preprocessing(caplog):
    backbone, _ = clip.load("demo")
    for path in SHIPPED:
        cfg = get_cfg_default()
        merge_cfg(cfg, files=[path])
        cfg.INPUT.SIZE = (backbone.image_size,) * 2
        check_preprocessing(cfg.INPUT, backbone)
    assert SHIPPED and caplog.messages == []
