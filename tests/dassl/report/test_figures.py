import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dassl.report.figures import (
    BEST,
    SECOND,
    Difference,
    Duration,
    Figure,
    Number,
    average,
    difference,
    durations,
    figure,
    harmonic,
    ranked,
)
from dassl.utils.intervals import NORMAL, STUDENT

percents = st.floats(0, 100)
seeds = st.dictionaries(st.integers(1, 20), percents, min_size=2, max_size=8)


@given(seeds)
def test_figure_against_statistics(values):
    found = figure(values, len(values))
    assert found.mean == pytest.approx(statistics.fmean(values.values()), abs=1e-9)
    assert found.spread == pytest.approx(statistics.pstdev(values.values()), abs=1e-6)
    assert found.error == pytest.approx(statistics.stdev(values.values()) / len(values) ** 0.5, abs=1e-6)
    assert found.missing == ""
    interval = figure(values, len(values), interval=NORMAL)
    assert interval.spread == pytest.approx(1.96 * found.spread / len(values) ** 0.5) and interval.error == found.error
    student = figure(values, len(values), interval=STUDENT)
    assert student.spread == pytest.approx(stats.t.ppf(0.975, len(values) - 1) * found.error)
    assert average([student, None], wanted=2).columns == student.columns == ("mean", "ci95_t", "runs", "missing")


def test_figure_of_few_seeds():
    assert figure({}, 3) is None
    one = figure({2: 61.2}, 3)
    assert (one.spread, one.error, one.missing) == (None, None, "1/3")
    assert one.show("text") == "61.20 (1/3) "
    assert figure({1: 60.0, 2: 62.0}, 3).show("html") == "61.00 ± 1.00 (2/3)"
    assert figure({1: 60.0, 2: 62.0}, 3, gap="4/6 tasks").missing == "2/3, 4/6 tasks"
    assert figure({1: 58.0}, 0).show("html") == "58.00 ± 0.00"


def test_marks_in_every_form():
    best, second = Figure(61.2, 0.3, rank=BEST), Figure(60.1, 0.2, count=2, wanted=3, rank=SECOND)
    assert (best.show("text"), second.show("text")) == ("61.20 +- 0.30*", "60.10 +- 0.20 (2/3)_")
    assert (best.show("markdown"), second.show("markdown")) == ("**61.20 ± 0.30**", "<u>60.10 ± 0.20</u> (2/3)")
    assert best.show("latex") == r"\textbf{61.20 $\pm$ 0.30}"
    assert second.show("latex") == r"\underline{60.10 $\pm$ 0.20} (2/3)"
    assert best.show("html") == "61.20 ± 0.30"
    assert second.values() == (60.1, 0.2, 2, "2/3") and best.values() == (61.2, 0.3, 1, None)


def test_rank_goes_by_what_is_printed():
    column = [Figure(61.201), Figure(61.204), None, Figure(60.0), Figure(99.0, gap="1/6 tasks"), Figure(50.0)]
    assert [each and each.rank for each in ranked(column)] == [BEST, BEST, None, SECOND, 0, 0]
    assert [each and each.rank for each in ranked([Figure(1.0), None])] == [0, None]


@given(st.lists(percents.map(Figure), min_size=2, max_size=9))
def test_rank_best_and_second(column):
    shown = [(each.rank, float(f"{each.mean:.2f}")) for each in ranked(column)]
    best = {value for rank, value in shown if rank == BEST}
    second = {value for rank, value in shown if rank == SECOND}
    values = sorted({value for _, value in shown}, reverse=True)
    assert best == {values[0]} and second == set(values[1:2])


def test_average_over_shots():
    found = average([figure({1: 60.0, 2: 62.0}, 2), figure({1: 70.0, 2: 76.0}, 2)], wanted=2)
    assert (found.mean, found.spread) == (67.0, 2.0)  # the mean of the spreads 1 and 3
    assert found.error == pytest.approx((1.0**2 + 3.0**2) ** 0.5 / 2)
    assert average([None, None], wanted=2) is None
    part = average([figure({1: 60.0, 2: 62.0}, 3), None, figure({1: 50.0}, 3, gap="4/6 tasks")], wanted=3)
    assert part.missing == "1/3, 4/6 tasks, 2/3 shots" and part.error is None


def test_difference():
    ours, theirs = Figure(61.0, 1.0, 3.0, 3, 3), Figure(56.0, 1.0, 4.0, 3, 3)
    assert difference(ours, theirs) == Difference(5.0, 1.0)
    assert difference(ours, theirs).show("text") == "+5.00 (+1.0 se)"
    assert difference(theirs, ours).show("latex") == "$-5.00$ ($-1.0$ se)"
    assert difference(Figure(1.0), theirs).errors is None
    assert difference(Figure(1.0, 0.0, 0.0), Figure(2.0, 0.0, 0.0)) == Difference(-1.0, None)
    assert difference(None, theirs) is None and difference(Figure(1.0, gap="1/2 tasks"), theirs) is None
    assert difference(theirs, Figure(1.0, gap="1/2 shots")) is None
    assert Difference(-0.001, -0.01).show("text") == "+0.00 (+0.0 se)"


def test_costs():
    assert Number(8390656).show("text") == "8,390,656"
    assert durations([None, 12.34, 170.0]) == [None, Duration(12.34, "s"), Duration(170.0, "s")]
    assert [each.show("text") for each in durations([0.0402])] == ["40.2 ms"]
    assert [each.show("text") for each in durations([0.2, 190.0])] == ["0.2 s", "190.0 s"]
    assert [each.show("text") for each in durations([90.0, 5000.0])] == ["1.5 min", "83.3 min"]
    assert [each and each.show("text") for each in durations([0.0, 90_000.0])] == [None, "25.0 h"]


@given(percents, percents)
def test_harmonic_mean(base, new):
    found = harmonic(base, new)
    assert min(base, new) - 1e-9 <= found <= max(base, new) + 1e-9
    if base > 1 and new > 1:
        assert found == pytest.approx(statistics.harmonic_mean([base, new]))
