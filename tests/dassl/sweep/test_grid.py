"""Sweep files: what they say, and what is said about wrong ones."""

import re
from pathlib import Path

import pytest
import yaml

from dassl.results.methods import find_method, paper_labels
from dassl.sweep.grid import CONFIGS, find_file, make_sweep, parts_of, read_sweep, suite_name, with_changes
from dassl.sweep.plan import expand
from dassl.utils.errors import UserError

SHIPPED = sorted((CONFIGS / "sweeps").glob("*.yaml"))
LEAST = {"suites": ["demo6"], "methods": ["CoOp-MT"]}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_names_files_and_keys_that_exist(path):
    sweep = read_sweep(path.stem)
    runs = expand(sweep)
    assert {run.method.label for run in runs} == {method.label for method in sweep.methods}
    assert len({run.folder for run in runs}) == len(runs)
    few = runs[:: max(1, len(runs) // 13)]
    assert len({tuple(sorted(run.values().items(), key=str)) for run in few}) == len(few)


@pytest.mark.parametrize(("suite", "tasks"), [("general10", 10), ("plant6", 6), ("rs8", 8), ("fashion20", 20)])
def test_the_papers_sweeps_have_all_its_rows_shots_and_seeds(suite, tasks):
    sweep = read_sweep(f"paper_{suite}")
    assert [method.label for method in sweep.methods] == paper_labels()
    assert (sweep.shots, sweep.seeds, sweep.suites) == ((1, 2, 4, 8, 16), (1, 2, 3), (suite,))
    # Zero-shot once, six rows in one run a cell, six task by task.
    assert len(expand(sweep)) == 1 + 6 * 15 + 6 * 15 * tasks


def test_each_row_of_the_paper_has_the_config_of_its_shots():
    epochs = {}
    for run in expand(with_changes(read_sweep("paper_plant6"), seeds=(1,))):
        if run.task in (None, 3) and run.method.label in ("CoOp-CS", "KgCoOp", "PLOT", "SoftCPT-NATA"):
            epochs.setdefault(run.method.label, {})[run.shots] = run.config().OPTIM.MAX_EPOCH
    assert epochs == {
        **{label: {1: 50, 2: 100, 4: 100, 8: 200, 16: 200} for label in ("CoOp-CS", "PLOT")},
        "KgCoOp": dict.fromkeys((1, 2, 4, 8, 16), 100),
        "SoftCPT-NATA": dict.fromkeys((1, 2, 4, 8, 16), 50),
    }


def test_local_features_are_not_stored_in_the_papers_sweeps():
    runs = expand(with_changes(read_sweep("paper_plant6"), shots=(1,), seeds=(1,)))
    stored = {run.method.label: run.config().DATALOADER.FEATURES for run in runs}
    assert [label for label, features in stored.items() if not features] == ["PLOT"]


def test_defaults_and_the_folder():
    sweep = make_sweep("mine", LEAST, place="mine.yaml")
    assert (sweep.shots, sweep.seeds, sweep.backbone) == ((1, 2, 4, 8, 16), (1, 2, 3), "rn50")
    assert sweep.folder.as_posix() == "output/demo6"
    both = make_sweep("mine", {**LEAST, "suites": ["demo6", "plant6"]}, place="")
    assert both.folder.as_posix() == "output/mine"
    assert with_changes(both, output="elsewhere", shots=()).folder.as_posix() == "elsewhere"


def test_variations_are_all_combinations():
    vary = {"TRAINER.MTCOOP.N_CTX": [4, 8], "OPTIM.LR": [0.1, "2e-3"]}
    sweep = make_sweep("mine", {**LEAST, "vary": vary}, place="")
    assert [suffix for suffix, _ in sweep.variations()] == [
        *("-N_CTX=4-LR=0.1", "-N_CTX=4-LR=2e-3", "-N_CTX=8-LR=0.1", "-N_CTX=8-LR=2e-3"),
    ]
    assert sweep.variations()[1][1] == {"TRAINER.MTCOOP.N_CTX": 4, "OPTIM.LR": "2e-3"}
    assert make_sweep("mine", LEAST, place="").variations() == [("", {})]


def test_an_own_method_may_start_from_a_known_one():
    entry = {"label": "NATA, hot", "like": "SoftCPT-NATA", "options": {"OPTIM.LR": 0.02}}
    (method,) = make_sweep("mine", {**LEAST, "methods": [entry]}, place="").methods
    base = find_method("SoftCPT-NATA")
    assert (method.label, method.trainer, method.config) == ("NATA, hot", base.trainer, base.config)
    assert method.options == {**base.options, "OPTIM.LR": 0.02}


def test_own_methods_that_start_from_the_same_one_get_their_own_folders():
    entries = [{"label": f"hot {n}", "like": "SoftCPT-NATA", "options": {"OPTIM.LR": n}} for n in (1, 2)]
    methods = make_sweep("mine", {**LEAST, "methods": ["SoftCPT-NATA", *entries]}, place="").methods
    assert [method.setting for method in methods] == ["NATA", "hot_1", "hot_2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suites": []}, "suites is []; expected a list of names in configs/datasets/"),
        ({"suite": ["demo6"]}, "there is no field 'suite'; did you mean suites?"),
        ({"methods": "CoOp-MT"}, "methods is 'CoOp-MT'; expected a list of labels"),
        ({"methods": ["CoOp-M"]}, "unknown method 'CoOp-M'; did you mean"),
        ({"methods": [{"trainer": "CoOp"}]}, "has no label; add the line label: ..."),
        ({"methods": [{"label": None, "trainer": "CoOp"}]}, "has no label; add the line label: ..."),
        (
            {"methods": [{"label": "x", "like": "PLOT", "options": ["A"]}]},
            "options is ['A']; expected KEY: VALUE lines",
        ),
        ({"methods": ["CoOp-MT", "coop-mt"]}, "'CoOp-MT' and 'CoOp-MT' would share a folder"),
        ({"shots": [1, "4"]}, "shots is [1, '4']; expected a list of whole numbers"),
        ({"shots": [True]}, "shots is [True]"),
        ({"seeds": [-1]}, "seeds is [-1]; expected a list of whole numbers, 0 or more"),
        ({"vary": {"OPTIM.LR": 0.1}}, "expected KEY: [VALUE, VALUE] lines"),
        ({"options": ["A", "B"]}, "expected KEY: VALUE lines"),
        ({"config": 3}, "config is 3; expected a text"),
        ({"protocol": "base-to-new"}, "protocol is 'base-to-new'; expected base2new or newtasks"),
        ({"method_options": {"CoOp-MT": 1}}, "expected KEY: VALUE lines below the label of a method"),
        ({"method_options": {"PLOT": {}}}, "method_options: 'PLOT' is not among methods:; use the same label as there"),
    ],
)
def test_a_wrong_file_is_said_in_one_line(change, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        make_sweep("mine", {**LEAST, **change}, place="mine.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["suites", "methods"])
def test_what_must_be_there(missing):
    with pytest.raises(UserError, match=f"^mine.yaml: has no {missing}; add {missing}: a list of"):
        make_sweep("mine", {key: value for key, value in LEAST.items() if key != missing}, place="mine.yaml")


def test_doubles_on_the_command_line_count_once():
    """Two workers must never be given the same run."""
    rows = (find_method("CoOp-MT"), find_method("ZS-CLIP"), find_method("CoOp-MT"))
    sweep = with_changes(make_sweep("mine", LEAST, place=""), shots=(4, 1, 4), seeds=(2, 2), methods=rows)
    assert (sweep.shots, sweep.seeds) == ((4, 1), (2,))
    assert [method.label for method in sweep.methods] == ["CoOp-MT", "ZS-CLIP"]
    with pytest.raises(UserError, match=r"^command line: seeds \(-1,\); expected a list of whole numbers, 0 or more$"):
        with_changes(sweep, seeds=(-1,))


def test_files_are_found_by_path_and_by_name(tmp_path, monkeypatch):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(LEAST))
    assert read_sweep(str(path)).name == "own"
    assert read_sweep("configs/sweeps/demo.yaml") == read_sweep("demo")
    with pytest.raises(UserError, match=r"^there is no sweep file 'demmo'; did you mean demo\?$"):
        read_sweep("demmo")
    with pytest.raises(UserError, match="give a path, or a name in"):
        find_file("qqqq", CONFIGS / "sweeps", "sweep")
    for text, message in (("a: [", "is not YAML"), ("- a", "expected suites:, methods:")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_sweep(str(path))


@pytest.mark.parametrize(
    ("protocol", "key", "parts"),
    [
        ("base2new", "CLASSES", {"base2new/base": "base", "base2new/new": "new"}),
        ("newtasks", "TASKS", {"newtasks/base/seen": "base", "newtasks/base/unseen": "new"}),
        ("newtasks new", "TASKS", {"newtasks/new/seen": "new", "newtasks/new/unseen": "base"}),
        (
            "newtasks task0,task12",
            "TASKS",
            {"newtasks/tasks0_12/seen": "task0,task12", "newtasks/tasks0_12/unseen": "not:task0,task12"},
        ),
        ("", "", {}),
    ],
)
def test_a_protocol_has_two_parts_with_folders_of_their_own(protocol, key, parts):
    assert dict(parts_of(protocol)) == {place: {f"DATASET.SUBSAMPLE_{key}": which} for place, which in parts.items()}


def test_a_suite_may_have_a_name_of_its_own(tmp_path):
    files = []
    for site in ("north", "south"):
        path = tmp_path / site / "tasks.yaml"
        path.parent.mkdir()
        tasks = [{"name": "colour", "folder": f"/{site}"}]
        path.write_text(yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TITLE": f"site {site}", "TASKS": tasks}}))
        files.append(str(path))
    assert list(map(suite_name, files)) == ["site_north", "site_south"]
    sweep = make_sweep("both", {"suites": files, "methods": ["ZS-CLIP"], "backbone": "demo"}, place="here")
    assert {run.folder.parts[-5] for run in expand(sweep)} == {"site_north", "site_south"}
    for path in files:
        content = yaml.safe_load(Path(path).read_text())
        del content["DATASET"]["TITLE"]
        Path(path).write_text(yaml.safe_dump(content))
    assert list(map(suite_name, files)) == ["tasks", "tasks"]
    with pytest.raises(UserError, match=r"two runs would share the folder .* \(DATASET.TITLE names a suite\)"):
        expand(sweep)
    assert suite_name("demo6") == "demo6" and suite_name("nowhere/x.yaml") == "x"


def test_a_suite_is_no_target_of_itself():
    fields = {"suites": ["demo6"], "methods": ["ZS-CLIP"], "protocol": "transfer", "targets": ["demo6", "demo_counts"]}
    with pytest.raises(UserError, match=r"demo6 is among suites: and targets:; leave it out of targets:"):
        make_sweep("both", fields, place="here")
