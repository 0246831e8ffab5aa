"""Standard errors and paired differences against plain computations."""

import math
import random
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.report.paired import Estimate, Item, NotComparableError, RowHits, chosen_elsewhere, hits_of
from dassl.report.study import suites
from dassl.report.tree import read_tree
from tests.dassl.report.predicted import give_predictions, made_up
from tests.dassl.report.trees import write_run


def one_task(hits, metric="overall_acc", classes="ab", seeds=None):
    """Hits (S, n) of a task whose image n has the class n modulo the number of classes."""
    hits = np.array(hits, dtype=float)
    items = tuple(Item("t", f"{n}.jpg", classes[n % len(classes)]) for n in range(hits.shape[1]))
    return RowHits(items, hits, seeds if seeds is not None else tuple(range(len(hits))), {"t": metric})


@given(st.lists(st.booleans(), min_size=4, max_size=40).filter(lambda hits: 0 < sum(hits) < len(hits)))
def test_one_seed_has_the_error_of_the_mean_over_its_images(hits):
    found = one_task([hits]).estimate
    assert found.value == pytest.approx(100 * fmean(hits))
    assert found.error == pytest.approx(100 * stdev(map(float, hits)) / math.sqrt(len(hits)))


def test_the_error_of_the_seeds_is_added():
    hits = [[1, 1, 1, 0] * 5, [1, 0, 0, 0] * 5, [1, 1, 0, 0] * 5]
    of_images = np.var(np.mean(hits, axis=0), ddof=1) / 20
    of_seeds = np.var([0.75, 0.25, 0.5], ddof=1) / 3
    freedom = (of_images + of_seeds) ** 2 / (of_images**2 / 19 + of_seeds**2 / 2)  # Welch and Satterthwaite
    assert one_task(hits).estimate == pytest.approx((50.0, 100 * math.sqrt(of_images + of_seeds), freedom))


def test_few_seeds_need_more_standard_errors():
    assert Estimate(4.2, 1.0, 2).measurable is False  # Student's t with 2 degrees of freedom: 4.303
    assert Estimate(-4.4, 1.0, 2).measurable is True
    assert Estimate(2.1, 1.0, 30).needed == pytest.approx(2.0423, abs=1e-3)
    assert Estimate(2.0, 1.0).measurable is True and Estimate(1.9, 1.0).measurable is False


def test_luck_is_rarely_called_measurable():
    """Equal methods whose seeds differ, three seeds: one comparison in twenty or fewer is called measurable."""
    noise, called = np.random.default_rng(0), 0
    for _ in range(400):
        first, second = (one_task(noise.random((3, 80)) < noise.normal(0.6, 0.08, (3, 1))) for _ in "ab")
        called += first.minus(second).estimate.measurable
    assert called / 400 < 0.07


def test_mean_acc_weighs_classes_equally():
    items = tuple(Item("t", f"{n}.jpg", "rare" if n == 0 else "often") for n in range(10))
    hits = np.array([[0.0] + [1.0] * 9])
    for metric, value in (("mean_acc", 50.0), ("overall_acc", 90.0)):
        assert RowHits(items, hits, (1,), {"t": metric}).estimate.value == pytest.approx(value)


def test_a_perfect_row_is_not_certain():
    assert one_task([[1] * 10]).estimate[:2] == pytest.approx((100.0, 10.0))  # one image more may be wrong
    assert one_task([[1] * 1000]).estimate.error < 1


def test_an_image_of_two_tasks_is_one_draw():
    hits = [1, 0, 1, 1, 0, 1]
    alone = one_task([hits]).estimate
    items = tuple(Item(task, f"{n}.jpg", "a") for task in "tu" for n in range(6))
    both = RowHits(items, np.array([hits * 2], dtype=float), (1,), {"t": "overall_acc", "u": "overall_acc"}).estimate
    assert both == pytest.approx(alone)
    other = tuple(Item(item.task, f"{item.task}{item.image}", "a") for item in items)
    apart = RowHits(other, np.array([hits * 2], dtype=float), (1,), {"t": "overall_acc", "u": "overall_acc"}).estimate
    assert apart.error == pytest.approx(alone.error / math.sqrt(2))


