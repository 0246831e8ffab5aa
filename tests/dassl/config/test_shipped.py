"""Every config file in the repository loads, alone and together with every file of the other kind."""

import pytest

from dassl.config import flatten, get_cfg_default, merge_cfg, read_settings
from dassl.data.dataset import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.checks import OWN_STEPS
from tests.dassl.config.recorded import name, shipped

METHODS = shipped("trainers")
DATASETS = shipped("datasets")


def keys(path):
    return {key for _, key, _ in read_settings(path).settings}


DATA_KEYS = {path: keys(path) for path in DATASETS}


def load(*files):
    cfg = get_cfg_default()
    merge_cfg(cfg, files=files)
    return cfg


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_a_method_config_loads_and_suits_the_method_of_its_folder(method):
    cfg = load(method)
    trainer = TRAINER_REGISTRY.get(method.parent.name)
    cfg.TRAINER.NAME = method.parent.name
    trainer.check_cfg(object.__new__(trainer), cfg)
    if method.stem != "own":
        assert cfg.MODEL.BACKBONE.NAME


def test_every_method_has_a_config_for_own_tasks():
    assert [path.parent.name for path in METHODS if path.stem == "own"] == sorted(TRAINER_REGISTRY.names())


@pytest.mark.parametrize("method", [path for path in METHODS if path.stem == "own"], ids=name)
def test_a_config_for_own_tasks_leaves_to_the_backbone_what_depends_on_it(method):
    cfg, demo = load(method), load(method.with_stem("demo"))
    settings = cfg.INPUT
    assert not any((settings.SIZE, settings.INTERPOLATION, settings.PIXEL_MEAN, settings.PIXEL_STD))
    assert cfg.MODEL.BACKBONE.NAME == ""
    precisions = [value for key, value in flatten(cfg).items() if key.endswith(".PREC")]
    assert "fp32" in precisions
    least = OWN_STEPS if "OPTIM.LR" in keys(method) else 0
    assert least == cfg.OPTIM.MIN_STEPS
    own = {"TRAINER.MTCOOP.NORMALIZE", "TRAINER.MTCOOP.SHARED_CTX"} if method.parent.name == "MTCoOp" else set()
    ours, theirs = flatten(cfg), flatten(demo)
    assert {key for key in ours if key.startswith("TRAINER.") and ours[key] != theirs[key]} == own


@pytest.mark.parametrize("dataset", DATASETS, ids=name)
def test_a_data_set_config_names_a_data_set(dataset):
    assert load(dataset).DATASET.NAME in DATASET_REGISTRY


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_data_set_files_and_method_files_speak_of_different_keys(method):
    # So the order of the two does not matter, and every combination loads because each of them does.
    mine = keys(method)
    assert not {dataset.name: mine & keys for dataset, keys in DATA_KEYS.items() if mine & keys}


@pytest.mark.parametrize("twin", [path for path in METHODS if path.stem.endswith("_corrected")], ids=name)
def test_corrected_twins_differ_in_the_recipe_only(twin):
    mine = flatten(load(twin))
    other = flatten(load(twin.with_stem(twin.stem.removesuffix("_corrected"))))
    assert {key: (other[key], mine[key]) for key in mine if mine[key] != other[key]} == {
        "TRAINER.MTCOOP.RECIPE": ("released", "corrected")
    }


def test_the_papers_commands_follow_the_released_recipe():
    paper = [path for path in METHODS if path.match("MTCoOp/*_ep50.yaml")]
    assert len(paper) == 4
    for path in paper:
        cfg = load(path)
        assert cfg.TRAINER.MTCOOP.RECIPE == "released"
        assert (cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH, cfg.OPTIM.WARMUP_CONS_LR) == ("sgd", 2e-3, 50, 1e-5)
