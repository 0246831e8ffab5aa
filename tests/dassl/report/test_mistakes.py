from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.metrics.quality import BINS as THEIR_BINS
from dassl.metrics.quality import expected_calibration_error
from dassl.report.mistakes import BINS, MOST_SIDE, Confusion, count_mistakes
from dassl.results.predictions import PredictedImage, read_predictions
from dassl.results.record import ClassResult, TaskResult, read_results
from tests.dassl.report.predicted import give_predictions, made_up
from tests.dassl.report.trees import write_run

CLASSES = ("ant", "bee", "cat", "dog")


def task_of(classes, *, name="animals", index=0):
    per_class = tuple(ClassResult(each, 0, 0) for each in classes)
    return TaskResult(index, name, 50.0, "overall_acc", 0, len(classes), per_class=per_class)


def rows_of(triples, *, task="animals"):
    """Rows from (true, predicted or None, probability)."""
    return [
        PredictedImage(f"{n}.jpg", task, true, predicted or "", *([0.1, sure] if predicted else [None, None]))
        for n, (true, predicted, sure) in enumerate(triples)
    ]


predictions = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.sampled_from([*CLASSES, None]), st.floats(0, 1)), max_size=60
)


@given(predictions)
def test_confusions_and_losses_add_up_to_the_rows(triples):
    (found,) = count_mistakes(rows_of(triples), [task_of(CLASSES)])
    assert sum(found.confusion.cells.values()) + found.lost == found.rows == len(triples)
    assert found.confusion.totals == [Counter(true for true, _, _ in triples)[name] for name in CLASSES]
    assert sum(found.confusion.hits) + len(found.wrong) + found.lost == len(triples)
    assert sum(each.count for each in found.bins) == len(triples) - found.lost


@given(predictions, st.integers(1, 20))
def test_pairs_are_those_of_plain_counting(triples, most):
    (found,) = count_mistakes(rows_of(triples), [task_of(CLASSES)])
    of_true = Counter(true for true, _, _ in triples)
    counts = Counter((true, other) for true, other, _ in triples if other and other != true)
    wanted = {(true, other, n, n / of_true[true]) for (true, other), n in counts.items()}
    pairs = found.pairs(most)
    assert set(pairs) <= wanted and len(pairs) == min(most, len(wanted))
    order = [(-each.images, -each.share) for each in pairs]
    assert order == sorted(order)
    left = [(-n, -share) for *names, n, share in wanted if not any(tuple(names) == pair[:2] for pair in pairs)]
    assert not left or not order or max(order) <= min(left)


@given(predictions, st.integers(0, 20))
def test_surest_mistakes_come_first(triples, most):
    (found,) = count_mistakes(rows_of(triples), [task_of(CLASSES)])
    sure = sorted((p for true, other, p in triples if other and other != true), reverse=True)
    assert [row.predicted_probability for row in found.surest(most)] == sure[:most]


@given(st.lists(st.tuples(st.sampled_from([n / 15 for n in range(16)]) | st.floats(0, 1), st.booleans()), max_size=80))
def test_bins_are_those_of_the_calibration_error(pairs):
    assert BINS == THEIR_BINS
    rows = rows_of([("ant", "ant" if right else "bee", sure) for sure, right in pairs])
    (found,) = count_mistakes(rows, [task_of(CLASSES)])
    sure, right = np.array([p for p, _ in pairs]), np.array([r for _, r in pairs], bool)
    assert found.ece == pytest.approx(expected_calibration_error(sure, right), abs=1e-9)


def test_counts_of_a_run_equal_its_result(tmp_path):
    classes = {"x": [f"c{n}" for n in range(12)], "y": list(CLASSES)}
    folder = write_run(tmp_path, "CoOp-MT", tasks=("x", "y"), metrics=(50.0, 50.0))
    rows = [*made_up("x", classes["x"], 400, seed=1), *made_up("y", classes["y"], 100, seed=2)]
    give_predictions(folder, rows, classes)
    result = read_results(folder)
    for task, found in zip(result.tasks, count_mistakes(read_predictions(folder), result.tasks), strict=True):
        assert found.ece == pytest.approx(task.ece, abs=1e-3)
        assert found.rows == task.total
        assert [(each.correct, each.total) for each in task.per_class] == list(
            zip(found.confusion.hits, found.confusion.totals, strict=True)
        )


def test_of_tasks_of_one_name_the_first_has_all_and_an_unknown_class_gets_a_row():
    tasks = [task_of(CLASSES), task_of(CLASSES, index=1)]
    rows = [*rows_of([("ant", "wasp", 0.9)]), *rows_of([("ant", "ant", 0.9)], task="elsewhere")]
    first, second = count_mistakes(rows, tasks)
    assert (first.rows, second.rows) == (1, 0) and second.ece is None
    assert first.confusion.names == [*CLASSES, "wasp"] and first.pairs() == [("ant", "wasp", 1, 1.0)]


@given(st.integers(1, 400), st.integers(0, 300), st.integers(200, 4000))
def test_a_fitted_matrix_keeps_the_counts_and_the_bounds(size, filled, most):
    noise = np.random.default_rng(size + filled)
    cells = Counter({(int(a), int(b)): 1 + int(a) for a, b in noise.integers(0, size, (filled, 2))})
    totals = [sum(n for (true, _), n in cells.items() if true == row) for row in range(size)]
    hits = [cells[row, row] for row in range(size)]
    whole = Confusion([f"c{n}" for n in range(size)], +cells, totals, hits)
    found = whole.fitted(most)
    assert sum(found.cells.values()) == sum(totals) == sum(found.totals) and sum(found.hits) == sum(hits)
    assert len(found.names) <= MOST_SIDE and len(found.cells) <= most
    assert (found is whole) == (size <= MOST_SIDE and len(whole.cells) <= most)
    assert found.names[-1].endswith(f"c{size - 1}")


def test_neighbouring_classes_are_named_by_the_first_and_the_last():
    joined = Confusion(list("abcde"), Counter({(0, 1): 2, (4, 4): 3}), [2, 0, 0, 0, 3], [0, 0, 0, 0, 3]).joined(2)
    assert joined.names == ["a … b", "c … d", "e"]
    assert joined.cells == {(0, 0): 2, (2, 2): 3} and joined.totals == [2, 0, 3] and joined.hits == [0, 0, 3]
