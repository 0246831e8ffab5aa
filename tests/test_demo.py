"""The demo from end to end: real worker processes, one epoch, one shot, one seed."""

import re
from pathlib import Path

import pytest

from dassl.engine import TRAINER_REGISTRY
from dassl.results.methods import Method, paper_labels, read_methods
from dassl.results.record import read_results
from dassl.sweep.plan import expand
from scripts import demo

LABELS = ("ZS-CLIP", "CoOp-MT", "CoOp-CA-joint", "SoftCPT-NATA", "SoftCPT-NATS")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Output folder of a small demo, and the command that made it."""
    output = tmp_path_factory.mktemp("demo")
    options = ["DATASET.ROOT", str(output / "data"), "OPTIM.MAX_EPOCH", "1"]
    command = ["--shots", "1", "--seeds", "2", "--jobs", "2", "--output-dir", str(output), *options]
    assert demo.main(command) == 0
    return output, command


def test_it_leaves_runs_a_table_and_a_figure(finished):
    output, _ = finished
    runs = [read_results(path.parent) for path in output.rglob("results.json")]
    assert sorted(run.trainer for run in runs) == ["MTCoOp"] * 2 + ["MTCoOpHard"] * 2 + ["ZeroshotCLIP"]
    assert all(run.counts["test"] == 1536 and len(run.tasks) == 6 for run in runs)
    assert len({run.config_digest for run in runs}) == 5
    table = (output / "table.md").read_text()
    assert all(f"| {label} " in table for label in LABELS)
    assert "peak MiB" not in table
    assert (output / "accuracy.png").stat().st_size > 1000


def test_started_again_it_keeps_what_is_finished(finished, capsys):
    output, command = finished
    before = {path: path.stat().st_mtime_ns for path in output.rglob("results.json")}
    assert demo.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("results.json")} == before
    assert "ZS-CLIP" in capsys.readouterr().out


def test_other_options_do_not_pass_for_the_old_result(finished, capfd):
    _, command = finished
    assert demo.main([*command[:-1], "2"]) == 2
    assert "OPTIM.MAX_EPOCH is 1 there, 2 here" in capfd.readouterr().err


def test_all_shows_what_the_methods_cost_and_keeps_what_is_there(finished, monkeypatch, capsys):
    """With two methods more in place of the paper's table: one of all tasks, one task by task."""
    output, command = finished
    known = demo.read_methods()
    by_task = Method("by-task", "MTCoOpHard", "demo", "default", per_task=True, options={"TRAINER.MTCOOPH.N_CTX": 4})
    rows = {"ZS-CLIP": known["ZS-CLIP"], "CoOp-MT": known["CoOp-MT"], "by-task": by_task}
    monkeypatch.setattr(demo, "read_methods", lambda: rows)
    members = ["DATASET.MEMBERS", "DemoDigits,DemoCounts"]
    assert demo.main(["--all", *command[:6], "--output-dir", str(output / "two"), *command[8:], *members]) == 0
    out = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(out) if "peak MiB" in line)
    costs = {line[:8].strip(): [cell.strip() for cell in re.split("  +", line)] for line in out[start + 2 : start + 5]}
    assert costs["ZS-CLIP"][1:3] == ["-", "-"]
    width = int(costs["CoOp-MT"][1].replace(",", "")) // 16  # 16 context vectors for all; then 4 for each of two tasks
    assert int(costs["by-task"][1]) == 2 * 4 * width > 0
    assert all(int(cells[3]) > 100 for cells in costs.values())
    assert len(list((output / "two").rglob("task1/seed2/results.json"))) == 1


@pytest.mark.parametrize(("flag", "added"), [("--all", ()), ("--everything", demo.TUNE_IMAGES)])
def test_the_rows_of_all_are_those_of_the_paper_and_later_ones(flag: str, added: tuple[str, ...]):
    sweep = demo.chosen_sweep(demo.build_parser().parse_intermixed_args([flag]))
    assert {method.label for method in sweep.methods} == {*paper_labels(), *demo.FURTHER, *added}
    assert sweep.options["MODEL.BACKBONE.NAME"] == "demo-vit"


def test_everything_has_the_methods_that_tune_the_image_tower_and_no_trainer_is_left_out():
    tuned = {trainer.__name__ for trainer in TRAINER_REGISTRY if "image" in trainer.tunes}
    assert tuned == {read_methods()[label].trainer for label in demo.TUNE_IMAGES}
    sweep = demo.chosen_sweep(demo.build_parser().parse_intermixed_args(["--everything"]))
    shown = {method.trainer for method in sweep.methods}
    assert {trainer.__name__ for trainer in TRAINER_REGISTRY} - shown == {"ZeroshotCLIP2"}  # it differs by its prompts


def test_the_plan_has_every_cell_once():
    args = demo.build_parser().parse_intermixed_args(["--shots", "4,1,4", "--seeds", "3,1", "--output-dir", "out"])
    runs = expand(demo.chosen_sweep(args))
    folders = [run.folder for run in runs]
    assert len(set(folders)) == len(folders) == 1 + 4 * 2 * 2
    assert [run.shots for run in runs[1:5]] == [4, 4, 1, 1]
