import csv
import io
import json
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dassl.results.tables import (
    MeanSpread,
    Table,
    mean_spread,
    task_means,
)
from dassl.utils.intervals import INTERVALS, NORMAL, STUDENT
from dassl.utils.texts import printable, spreadsheet_cell
from tests.dassl.results.samples import make_result


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_mean_std_against_numpy_and_statistics(values):
    figure = mean_spread(values)
    assert figure.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert figure.spread == pytest.approx(np.std(values), abs=1e-6)
    assert figure.count == len(values) and figure.missing == 0


@given(st.lists(st.integers(0, 10_000).map(lambda x: x / 100), min_size=1, max_size=7))
def test_figures_are_rounded_as_numpy_rounds_them(values):
    figure = mean_spread(values)
    assert f"{figure.mean:.2f} {figure.spread:.2f}" == f"{np.mean(values):.2f} {np.std(values):.2f}"


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_intervals_against_scipy(values):
    normal, student = (mean_spread(values, interval=each).spread for each in (NORMAL, STUDENT))
    assert normal == pytest.approx(1.96 * np.std(values) / len(values) ** 0.5, abs=1e-6)
    assert student == pytest.approx(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values), abs=1e-6)
    assert student >= normal


def test_three_seeds_by_hand():
    """Student's t for two degrees of freedom is 4.303; the sample's deviation of 60, 61, 65 is the root of 7."""
    figure = mean_spread([60.0, 61.0, 65.0], interval=STUDENT)
    assert figure.show("text") == "62.00 +- 6.57" == f"62.00 +- {4.302653 * 7**0.5 / 3**0.5:.2f}"
    normal = mean_spread([60.0, 61.0, 65.0], interval=NORMAL)
    assert figure.spread / normal.spread == pytest.approx(2.689, abs=1e-3)


@pytest.mark.parametrize("name", ["normal", "t"])
def test_one_run_has_no_interval(name):
    figure = mean_spread([60.0, None], interval=INTERVALS[name])
    assert figure.spread is None and figure.show("text") == "60.00 (1 of 2)"
    assert dict(zip(figure.columns, figure.values(), strict=True))[INTERVALS[name].column] is None


def test_mean_std_of_missing_values():
    assert mean_spread([]) is None and mean_spread([None, float("nan")]) is None
    assert mean_spread([None, 50.0, 70.0, float("nan")]) == MeanSpread(60.0, 10.0, 2, 2)


def test_task_means_of_runs_with_different_tasks():
    means = task_means([{"a": 10.0}, {"a": 30.0, "b": 5.0}, {"b": None}])
    assert means == {"a": MeanSpread(20.0, 10.0, 2, 1), "b": MeanSpread(5.0, 0.0, 1, 2)}


TABLE = Table(
    ["method", "n", "4 shots"], [["a|b_c", 3, MeanSpread(71.254, 0.5, 3)], ["100%", None, MeanSpread(9.0, 0.0, 2, 1)]]
)


def test_text():
    assert TABLE.render("text") == (
        "method  n                4 shots\n"
        "------  -  ---------------------\n"
        "a|b_c   3          71.25 +- 0.50\n"
        "100%    -  9.00 +- 0.00 (2 of 3)\n"
    )


def test_markdown():
    assert TABLE.render("markdown") == (
        "| method |   n |              4 shots |\n"
        "| ------ | --: | -------------------: |\n"
        "| a\\|b_c |   3 |         71.25 ± 0.50 |\n"
        "| 100%   |   - | 9.00 ± 0.00 (2 of 3) |\n"
    )


def test_csv_keeps_full_precision():
    rows = list(csv.reader(io.StringIO(TABLE.render("csv"))))
    assert rows[0] == ["method", "n", "4 shots mean", "4 shots std", "4 shots runs"]
    assert rows[1:] == [["a|b_c", "3", "71.254", "0.5", "3"], ["100%", "", "9.0", "0.0", "2"]]


def test_latex():
    assert TABLE.render("latex").splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"method & n & 4 shots \\",
        r"\midrule",
        r"a\textbar{}b\_c & 3 & 71.25 $\pm$ 0.50 \\",
        r"100\% & - & 9.00 $\pm$ 0.00 (2 of 3) \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_unknown_format_names_the_choices():
    with pytest.raises(ValueError, match="text, markdown, csv, latex"):
        TABLE.render("html")


@given(st.lists(st.tuples(st.text(), st.none() | st.floats(0, 100)), max_size=5))
def test_csv_reads_back(rows):
    clean = [(name.replace("\r", " ").replace("\n", " ").replace("\x00", ""), value) for name, value in rows]
    read = list(csv.reader(io.StringIO(Table(["name", "value"], clean).render("csv"))))
    shown = [(spreadsheet_cell(printable(name)), value) for name, value in clean]
    assert [tuple(row) for row in read[1:]] == [(name, "" if value is None else str(value)) for name, value in shown]


RUNS = [
    ("ZS-CLIP", make_result((40.0, 60.0), metric=50.0, trainer="ZeroshotCLIP", shots=16)),
    *[("SoftCPT", make_result((60.0 + s, 80.0), metric=70.0 + s / 2, shots=4, seed=s)) for s in (1, 3)],
    ("SoftCPT", make_result((90.0, None), metric=90.0, shots=16)),
    ("CoOp", make_result(shots=4, metric=None)),
    ("CoOp", make_result(shots=4, metric=65.0)),
]


def test_json():
    rows = json.loads(TABLE.render("json"))
    assert rows == [
        {"method": "a|b_c", "n": 3, "4 shots": {"mean": 71.254, "std": 0.5, "runs": 3}},
        {"method": "100%", "n": None, "4 shots": {"mean": 9.0, "std": 0.0, "runs": 2}},
    ]


def test_names_cannot_break_a_row():
    table = Table(["a\nb"], [["x\ny | \\ <b>"]])
    assert table.render("text") == "a b\n---------\nx y | \\ <b>\n".replace("---------", "-" * 11)
    assert table.render("markdown").splitlines()[2] == "| x y \\| \\\\ \\<b> |"
    assert table.render("latex").splitlines()[4] == r"x y \textbar{} \textbackslash{} \textless{}b\textgreater{} \\"


@pytest.mark.parametrize("name", ["[x] y", "*star*"])
def test_names_are_no_options_of_latex(name):
    lines = Table(["a"], [["first"], [name]]).render("latex").splitlines()
    assert lines[4:6] == [r"first \\", rf"{{}}{name} \\"]
    assert Table(["a"], [[name]]).render("latex").splitlines()[4] == rf"{{}}{name} \\"  # behind \midrule
