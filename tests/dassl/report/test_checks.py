import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.report.checks import notices, outliers
from dassl.report.study import suites
from dassl.report.tree import read_tree
from tests.dassl.report.trees import TASKS, write_run, write_sweep


def found(top):
    """Kind -> texts of all remarks on a tree."""
    tree = read_tree(top)
    kinds = {}
    for each in notices(tree, suites(tree)):
        kinds.setdefault(each.kind, []).append(each.text)
    return kinds


def test_a_whole_sweep_needs_no_remark(tmp_path):
    write_sweep(tmp_path, labels=("ZS-CLIP", "CoOp-CA", "SoftCPT-NATA"), shots=(1, 4))
    assert found(tmp_path) == {}


def test_means_over_different_tasks_are_no_outliers(tmp_path):
    write_sweep(tmp_path, labels=("CoOp-CA", "SoftCPT-NATA"), shots=(4,))
    for seed, task in enumerate(("task0", "task1", "task2"), 1):
        shutil.rmtree(tmp_path / f"General10/CoOp/rn50_4shots/CoOp-CA/{task}/seed{seed}")
    assert set(found(tmp_path)) == {"missing task"}


def test_what_is_missing_is_named(tmp_path):
    write_sweep(tmp_path, labels=("CoOp-CA", "SoftCPT-NATA"), shots=(1, 4))
    shutil.rmtree(tmp_path / "General10/MTCoOp/rn50_4shots/SoftCPT-NATA/seed2")
    shutil.rmtree(tmp_path / "General10/MTCoOp/rn50_1shots")
    shutil.rmtree(tmp_path / "General10/CoOp/rn50_1shots/CoOp-CA/task1/seed3")
    (tmp_path / "General10/CoOp/rn50_4shots/CoOp-CA/task0/seed1/results.json").write_text("{")
    kinds = found(tmp_path)
    assert kinds["missing seed"] == ["SoftCPT-NATA, 1 shot: no run", "SoftCPT-NATA, 4 shots: seed 2"]
    assert kinds["missing task"] == ["CoOp-CA, 1 shot, seed 3: textures", "CoOp-CA, 4 shots, seed 1: animals"]
    (broken,) = kinds["no figure"]
    assert broken.startswith("General10/CoOp/rn50_4shots/CoOp-CA/task0/seed1: ") and "not valid JSON" in broken
    assert len(kinds) == 3


def test_an_outlier_seed_is_named(tmp_path):
    for label in ("CoOp-MT", "SoftCPT-NATS"):
        for seed, shift in enumerate((0.0, 0.4, 0.8), 1):
            write_run(tmp_path, label, seed=seed, metrics=(60 + shift, 70, 80))
    for seed, metric in ((1, 70.0), (2, 71.0), (3, 40.0)):
        write_run(tmp_path, "SoftCPT-NATA", seed=seed, metrics=(metric, 70, 80))
    kinds = found(tmp_path)
    assert kinds == {
        "outlier seed": [
            "SoftCPT-NATA, 4 shots: seed 3 has 63.33, the median is 73.33",
            "SoftCPT-NATA, 4 shots, task animals: seed 3 has 40.00, the median is 70.00",
        ]
    }


@given(st.lists(st.floats(0, 2), min_size=3, max_size=5))
def test_close_seeds_are_no_outliers(values):
    cells = {"a": dict(enumerate(values)), "b": {0: 50.0, 1: 50.0}}
    assert list(outliers(cells, 3.0)) == []


def test_two_seeds_cannot_tell_which_of_them_is_wrong():
    assert list(outliers({"a": {1: 10.0, 2: 90.0}}, 3.0)) == []


