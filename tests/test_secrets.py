"""What is written into run folders, tables and pages holds no token, user, host or variable of the environment."""

import os
import platform
import socket
from pathlib import Path

import pytest

import parse_test_res
import sweep
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
    monkeypatch.setattr("dassl.sweep.place.Processes", lambda jobs, **_: Here(jobs))
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
