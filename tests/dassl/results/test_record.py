import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.results.record import (
    BackboneInfo,
    ClassResult,
    PredictionsFile,
    RunResult,
    SplitResult,
    TaskResult,
    read_results,
    write_results,
)
from dassl.utils.errors import UserError
from tests.dassl.results.samples import make_result

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
counts = st.integers(0, 10**9)
percents = st.none() | st.floats(0, 100)
tasks = st.lists(
    st.builds(
        TaskResult,
        *(counts, texts, percents, texts, counts, counts, st.lists(texts, max_size=2).map(tuple)),
        per_class=st.lists(st.builds(ClassResult, texts, counts, counts), max_size=2).map(tuple),
        nll=st.none() | st.floats(0, 1e6),
        ece=percents,
    ),
    max_size=3,
).map(tuple)
results = st.builds(
    RunResult,
    mode=st.sampled_from(["train", "eval"]),
    trainer=texts,
    dataset=texts,
    backbone=st.builds(BackboneInfo, texts, texts, texts),
    shots=st.integers(-1, 64),
    seed=counts,
    split=texts,
    metric=percents,
    tasks=tasks,
    val=st.none() | st.builds(SplitResult, percents, tasks),
    epochs=counts,
    best_epoch=st.none() | counts,
    parameters=counts,
    counts=st.dictionaries(texts, counts, max_size=3),
    subset_digest=texts,
    test_digest=texts,
    config_digest=texts,
    seconds=st.dictionaries(texts, st.floats(0, 1e9), max_size=3),
    versions=st.dictionaries(texts, texts, max_size=3),
    device=texts,
    warnings=st.lists(texts, max_size=2).map(tuple),
    macro_f1=percents,
    predictions=st.none() | st.builds(PredictionsFile, texts, texts, counts),
)


@given(results)
def test_json_round_trip(result):
    text = json.dumps(result.to_json(), allow_nan=False)
    assert RunResult.from_json(json.loads(text)) == result


def test_write_and_read(tmp_path):
    result = make_result(val=SplitResult(50.0, ()), warnings=("no images of 'cat'",))
    path = write_results(tmp_path / "seed1", result)
    assert path == tmp_path / "seed1" / "results.json"
    assert next(iter(json.loads(path.read_text()))) == "format"
    assert read_results(tmp_path / "seed1") == result


def test_nan_becomes_null_with_a_warning(tmp_path):
    nan = float("nan")
    write_results(tmp_path, make_result((nan, 80.0), metric=nan, val=SplitResult(nan, ())))
    result = read_results(tmp_path)
    assert result.metric is None and result.val.metric is None
    assert [task.metric for task in result.tasks] == [None, 80.0]
    assert len(result.warnings) == 3 and "'animal'" in result.warnings[0]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("format",), 2, "field 'format' is 2"),
        (("mode",), "test", "field 'mode' must be 'train' or 'eval', not 'test'"),
        (("metric",), "71.2", "field 'metric' must be a number, not '71.2'"),
        (("metric",), float("nan"), "field 'metric' must be a number, not nan"),
        (("metric",), 10**400, "field 'metric' must be a number"),
        (("shots",), 4.5, "field 'shots' must be a whole number, not 4.5"),
        (("seed",), True, "field 'seed' must be a whole number, not True"),
        (("tasks",), {}, "field 'tasks' must be a list, not dict"),
        (("tasks", 1, "name"), None, "field 'tasks[1].name' must be a text, not None"),
        (("tasks", 0), [], "field 'tasks[0]' must be an object, not list"),
        (("backbone", "digest"), 7, "field 'backbone.digest' must be a text, not 7"),
        (("counts",), [], "field 'counts' must be an object, not list"),
        (("counts", "train"), "many", "field 'counts.train' must be a whole number, not 'many'"),
        (("val",), 3, "field 'val' must be an object, not 3"),
    ],
)
def test_damaged_field_is_named(tmp_path, place, value, words):
    plain = make_result().to_json()
    entry = json.loads(json.dumps(plain))
    inner = entry
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "results.json").write_text(json.dumps(entry))
    with pytest.raises(UserError) as caught:
        read_results(tmp_path)
    message = str(caught.value)
    assert words in message and str(tmp_path / "results.json") in message and "\n" not in message


@pytest.mark.parametrize("field", ["trainer", "backbone", "metric", "tasks"])
def test_missing_field_is_named(field):
    value = make_result().to_json()
    del value[field]
    with pytest.raises(UserError, match=f"field '{field}' is missing"):
        RunResult.from_json(value)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"accuracy": 3}', "{", "\x00\xff", "[" * 100_000, "9" * 10_000])
def test_foreign_file_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "results.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError) as caught:
        read_results(tmp_path)
    assert "results.json" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file():
    with pytest.raises(UserError, match="does not exist"):
        read_results("nowhere")


def test_unknown_and_optional_fields():
    value = make_result().to_json()
    value["from_the_future"] = 1
    del value["val"], value["warnings"]
    assert RunResult.from_json(value) == make_result()


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.lists(x, max_size=2))
)
def test_any_value_of_a_field_is_read_or_refused(value):
    for name in make_result().to_json():
        try:
            RunResult.from_json({**make_result().to_json(), name: value})
        except UserError as error:
            assert name in str(error)
