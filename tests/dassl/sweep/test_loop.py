"""The loop of a sweep with an executor that answers as it is told; the status file and the lock."""

import json
import logging
import os
import signal

import pytest

from dassl.sweep.estimates import Estimates
from dassl.sweep.grid import read_sweep, with_changes
from dassl.sweep.loop import carry_out
from dassl.sweep.plan import expand
from dassl.sweep.status import STATUS_FILE, Entry, Status, only_sweep
from dassl.sweep.worker import Outcome
from dassl.utils.errors import UserError
from tests.dassl.sweep.small import Here


@pytest.fixture
def status(small) -> Status:
    """Four runs that wait: 2 and 1 shots, seeds 1 and 2."""
    runs = expand(read_sweep(str(small.file)))
    return Status("small", small.output, [Entry(run) for run in runs], Estimates())


def written(status: Status) -> dict:
    return json.loads((status.folder / STATUS_FILE).read_text())


def test_every_run_is_done_once(status):
    executor = Here(slots=2, answers=[1.0, 2.0, 3.0, 4.0])
    assert carry_out(status, executor, retries=1) == []
    assert (executor.submitted, executor.closed) == ([0, 1, 2, 3], False)
    content = written(status)
    assert (content["state"], content["counts"]["done"], content["seconds_left"]) == ("finished", 4, 0.0)
    assert [run["seconds"] for run in content["runs"]] == [1.0, 2.0, 3.0, 4.0]
    assert content["runs"][0]["folder"] == "MTCoOp/method_2shots/NATA/seed1"
    assert content["pid"] == os.getpid()


def test_a_failed_run_is_tried_again_behind_the_others_and_then_left(status):
    executor = Here(answers=["no luck", 1.0, "out of memory", 1.0, "no luck again", 1.0])
    (failed,) = carry_out(status, executor, retries=1)
    assert executor.submitted == [0, 1, 2, 3, 0, 2]
    assert (failed.run.seed, failed.state, failed.attempts, failed.error) == (1, "failed", 2, "no luck again")
    content = written(status)
    assert (content["state"], content["counts"]) == ("failed", {"done": 3, "running": 0, "waiting": 0, "failed": 1})
    assert [run["attempts"] for run in content["runs"]] == [2, 1, 2, 1]
    assert content["runs"][2]["error"] == ""


@pytest.mark.parametrize("retries", [0, 3])
def test_the_number_of_retries_is_kept_to(status, retries):
    executor = Here(answers=["no luck"] * 100)
    assert len(carry_out(status, executor, retries=retries)) == 4
    assert [entry.attempts for entry in status.entries] == [retries + 1] * 4


@pytest.fixture
def stages(small) -> Status:
    """Two runs, and two that start from both."""
    first = {"label": "first", "trainer": "MTCoOpHard", "config": str(small.folder / "method.yaml"), "setting": "first"}
    second = {**first, "label": "second", "setting": "second", "per_task": True}
    start = {"method": "first", "tasks": "others"}
    small.write(methods=[{**second, "start": {**start, "seeds": [1, 2]}}, first], shots=[1], seeds=[1])
    runs = [run for run in expand(read_sweep(str(small.file))) if run.sources or run.without is not None]
    return Status("small", small.output, [Entry(run) for run in runs], Estimates())


def test_a_run_waits_for_those_that_it_starts_from(stages):
    assert [(each.run.tasks, each.run.seed) for each in stages.entries] == [
        ("not 0", 1), ("not 0", 2), ("0", 1), ("not 1", 1), ("not 1", 2), ("1", 1)
    ]  # fmt: skip
    executor = Here(slots=3, answers=["no luck", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert carry_out(stages, executor, retries=1) == []
    assert executor.submitted == [0, 1, 3, 4, 0, 5, 2]
    assert written(stages)["runs"][2]["starts_from"] == [
        f"sources/without_task0/MTCoOpHard/method_1shots/first/seed{seed}" for seed in (1, 2)
    ]


def test_a_run_fails_with_those_that_it_starts_from(stages):
    executor = Here(answers=["no luck", 1.0, 1.0, 1.0, 1.0])
    failed = carry_out(stages, executor, retries=0)
    assert executor.submitted == [0, 1, 3, 4, 5]
    assert [entry.error for entry in failed] == [
        "no luck",
        f"it starts from {stages.entries[0].run.folder}, which failed",
    ]
    assert [entry.attempts for entry in stages.entries] == [1, 1, 0, 1, 1, 1]
    for entry in stages.entries:  # the same command again: what failed is tried anew
        entry.state = "done" if entry.state == "done" else "waiting"
    assert carry_out(stages, Here(answers=[1.0, 1.0]), retries=0) == []


def test_runs_that_are_done_are_not_touched(status):
    for entry in status.entries[:3]:
        entry.state = "done"
    executor = Here(answers=[1.0])
    carry_out(status, executor, retries=0)
    assert executor.submitted == [3]


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt(), "interrupted"), (UserError("full"), "interrupted")])
def test_an_interrupted_sweep_lets_the_workers_go_and_says_so(status, error, state):
    executor = Here(slots=2, answers=[1.0, error])
    with pytest.raises(type(error)):
        carry_out(status, executor, retries=1)
    assert executor.closed is True
    content = written(status)
    assert (content["state"], content["counts"]) == (state, {"done": 1, "running": 0, "waiting": 3, "failed": 0})


