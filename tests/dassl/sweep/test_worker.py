"""A worker: runs one after the other in one process, each as if it were alone."""

import logging
import warnings
from dataclasses import replace

import pytest
import torch

import clip
import trainers.base
from dassl.sweep.grid import read_sweep, with_changes
from dassl.sweep.plan import expand
from dassl.sweep.worker import Job, Worker, gpu_of, threads_per_worker
from tests.lab import figures

pytestmark = pytest.mark.usefixtures("worker_here")


def jobs(small, **changes) -> list[Job]:
    """The runs of the small sweep."""
    runs = expand(with_changes(read_sweep(str(small.file)), **changes))
    return [Job(number, run.values()) for number, run in enumerate(runs)]


def alone(job: Job, lab) -> tuple:
    """The figures of the same run in a process that keeps nothing."""
    from dassl.config import get_cfg_default, merge_cfg
    from dassl.engine.run import run

    cfg = get_cfg_default()
    merge_cfg(cfg, values={**job.config, "OUTPUT_DIR": str(lab.folder("alone"))})
    return figures(run(cfg))


def test_runs_that_share_what_is_loaded_have_the_figures_of_runs_that_do_not(small, lab, monkeypatch):
    loaded = []
    load = clip.load
    monkeypatch.setattr(trainers.base.clip, "load", lambda *a, **k: loaded.append(a) or load(*a, **k))
    worker = Worker(threads=1)
    todo = jobs(small, shots=(2,))
    outcomes = [worker.carry_out(job) for job in todo]
    assert [(outcome.number, outcome.error) for outcome in outcomes] == [(0, ""), (1, "")]
    assert len(loaded) == 1
    shared = small.results()["MTCoOp/method_2shots/NATA/seed2"]
    assert outcomes[1].metric == shared.metric
    torch.manual_seed(99)
    from dassl.utils.cache import use_cache

    use_cache(False)
    assert alone(todo[1], lab) == figures(shared)


def test_each_run_has_its_own_log(small):
    worker = Worker(threads=1)
    todo = jobs(small, shots=(1,))
    for job in todo:
        worker.carry_out(job)
    logs = [(job.folder / "log.txt").read_text() for job in todo]
    assert [log.count("Finished training") for log in logs] == [1, 1]
    assert ["Seed 1 on" in logs[0], "Seed 2 on" in logs[1], "Seed 2 on" in logs[0]] == [True, True, False]
    assert "log.txt" not in " ".join(map(str, logging.getLogger().handlers))


def test_a_warning_stands_in_the_log_of_every_run(small, monkeypatch):
    def warn(self, batch):
        warnings.warn("mind the gap", stacklevel=1)
        return original(self, batch)

    original = trainers.base.PromptTuner.forward_backward
    monkeypatch.setattr(trainers.base.PromptTuner, "forward_backward", warn)
    worker = Worker(threads=1)
    for job in jobs(small, shots=(1,)):
        worker.carry_out(job)
        assert (job.folder / "log.txt").read_text().count("mind the gap") >= 1


def test_a_backbone_that_a_run_has_changed_is_loaded_again(small, monkeypatch):
    worker = Worker(threads=1)
    first, second = jobs(small, shots=(1,))
    seen = []
    build = trainers.base.PromptTuner.build_model

    def spoil(self):
        seen.append(self.backbone)
        build(self)
        with torch.no_grad():
            self.backbone.text.positional_embedding.add_(1)

    monkeypatch.setattr(trainers.base.PromptTuner, "build_model", spoil)
    worker.carry_out(first)
    monkeypatch.setattr(
        trainers.base.PromptTuner, "build_model", lambda self: seen.append(self.backbone) or build(self)
    )
    worker.carry_out(second)
    assert seen[0] is not seen[1]
    assert not torch.equal(seen[0].text.positional_embedding, seen[1].text.positional_embedding)


def test_a_mistake_is_an_outcome_with_its_reason(small):
    worker = Worker(threads=1)
    (job, *_) = jobs(small)
    wrong = replace(job, config={**job.config, "MODEL.BACKBONE.NAME": "RN5O"})
    assert worker.carry_out(wrong).error.startswith("unknown backbone 'RN5O'")
    assert not job.folder.exists()
    outcome = worker.carry_out(replace(job, config={**job.config, "OPTIM.LR": 1e30}))
    assert outcome.error.startswith("the loss is ")
    assert outcome.metric is None


def test_an_error_of_ours_leaves_its_trace_in_the_log(small, monkeypatch):
    def broken(self, batch):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(trainers.base.PromptTuner, "forward_backward", broken)
    (job, *_) = jobs(small)
    outcome = Worker(threads=1).carry_out(job)
    log = job.folder / "log.txt"
    assert outcome.error == f"RuntimeError: first line; second line; the stack trace is at the end of {log}"
    assert log.read_text().endswith("RuntimeError: first line\nsecond line\n")


def test_workers_share_cores_and_gpus(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_per_worker(jobs, 8) for jobs in (1, 3, 8, 16)] == [8, 2, 1, 1]
    assert [gpu_of(number, ("0", "3")) for number in range(4)] == ["0", "3", "0", "3"]
    assert gpu_of(1, ()) == ""


@pytest.mark.parametrize(("asked", "threads"), [("2", 2), ("3,1", 3), ("", 4), ("0", 4), ("many", 4)])
def test_the_number_of_threads_that_is_asked_for_is_kept_to(asked, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads_per_worker(2, 8) == threads
