"""--metrics: figures beside accuracy in every layout and form."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest

import parse_test_res
from dassl.report.metrics import ACCURACY, METRICS, lacking, parse_metrics
from dassl.report.page import page
from dassl.report.sheets import Options, metric_sheets
from dassl.report.study import suites
from dassl.report.tree import read_tree
from dassl.results.record import Calibration, ClassResult, read_results, write_results
from dassl.results.runs import read_completed
from dassl.utils.errors import UserError
from tests.dassl.report.trees import TASKS, write_run

ALL = tuple(each for key, each in METRICS.items() if key != "micro_f1")  # which is of multi-label tasks
COLUMNS = "accuracy,f1,nll,ece"


def with_figures(folder, *, f1=50.0, nll=1.0, ece=10.0, name="results.json", **changes):
    """Give the result of a run other figures, of which each task has one more than the task before."""
    result = read_results(folder)
    tasks = tuple(
        dataclasses.replace(
            task,
            per_class=(ClassResult("a", 1, 2),),
            macro_f1=f1 + n,
            nll=None if nll is None else nll + n,
            ece=ece + n,
        )
        for n, task in enumerate(result.tasks)
    )
    write_results(folder, dataclasses.replace(result, tasks=tasks, **changes))
    if name != "results.json":
        (folder / "results.json").rename(folder / name)
    return folder


@pytest.fixture
def tree(tmp_path):
    """Two methods with two seeds each; the calibration of the one that is more accurate is worse."""
    for label, level, nll in (("SoftCPT-NATA", 70.0, 1.0), ("CoOp-MT", 60.0, 0.5)):
        for seed in (1, 2):
            folder = write_run(tmp_path, label, seed=seed, metrics=(level, level + seed, level))
            with_figures(folder, f1=level - 5 * seed, nll=nll + seed / 100, ece=20 * nll)
    return tmp_path


def rows_of(sheet):
    return {row[0]: dict(zip(sheet.table.header, row, strict=True)) for row in sheet.table.rows}


def parse(capsys, *arguments):
    status = parse_test_res.main(list(map(str, arguments)))
    out = capsys.readouterr()
    return status, out.out, out.err


def test_names_are_looked_up():
    assert parse_metrics(" f1, accuracy,f1 ") == (METRICS["f1"], ACCURACY)
    with pytest.raises(UserError, match=r"unknown 'F2'; choose from .*, f1, micro_f1, nll, ece; did you mean f1"):
        parse_metrics("accuracy,F2")
    with pytest.raises(UserError, match="names no figure"):
        parse_metrics(",")


def test_methods_and_figures(tree):
    (suite,) = suites(read_tree(tree))
    (sheet,) = metric_sheets(suite, Options(metrics=ALL))
    rows = rows_of(sheet)
    assert list(sheet.table.header) == ["method", "accuracy", "mean accuracy", "macro F1", "NLL", "ECE"]
    mine, theirs = rows["SoftCPT-NATA"], rows["CoOp-MT"]
    assert (mine["macro F1"].mean, mine["macro F1"].spread) == (pytest.approx(70 - 7.5 + 1), pytest.approx(2.5))
    assert (theirs["NLL"].mean, theirs["NLL"].count) == (pytest.approx(0.515 + 1), 2)
    assert mine["NLL"].show("text") == "2.0150 +- 0.0050_"
    assert [mine[name].rank for name in ("accuracy", "macro F1", "NLL", "ECE")] == [1, 1, 2, 2]
    assert "mean over 3 tasks, accuracy, mean accuracy, macro F1, ECE in %, mean ±" in sheet.title
    assert "NLL and ECE: the lower, the better" in sheet.notes


def test_each_task_has_a_table(tree):
    (suite,) = suites(read_tree(tree))
    _, *each = metric_sheets(suite, Options(metrics=(METRICS["ece"],), per_task=True))
    assert [sheet.keys["task"] for sheet in each] == list(TASKS)
    assert [rows_of(sheet)["CoOp-MT"]["ECE"].mean for sheet in each] == [10.0, 11.0, 12.0]


def test_runs_of_single_tasks_are_gathered(tmp_path):
    for number, task in enumerate(TASKS):
        folder = write_run(tmp_path, "CoOp-CA", metrics=(60.0,), tasks=(task,), choice=f"task{number}")
        with_figures(folder, nll=1.0 + number)
    (suite,) = suites(read_tree(tmp_path))
    (sheet,) = metric_sheets(suite, Options(metrics=(METRICS["nll"],)))
    assert rows_of(sheet)["CoOp-CA"]["NLL"].mean == pytest.approx(2.0)


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv", "json"])
def test_all_forms(tree, capsys, form):
    status, out, _ = parse(capsys, tree, "--metrics", COLUMNS, "--format", form)
    assert status == 0
    assert all(name in out for name in ("accuracy", "macro F1", "NLL", "ECE"))
    assert "1.5150" in out or "1.515" in out
    if form == "csv":
        rows = {row["method"]: row for row in csv.DictReader(io.StringIO(out))}
        assert float(rows["CoOp-MT"]["NLL mean"]) == pytest.approx(1.515)
        assert float(rows["SoftCPT-NATA"]["macro F1 std"]) == pytest.approx(2.5)
    if form == "json":
        (table,) = json.loads(out)["tables"]
        assert table["rows"][0]["NLL"]["runs"] == 2


def test_the_default_is_accuracy_alone(tree, capsys):
    plain, named = (parse(capsys, tree, *more) for more in ([], ["--metrics", "accuracy"]))
    assert plain == named and "macro F1" not in plain[1]


def test_folder_by_folder(tree, capsys):
    status, out, _ = parse(capsys, tree, "--layout", "folders", "--metrics", "f1,accuracy,nll", "--per-task")
    assert status == 0
    header = next(line for line in out.splitlines() if line.startswith("folder"))
    names = ("macro F1", "overall_metric", "NLL", "animals macro F1", "food NLL")
    assert [header.index(name) for name in names] == sorted(header.index(name) for name in names)
    assert "63.50 +- 2.50" in out and "2.0150 +- 0.0050" in out
    assert out.startswith("macro F1, overall_metric in %, mean +- ")


def test_a_folder_of_seeds(tree, capsys):
    folder = next(tree.rglob("seed1")).parent
    status, out, _ = parse(capsys, folder, "--metrics", "accuracy,nll,ece")
    assert status == 0
    level = read_results(folder / "seed1").tasks[0].metric
    assert f"* overall_metric: {level + 0.5:.2f}% +- 0.17%\n* NLL: " in out
    assert "per task results, NLL:\n* 0: " in out and "+- 0.0050\n" in out and "* ECE: " in out
    _, alone, _ = parse(capsys, folder, "--metrics", "ece")
    assert "\n* overall_metric" not in alone and "per task results:" not in alone


def test_one_run(tree, capsys):
    folder = with_figures(next(tree.rglob("seed1")), f1=50.0, nll=0.25, ece=3.0)
    status, out, _ = parse(capsys, folder, "--metrics", COLUMNS)
    assert status == 0
    assert "* macro F1: 51.00%\n* macro F1, 0 (animals): 50.00%\n" in out
    assert "* NLL: 1.2500\n* NLL, 0 (animals): 0.2500\n" in out and "* ECE, 2 (food): 5.00%\n" in out


def test_experiments(tree, capsys):
    top = next(tree.rglob("seed1")).parents[1]
    status, out, _ = parse(capsys, top, "--multi-exp", "--metrics", "nll,accuracy")
    assert status == 0
    assert out.splitlines()[-3] == "Average performance"
    assert out.splitlines()[-2].startswith("* NLL: ") and out.splitlines()[-1].startswith("* overall_metric: ")


def test_the_page_has_them(tree):
    tree = read_tree(tree)
    plain, more = (page(tree, suites(tree), [], Options(metrics=each)) for each in ((ACCURACY,), ALL))
    assert "macro F1" not in plain
    assert "<h3>accuracy, mean accuracy, macro F1, NLL, ECE</h3>" in more and 'data-value="1.515' in more


@pytest.mark.parametrize("layout", ["paper", "folders"])
def test_older_runs_leave_empty_cells_and_a_remark(tmp_path, capsys, layout):
    for seed in (1, 2):
        write_run(tmp_path, "CoOp-MT", seed=seed)
        folder = write_run(tmp_path, "SoftCPT-NATA", seed=seed)
        if seed == 1:
            with_figures(folder)
    status, out, _ = parse(capsys, tmp_path, "--layout", layout, "--metrics", "accuracy,f1,nll")
    assert status == 0
    (line,) = [line for line in out.splitlines() if "no macro F1, NLL: 3 of 4 runs (" in line]
    assert line.endswith("were written without; run their commands again with --eval-only") and "/seed1" in line
    assert any(line.split()[-2:] == ["-", "-"] for line in out.splitlines() if "CoOp" in line)
    assert "(1/2)" in out or "(1 of 2)" in out


def test_an_infinite_likelihood_is_said(tree, capsys):
    with_figures(next(tree.rglob("seed2")), nll=None)
    _, out, _ = parse(capsys, tree, "--metrics", "nll")
    assert "no NLL: 1 of 4 runs (" in out and "their warnings say why" in out


def test_a_run_from_a_log_has_none():
    assert list(lacking([("a", None)], (ACCURACY,))) == []
    (line,) = lacking([("a", None)], ALL)
    assert line.startswith("no mean accuracy, macro F1, NLL, ECE: 1 of 1 runs (a)")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--base2new"], "--metrics and --base2new contradict each other"),
        (["--new-tasks"], "--metrics and --new-tasks contradict each other"),
        (["--compare", "paper"], "--metrics and --compare contradict each other"),
        (["--keyword", "val"], "--metrics and --keyword val contradict each other"),
        (["--test-log"], "--metrics and --test-log contradict each other"),
    ],
)
def test_what_has_no_other_figures_is_refused(tree, capsys, options, words):
    status, out, error = parse(capsys, tree, "--metrics", "nll", *options)
    assert (status, out) == (2, "") and words in error and error.count("\n") == 1


# ---- an evaluation beside an older result


def older(tmp_path, **changes):
    """An older run with a later evaluation in its folder, which may be of something else."""
    folder = write_run(tmp_path, "SoftCPT-NATA")
    content = (folder / "results.json").read_bytes()
    with_figures(folder, name="results-eval.json", **{"mode": "eval", **changes})
    Path(folder / "results.json").write_bytes(content)
    return folder


def test_a_later_evaluation_completes_an_older_result(tmp_path, capsys):
    folder = older(tmp_path, nll=1.0)
    assert [task.nll for task in read_completed(folder).tasks] == [1.0, 2.0, 3.0]
    assert read_completed(folder).mode == "train"
    _, out, _ = parse(capsys, tmp_path, "--metrics", "nll")
    assert "2.0000" in out and "were written without" not in out


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"metric": 12.0},
        {"test_digest": "others"},
        {"best_epoch": 3},
        {"split": "val"},
        {"calibration": Calibration("", ())},
    ],
)
def test_an_evaluation_of_something_else_does_not(tmp_path, changes):
    assert read_completed(older(tmp_path, **changes)).tasks[0].nll is None


def test_a_damaged_evaluation_does_not(tmp_path):
    folder = older(tmp_path)
    (folder / "results-eval.json").write_text("{")
    assert read_completed(folder).tasks[0].nll is None


def test_a_result_with_figures_stays_as_it_is(tmp_path):
    folder = older(tmp_path, nll=1.0)
    with_figures(folder, nll=5.0)
    assert read_completed(folder).tasks[0].nll == 5.0
