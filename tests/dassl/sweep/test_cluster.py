"""Workers on a Ray cluster: a head and two machines as separate processes, one worker of which is killed."""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import sweep
from dassl.sweep import joining, probe
from dassl.sweep.cluster import RayCluster, read_files, room, write_files
from dassl.sweep.executor_config import ExecutorConfig
from dassl.utils.errors import UserError
from tests.dassl.sweep.small import Here, Small
from tests.dassl.sweep.test_processes import until
from tests.lab import lasting


def test_a_run_folder_travels_whole_and_the_result_is_written_last(tmp_path, monkeypatch):
    there, here = tmp_path / "there", tmp_path / "here"
    content = {"results.json": b"{}", "log.txt": f"in {there}/x".encode(), "m/model.pth.tar-1": f"{there}".encode()}
    write_files(there, content)
    files = read_files(there, here)
    assert files == {**content, "log.txt": f"in {here}/x".encode()}
    order = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: order.append(Path(target).name) or replace(self, target))
    write_files(here, files)
    assert read_files(here, here) == files
    assert order[-1] == "results.json"


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt"])
def test_a_file_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="which leads outside"):
        write_files(tmp_path / "run", {name: b""})
    assert not list(tmp_path.rglob("*.txt"))


def test_without_ray_one_line_says_how_to_get_it(small, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert sweep.main(small.command("--ray", "auto")) == 2
    assert "--ray needs Ray; install it with: pip install -r requirements-ray.txt" in capsys.readouterr().err


def test_ray_cannot_start_an_interpreter_with_a_blank_in_its_path(small, monkeypatch, capsys):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt)")
    monkeypatch.setattr(sys, "executable", "/my tools/python")
    assert sweep.main(small.command("--ray", "auto")) == 2
    assert "interpreter whose path has a space: /my tools/python; use a checkout" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("has", "needs", "runs"),
    [
        ({"CPU": 16, "GPU": 2}, {"num_cpus": 1, "num_gpus": 0.25}, 8),
        ({"CPU": 16, "GPU": 2}, {"num_cpus": 4, "num_gpus": 0.25}, 4),
        ({"CPU": 16, "GPU": 2}, {"num_cpus": 1, "num_gpus": 0.4}, 4),
        ({"CPU": 16, "GPU": 3}, {"num_cpus": 1, "num_gpus": 2}, 1),
        ({"CPU": 3}, {"num_cpus": 2, "num_gpus": 0}, 1),
    ],
)
def test_what_a_cluster_has_room_for(has, needs, runs):
    assert room(has, **needs) == runs


def test_a_cluster_without_room_is_one_line():
    with pytest.raises(UserError, match=r"^the Ray cluster has 8 cores and 0 GPUs, too little for a run with .* 0\.5$"):
        room({"CPU": 8}, num_cpus=1, num_gpus=0.5)


def test_a_cluster_without_room_is_refused_also_when_the_number_of_jobs_is_given(tmp_path, monkeypatch):
    """The sweep would wait forever for its workers."""
    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0})
    monkeypatch.setattr("dassl.sweep.cluster.join", lambda address, **options: ray)
    with pytest.raises(UserError, match="has 2 cores and 0 GPUs, too little for a run"):
        RayCluster(ExecutorConfig(jobs=2, ray="auto", gpus_per_run=0.5), tmp_path)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Address of a Ray cluster: a head without room for runs and two machines with one core each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # a token would be stored in the home folder
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt)")
    if " " in sys.executable:
        pytest.skip("Ray cannot start an interpreter whose path has a space")
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        started.add_node(num_cpus=1, wait=False)
    yield started.address
    started.shutdown()


def kill_one(small: Small, killed: list[int]) -> None:
    """Kill the first worker that is seen in the middle of a run."""

    def in_the_middle() -> int:
        path = small.output / "sweep.json"
        runs = json.loads(path.read_text())["runs"] if path.exists() else []
        for run in runs:
            log = small.output / run["folder"] / "log.txt"
            if run["state"] == "running" and log.exists() and "epoch [3/" in log.read_text():
                return int(run["worker"].split()[1])
        return 0

    killed.append(until(in_the_middle))
    os.kill(killed[0], signal.SIGKILL)


def test_a_sweep_on_a_cluster_survives_a_killed_worker(small, cluster, monkeypatch, worker_here, capsys):
    small.write(shots=[1], seeds=[1, 2, 3])
    command = small.command("OPTIM.MAX_EPOCH", "12")
    there = ["--ray", cluster, "--open-cluster"]
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(small, killed))
    killer.start()
    assert sweep.main([*command, *there]) == 0
    killer.join()
    runs = json.loads((small.output / "sweep.json").read_text())["runs"]
    assert sorted(run["attempts"] for run in runs) == [1, 1, 2]
    assert all(int(run["worker"].split()[1]) != killed[0] for run in runs if run["attempts"] == 2)
    assert "was lost: " in capsys.readouterr().out
    assert not list(small.output.glob(".sweep-mark"))
    shared = small.results()
    back = small.folder / "back"
    assert sweep.main([*command, *there, "--bring-back", "--seeds", "1", "--output-dir", str(back)]) == 0
    (brought,) = back.rglob("results.json")
    assert f"OUTPUT_DIR: {brought.parent}\n" in (brought.parent / "config.yaml").read_text()
    monkeypatch.setattr("dassl.sweep.executor_config.Processes", lambda jobs, **options: Here(jobs))
    small.output.rename(small.folder / "on the cluster")
    assert sweep.main(command) == 0
    local = small.results()
    assert {folder: lasting(result) for folder, result in shared.items()} == {
        folder: lasting(result) for folder, result in local.items()
    }
    small.output.rename(small.folder / "local")
    back.rename(small.output)
    assert [lasting(result) for result in small.results().values()] == [lasting(next(iter(local.values())))]


