"""What is written into run folders, tables and pages holds no token, user, host or variable of the environment.

A home folder is in the files alone that need it.
"""

import os
import platform
import shutil
import socket
from pathlib import Path

import pytest
import torch

import export
import parse_test_res
import sweep
from dassl.inference import load_classifier
from dassl.results.record import RESULTS_FILE
from tests.dassl.sweep.small import Here
from tests.lab import Lab

TOKEN, USER, HOST = "hf_tokenZQ17secret", "userZQ17", "hostZQ17.example.org"
VARIABLES = {
    **dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "GITHUB_TOKEN", "AWS_SECRET_KEY"), TOKEN),
    **dict.fromkeys(("USER", "LOGNAME", "USERNAME"), USER),
    **dict.fromkeys(("HOSTNAME", "HOST"), HOST),
    "PIP_INDEX_URL": f"https://{USER}:{TOKEN}@{HOST}/simple",
    "HTTPS_PROXY": f"http://{USER}:{TOKEN}@{HOST}:3128",
    "SOME_VARIABLE": "variableZQ17",
}
FORMATS = ("text", "markdown", "csv", "json", "latex")


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment full of what must not be written."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setattr(socket, "getfqdn", lambda *_: HOST)
    monkeypatch.setattr(platform, "node", lambda: HOST)
    monkeypatch.setattr(platform, "uname", lambda: os.uname_result(("Linux", HOST, "6", "1", "x86_64")))


def told(folder: Path) -> list[str]:
    """The files below a folder that hold one of the secrets, with the secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [
        f"{path.relative_to(folder)}: {secret}"
        for path in files
        for secret in (TOKEN, USER, HOST, "ZQ17")
        if secret.encode() in path.read_bytes()
    ]


def test_the_environment_of_this_test_is_seen_by_what_asks() -> None:
    assert (os.environ["HF_TOKEN"], socket.gethostname(), platform.node()) == (TOKEN, HOST, HOST)


def test_a_run_writes_none_of_it(lab: Lab) -> None:
    lab.run()
    folder = lab.folder("run")
    assert told(folder) == []
    # TensorBoard names its file after the host, as docs/reliability.md says.
    named = [path.relative_to(folder).parts[0] for path in folder.rglob("*") if HOST in path.name]
    assert {*named} == {"tensorboard"}


def test_tables_figures_and_the_page_hold_none_of_it(lab: Lab, tmp_path: Path, capsys) -> None:
    lab.run()
    capsys.readouterr()
    out = tmp_path / "tables"
    out.mkdir()
    for kind in FORMATS:
        assert parse_test_res.main([str(lab.output), "--format", kind]) == 0
        (out / kind).write_text(capsys.readouterr().out, encoding="utf-8")
    assert parse_test_res.main([str(lab.output), "--html", str(out / "page.html"), "--plot", str(out / "plots")]) == 0
    (out / "last").write_text("".join(capsys.readouterr()), encoding="utf-8")
    assert told(out) == []


def test_a_sweep_tells_its_host_in_the_status_file_alone(small, monkeypatch, worker_here) -> None:
    monkeypatch.setattr("dassl.sweep.executor_config.Processes", lambda jobs, **_: Here(jobs))
    assert sweep.main(small.command("--jobs", "1")) == 0
    files = {line.split(":")[0] for line in told(small.output)}
    assert {name for name in files if not name.endswith(".lock")} == {"sweep.json"}, files
    assert TOKEN not in (small.output / "sweep.json").read_text(encoding="utf-8")
    assert USER not in (small.output / "sweep.json").read_text(encoding="utf-8")


def test_a_failed_run_writes_none_of_it(lab: Lab, capsys) -> None:
    assert lab.main("broken", OPTIM__LR=1e30, MODEL__BACKBONE__WEIGHTS="/nowhere") != 0
    said = "".join(capsys.readouterr())
    assert said
    assert "ZQ17" not in said


PERSON = "quillabramble"
# Files that hold places as they are, listed in docs/reliability.md: without them no run could be resumed.
WITH_PLACES = ("config.yaml", "log.txt", "command.txt", "model.pth.tar-", "events.out.tfevents")


@pytest.fixture
def at_home(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose data, weights and output lie in the home folder of a person."""
    home = tmp_path / "home" / PERSON
    shutil.copytree(lab.root, home / "data")
    weights = home / f"weights{lab.backbone.suffix}"
    shutil.copy(lab.backbone, weights)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    return Lab(home / "data", weights, home / "output")


def test_home_folders_are_in_the_files_alone_that_need_them(at_home: Lab) -> None:
    at_home.run()
    folder = at_home.folder("run")
    named = {path.name for path in folder.rglob("*") if path.is_file() and PERSON.encode() in path.read_bytes()}
    assert "config.yaml" in named
    assert {name for name in named if not name.startswith(WITH_PLACES)} == set()
    assert '"~/weights' in (folder / RESULTS_FILE).read_text(encoding="utf-8")


def test_exported_files_name_no_home_folder_and_find_the_weights_there(at_home: Lab, tmp_path: Path) -> None:
    at_home.run(OPTIM__MAX_EPOCH=1)
    file, folder = tmp_path / "tuned.safetensors", tmp_path / "hub"
    for target in (str(file), f"{folder}/"):
        assert export.main([str(at_home.folder("run")), "-o", target]) == 0
    assert [path for path in (file, *folder.iterdir()) if PERSON.encode() in path.read_bytes()] == []
    assert load_classifier(file).probabilities(torch.zeros(1, 3, 32, 32))


def test_warnings_of_a_result_name_places_by_their_key(at_home: Lab) -> None:
    keys = {"OPTIM__MAX_EPOCH": 2, "TRAIN__CHECKPOINT_FREQ": 1}
    at_home.run(**keys)
    folder = at_home.folder("run")
    (folder / RESULTS_FILE).unlink()
    damaged = next(folder.rglob("model.pth.tar-2"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    (said,) = [text for text in at_home.run(**keys).warnings if damaged.name in text]
    assert f"OUTPUT_DIR/{damaged.relative_to(folder).as_posix()}" in said
    assert PERSON not in said


def test_tables_and_pages_name_no_home_folder(at_home: Lab, tmp_path: Path, capsys) -> None:
    for trainer in ("MTCoOp", "ZeroshotCLIP"):
        at_home.run(trainer, trainer=trainer)
    capsys.readouterr()
    page, plots = tmp_path / "page.html", tmp_path / "plots"
    for kind in FORMATS:
        assert parse_test_res.main([str(at_home.output), "--format", kind, "--per-task"]) == 0
    assert parse_test_res.main([str(at_home.output), "--html", str(page), "--plot", str(plots)]) == 0
    said = "".join(capsys.readouterr())
    assert "MTCoOp" in said
    assert PERSON not in said
    assert "~/weights" in page.read_text(encoding="utf-8")
    assert [path for path in (page, *plots.iterdir()) if PERSON.encode() in path.read_bytes()] == []
