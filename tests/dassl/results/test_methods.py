"""Methods by their labels: the file, its errors, and the label of a run."""

import re
import subprocess
import sys

import pytest
import yaml

from dassl.config import all_keys, flatten, get_cfg_default, merge_cfg
from dassl.engine import TRAINER_REGISTRY
from dassl.results.methods import (
    Method,
    find_method,
    fitted_trainers,
    key_groups,
    label_of,
    make_method,
    paper_labels,
    read_methods,
)
from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT
from trainers._fitted import FittedTrainer

CONFIGS = CHECKOUT / "configs" / "trainers"
HERE = [method for method in read_methods().values() if method.trainer in TRAINER_REGISTRY]
BACKBONES = ("rn50", "rn101", "vit_b32", "vit_b16")


def test_the_papers_rows_are_there_in_the_order_of_its_table():
    assert paper_labels() == [
        *("ZS-CLIP", "ProtoNet", "LP-CLIP", "CoOp-CA", "CoOp-CS", "CoOp-MT", "CoCoOp", "ProGrad", "KgCoOp", "PLOT"),
        *("SoftCPT*", "SoftCPT-NATS", "SoftCPT-NATA"),
    ]


VIT_ONLY = {"CLIPLoRA", "MVLPT", "MaPLe", "PromptSRC"}


def towers_of(method):
    """The published backbones that a method works with."""
    return [each for each in BACKBONES if each.startswith("vit") or method.trainer not in VIT_ONLY]


def defining(method):
    """The config keys of a row."""
    return {**method.options, **({"MODEL.INIT_WEIGHTS": "a,b"} if method.start else {})}


@pytest.mark.parametrize("method", HERE, ids=lambda method: method.label)
def test_every_method_has_its_configs_and_its_keys(method):
    for backbone in (*towers_of(method), "demo"):
        for shots in (1, 2, 4, 8, 16, -1):
            stem = "demo" if backbone == "demo" else method.config_stem(backbone, shots)
            assert (CONFIGS / method.trainer / f"{stem}.yaml").is_file(), stem
    for options in (method.options, *method.suite_options.values()):
        merge_cfg(get_cfg_default(), values=options)


@pytest.mark.parametrize("method", HERE, ids=lambda method: method.label)
@pytest.mark.parametrize("stem", ["published", "demo"])
def test_a_run_of_a_method_gets_its_label(method, stem):
    cfg = get_cfg_default()
    name = "demo" if stem == "demo" else method.config_stem(towers_of(method)[0], 4)
    merge_cfg(cfg, files=[CONFIGS / method.trainer / f"{name}.yaml"], values=defining(method))
    assert label_of(method.trainer, flatten(cfg)) == method.label


@pytest.mark.parametrize("method", HERE, ids=lambda method: method.label)
def test_the_stored_config_of_a_run_gives_the_same_label(method):
    cfg = get_cfg_default()
    merge_cfg(cfg, values=defining(method))
    stored = flatten(yaml.safe_load(cfg.dump()))
    assert label_of(method.trainer, stored) == method.label


def test_a_run_like_no_method_is_named_after_what_differs():
    config = {**read_methods()["SoftCPT-NATS"].options, "TRAINER.MTCOOP.N_CTX": 4, "TRAINER.MTCOOP.TASK_N_CTX": 8}
    assert label_of("MTCoOp", config) == "MTCoOp N_CTX 4, TASK_N_CTX 8"
    assert label_of("Unheard", {"OPTIM.LR": 1.0}) == "Unheard"


def test_labels_are_found_whatever_their_case_and_a_typo_gets_the_nearest():
    assert find_method("softcpt-nata").label == "SoftCPT-NATA"
    with pytest.raises(UserError, match=r"^unknown method 'CoOp-MA'; did you mean CoOp-(MT|CA)"):
        find_method("CoOp-MA")


def test_configs_by_number_of_shots():
    method = Method("x", "X", {1: "{backbone}_a", 4: "b"}, "s", backbones={"rn101": "R"})
    stems = {k: method.config_stem("rn50", k) for k in (1, 2, 3, 4, 16, -1)}
    assert stems == {1: "rn50_a", 2: "rn50_a", 3: "rn50_a", 4: "b", 16: "b", -1: "b"}
    assert method.config_stem("rn101", 2) == "R_a"
    assert Method("x", "X", {4: "b", 8: "c"}, "s").config_stem("rn50", 1) == "b"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("CoOp", "must have fields such as trainer: and config:"),
        ({"trainer": "CoOp", "config": "a"}, "has no setting; add the line setting: ..."),
        ({"trainer": "CoOp", "conifg": "a"}, "has no field 'conifg'; did you mean config?"),
        ({"trainer": "CoOp", "config": "a", "setting": 3}, "setting is 3; expected the name of a folder"),
        ({"trainer": "CoOp", "config": "a", "setting": "../b"}, "setting is '../b'; expected the name of a folder"),
        ({"trainer": "CoOp", "config": {"a": "b"}, "setting": "s"}, "expected a name, or one for each number of shots"),
        ({"trainer": "CoOp", "config": "a", "setting": "s", "options": ["A"]}, "expected KEY: VALUE lines"),
        ({"trainer": "CoOp", "config": "a", "setting": "s", "learns": "no"}, "learns is 'no'; expected true or false"),
        ({"trainer": "C", "config": "a", "setting": "s", "suite_options": {"A": 1}}, "below the name of a suite"),
        ({"trainer": "C", "config": "a", "setting": "s", "start": "MCoOp"}, "start is 'MCoOp'; expected method: LABEL"),
        (
            {"trainer": "C", "config": "a", "setting": "s", "start": {"method": "A"}},
            "with tasks: others or suite: NAME",
        ),
    ],
)
def test_a_wrong_entry_is_said_in_one_line(entry, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        make_method("mine", entry, place="file.yaml")
    assert str(caught.value).startswith("file.yaml: method 'mine'") and "\n" not in str(caught.value)


def test_a_wrong_file_is_said_in_one_line(tmp_path):
    path = tmp_path / "methods.yaml"
    with pytest.raises(UserError, match="cannot be read"):
        read_methods(path)
    path.write_text("methods: [a]")
    with pytest.raises(UserError, match="expected 'methods:' with one entry"):
        read_methods(path)


def test_reading_methods_needs_no_torch():
    code = "import sys, dassl.results.methods as m; m.label_of('MTCoOp', {}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False).returncode == 0


def test_the_keys_of_the_rows_are_known_keys():
    known = set(all_keys())
    assert {key for method in HERE for key in method.options} <= known


def test_every_trainer_has_its_group_of_keys():
    """Tables take keys of other groups for keys that cannot change a figure."""
    for trainer in TRAINER_REGISTRY:
        own = {key.name.split(".")[1] for key in trainer.config_keys if key.name.startswith("TRAINER.")}
        assert own == {key_groups()[trainer.__name__]}, trainer


def test_the_trainers_that_are_fitted_are_listed():
    fitted = {trainer.__name__ for trainer in TRAINER_REGISTRY if issubclass(trainer, FittedTrainer)}
    assert fitted_trainers() == fitted