@pytest.mark.parametrize(
    ("place", "value", "kind", "words"),
    [
        (
            ("backbone", "digest"),
            "1" * 64,
            "other weights",
            "2 sets of weights, each with its own table: weights 11111111: Toy3/MTCoOp/",
        ),
        (("device",), "cpu", "other device", "cpu (1 run)"),
        (
            ("reduction",),
            {"side": 262, "images": 3},
            "other pixels",
            "large images were read with every pixel (1 run), reduced to 262 pixels (1 run)",
        ),
        (("subset_digest",), "other", "other images", "4 shots, seed 1: CoOp-MT and SoftCPT-NATA saw different images"),
        (
            ("warnings",),
            ["no image of cat in task animals"],
            "note of a run",
            "no image of cat in task animals (1 run)",
        ),
    ],
)
def test_runs_that_do_not_match(tmp_path, place, value, kind, words):
    write_run(tmp_path, "CoOp-MT")
    path = write_run(tmp_path, "SoftCPT-NATA") / "results.json"
    content = json.loads(path.read_text())
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    path.write_text(json.dumps(content))
    kinds = found(tmp_path)
    assert list(kinds) == [kind] and words in kinds[kind][0]


def test_runs_without_large_images_match_all_others(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    path = write_run(tmp_path, "SoftCPT-NATA") / "results.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "reduction": {"side": 262, "images": 0}}))
    assert not found(tmp_path)


def test_a_task_that_zero_shot_lacks_is_named(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    write_run(tmp_path, "ZS-CLIP", choice="task1", tasks=TASKS[1:2], metrics=(50.0,))
    assert found(tmp_path) == {"missing task": ["ZS-CLIP, seed 1: animals, food"]}


def test_a_copy_is_named(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    write_run(tmp_path, "CoOp-MT", place="copy")
    assert "is the same run as" in found(tmp_path)["same run twice"][0]


def test_remarks_on_other_grids_say_which(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path, "CoOp-MT", seed=seed, classes="base")
    write_run(tmp_path, "SoftCPT-NATA", seed=1, classes="base", choice="base", tasks=TASKS[:2], metrics=(1.0, 2.0))
    write_run(tmp_path, "SoftCPT-NATA", seed=1, classes="base")
    assert found(tmp_path) == {"missing seed": ["base classes: SoftCPT-NATA, 4 shots: seed 2"]}


def test_the_same_run_with_other_figures_is_said_louder(tmp_path):
    write_run(tmp_path, "CoOp-MT", metrics=(50.0, 50.0, 50.0))
    write_run(tmp_path, "CoOp-MT", metrics=(60.0, 60.0, 60.0), place="copy")
    (text,) = found(tmp_path)["OTHER FIGURES OF THE SAME RUN"]
    assert "CoOp-MT/copy/seed1 has the same setting and seed as Toy3/" in text and "60.00 here, 50.00 there" in text


def test_no_run_vanishes_without_a_word(tmp_path):
    write_run(tmp_path, "ZS-CLIP")
    write_run(tmp_path, "ZS-CLIP", choice="task1", tasks=TASKS[1:2], metrics=(50.0,))
    assert found(tmp_path) == {
        "left aside": [
            "Toy3/ZeroshotCLIP/rn50_4shots/ZS-CLIP/task1/seed1 does not count, because "
            "Toy3/ZeroshotCLIP/rn50_4shots/ZS-CLIP/seed1 fills its cell"
        ]
    }


def test_a_task_without_a_figure_is_named(tmp_path):
    write_run(tmp_path, "CoOp-MT", metrics=(50.0, None, 70.0))
    assert found(tmp_path) == {"no figure of a task": ["CoOp-MT, 4 shots, seed 1: textures (null in results.json)"]}


def test_runs_that_were_tested_on_other_images_are_named(tmp_path):
    for place, digest in (("march", "a" * 64), ("april", "b" * 64)):
        write_run(tmp_path, "LP-CLIP", place=place, test_digest=digest)
    (text,) = found(tmp_path)["other images"]
    assert text == (
        "2 sets of test images, each with its own table: test images bbbbbbbb: "
        "Toy3/LinearProbe/rn50_4shots/LP-CLIP/april/seed1; test images aaaaaaaa: "
        "Toy3/LinearProbe/rn50_4shots/LP-CLIP/march/seed1"
    )


def test_numbers_of_settings_are_explained(tmp_path):
    for number in (1, 2):
        config = {f"OPTIM.{key}": number for key in ("LR", "MOMENTUM", "GAMMA", "MAX_EPOCH")}
        write_run(tmp_path, "CoOp-MT", config=config, place=f"{number}")
    assert found(tmp_path)["setting"][0] == "CoOp-MT [setting 1]: GAMMA 1, LR 1, MAX_EPOCH 1, MOMENTUM 1"
