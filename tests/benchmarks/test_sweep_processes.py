"""The benchmark of sweeps: all ways do the same runs (which it checks itself), and its table."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import sweep_processes
from dassl.results.record import BackboneInfo, RunResult, write_results


def finish(runs, metric: float) -> None:
    """Leave the results of finished runs."""
    for run in runs:
        backbone = BackboneInfo("demo", "", "fp32")
        write_results(run.folder, RunResult("train", "X", "Demo6", backbone, run.shots, run.seed, "test", metric, ()))


@pytest.mark.parametrize("theirs", [50.0, 51.0])
def test_all_ways_do_the_same_runs_and_must_agree(tmp_path, monkeypatch, capsys, theirs):
    calls = []
    monkeypatch.setattr(
        sweep_processes, "by_workers", lambda sweep, runs, jobs: calls.append(runs) or finish(runs, 50.0)
    )
    monkeypatch.setattr(sweep_processes, "by_processes", lambda runs, jobs: calls.append(runs) or finish(runs, theirs))
    out = tmp_path / "figures.json"
    command = ["--quick", "--jobs", "1", "--out", str(out)]
    if theirs != 50.0:
        with pytest.raises(AssertionError, match="all ways must give the same figures"):
            sweep_processes.main(command)
        return
    assert sweep_processes.main(command) == 0
    kinds = [[(run.method.label, run.shots, run.seed) for run in runs] for runs in calls[1:]]
    assert kinds[0] == kinds[1] == kinds[2]
    assert len({run.folder for runs in calls[1:] for run in runs}) == 3 * 4
    assert [{run.config().DATALOADER.FEATURES for run in runs} for runs in calls[1:]] == [{True}, {True}, {False}]
    content = json.loads(out.read_text())
    assert [len(times) for times in content["seconds"].values()] == [1, 1, 1]
    assert "| one process per run, nothing shared | 4 " in capsys.readouterr().out


def test_the_table_divides_each_round_by_its_own():
    times = [[1.0, 4.0, 3.0], [1.0, 1.0, 1.0], [2.0, 4.0, 12.0]]
    text = sweep_processes.table(dict(zip(sweep_processes.WAYS, times, strict=True)), 2)
    assert text.rows[0] == ["sweep.py", "2", "3.0", "1.50", "2.0"]
    assert text.rows[2][-1] == "1.0"


def test_a_failed_run_stops_the_measurement(tmp_path, monkeypatch):
    size = sweep_processes.QUICK
    sweep, runs = sweep_processes.planned(size, tmp_path, tmp_path / "runs")
    assert len(runs) == size.methods * len(size.shots) * len(size.seeds)
    monkeypatch.setattr(sweep_processes, "start", lambda *_, **__: [SimpleNamespace(error="no luck")])
    with pytest.raises(AssertionError, match="no luck"):
        sweep_processes.by_workers(sweep, runs, 1)
