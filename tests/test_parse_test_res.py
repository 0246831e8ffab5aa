import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import parse_test_res
from dassl.results.record import BackboneInfo, SplitResult, TaskResult, write_results
from tests.dassl.report.trees import write_base_to_new, write_run, write_sweep
from tests.dassl.results.samples import log_lines, make_result, result_lines, write_log

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("SOFTCPT_GOLDEN", REPOSITORY.parent / "shared" / "golden")) / "parse"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the golden folder")


@pytest.fixture
def parse(capsys, tmp_path, monkeypatch):
    """Run the program in an empty folder; gives (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = parse_test_res.main([str(each) for each in arguments])
        return (status, *capsys.readouterr())

    return run


def seeds(folder, figures):
    for seed, metric in enumerate(figures, 1):
        write_log(Path(folder) / f"seed{seed}", log_lines(metric, (metric, 100 - metric)))


# ---- golden


@needs_golden
def test_golden_text(parse, monkeypatch):
    monkeypatch.chdir(GOLDEN)
    assert parse("exp") == (0, (GOLDEN / "exp.plain.stdout.txt").read_text(), "")


@needs_golden
def test_golden_with_validation_blocks_differs_in_tasks_only(parse, monkeypatch):
    monkeypatch.chdir(GOLDEN)
    status, out, _ = parse("exp_val_blocks")
    original = (GOLDEN / "exp_val_blocks.plain.stdout.txt").read_text()
    cut = "per task results:"
    assert status == 0 and out.split(cut)[0] == original.split(cut)[0]
    final = {0: [], 1: [], 2: []}
    for log in GOLDEN.glob("exp_val_blocks/*/log.txt"):
        for task, value in re.findall(r"task: (\d).*metric: (.*)%", log.read_text().split("Finished training")[1]):
            final[int(task)].append(float(value))
    means = re.findall(r"\* (\d): (\S+)%", out.split(cut)[1])
    assert means == [(str(task), f"{sum(values) / 3:.2f}") for task, values in final.items()]


# ---- a folder of runs


def test_plain_output(parse):
    seeds("exp", (60, 70))
    assert parse("exp") == (
        0,
        "Parsing files in exp\n"
        "file: exp/seed1/log.txt. overall_metric: 60.00%. \n"
        "file: exp/seed2/log.txt. overall_metric: 70.00%. \n"
        "===\nSummary of directory: exp\n* overall_metric: 65.00% +- 5.00%\n===\n"
        "===\nper task results:\n* 0: 65.00% +- 5.00%\n* 1: 35.00% +- 5.00%\n===\n",
        "",
    )


def test_ci95(parse):
    seeds("exp", (60, 70))
    out = parse("exp", "--ci95")[1]
    assert f"* overall_metric: 65.00% +- {1.96 * 5 / 2**0.5:.2f}%" in out
    assert "Summary of directory: exp (+-: half of the 95 % interval (1.96 * std / sqrt(n), population))\n" in out
    assert parse("exp", "--interval", "normal")[1] == out


def test_interval_of_student(parse):
    seeds("exp", (60, 61, 65))
    out = parse("exp", "--interval", "t")[1]
    assert "Student's t" in out and "* overall_metric: 62.00% +- 6.57%" in out
    seeds("one", (60,))
    assert "* overall_metric: 60.00%\n" in parse("one", "--interval", "t")[1]


@pytest.mark.parametrize(("interval", "words"), [("std", "deviation"), ("normal", "1.96"), ("t", "Student")])
@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
def test_every_table_says_what_stands_behind_its_sign(parse, sweep, interval, words, form):
    for layout in ("paper", "folders"):
        out = parse("out", "--layout", layout, "--interval", interval, "--format", form, "--per-task")[1]
        tables = re.split(r"^(?=\\begin\{table\}|\#\#\# )|\n\n(?=Gen)", out, flags=re.MULTILINE)
        assert all(words in each for each in tables if "SoftCPT" in each and "\n" in each)


@pytest.mark.parametrize(("interval", "column"), [("std", "std"), ("normal", "ci95"), ("t", "ci95_t")])
@pytest.mark.parametrize(("layout", "name"), [("paper", "1 shot"), ("folders", "overall_metric")])
def test_columns_and_keys_are_called_after_the_interval(parse, sweep, interval, column, layout, name):
    options = ("out", "--layout", layout, "--interval", interval, "--format")
    header = parse(*options, "csv")[1].splitlines()[0].split(",")
    assert f"{name} {column}" in header and {"std", "ci95", "ci95_t"} & {each.split()[-1] for each in header} == {
        column
    }
    content = json.loads(parse(*options, "json")[1])
    rows = content["tables"][0]["rows"] if layout == "paper" else content
    assert column in rows[0][name]


def test_results_file_wins_over_the_log(parse, tmp_path):
    seeds("exp", (10, 20))
    write_results(tmp_path / "exp" / "seed1", make_result(metric=90.004))
    _, out, _ = parse("exp")
    assert "file: exp/seed1/results.json. overall_metric: 90.00%. \n" in out
    assert "* overall_metric: 55.00% +- 35.00%" in out


def test_figures_before_the_end_marker_do_not_count(parse):
    write_log(Path("exp/seed1"), [*result_lines(10, (10, 10)), *log_lines(60, (50, 70))])
    _, out, _ = parse("exp")
    assert "* overall_metric: 60.00% +- 0.00%" in out
    assert "* 0: 50.00% +- 0.00%\n* 1: 70.00% +- 0.00%\n" in out


def test_validation_figures_of_a_run_without_a_test_do_not_count(parse):
    write_log(Path("exp/seed1"), ["epoch [1/1][1/1]", *result_lines(10, (10,)), "Finished training"])
    status, out, _ = parse("exp")
    assert status == 1 and "no result '* overall_metric: ..%'" in out


def test_last_figure_wins(parse):
    write_log(Path("exp/seed1"), [*log_lines(60, (50, 70)), *result_lines(30, (30,))])
    _, out, _ = parse("exp")
    assert "* overall_metric: 30.00%" in out and "* 0: 30.00%" in out and "* 1:" not in out


def test_log_of_a_run_that_was_started_again_and_cut_off(parse):
    lines = [*log_lines(60), "epoch [1/50][1/2]\ttime 0.1 (0.1)", *result_lines(30)]
    write_log(Path("exp/seed1"), lines)
    assert parse("exp")[0] == 1


def test_official_log(parse):
    lines = [
        "epoch [1/1] batch [1/1]",
        "Finish training",
        "=> result",
        "* total: 9",
        "* accuracy: 71.2%",
        "* error: 28.8%",
    ]
    write_log(Path("exp/seed1"), lines)
    assert "* accuracy: 71.20% +- 0.00%" in parse("exp", "--keyword", "accuracy")[1]
    status, out, _ = parse("exp")
    assert status == 1 and "it has accuracy, error, choose with --keyword" in out


def test_log_of_an_evaluation(parse):
    write_log(Path("exp/seed1"), ["Do evaluation on test set", *result_lines(42)])
    status, out, _ = parse("exp")
    assert status == 1 and "no end marker: the run did not finish; if it only evaluated, use --test-log" in out
    assert "* overall_metric: 42.00%" in parse("exp", "--test-log")[1]


def test_keyword_of_results(parse, tmp_path):
    val = SplitResult(33.0, (TaskResult(0, "animal", 33.0, "mean_acc", 3, 3),))
    write_results(tmp_path / "exp" / "seed1", make_result(val=val))
    assert "* val: 33.00% +- 0.00%" in parse("exp", "--keyword", "val")[1]
    status, out, _ = parse("exp", "--keyword", "accuracy")
    assert status == 1 and "no key 'accuracy'; it has overall_metric, average, val" in out


# ---- runs without a figure


def test_every_unusable_run_is_named_with_the_reason(parse, tmp_path):
    write_log(Path("exp/good"), log_lines(60))
    write_log(Path("exp/cut"), ["epoch [1/50][1/2]", "epoch [1/50][2/2]"])
    write_log(Path("exp/nan"), log_lines("nan"))
    write_log(Path("exp/odd"), log_lines("1-2e"))
    write_log(Path("exp/silent"), ["Finished training"])
    Path("exp/empty").mkdir()
    write_results(tmp_path / "exp" / "null", make_result(metric=None))
    write_log(Path("exp/damaged"), log_lines(60))
    Path("exp/damaged/results.json").write_text('{"format": 1, "mode": "tra')
    Path("exp/.hidden").mkdir()
    Path("exp/notes.md").write_text("")
    status, out, _ = parse("exp")
    assert status == 0 and "* overall_metric: 60.00% +- 0.00%" in out
    reasons = dict(re.findall(r"^left out: (\S+) \((.*)\)$", out, re.M))
    assert set(reasons) == {"cut", "nan", "odd", "silent", "empty", "null", "damaged"}
    assert reasons["cut"] == "no end marker: the run did not finish"
    assert reasons["nan"] == "its overall_metric is nan"
    assert reasons["odd"] == "its overall_metric is 1-2e"
    assert reasons["silent"].endswith("it has none at all")
    assert reasons["empty"] == "it has neither results.json nor log.txt"
    assert reasons["null"].startswith("its overall_metric could not be computed")
    assert "results.json is not valid JSON" in reasons["damaged"]


def test_all_left_out(parse):
    write_log(Path("exp/seed1"), ["epoch [1/50][1/2]"])
    status, out, error = parse("exp")
    assert status == 1 and "left out: seed1 (" in out
    assert error == "no result: every run in exp was left out\n"


def test_task_without_a_figure_shows(parse):
    write_log(Path("exp/seed1"), log_lines(60, (50, 70)))
    write_log(Path("exp/seed2"), log_lines(40, (40, "nan")))
    write_log(Path("exp/seed3"), log_lines(40, (30,)))
    _, out, _ = parse("exp")
    assert "* 0: 40.00% +- 8.16%\n* 1: 70.00% +- 0.00% (1 of 3 runs)\n" in out


@pytest.mark.parametrize("make", [lambda: None, Path("exp").mkdir, lambda: Path("exp").write_text("")])
def test_missing_or_empty_folder(parse, make):
    make()
    status, out, error = parse("exp")
    assert (status, out) == (2, "") and error.startswith("error: exp ") and error.count("\n") == 1


def test_folder_without_any_run(parse):
    Path("exp/a/b").mkdir(parents=True)
    status, out, error = parse("exp")
    assert (status, out) == (2, "") and "exp has no run in it or below it" in error


# ---- strange logs


def test_crlf_and_junk(parse):
    write_log(Path("exp/seed1"), log_lines(60, (60, 60)), newline="\r\n")
    folder = Path("exp/seed2")
    write_log(folder, [])
    junk = bytes(range(256)) * 20
    text = "\n".join(log_lines(70, (70, 70))).encode()
    (folder / "log.txt").write_bytes(junk + b"\n" + text + b"\n" + junk)
    status, out, _ = parse("exp")
    assert status == 0 and "* overall_metric: 65.00% +- 5.00%" in out and "* 1: 65.00% +- 5.00%" in out


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=200), st.binary(max_size=200), st.sampled_from(["log.txt", "results.json"]))
def test_any_file_is_read_or_named(parse, before, after, name):
    folder = Path("exp/seed1")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / name).write_bytes(before + b"\nFinished training\n" + after)
    status, out, error = parse("exp")
    assert status == 1 and out.count("left out: seed1 (") == 1 and error.count("\n") == 1


# ---- several logs, runs of different settings


LATER = "log.txt-2021-09-30-11-22-33"
NEWEST = "log.txt-2021-10-01-00-00-00"
CUT = ["epoch [1/50][1/2]"]


@pytest.mark.parametrize(
    ("logs", "figure", "words"),
    [
        ({"log.txt": CUT, LATER: log_lines(70)}, 70, f"{LATER} of 2 logs counts; older and not read: log.txt"),
        ({"log.txt": log_lines(10), LATER: log_lines(70)}, 70, f"{LATER} of 2 logs counts"),
        ({"log.txt": log_lines(10), LATER: CUT}, 10, f"log.txt of 2 logs counts; {LATER} is newer, but no end marker"),
        ({LATER: log_lines(70)}, 70, ""),
        ({"log.txt": CUT, LATER: log_lines(60), NEWEST: log_lines(80)}, 80, f"{NEWEST} of 3 logs"),
        ({"log.txt": log_lines(70), "log.txt-old": log_lines(1), "log.txt~": log_lines(2)}, 70, ""),
    ],
)
@pytest.mark.parametrize("options", [(), ("--layout", "folders", "--format", "text")])
def test_the_newest_finished_log_counts(parse, logs, figure, words, options):
    for name, lines in logs.items():
        write_log(Path("exp/seed1"), lines)
        Path("exp/seed1/log.txt").rename(f"exp/seed1/{name}.new")
    for path in Path("exp/seed1").iterdir():
        path.rename(path.with_suffix(""))
    status, out, error = parse("exp", *options)
    assert status == 0 and re.search(rf"\b{figure}\.00", out) and out.count("several logs: seed1") == bool(words)
    assert words in out and not error


def test_a_folder_with_several_logs_and_no_figure(parse):
    for name in ("log.txt", LATER):
        write_log(Path("exp/seed1"), CUT)
        Path("exp/seed1/log.txt").rename(f"exp/seed1/x{name}")
    for path in Path("exp/seed1").iterdir():
        path.rename(path.with_name(path.name[1:]))
    assert f"left out: seed1 ({LATER}, the newest of 2 logs: no end marker" in parse("exp")[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {"OPTIM.LR": 0.2}}, "OPTIM.LR 0.1 (seed1, seed2), 0.2 (seed3)"),
        ({"test_digest": "f" * 64}, "test images test Toy (seed1, seed2), ffffffff (seed3)"),
        ({"backbone": BackboneInfo("RN50", "1" * 64, "fp16")}, "weights 00000000 (seed1, seed2), 11111111 (seed3)"),
        ({"tasks": ("animals",), "metrics": (1.0,)}, ""),
    ],
)
@pytest.mark.parametrize("options", [(), ("--layout", "folders", "--format", "text"), ("--layout", "folders")])
def test_runs_of_different_settings_have_no_mean(parse, tmp_path, changes, words, options):
    same = {"config": {"OPTIM.LR": 0.1}, "warnings": ("two images are equal",)}
    for seed in (1, 2, 3):
        folder = write_run(tmp_path / "out", "CoOp-MT", seed=seed, **{**same, **(changes if seed == 3 else {})})
    status, out, _ = parse(folder.parent, *options)
    if words:
        assert status == 0 and not re.search(r"\d%? \+- \d", out) and "===" not in out
        assert f"no mean: the runs have different settings: {words}" in out
    else:
        assert re.search(r"\d%? \+- \d", out) and "no mean" not in out
    assert re.search(r"^note of a run: two images are equal \([23] runs\)$", out, re.M)


def test_experiments_without_a_mean_are_named(parse, tmp_path):
    for label, rates in (("CoOp-MT", (0.1, 0.1)), ("SoftCPT-NATA", (0.1, 0.2))):
        for seed, rate in enumerate(rates, 1):
            folder = write_run(tmp_path / "out", label, seed=seed, config={"OPTIM.LR": rate})
            shutil.copytree(folder, tmp_path / f"all/{label}/seed{seed}")
    status, out, _ = parse("all", "--multi-exp")
    assert status == 0 and "left out: all/SoftCPT-NATA (its runs have different settings)" in out
    assert out.endswith("Average performance\n* overall_metric: 70.00%\n")


# ---- experiments, single runs and trees


def test_experiments(parse):
    seeds("all/a", (60, 70))
    seeds("all/b", (80, 90))
    write_log(Path("all/c/seed1"), ["epoch [1/50][1/2]"])
    Path("all/d").mkdir()
    status, out, _ = parse("all", "--multi-exp")
    assert status == 0
    assert "Summary of directory: all/a\n* overall_metric: 65.00% +- 5.00%" in out
    assert "left out: all/c (no run with a usable figure)\nleft out: all/d (" in out
    assert out.endswith("Average performance\n* overall_metric: 75.00%\n")


def test_experiments_in_the_wrong_folder(parse):
    seeds("exp", (60, 70))
    status, out, error = parse("exp", "--multi-exp")
    assert (status, out) == (2, "") and "exp holds runs, not experiments" in error


def test_experiments_all_left_out(parse):
    write_log(Path("all/c/seed1"), ["epoch [1/50][1/2]"])
    status, out, _ = parse("all", "--multi-exp")
    assert status == 1 and "Average" not in out


def test_single_run(parse, tmp_path):
    write_results(tmp_path / "seed1", make_result((60.0, None)))
    status, out, _ = parse("seed1")
    assert status == 0
    assert out == "file: seed1/results.json. overall_metric: 70.00%. \n* 0 (animal): 60.00%\n* 1 (texture): -\n"
    write_log(Path("seed2"), ["epoch [1/50][1/2]"])
    assert parse("seed2")[:2] == (1, "left out: seed2 (no end marker: the run did not finish)\n")


def make_tree(tmp_path):
    for seed, metric in enumerate((60.0, 70.0), 1):
        write_results(tmp_path / f"out/MTCoOp/4shots/seed{seed}", make_result((metric, 50.0), metric=metric))
    write_results(tmp_path / "out/ZeroshotCLIP/seed1", make_result((40.0, 40.0), metric=40.0))
    (tmp_path / "out/MTCoOp/4shots/seed3/prompt_gen").mkdir(parents=True)
    (tmp_path / "out/.cache/seed1").mkdir(parents=True)


def test_tree(parse, tmp_path):
    make_tree(tmp_path)
    status, out, _ = parse("out")
    assert status == 0
    assert out.splitlines() == [
        "overall_metric in %, mean +- standard deviation (population) over the runs of a folder",
        "",
        "folder         runs  left out  overall_metric",
        "-------------  ----  --------  --------------",
        "MTCoOp/4shots     2         1   65.00 +- 5.00",
        "ZeroshotCLIP      1         0   40.00 +- 0.00",
        "left out: MTCoOp/4shots/seed3 (it has neither results.json nor log.txt)",
    ]


def test_tree_per_task_as_csv(parse, tmp_path):
    make_tree(tmp_path)
    status, out, error = parse("out", "--format", "csv", "--per-task")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and error.startswith("left out: MTCoOp/4shots/seed3")
    assert [(row["folder"], row["animal mean"], row["animal std"], row["texture mean"]) for row in rows] == [
        ("MTCoOp/4shots", "65.0", "5.0", "50.0"),
        ("ZeroshotCLIP", "40.0", "0.0", "40.0"),
    ]


@pytest.mark.parametrize(
    ("form", "start"), [("markdown", "### overall_metric"), ("latex", "% overall_metric"), ("text", "overall_metric")]
)
def test_format_of_one_group(parse, form, start):
    seeds("exp", (60, 70))
    status, out, _ = parse("exp", "--format", form)
    assert status == 0 and out.startswith(start) and re.search(r"^\W*exp\b.* 65\.00 (\+-|±|\$\\pm\$) 5\.00", out, re.M)


def test_tree_all_left_out(parse):
    Path("out/a/seed1").mkdir(parents=True)
    status, out, error = parse("out")
    assert status == 1 and "left out: a/seed1" in out and "every run in out was left out" in error


def test_tree_with_a_link_to_itself(parse):
    seeds("out/a", (60, 70))
    Path("out/a/loop").symlink_to(Path("out").resolve())
    status, out, _ = parse("out")
    assert status == 0 and len(re.findall("65.00", out)) == 1


@pytest.mark.parametrize("layout", ["folders", "paper"])
def test_folders_that_may_not_be_read_are_named(parse, monkeypatch, layout):
    for seed in (1, 2):
        write_results(Path(f"out/exp/seed{seed}"), make_result(seed=seed))
    Path("out/foreign").mkdir()
    closed, is_file, access = {"seed2", "foreign"}, Path.is_file, os.access

    def refuse(path):
        if path.parent.name in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    # Nothing is closed to root, so what asks the system is replaced.
    monkeypatch.setattr(Path, "is_file", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name not in closed and access(path, mode))
    status, out, _ = parse("out", "--layout", layout)
    assert status == 0 and "70.00" in out
    for folder in ("exp/seed2", "foreign"):
        assert f"left out: {folder} (you may not read this folder)\n" in out


# ---- the tables of a paper


@pytest.fixture
def sweep(tmp_path):
    """Zero-shot and SoftCPT at two numbers of shots, as the scripts lay runs out."""
    write_sweep(tmp_path / "out", labels=("ZS-CLIP", "SoftCPT-NATA"), shots=(1, 4))
    return tmp_path / "out"


def test_runs_in_the_layout_of_the_scripts_become_a_table_of_methods(parse, sweep):
    status, out, error = parse("out")
    assert (status, error) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(
        "General10, RN50: mean over 3 tasks in %, mean +- standard deviation (population) over seeds 1, 2, 3"
    )
    assert re.split("  +", lines[2]) == ["method", "parameters", "training time", "1 shot", "4 shots", "average"]
    assert [line.split("  ")[0] for line in lines[4:6]] == ["ZS-CLIP", "SoftCPT-NATA"]


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv", "json"])
def test_every_form_has_every_figure(parse, sweep, form):
    shown = json.loads(parse("out", "--format", "json")[1])["tables"][0]["rows"]
    status, out, _ = parse("out", "--format", form)
    assert status == 0
    for row in shown:
        for shots in ("1 shot", "4 shots", "average"):
            mean = row[shots]["mean"]
            assert (str(mean) if form in ("csv", "json") else f"{mean:.2f}") in out


def test_folders_layout_stays(parse, sweep):
    status, out, _ = parse("out", "--layout", "folders")
    assert (
        status == 0
        and out.startswith("overall_metric in %")
        and re.search(r"MTCoOp/rn50_4shots/SoftCPT-NATA +3 +0 ", out)
    )
    rows = json.loads(parse("out", "--layout", "folders", "--format", "json")[1])
    assert rows[0]["runs"] == 3 and set(rows[0]["overall_metric"]) == {"mean", "std", "runs"}


def test_free_names_of_folders_are_shown_unless_asked_otherwise(parse, sweep):
    sweep.rename(sweep.with_name("moved"))
    (sweep.with_name("moved") / "General10" / "MTCoOp").rename(sweep.with_name("mine"))
    assert parse("mine")[1].startswith("overall_metric in %")
    assert "SoftCPT-NATA" in parse("mine", "--layout", "paper")[1].split("4 shots")[1]


def test_a_folder_of_seeds_keeps_its_form_but_may_be_a_table(parse, sweep):
    seeds = "out/General10/MTCoOp/rn50_4shots/SoftCPT-NATA"
    assert parse(seeds)[1].startswith(f"Parsing files in {seeds}\n")
    assert "SoftCPT-NATA" in parse(seeds, "--format", "markdown")[1]
    assert "1 of" not in parse(f"{seeds}/seed1", "--layout", "paper")[1]


def test_figures_of_the_validation_split(parse, tmp_path):
    val = SplitResult(33.0, (TaskResult(0, "animal", 33.0, "mean_acc", 3, 3),))
    write_run(tmp_path / "out", "CoOp-MT", val=val)
    write_run(tmp_path / "out", "SoftCPT-NATA")
    status, out, _ = parse("out", "--keyword", "val")
    assert status == 0 and "Toy3, RN50, val split" in out and "33.00" in out and "70.00" not in out
    assert "left out: Toy3/MTCoOp/rn50_4shots/SoftCPT-NATA/seed1 (its validation split was not evaluated)" in out


def test_missing_runs_are_named_where_they_spoil_nothing(parse, sweep):
    shutil.rmtree(sweep / "General10/MTCoOp/rn50_4shots/SoftCPT-NATA/seed2")
    (sweep / "General10/MTCoOp/rn50_1shots/SoftCPT-NATA/seed1/results.json").unlink()
    wanted = (
        "left out: General10/MTCoOp/rn50_1shots/SoftCPT-NATA/seed1 (it has neither results.json nor log.txt)\n"
        "missing seed: General10, RN50, SoftCPT-NATA, 1 shot: seed 1\n"
        "missing seed: General10, RN50, SoftCPT-NATA, 4 shots: seed 2\n"
    )
    assert parse("out")[1].endswith(wanted)
    _, out, error = parse("out", "--format", "csv")
    assert error == wanted and "missing seed" not in out and ",2/3" in out


def test_many_remarks_are_cut(parse, sweep):
    for number in range(60):
        (sweep / f"empty{number}" / "seed1").mkdir(parents=True)
    out = parse("out", "--layout", "paper")[1]
    assert out.count("left out: ") == 40 and out.endswith(
        "... and 20 more remarks, all of them on the page of --html\n"
    )


def test_base_to_new_and_new_tasks(parse, tmp_path):
    write_base_to_new(tmp_path / "out")
    write_run(tmp_path / "out", "CoOp-MT", choice="base", tasks=("a",), metrics=(60.0,))
    write_run(tmp_path / "out", "CoOp-MT", choice="new", tasks=("b",), metrics=(50.0,), mode="eval")
    base = parse("out", "--base2new", "--format", "markdown")[1]
    new = parse("out", "--new-tasks", "--format", "markdown")[1]
    assert "base to new classes" in base and "seen tasks" not in base
    assert "seen tasks" in new and "base to new" not in new
    assert parse("out", "--format", "markdown")[1] == f"{base}\n{new}"  # nothing else to show
    rows = list(csv.DictReader(io.StringIO(parse("out", "--base2new", "--new-tasks", "--format", "csv")[1])))
    assert {row["trained on"] for row in rows} == {"", "base"} and {"H mean", "base mean", "new tasks mean"} <= set(
        rows[0]
    )


def test_tables_that_were_not_printed_are_hinted_at(parse, sweep):
    write_base_to_new(sweep)
    assert parse("out")[1].endswith("\nmore tables: --base2new\n")
    status, out, error = parse("out", "--format", "json")
    assert status == 0 and error == "more tables: --base2new\n" and json.loads(out)
    assert "more tables" not in parse("out", "--base2new")[1]


def test_comparison(parse, sweep):
    status, out, _ = parse("out", "--compare", "paper")
    assert status == 0 and "compared with Ding et al. (2024)" in out and "58.29 +- 0.00" in out and " se)" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--base2new"], "has no runs for such a table, which needs runs with DATASET.SUBSAMPLE_CLASSES base and new"),
        (["--new-tasks"], "which needs runs with DATASET.SUBSAMPLE_TASKS base and new"),
        (["--html", "a.html", "--layout", "folders"], "--html and --layout folders contradict each other"),
        (["--base2new", "--multi-exp"], "--base2new and --multi-exp contradict each other"),
        (["--plot", "a.png", "--test-log"], "--plot reads results.json, --test-log is for logs"),
        (
            ["--layout", "paper", "--keyword", "accuracy"],
            "--layout paper reads results.json, --keyword accuracy is for",
        ),
        (["--plot", "a.jpeg"], "--plot a.jpeg: choose a file ending in .png, .pdf, .svg"),
        (["--errors", "out"], "--errors is about the page; give --html FILE, too"),
        (["--root", "data"], "--root is about the page; give --html FILE, too"),
        (
            ["--html", "a.html", "--errors", "out/gone"],
            "--errors out/gone is not a finished run in out; name the folder",
        ),
        (["--html", "a.html", "--root", "gone"], "data folder gone does not exist; name the folder of your data sets"),
    ],
)
def test_wrong_wishes_are_answered_in_one_line(parse, sweep, options, words):
    status, _, error = parse("out", *options)
    assert status == 2 and words in error and error.count("\n") == 1
    assert not Path("a.html").exists()


def test_paper_layout_of_logs_alone(parse):
    seeds("out/exp", (60, 70))
    status, out, error = parse("out", "--layout", "paper")
    assert (status, out) == (2, "")
    assert error == "error: out has no finished run with results.json, which the paper's layout needs\n"


def test_figures_and_page(parse, sweep):
    pytest.importorskip("matplotlib")
    status, out, error = parse("out", "--plot", "curves.svg", "--html", "report.html", "--format", "csv")
    assert status == 0 and out.startswith("suite,task,method")
    assert error.splitlines() == ["written: curves.svg", "written: curves-cost.svg", "written: report.html"]
    assert Path("curves.svg").is_file() and "SoftCPT-NATA" in Path("report.html").read_text()


def test_real_runs(parse, lab, capsys):
    variants = {"NATA": {}, "NATS": {"TRAINER__MTCOOP__TASK_CSC": True}}
    for name, keys in variants.items():
        for seed in (1, 2):
            lab.run(f"toy/MTCoOp/tiny_2shots/{name}/seed{seed}", seed=seed, OPTIM__MAX_EPOCH=1, **keys)
    for number in (0, 1):
        choice = {"DATASET__SUBSAMPLE_TASKS": f"task{number}"}
        lab.run(f"toy/ZeroshotCLIP/tiny/template/task{number}/seed1", trainer="ZeroshotCLIP", **choice)
    capsys.readouterr()
    (table,) = json.loads(parse(lab.output, "--format", "json")[1])["tables"]
    assert table["suite"].startswith("ToyBoth, ") and len(table["rows"]) == 3
    names = [row["method"] for row in table["rows"]]
    assert names[0] == "ZS-CLIP"
    results = [lab.result(f"toy/MTCoOp/tiny_2shots/NATA/seed{seed}") for seed in (1, 2)]
    row = next(row for row in table["rows"] if row["parameters"] == results[0].parameters)
    assert row["2 shots"]["mean"] == pytest.approx(sum(result.metric for result in results) / 2)
    single = [lab.result(f"toy/ZeroshotCLIP/tiny/template/task{number}/seed1").metric for number in (0, 1)]
    assert table["rows"][0]["2 shots"]["mean"] == pytest.approx(sum(single) / 2)


# ---- the command


def test_starts_without_heavy_imports():
    code = (
        "import json, sys; sys.argv = ['parse_test_res.py', '--help']; import parse_test_res\n"
        "try: parse_test_res.main()\n"
        "except SystemExit: print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout.splitlines()[-1])
    assert not {"torch", "numpy", "yacs", "matplotlib", "tqdm"} & set(modules)
    assert all(
        option in done.stdout for option in ("--ci95", "--multi-exp", "--test-log", "--keyword", "--per-task", "--html")
    )


def test_as_a_program(tmp_path):
    folder = tmp_path / "exp" / "seed1"
    write_results(folder, make_result())
    command = [sys.executable, REPOSITORY / "parse_test_res.py", tmp_path / "exp", "--format", "markdown"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=ascii_only)
    assert done.returncode == 0 and "70.00 \\xb1 0.00" in done.stdout
    command[2] = tmp_path / "nowhere"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == f"error: {tmp_path / 'nowhere'} does not exist\n"