def test_equal_rows_differ_by_nothing_and_what_is_hard_for_both_cancels():
    noise = random.Random(1)
    hard = [float(noise.random() < 0.6) for _ in range(100)]
    better = [1.0 if n < 10 else hit for n, hit in enumerate(hard)]
    first, second = one_task([better]), one_task([hard])
    assert first.minus(first).estimate.value == 0
    gain = first.minus(second).estimate
    assert gain.error < math.hypot(first.estimate.error, second.estimate.error) / 2


def test_only_common_seeds_are_compared():
    first = one_task([[1, 1], [1, 0]], seeds=(1, 2))
    second = one_task([[0, 0], [0, 1]], seeds=(2, 3))
    assert first.minus(second).seeds == (2,)
    assert first.minus(second).estimate.value == 50
    with pytest.raises(NotComparableError, match="no seed in common"):
        first.minus(one_task([[0, 0]], seeds=(4,)))
    flat = RowHits(first.items, np.array([[0.0, 0.0]]), None, first.metrics)
    assert first.minus(flat).seeds == flat.minus(first).seeds == (1, 2)


def test_other_images_are_refused():
    with pytest.raises(NotComparableError, match="other images"):
        one_task([[1, 1]]).minus(one_task([[1, 1, 1]]))


def test_chance_is_the_most_frequent_class():
    items = tuple(Item("t", f"{n}.jpg", "a" if n < 7 else "b") for n in range(10))
    for metric, chance in (("overall_acc", 70.0), ("mean_acc", 50.0)):
        assert RowHits(items, np.ones((1, 10)), (1,), {"t": metric}).chance == pytest.approx(chance)


def test_a_choice_among_guesses_is_not_flattered():
    # Fifty methods that guess: the best one looks good on the images that chose it, and not on the others.
    best, honest = [], []
    for seed in range(20):
        noise = np.random.default_rng(seed)
        rows = {str(n): one_task([noise.integers(0, 2, 60)]) for n in range(20)}
        best.append(max(row.estimate.value for row in rows.values()))
        honest.append(chosen_elsewhere(rows))
    assert fmean(best) > 60
    assert fmean(honest) == pytest.approx(50, abs=4)


def test_the_figure_on_some_images_keeps_an_image_whole():
    items = tuple(Item(task, f"{n}.jpg", "a") for task in "tu" for n in range(4))
    both = RowHits(items, np.array([[1.0, 0, 0, 0, 1, 1, 0, 0]]), (1,), {"t": "overall_acc", "u": "overall_acc"})
    assert both.figure({"0.jpg", "1.jpg"}) == 75
    assert both.figure({"2.jpg"}) == 0 and both.figure(()) == 0


def test_the_choice_on_halves_depends_on_names_alone():
    noise = np.random.default_rng(3)
    rows = {str(n): one_task([noise.integers(0, 2, 40)]) for n in range(4)}
    assert chosen_elsewhere(rows) == pytest.approx(chosen_elsewhere(dict(reversed(rows.items()))))


def test_hits_are_read_from_the_predictions_of_all_seeds(tmp_path):
    tasks = {"t": ["a", "b"], "u": ["c", "d", "e"]}
    for seed in (1, 2):
        folder = write_run(tmp_path, "CoOp-MT", seed=seed, tasks=list(tasks), metrics=(50.0, 50.0))
        rows = [row for task, names in tasks.items() for row in made_up(task, names, 30, seed=seed)]
        give_predictions(folder, rows, tasks)
    (suite,) = suites(read_tree(tmp_path))
    found = hits_of(suite.plain, "CoOp-MT", 4)
    assert found.seeds == (1, 2) and found.hits.shape == (2, 60)
    figure = fmean(each.metric for each in suite.plain.cell("CoOp-MT", 4).values())
    mean_acc = fmean(found.of_task(task).estimate.value for task in tasks)
    assert found.estimate.value == pytest.approx(mean_acc)
    assert found.estimate.value == pytest.approx(figure, abs=0.5)  # made_up has the same number of images a class


def test_runs_without_predictions_are_named(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    (suite,) = suites(read_tree(tmp_path))
    with pytest.raises(NotComparableError, match="older version wrote no predictions"):
        hits_of(suite.plain, "CoOp-MT", 4)


def test_errors_of_a_figure():
    assert Estimate(4.0, 2.0).errors == 2
    assert Estimate(0.0, 0.0).errors == 0