def test_sigterm_does_what_an_interruption_does(status):
    class Batch(Here):
        def wait(self, seconds):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().wait(seconds)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        carry_out(status, Batch(answers=[1.0] * 9), retries=1)
    assert written(status)["state"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_line_for_each_run_when_nobody_watches_a_bar(status, caplog):
    caplog.set_level(logging.INFO, logger="dassl.sweep")
    carry_out(status, Here(answers=[100.0, "no luck", 60.0, 60.0, 60.0]), retries=1)
    lines = [record.message for record in caplog.records]
    assert lines[0] == "[1/4] soft on suite, 2 shots, seed 1: 50.00 % in 2 min; 0 running, about 4 min left"
    assert lines[1] == "soft on suite, 2 shots, seed 2: no luck; trying again"
    assert lines[-1] == "[4/4] soft on suite, 2 shots, seed 2: 50.00 % in 60 s; 0 running, about 0 s left"


def test_the_time_left_counts_unknown_kinds_as_average_ones(status, monkeypatch):
    assert status.seconds_left() is None
    two, one = status.entries[:2], status.entries[2:]
    monkeypatch.setattr("dassl.sweep.plan.Run.views", lambda run: 0)  # nothing can be scaled
    two[0].state = "done"
    status.estimates.add(two[0].run, {"total": 40.0})
    assert status.seconds_left() == 120.0
    status.jobs = 2
    assert status.seconds_left() == 60.0
    one[0].state = "done"
    status.estimates.add(one[0].run, {"total": 10.0})
    assert status.seconds_left() == 40.0  # no faster than the longest one, with any number of workers


def test_the_time_left_is_less_when_a_run_has_been_going_for_a_while(status, monkeypatch):
    for entry in status.entries:
        status.estimates.add(entry.run, {"total": 40.0})
    monkeypatch.setattr("dassl.sweep.status.time.monotonic", lambda: 1000.0)
    for entry, began in zip(status.entries, (970.0, 900.0), strict=False):
        entry.state, entry.began = "running", began
    assert status.seconds_left() == 10.0 + 0.0 + 2 * 40.0


def test_the_status_is_written_at_most_once_a_second(status):
    status.write()
    before = (status.folder / STATUS_FILE).stat().st_mtime_ns
    status.write()
    assert (status.folder / STATUS_FILE).stat().st_mtime_ns == before
    status.write(now=True)
    assert (status.folder / STATUS_FILE).stat().st_mtime_ns > before


def enter(folder) -> None:
    with only_sweep(folder):
        pass


def test_only_one_sweep_works_in_a_folder(status):
    with only_sweep(status.folder):
        who = rf"\(process {os.getpid()} on .*\)"
        wanted = rf"^another sweep is at work in .* {who}; wait for it, or use another --output-dir$"
        with pytest.raises(UserError, match=wanted):
            enter(status.folder)
        status.write(now=True)
        with pytest.raises(UserError, match=rf"^the sweep 'small' is at work in .* \(process {os.getpid()} on "):
            enter(status.folder)
    enter(status.folder)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cannot write "), only_sweep(tmp_path / "file" / "runs"):
        pass


def mistake(text: str):
    """The answer of a run that failed by a mistake of the user."""
    return lambda job: Outcome(job.number, error=text.replace("FOLDER", str(job.folder)), mistake=True)


def test_a_mistake_is_not_tried_again_and_other_runs_go_on(status):
    executor = Here(answers=[mistake("this"), mistake("that"), 1.0, 1.0])
    failed = carry_out(status, executor, retries=5)
    assert executor.submitted == [0, 1, 2, 3]
    assert [(entry.attempts, entry.error) for entry in failed] == [(1, "this"), (1, "that")]


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_sweep_stops_when_its_first_runs_fail_by_the_same_mistake(small, slots):
    runs = expand(with_changes(read_sweep(str(small.file)), seeds=tuple(range(9))))
    status = Status("small", small.output, [Entry(run) for run in runs], Estimates())
    executor = Here(slots=slots, answers=[mistake("no weights in FOLDER")] * 18)
    with pytest.raises(
        UserError, match=r"^the first \d runs failed for the same reason, and the other \d+ were not tried: no w"
    ):
        carry_out(status, executor, retries=1)
    assert 3 <= len(executor.submitted) < 3 + slots
    content = written(status)
    assert content["state"] == "failed"
    assert content["counts"]["waiting"] == 18 - len(executor.submitted)


def test_first_runs_that_fail_are_followed_by_ones_of_other_methods_and_suites(small):
    """What is wrong with one row says nothing of the others."""
    method = {"label": "soft", "trainer": "MTCoOp", "config": str(small.folder / "method.yaml"), "setting": "a"}
    methods = [{**method, "label": name, "setting": name} for name in ("a", "b", "c")]
    small.write(methods=methods, seeds=[1, 2, 3], shots=[1])
    (small.folder / "other.yaml").write_text((small.folder / "suite.yaml").read_text())
    sweep = with_changes(
        read_sweep(str(small.file)), suites=(str(small.folder / "suite.yaml"), str(small.folder / "other.yaml"))
    )
    status = Status("small", small.output, [Entry(run) for run in expand(sweep)], Estimates())
    executor = Here(answers=[mistake("bad data"), 1.0, *[mistake("bad data")] * 8, *[1.0] * 8])
    assert len(carry_out(status, executor, retries=0)) == 9
    assert [status.entries[number].run.suite for number in executor.submitted[:2]] == list(sweep.suites)


def test_two_runs_with_one_mistake_are_told_one_by_one(status):
    status.entries = status.entries[:2]
    assert len(carry_out(status, Here(answers=[mistake("no weights")] * 2), retries=1)) == 2
