"""sweep.py: its flags, what it prints, its exit codes; and a real one that is interrupted and goes on."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import yaml

import parse_test_res
import sweep
import train
from dassl.engine.checkpoint import load_checkpoint
from dassl.sweep.executor_config import ExecutorConfig
from dassl.sweep.grid import make_sweep, read_sweep
from dassl.sweep.plan import expand
from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT
from tests.dassl.sweep.small import Here
from tests.dassl.sweep.test_processes import until
from tests.lab import figures


@pytest.fixture
def here(monkeypatch, worker_here):
    """Sweeps are carried out in this process; the executors that were made."""
    made = []

    def executor(jobs, **options):
        made.append(Here(jobs))
        return made[-1]

    monkeypatch.setattr("dassl.sweep.executor_config.Processes", executor)
    return made


def status(small) -> dict:
    return json.loads((small.output / "sweep.json").read_text())


def test_a_sweep_is_done_once(small, here, capsys):
    assert sweep.main(small.command("--jobs", "1")) == 0
    assert len(small.results()) == 4
    out = capsys.readouterr().out
    assert f"4 of 4 runs are done; {small.output / 'sweep.json'} lists them" in out
    assert sweep.main(small.command("--jobs", "1")) == 0
    assert here[1].submitted == []
    assert status(small)["counts"] == {"done": 4, "running": 0, "waiting": 0, "failed": 0}


def test_a_dry_run_lists_and_writes_nothing(small, here, capsys):
    assert sweep.main(small.command("--dry-run", "--jobs", "3")) == 0
    assert "4 runs: 0 done, 0 begun, 4 new" in capsys.readouterr().out
    assert (here, small.output.exists()) == ([], False)


def test_failed_runs_are_listed_the_others_are_done_and_the_exit_code_says_so(small, here, capsys):
    small.write(vary={"OPTIM.LR": [0.05, 1e30]}, shots=[1], seeds=[1])
    assert sweep.main(small.command("--retries", "2")) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("failed: soft [LR 1e+30] on suite, 1 shot, seed 1: the loss is ")
    assert "1 of 2 runs are done" in captured.out
    assert list(small.results()) == ["MTCoOp/method_1shots/NATA-LR=0.05/seed1"]
    assert status(small)["state"] == "failed"
    assert [run["attempts"] for run in status(small)["runs"]] == [1, 1], "it would fail again"
    assert [run["method"] for run in status(small)["runs"]] == ["soft [LR 0.05]", "soft [LR 1e+30]"]


def test_with_a_protocol_each_run_is_also_tested_on_what_it_never_saw(small, here, lab):
    small.write(shots=[1], seeds=[1], protocol="base2new")
    assert sweep.main(small.command()) == 0
    base, new = (f"base2new/{part}/MTCoOp/method_1shots/NATA/seed1" for part in ("base", "new"))
    results = small.results()
    assert {folder: (each.classes, each.mode) for folder, each in results.items()} == {
        base: ("base", "train"),
        new: ("new", "eval"),
    }
    (run,) = expand(read_sweep(str(small.file)))
    (new_run,) = run.evaluations
    words = new_run.command().replace(str(new_run.folder), str(lab.folder("alone"))).split()[2:]
    assert train.main(["--eval-only", "--model-dir", str(small.output / base), *words]) == 0
    assert figures(results[new]) == figures(lab.result("alone"))
    assert run.found() == "done"
    (new_run.folder / "results.json").unlink()
    assert run.found() == "begun"
    assert sweep.main(small.command()) == 0
    assert small.results().keys() == results.keys()


def test_transfer_tests_each_run_on_the_targets_and_has_a_table(small, here, lab, capsys):
    target = small.folder / "other.yaml"
    tasks = [{"name": "kind of animal", "folder": "pets"}]
    target.write_text(yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TITLE": "Other", "TASKS": tasks}}))
    small.write(shots=[1], seeds=[1], protocol="transfer", targets=[str(target)])
    assert sweep.main(small.command()) == 0
    source, other = (f"transfer/{name}/MTCoOp/method_1shots/NATA/seed1" for name in ("source", "Other"))
    results = small.results()
    assert {folder: (len(each.tasks), each.mode) for folder, each in results.items()} == {
        source: (2, "train"),
        other: (1, "eval"),
    }
    capsys.readouterr()
    assert parse_test_res.main([str(small.output), "--transfer"]) == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("soft ")]
    assert row == ["soft", *(f"{results[folder].metric:.2f}" for folder in (source, other, other))]


def test_two_stages_start_each_task_from_the_mean_of_the_others_and_have_a_table(small, here, lab, capsys):
    config = str(small.folder / "method.yaml")
    first = {"label": "MCoOp", "like": "MCoOp", "config": config, "setting": "mcoop"}
    second = {"label": "MCoOp-adapted", "like": "MCoOp-adapted", "config": config, "setting": "second"}
    second["start"] = {"method": "MCoOp", "tasks": "others", "seeds": [1, 2]}
    small.write(methods=[first, second], shots=[1, 2], seeds=[1, 2])
    assert sweep.main(small.command("--shots", "1", "--seeds", "1")) == 0
    results = small.results()
    sources = [f"sources/without_task0/MTCoOpHard/method_1shots/mcoop/seed{seed}" for seed in (1, 2)]
    own = "MTCoOpHard/method_1shots/second/task0/seed1"
    assert {*sources, own} < results.keys() and len(results) == 1 + 4 + 2
    assert [task.name for task in results[sources[0]].tasks] == ["tools"]
    assert [task.name for task in results[own].tasks] == ["pets"]
    learned = [checkpoint(small.output / folder) for folder in sources]
    (run,) = [each for each in expand(read_sweep(str(small.file))) if each.folder == small.output / own]
    words = run.command().replace(str(run.folder), str(lab.folder("still"))).split()[2:]
    assert train.main([*words, "OPTIM.LR", "0.0", "OPTIM.WARMUP_EPOCH", "0"]) == 0
    assert torch.allclose(checkpoint(lab.folder("still")), (learned[0] + learned[1]) / 2)
    assert sweep.main(small.command()) == 0
    assert here[-1].submitted and len(small.results()) == 4 + 2 * 4 + 2 * 4
    assert sweep.main(small.command()) == 0
    assert here[-1].submitted == []
    capsys.readouterr()
    assert parse_test_res.main([str(small.output)]) == 0
    out = capsys.readouterr().out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("MCoOp-adapted ")]
    assert row[1] == f"{2 * results[own].parameters:,}"
    assert "MCoOp-adapted: not counted is the training of the 4 runs that it starts from, " in out
    with pytest.raises(UserError, match="MCoOp-adapted starts from runs that --bring-back leaves here"):
        sweep._carry_out(sweep.build_parser().parse_intermixed_args(small.command("--ray", "auto", "--bring-back")))


def checkpoint(folder) -> torch.Tensor:
    """The learned context of a run."""
    (path,) = (folder / "prompt_learner").glob("model.pth.tar-*")
    return load_checkpoint(path)["state_dict"]["ctx"]


def test_the_command_line_replaces_what_the_file_says(small, here):
    flags = ["--shots", "1", "--seeds", "5", "--output-dir", str(small.folder / "other"), "OPTIM.MAX_EPOCH", "1"]
    assert sweep.main(small.command(*flags)) == 0
    (path,) = (small.folder / "other").rglob("results.json")
    assert path.parts[-4:-1] == ("method_1shots", "NATA", "seed5")
    assert json.loads(path.read_text())["epochs"] == 1


def test_a_method_on_the_command_line_is_first_looked_for_in_the_file(small):
    changed = {"label": "SoftCPT-NATA", "like": "SoftCPT-NATA", "options": {"OPTIM.LR": 0.5}}
    small.write(methods=[changed, {"label": "My own", "like": "CoOp-MT"}])
    args = sweep.build_parser().parse_intermixed_args(small.command("--methods", "my OWN,softcpt-nata,ZS-CLIP"))
    own, same_name, other = sweep.chosen_sweep(args).methods
    assert (own.label, same_name.options["OPTIM.LR"], other.label) == ("My own", 0.5, "ZS-CLIP")


def test_a_negative_number_of_jobs_is_refused_everywhere():
    with pytest.raises(UserError, match=r"^--jobs -1: expected 0 or more$"):
        ExecutorConfig(jobs=-1)


def test_a_finished_run_of_another_config_is_refused(small, here, capsys):
    assert sweep.main(small.command("--shots", "1", "--seeds", "1")) == 0
    assert sweep.main(small.command("--shots", "1", "--seeds", "1", "OPTIM.LR", "0.1")) == 1
    assert "OPTIM.LR is 0.05 there, 0.1 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["no_such_sweep"], "there is no sweep file 'no_such_sweep'"),
        (["demo", "--methods", "CoOp-MA"], "unknown method 'CoOp-MA'; did you mean"),
        (["demo", "--shots", "four"], "argument --shots: 'four'; expected whole numbers with commas between them"),
        (["demo", "--methods", ","], "argument --methods: ',' names nothing; all flags: sweep.py --help"),
        (["demo", "--seeds", "1", "--dry-run", "OPTIM.LRR", "1"], "unknown key 'OPTIM.LRR'; did you mean OPTIM.LR"),
        (["demo", "OPTIM.LR"], "command line: 'OPTIM.LR' has no value"),
        (["demo", "--ray", "auto", "--gpus", "0"], "--gpus is for this machine; with --ray use --gpus-per-run"),
        (["demo", "--gpus-per-run", "0.5"], "--gpus-per-run, --bring-back and --open-cluster are for a Ray cluster"),
        (["demo", "--open-cluster"], "are for a Ray cluster; add --ray auto"),
        (["demo", "--jobs", "-1"], "--jobs, --gpus-per-run and --retries must be 0 or more"),
        (["demo", "--ray", "auto", "--gpus-per-run", "nan"], "--gpus-per-run nan: expected a share of one GPU"),
        (["demo", "--ray", "auto", "--gpus-per-run", "1.5"], "--gpus-per-run 1.5: expected a share of one GPU"),
        (["demo", "--retries", "-1"], "--jobs, --gpus-per-run and --retries must be 0 or more"),
    ],
)
def test_a_mistake_is_one_line(flags, message, capsys):
    assert sweep.main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("visible", "gpus", "message"),
    [
        ((), "0", "--gpus 0: torch sees no GPU here; leave --gpus out to use the CPU"),
        (("0", "1"), "1,2", "--gpus 2: the GPUs here are 0, 1"),
    ],
)
def test_a_gpu_that_is_not_there_is_said(visible, gpus, message, monkeypatch, capsys):
    monkeypatch.setattr("dassl.sweep.executor_config._visible_gpus", lambda: visible)
    assert sweep.main(["demo", "--gpus", gpus, "--dry-run"]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def answer_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so does all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def paused(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_interrupted_in_the_middle_of_a_run_it_goes_on_to_the_same_figures(small, here, lab, capsys):
    """A real sweep with a real worker; meanwhile a second one on the same folder is refused."""
    small.write(shots=[1], seeds=[1])
    command = small.command("--jobs", "1", "OPTIM.MAX_EPOCH", "25")
    words = [sys.executable, str(CHECKOUT / "sweep.py"), *command]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    streams = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": answer_interrupts}
    with subprocess.Popen(words, env=environment, **streams) as process:
        log = small.output / "MTCoOp" / "method_1shots" / "NATA" / "seed1" / "log.txt"
        until(lambda: log.is_file() and "epoch [3/" in log.read_text())
        with paused(int(status(small)["runs"][0]["worker"].split()[1])):  # else it might end before the signal comes
            assert sweep.main(command) == 2
            assert f"(process {process.pid} on " in capsys.readouterr().err
            process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    # Behind the line, Python may say what the processes that were ended did not clean up.
    assert "interrupted; the same command resumes with the runs that are left\n" in err
    assert (status(small)["state"], status(small)["counts"]["waiting"]) == ("interrupted", 1)
    assert small.results() == {}
    assert sweep.main(command) == 0
    assert 'Resumed from "' in log.read_text()
    (run,) = expand(read_sweep(str(small.file)), pairs=command[-2:])
    whole = run.command().replace(str(run.folder), str(lab.folder("whole")))
    assert train.main(whole.split()[2:]) == 0
    assert figures(next(iter(small.results().values()))) == figures(lab.result("whole"))


def test_the_page_on_sweeps_shows_commands_and_a_file_that_are_accepted():
    page = (CHECKOUT / "docs" / "sweeps.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [
        shlex.split(line, comments=True)[2:] for line in page.splitlines() if line.startswith("python sweep.py")
    ]
    assert len(commands) >= 4
    for words in commands:
        args = sweep.build_parser().parse_intermixed_args(words)
        assert sweep.chosen_sweep(args).methods
        sweep.executor(args)
    text = page.split("```yaml\n")[1].split("```")[0]
    example = make_sweep("example", yaml.safe_load(text), place="docs/sweeps.md")
    assert [method.label for method in example.methods][-2:] == ["NATA without warm-up", "mine"]
    assert all(f"`{path.name}`" in page for path in (CHECKOUT / "configs" / "sweeps").glob("*.yaml"))
