"""The demo from end to end: real worker processes, one epoch, one shot, one seed."""

from pathlib import Path

import pytest

from dassl.utils.results import read_results
from scripts import demo


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
    assert all(method.label in table for method in demo.METHODS)
    assert (output / "accuracy.png").stat().st_size > 1000


def test_started_again_it_keeps_what_is_finished(finished, capsys):
    output, command = finished
    before = {path: path.stat().st_mtime_ns for path in output.rglob("results.json")}
    assert demo.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("results.json")} == before
    assert "zero-shot CLIP" in capsys.readouterr().out


def test_other_options_do_not_pass_for_the_old_result(finished, capfd):
    _, command = finished
    assert demo.main([*command[:-1], "2"]) == 2
    assert "OPTIM.MAX_EPOCH is 1 there, 2 here" in capfd.readouterr().err


def test_the_plan_has_every_cell_once():
    runs = demo.plan([4, 1, 4], [3, 1])
    folders = [run.folder(Path("out")) for run in runs]
    assert len(set(folders)) == len(folders) == 1 + 4 * 2 * 2
    assert [run.shots for run in runs[1:5]] == [4, 4, 1, 1]