@pytest.fixture
def look(monkeypatch, tmp_path):
    """What a look at a cluster finds with RAY_AUTH_MODE disabled and token, to be filled in; the home is empty."""
    found = {"disabled": ("accepted", "10.0.0.1:6379"), "token": ("refused", "10.0.0.1:6379")}
    monkeypatch.setattr(joining, "_probe", lambda address, mode: found[mode])
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(joining, "find_spec", lambda name: name)
    return found


def fake_ray(monkeypatch, init) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))


@pytest.fixture
def plain_interpreter(monkeypatch):
    """An interpreter whose path has no blank, wherever the checkout lies."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")


@pytest.mark.usefixtures("plain_interpreter")
def test_a_cluster_that_asks_for_no_token_is_refused_unless_told(look, monkeypatch):
    joined = []
    fake_ray(monkeypatch, lambda **options: joined.append(options["address"]))
    with pytest.raises(UserError, match="requires no token, so whoever reaches it can run programs as you; start it"):
        joining.join("10.0.0.1:6379")
    assert joined == []
    joining.join("10.0.0.1:6379", open_cluster=True)
    assert joined == ["10.0.0.1:6379"]


@pytest.mark.usefixtures("plain_interpreter")
def test_the_token_that_is_here_is_taken(look, monkeypatch, tmp_path):
    look |= {"disabled": ("refused", "10.0.0.1:6379")}
    modes = []
    fake_ray(monkeypatch, lambda **options: modes.append(os.environ["RAY_AUTH_MODE"]))
    with pytest.raises(
        UserError, match=r"requires a token, and there is none here; copy ~/\.ray/auth_token from the head node"
    ):
        joining.join("10.0.0.1:6379")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("wrong")
    with pytest.raises(UserError, match=r"refuses the token from /\S+/\.ray/auth_token; copy"):
        joining.join("auto")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    look |= {"token": ("accepted", "10.0.0.1:6379")}
    joining.join("auto")
    assert modes == ["token"]


@pytest.mark.parametrize("found", [("none", ""), ("nobody", "10.0.0.1:6379")])
@pytest.mark.usefixtures("plain_interpreter")
def test_auto_starts_a_cluster_where_none_runs(look, found, monkeypatch):
    look |= {"disabled": found}
    started = []
    fake_ray(monkeypatch, lambda **options: started.append((options["address"], os.environ["RAY_AUTH_MODE"])))
    joining.join("auto")
    joining.join("auto", open_cluster=True)
    assert started == [("local", "token"), ("local", "disabled")]
    with pytest.raises(UserError, match=r"there is no Ray cluster at 10\.0\.0\.2:6379: nothing answers there"):
        look |= {"disabled": ("nobody", "10.0.0.2:6379")}
        joining.join("10.0.0.2:6379")


@pytest.mark.parametrize("address", ["nonsense", "10.0.0.1", "ray://10.0.0.1:10001", "a b:1", "local"])
def test_an_address_that_is_none_is_told(look, address):
    with pytest.raises(UserError, match="expected auto, or an address such as"):
        joining.join(address)


@pytest.mark.usefixtures("plain_interpreter")
def test_no_wait_is_without_end(look, monkeypatch):
    monkeypatch.setattr(joining, "_SECONDS_TO_JOIN", 0.05)
    never = threading.Event()
    fake_ray(monkeypatch, lambda **options: never.wait())
    with pytest.raises(UserError, match=r"^the Ray cluster at 10\.0\.0\.1:6379 does not answer within 0\.05 s"):
        joining.join("10.0.0.1:6379", open_cluster=True)
    never.set()
    with pytest.raises(ZeroDivisionError):
        joining.within(60, lambda: 1 // 0, "it")
    thread = joining.within(60, threading.current_thread, "it")
    assert thread.is_alive(), "the processes that it has started would end with it"


def test_an_address_at_which_nobody_listens_or_answers_is_told(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt)")
    with socket.create_server(("127.0.0.2", 0)) as server:  # Ray looks for 127.0.0.1 at the address of the machine
        address = f"127.0.0.2:{server.getsockname()[1]}"
        monkeypatch.setattr(joining, "_SECONDS_TO_ANSWER", 3.0)
        assert joining._probe(address, "disabled") == ("", "")
    monkeypatch.undo()
    assert joining._probe(address, "disabled") == ("nobody", address)


@pytest.mark.parametrize("answer", [ConnectionError("Could not find any running Ray instance"), None])
def test_a_machine_without_a_cluster_is_no_error(answer, monkeypatch):
    services = pytest.importorskip("ray._private.services", reason="Ray is not installed (requirements-ray.txt)")

    def find(address: str) -> None:
        if answer:
            raise answer

    monkeypatch.setattr(services, "canonicalize_bootstrap_address", find)
    assert probe.look("auto") == "none"


def test_workers_that_never_start_are_not_waited_for_without_end(tmp_path, monkeypatch):
    class Kind:
        remote = staticmethod(lambda *arguments: SimpleNamespace(hello=SimpleNamespace(remote=object)))

    ray = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 1.0},
        remote=lambda **options: lambda kind: Kind,
        wait=lambda pending, num_returns, timeout: ([], pending),
    )
    monkeypatch.setattr("dassl.sweep.cluster.join", lambda address, **options: ray)
    cluster = RayCluster(ExecutorConfig(ray="auto"), tmp_path)
    assert cluster.wait(0.0) == []
    monkeypatch.setattr("dassl.sweep.cluster._SECONDS_TO_START", -1.0)
    with pytest.raises(UserError, match="no worker could start on the Ray cluster within"):
        cluster.wait(0.0)
