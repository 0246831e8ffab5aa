"""The same command gives the same results.json, but for times, wherever and however it is started."""

import json
import os
import subprocess
import sys

import pytest
import torch

import sweep
import train
from clip import text
from dassl.engine.determinism import determinism, refusal
from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT
from tests.chaos.states import VARYING
from tests.dassl.engine.cutting import cut_off
from tests.dassl.sweep.small import Here
from tests.lab import same_tensors
from tests.trainers.test_methods import METHODS

FIXED = {"TRAIN__DETERMINISTIC": True}


def content(folder) -> bytes:
    """The bytes of results.json without the keys that may vary."""
    found = json.loads((folder / "results.json").read_bytes())
    assert found.keys() >= set(VARYING) and next(iter(found)) == "format"
    return json.dumps({key: value for key, value in found.items() if key not in VARYING}).encode()


def done(lab, name, **options) -> bytes:
    lab.run(name, **{"trainer": "MTCoOp", **options})
    return content(lab.folder(name))


@pytest.fixture(scope="module")
def known() -> dict:
    """The result of an ordinary run, for all tests of this file."""
    return {}


@pytest.fixture
def wanted(lab, known) -> bytes:
    if not known:
        known["bytes"], known["learned"] = done(lab, "wanted"), lab.learned("wanted")
    return known["bytes"]


def test_the_same_command_twice(lab, wanted, known):
    assert done(lab, "again") == wanted
    assert same_tensors(lab.learned("again"), known["learned"])


@pytest.mark.parametrize("workers", [1, 4])
def test_workers(lab, wanted, known, workers):
    assert done(lab, "run", DATALOADER__NUM_WORKERS=workers) == wanted
    assert same_tensors(lab.learned("run"), known["learned"])


def test_store_cold_and_warm(lab, wanted, known):
    for name in ("cold", "warm"):
        assert done(lab, name, DATALOADER__FEATURES=True) == wanted
        assert same_tensors(lab.learned(name), known["learned"])


def test_resumed(lab, wanted, known):
    cut_off(lab, epoch=2, batch=1)
    assert done(lab, "run") == wanted
    assert same_tensors(lab.learned("run"), known["learned"])


def test_another_number_is_told(lab, wanted):
    assert done(lab, "run", seed=2) != wanted
    assert done(lab, "fixed", **FIXED) != wanted  # the key itself


def test_hash_seed_locale_time_zone_and_folder(lab, wanted, known, tmp_path):
    # Python settles the first two at its start, so this is a process of its own.
    surroundings = {"PYTHONHASHSEED": "4711", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    surroundings |= {"TZ": "Pacific/Kiritimati", "PYTHONPATH": str(CHECKOUT)}
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **surroundings}
    arguments = [sys.executable, "-c", _START, *lab.command("run", trainer="MTCoOp")]
    subprocess.run(arguments, env=environment, cwd=tmp_path, check=True, timeout=300)
    assert content(lab.folder("run")) == wanted
    assert same_tensors(lab.learned("run"), known["learned"])


_START = "import sys; import tests.lab, train; sys.exit(train.main(sys.argv[1:]))"


def test_train_and_sweep(small, worker_here, monkeypatch):
    monkeypatch.setattr("dassl.sweep.place.Processes", lambda jobs, **options: Here(jobs))
    small.write(shots=[1], seeds=[1])
    assert sweep.main(small.command("--jobs", "1")) == 0
    [folder] = [path.parent for path in small.output.rglob("results.json")]
    swept = content(folder)
    again = small.folder / "again"
    assert train.main(["--config-file", str(folder / "config.yaml"), "--output-dir", str(again)]) == 0
    assert content(again) == swept


# -- TRAIN.DETERMINISTIC -------------------------------------------------------------------------------------------


@pytest.fixture
def threads():
    """Sets the number of threads; it is put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_number_of_threads_does_not_count(lab, threads):
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(done(lab, f"run{count}", **FIXED))
        assert torch.get_num_threads() == count
        assert same_tensors(lab.learned(f"run{count}"), lab.learned("run1"))
    assert found[0] == found[1] == found[2]
    result = lab.result("run3")
    assert result.deterministic and result.device.endswith(", 1 threads")
    threads(2)
    assert lab.run("free").device.endswith(", 2 threads") and not lab.result("free").deterministic


def test_the_free_memory_does_not_count(lab, monkeypatch):
    sizes = {}
    for fixed in (False, True):
        for free in (30_000, 2**34):
            monkeypatch.setattr(text, "free_bytes", lambda device, free=free: free)
            name = f"{fixed}-{free}"
            lab.run(name, **METHODS["CATA"], TRAIN__DETERMINISTIC=fixed)
            sizes[fixed, free] = lab.result(name).text_chunk
    assert sizes[False, 30_000] > 0, "the control: chunks follow the memory, and the result says so"
    assert [size for key, size in sizes.items() if key != (False, 30_000)] == [0, 0, 0]
    assert same_tensors(lab.learned(f"True-{30_000}"), lab.learned(f"True-{2**34}"))


def test_memory_that_runs_out_changes_no_chunk(lab, monkeypatch, capsys):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(text, "leaf_states", full)
    assert lab.main("run", **METHODS["CATA"], **FIXED) == 2
    assert "MODEL.TEXT_CHUNK" in (line := capsys.readouterr().err.splitlines()[-1]) and "TRAIN.DETERMINISTIC" in line


def test_stored_features_of_other_threads_are_not_taken(lab):
    lab.run("free", DATALOADER__FEATURES=True)
    stores = {path.name for path in (lab.output / "features").iterdir()}
    lab.run("fixed", DATALOADER__FEATURES=True, **FIXED)
    [new] = {path.name for path in (lab.output / "features").iterdir()} - stores
    assert len(stores) == 1 and new not in stores


def test_an_operation_without_a_deterministic_version_is_one_line(lab, monkeypatch, capsys):
    def step(*arguments, **options):
        raise RuntimeError(
            "cumsum_cuda_kernel does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation."
        )

    monkeypatch.setattr("trainers.base.PromptTuner.gradients", step)
    assert lab.main("run", **FIXED) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        "error: TRAIN.DETERMINISTIC: cumsum_cuda_kernel does not have a deterministic implementation; set "
        "TRAIN.DETERMINISTIC False, or use a CPU"
    )
    assert lab.log().splitlines()[-1] == line
    assert refusal(RuntimeError("sizes differ")) is None


def test_the_settings_of_a_gpu_are_put_back(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with determinism(True, cuda=True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.benchmark
    with determinism(False):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("value", "begun", "said"), [(":0:0", False, "':0:0'"), (None, True, "not set")])
def test_a_gpu_that_is_set_up_otherwise_is_refused(monkeypatch, value, begun, said):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if value:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", value)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: begun)
    told = f"the variable is {said}; set it before the program starts"
    with pytest.raises(UserError, match=told), determinism(True, cuda=True):
        pass
