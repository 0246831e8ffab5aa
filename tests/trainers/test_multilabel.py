"""Runs on a suite with a multi-label task and one with a label an image."""

import pytest

from dassl.engine import TRAINER_REGISTRY
from tests.own import own_file, own_lab, write_pictures
from tests.trainers.test_all_methods import METHODS, options

NAMES = [f"pets/{n:02}.png" for n in range(24)]
TAGS = {"name": "pet tags", "table": "pets.csv", "label": "tags", "type": "multi", "none": "nothing"}
KIND = {"name": "pet kind", "table": "pets.csv", "label": "kind"}
ABLE = ["ZeroshotCLIP", "ZeroshotCLIP2", "LinearProbe", "CoOp", "MTCoOpHard", "MTCoOp"]


def tags(number):
    found = [tag for tag, every in (("cat", 2), ("dog", 3), ("bird", 5)) if number % every == 0]
    return ";".join(found) or "nothing"


@pytest.fixture
def pets(lab, tmp_path):
    root = tmp_path / "pictures"
    write_pictures(root, NAMES)
    rows = [f"{name},{tags(n)},{'big' if n % 4 else 'small'}" for n, name in enumerate(NAMES)]
    (root / "pets.csv").write_text("\n".join(["image,tags,kind", *rows]), encoding="utf-8")
    return own_lab(lab, root)


def arguments(pets, name, *tasks, **more):
    own = options(name) if name in METHODS else {"trainer": name}
    return own_file(pets.root, *(tasks or (KIND, TAGS))), {"dataset": "MyTasks", **own, **more}


@pytest.mark.parametrize("name", ABLE)
def test_a_mixed_suite_is_trained_and_tested(pets, name):
    flags, keys = arguments(pets, name)
    result = pets.run("run", *flags, **keys)
    kind, tag = result.tasks
    assert (kind.metric_name, tag.metric_name) == ("overall_acc", "mAP")
    assert kind.decision is None and tag.decision.images > 0 and 0 < tag.decision.threshold < 1
    assert all(0 <= value <= 100 for value in (tag.metric, tag.micro_f1, tag.macro_f1))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ABLE])
def test_other_methods_refuse_by_name_before_training(pets, capsys, name):
    flags, keys = arguments(pets, name)
    assert pets.main("run", *flags, **keys) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {name} cannot learn task 'pet tags'") and line.count("\n") == 1
    assert not TRAINER_REGISTRY.get(name).multi_label and not pets.folder("run").exists()
