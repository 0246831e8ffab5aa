"""Models that learned one suite and are tested on others: tables of their own, tied to their source."""

import pytest

import parse_test_res
from dassl.report.sheets import Options, transfer_sheets
from dassl.report.study import suites
from dassl.report.tree import read_tree
from dassl.results.suites import LearnedOn, suite_digest
from tests.dassl.report.trees import write_run


def learned(suite):
    return {"mode": "eval", "learned_on": LearnedOn(suite, suite_digest(suite, (), ()))}


@pytest.fixture
def tree(tmp_path):
    """Two sources, one target that both were tested on, and a run that was trained on the target."""
    for source, own, there in (("First", 80.0, 61.0), ("Second", 70.0, 64.0)):
        write_run(tmp_path, "SoftCPT-NATA", suite=source, metrics=(own,), tasks=("a",))
        write_run(tmp_path / source, "SoftCPT-NATA", suite="Target", metrics=(there,), tasks=("b",), **learned(source))
    write_run(tmp_path, "SoftCPT-NATA", suite="Target", metrics=(90.0,), tasks=("b",), seed=2)
    write_run(tmp_path, "ZS-CLIP", suite="Target", metrics=(50.0,), tasks=("b",))
    return tmp_path


def rows(sheet):
    return {str(row): [cell and round(cell.mean, 2) for cell in cells] for row, *cells in sheet.table.rows}


def test_a_model_of_another_suite_is_no_run_of_its_target(tree):
    found = {suite.title: suite for suite in suites(read_tree(tree))}
    assert found["Target, RN50"].plain.values("SoftCPT-NATA", 4)[0] == {2: 90.0}
    for source, there in (("First", 61.0), ("Second", 64.0)):
        grid = found[f"Target, RN50, learned on {source}"].plain
        assert grid.values("SoftCPT-NATA", 4)[0] == {1: there}
        assert grid.cell("ZS-CLIP", 4).keys()
    assert not any(suite.aside for suite in found.values())


def test_a_target_belongs_to_the_source_that_was_learned(tree):
    first, second = transfer_sheets(suites(read_tree(tree)), Options())
    assert rows(first)["SoftCPT-NATA"] == [80.0, 61.0, 61.0]
    assert rows(second)["SoftCPT-NATA"] == [70.0, 64.0, 64.0]
    assert rows(first)["ZS-CLIP"] == rows(second)["ZS-CLIP"] == [None, 50.0, 50.0]


def test_the_main_table_mentions_the_other(tree, capsys):
    assert parse_test_res.main([str(tree)]) == 0
    out = capsys.readouterr().out
    assert "Target, RN50, learned on First" in out and "more tables: --transfer" in out


def test_evaluations_that_do_not_tell_count_for_an_only_source(tmp_path):
    write_run(tmp_path, "SoftCPT-NATA", suite="First", metrics=(80.0,), tasks=("a",))
    write_run(tmp_path, "SoftCPT-NATA", suite="Target", metrics=(61.0,), tasks=("b",), mode="eval")
    (sheet,) = transfer_sheets(suites(read_tree(tmp_path)), Options())
    assert rows(sheet)["SoftCPT-NATA"] == [80.0, 61.0, 61.0]
    write_run(tmp_path, "SoftCPT-NATA", suite="Second", metrics=(70.0,), tasks=("a",))
    assert list(transfer_sheets(suites(read_tree(tmp_path)), Options())) == []
