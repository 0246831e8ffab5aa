import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dassl.config import get_cfg_default, merge_cfg
from dassl.data.own.description import DEFAULT_RATIOS, OwnTask, own_task, parse_tasks, plain_name
from dassl.utils.errors import UserError

MUGS = {"name": "mugs", "folder": "mugs"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(list(OwnTask.__dataclass_fields__)) | st.text(max_size=6)


def merged(tmp_path, tasks):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TASKS": tasks}}), encoding="utf-8")
    cfg = get_cfg_default()
    merge_cfg(cfg, files=[file])
    return cfg


def test_tasks_reach_the_config_and_its_dump(tmp_path):
    mugs = {**MUGS, "classes": {"ok": "intact", 2: "chipped"}, "ratios": {"train": 0.5, "test": 0.5}}
    cfg = merged(tmp_path, [mugs, {"dataset": "DTD"}, {"name": 7, "table": "t.csv", "classes": ["a", "b"]}])
    first, second, third = map(own_task, cfg.DATASET.TASKS)
    assert first.classes == {"ok": "intact", "2": "chipped"} and first.ratios == (0.5, 0.0, 0.5)
    assert second == OwnTask(dataset="DTD") and second.ratios == DEFAULT_RATIOS
    assert third == OwnTask(name="7", table="t.csv", classes=("a", "b"))
    again = merged(tmp_path, yaml.safe_load(cfg.dump())["DATASET"]["TASKS"])
    assert again.DATASET.TASKS == cfg.DATASET.TASKS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrik": "x"}, ["unknown field 'metrik'", "did you mean metric?"]),
        ({"zzz": "x"}, ["unknown field 'zzz'", "folder, table, dataset"]),
        ({"metric": "accuracy"}, ["metric is 'accuracy'", "overall_acc, mean_acc"]),
        ({"template": "a photo"}, ["template is 'a photo'", '"{}" exactly once']),
        ({"template": "{} {0}"}, ["no other brace"]),
        ({"table": "t.csv"}, ["exactly one of folder, table, dataset", "folder and table"]),
        ({"folder": None}, ["folder is None", "expected a text"]),
        ({"label": "colour"}, ["label is for a table", "has a folder"]),
        ({"ratios": [0.5, 0.2]}, ["expected three numbers"]),
        ({"ratios": [0.5, 0.2, 0.2]}, ["add up to 0.9"]),
        ({"ratios": [1, -0.5, 0.5]}, ["none may be negative"]),
        ({"ratios": [0, 0.5, 0.5]}, ["train and test must be above 0"]),
        ({"ratios": {"train": 0.5, "tset": 0.5}}, ["unknown split 'tset'", "train, val, test"]),
        ({"ratios": [float("nan"), 0.2, 0.3]}, ["above 0"]),
        ({"ratios": [True, 0.2, 0.3]}, ["expected numbers"]),
        ({"classes": ["a", "b", "a"]}, ["'a' occurs twice"]),
        ({"classes": "a, b"}, ["expected a list of all labels"]),
        ({"classes": {"a": True}}, ["put it in quotes"]),
        ({"name": "two\nlines"}, ["one line of printable characters"]),
        ({"name": "  "}, ["is empty"]),
    ],
)
def test_mistakes_name_the_file_the_entry_and_the_remedy(tmp_path, change, words):
    with pytest.raises(UserError) as caught:
        merged(tmp_path, [{"name": "cups", "folder": "cups"}, {**MUGS, **change}])
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert message.startswith(f"{tmp_path / 'mine.yaml'}: DATASET.TASKS entry 2")
    assert all(word in message for word in words), message


def test_all_mistakes_at_once(tmp_path):
    tasks = [{"name": "a", "folder": "x", "metric": "m", "ratios": [1, 1, 1]}, "text", {"folder": "y"}]
    with pytest.raises(UserError) as caught:
        merged(tmp_path, tasks)
    lines = str(caught.value).splitlines()
    assert [line.split("TASKS ")[1].split(":")[0] for line in lines] == [
        *("entry 1 ('a')", "entry 1 ('a')", "entry 2 is 'text'", "entry 3")
    ]


@pytest.mark.parametrize(("one", "other"), [("a b", "A_B"), ("x", "x"), ("grey  cup", "Grey cup")])
def test_names_that_read_alike(one, other):
    _, problems = parse_tasks([{"name": one, "folder": "f"}, {"name": other, "folder": "g"}])
    assert problems == [f"entry 2 ({other!r}): entry 1 has the same name; rename one"]


@pytest.mark.parametrize(
    "ratios", [[0.5, 0.2, 0.3], {"train": 0.7, "test": 0.3}, [0.98, 0.01, 0.01], [0.1, 0.0, 0.9], {"test": 1}]
)
def test_good_ratios(ratios):
    (task,), problems = parse_tasks([{**MUGS, "ratios": ratios}])
    assert not problems
    assert sum(own_task(task).ratios) == pytest.approx(1)


def test_registered_sets_have_their_own_split():
    _, problems = parse_tasks([{"dataset": "DTD", "ratios": [0.5, 0.2, 0.3]}])
    assert problems and "own split" in problems[0]


def test_not_a_list():
    for value in ("a", {"name": "x"}, 3, None):
        assert parse_tasks(value) == (
            (),
            ["must be a list of task descriptions in a yaml file; see docs/your-own-data.md"],
        )


@given(st.lists(st.dictionaries(FIELDS, VALUES, max_size=5) | VALUES, max_size=4) | VALUES)
def test_any_value_is_accepted_or_explained(value):
    tasks, problems = parse_tasks(value)
    assert all("\n" not in problem for problem in problems)
    if not problems:
        json.dumps(tasks, allow_nan=False)
        for task in map(own_task, tasks):
            assert [bool(task.folder), bool(task.table), bool(task.dataset)].count(True) == 1
            assert sum(task.ratios) == pytest.approx(1)


@given(st.text(), st.text())
def test_plain_names_are_what_a_prompt_shows(one, other):
    assert plain_name(plain_name(one)) == plain_name(one)
    assert plain_name(f"{one}_{other}") == plain_name(f" {one} {other} ")
