"""The same command gives the same bytes of results.json, whatever surrounds it (docs/reliability.md)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import sweep
import trainers.base
from clip import text
from dassl.config import get_cfg_default
from dassl.engine.determinism import WORKSPACE, arithmetic, lacks_explained
from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT
from tests.chaos.states import VARYING, result
from tests.dassl.engine.cutting import cut_off
from tests.lab import BATCHES, Lab, same_tensors
from tests.trainers.test_memory import too_many
from tests.trainers.test_methods import METHODS

FIXED = {"TRAIN__DETERMINISTIC": True}


def without_times(folder: Path) -> str:
    """The text of results.json without the entries that may vary."""
    return json.dumps(result(folder / "results.json"))


def same(lab: Lab, first: str, second: str) -> bool:
    """Whether two runs left the same results.json and the same learned tensors."""
    texts = {without_times(lab.folder(run)) for run in (first, second)}
    return len(texts) == 1 and same_tensors(lab.learned(first), lab.learned(second))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


# ---- the same command, whatever surrounds it --------------------------------------------------


def test_the_entries_of_results_json_that_may_vary_are_three_and_no_other(lab):
    contents = []
    for run in ("first", "second"):
        lab.run(run, TEST__FINAL_MODEL="best_val", DATASET__SUBSAMPLE_CLASSES="all")
        contents.append(json.loads((lab.folder(run) / "results.json").read_text()))
    first, second = contents
    assert list(first) == list(second)
    assert "seconds" in {key for key in first if first[key] != second[key]} <= set(VARYING)
    assert set(VARYING) == {"seconds", "memory", "blake2b"}
    assert same(lab, "first", "second")


WAYS = {
    "two workers": {"DATALOADER__NUM_WORKERS": 2},
    "cold store": {"DATALOADER__FEATURES": True},
    "warm store": {"DATALOADER__FEATURES": True},
}


@pytest.mark.parametrize(("method", "ways"), [("NATA", WAYS), ("CATA sampled", ["cold store", "warm store"])])
def test_neither_workers_nor_stored_features_nor_a_resume_show(lab, method, ways):
    keys = {**METHODS[method], "DATALOADER__FEATURES_DIR": lab.output / "features"}
    lab.run("plain", **keys)
    for name in ways:
        lab.run(name, **{**keys, **WAYS[name]})
        assert same(lab, name, "plain"), name
    for name, epoch, batch in (("cut off early", 1, 0), ("cut off late", 2, 2)):
        cut_off(lab, name, epoch=epoch, batch=batch, **keys)
        lab.run(name, **keys)
        assert same(lab, name, "plain"), name


# ---- what does change the last digits is said -------------------------------------------------


@pytest.mark.parametrize("chunk", [0, 3])
def test_results_json_says_what_the_last_digits_depend_on(lab, chunk):
    with threads(2):
        found = lab.run(MODEL__TEXT_CHUNK=chunk)
    assert "2 threads" in found.device
    assert (found.rounding.deterministic, found.rounding.threads, found.rounding.text_chunk) == (False, 2, chunk)


def test_a_chunk_that_the_free_memory_chose_is_told_and_the_next_run_of_a_process_begins_anew(lab, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(text, "free_bytes", lambda device: 0)
        assert lab.run("scarce").rounding.text_chunk == 1
    assert lab.run("plenty").rounding.text_chunk == 0


def test_what_was_to_be_said_of_a_session_that_was_cut_off_is_said_of_the_run(lab, monkeypatch):
    with monkeypatch.context() as patch:
        too_many(patch, 4)
        cut_off(lab, epoch=1, batch=1)
    found = lab.run()
    assert [warning for warning in found.warnings if "the memory ran out" in warning]
    assert found.rounding.text_chunk == 4


def test_a_resume_on_another_number_of_threads_is_told(lab):
    with threads(1):
        cut_off(lab, epoch=1, batch=1)
    with threads(2):
        [said] = [each for each in lab.run().warnings if "1 threads up to epoch 1 and resumes with" in each]
        assert "2 threads, where sums are rounded" in said
        cut_off(lab, "fixed", epoch=1, batch=1, **FIXED)
    assert not [each for each in lab.run("fixed", **FIXED).warnings if "goes on" in each]


# ---- TRAIN.DETERMINISTIC ----------------------------------------------------------------------


def test_a_deterministic_run_sums_as_on_one_thread_and_leaves_the_process_as_it_was(lab, monkeypatch):
    values = torch.rand(3_000_000, generator=torch.Generator().manual_seed(0))
    sums: list[float] = []
    step = trainers.base.PromptTuner.forward_backward
    monkeypatch.setattr(
        trainers.base.PromptTuner,
        "forward_backward",
        lambda self, batch: (sums.append(float(values.sum())), step(self, batch))[1],
    )
    with threads(1):
        lab.run("one", OPTIM__MAX_EPOCH=1)
    with threads(2):
        lab.run("two", OPTIM__MAX_EPOCH=1)
        found = lab.run("fixed", OPTIM__MAX_EPOCH=1, **FIXED)
        assert torch.get_num_threads() == 2
    one, two, fixed = (set(sums[first : first + BATCHES]) for first in (0, BATCHES, 2 * BATCHES))
    assert fixed == one and two.isdisjoint(one), "two threads sum in another order, or this test shows nothing"
    assert found.rounding.deterministic and found.rounding.threads == 1 and "1 threads" in found.device


@pytest.mark.parametrize("bound", [trainers.base.FIXED_TEXT_MEMORY, 200_000])
def test_a_deterministic_run_does_not_look_at_the_free_memory(lab, monkeypatch, bound):
    monkeypatch.setattr(trainers.base, "FIXED_TEXT_MEMORY", bound)
    for run, free in (("plenty", 2**40), ("scarce", 0)):
        monkeypatch.setattr(text, "free_bytes", lambda device, free=free: free)
        chunk = lab.run(run, **FIXED).rounding.text_chunk
        assert chunk == 0 if bound > 2**30 else 1 < chunk < 8
    assert same(lab, "plenty", "scarce")


def test_a_deterministic_run_tests_stored_features_in_the_batches_of_images(lab):
    """Products of other sizes round otherwise: logits are equal, not only which of them is the largest."""
    logits: dict[str, list[torch.Tensor]] = {}
    inference = trainers.base.PromptTuner.model_inference
    for run, features in (("online", False), ("stored", True)):
        kept = logits.setdefault(run, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                trainers.base.PromptTuner,
                "model_inference",
                lambda self, batch, kept=kept: (kept.append(inference(self, batch)), kept[-1])[1],
            )
            lab.run(run, DATALOADER__FEATURES=features, DATALOADER__FEATURES_DIR=lab.output / "features", **FIXED)
    assert len(logits["online"]) > 1
    assert all(map(torch.equal, logits["online"], logits["stored"])) and len(logits["online"]) == len(logits["stored"])


def test_a_deterministic_run_has_stored_features_of_its_own(lab):
    keys = {"DATALOADER__FEATURES": True, "DATALOADER__FEATURES_DIR": lab.output / "features"}
    lab.run("usual", **keys)
    before = {path.name for path in (lab.output / "features").iterdir() if path.is_dir()}
    lab.run("fixed", **keys, **FIXED)
    assert before < {path.name for path in (lab.output / "features").iterdir() if path.is_dir()}


def test_a_deterministic_run_refuses_a_smaller_chunk_when_the_memory_runs_out(lab, monkeypatch, capsys):
    too_many(monkeypatch, 4)
    assert lab.main(**FIXED) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "with 8 prompts at once, and TRAIN.DETERMINISTIC True forbids smaller" in line
    assert "MODEL.TEXT_CHUNK 4 for all runs" in line
    assert "results.json" not in lab.files()


def test_what_changes_the_last_digits_belongs_to_the_setting_of_a_deterministic_run(lab, capsys):
    digests = {}
    for run, keys in {"usual": {}, "fixed": FIXED, "chunk": {**FIXED, "MODEL__TEXT_CHUNK": 3}}.items():
        digests[run] = lab.run(run, **keys).config_digest
    assert len(set(digests.values())) == 3
    assert lab.run("usual chunk", MODEL__TEXT_CHUNK=3).config_digest == digests["usual"]
    cut_off(lab, "cut", epoch=1, batch=0, **FIXED)
    capsys.readouterr()
    assert lab.main("cut", **FIXED, MODEL__TEXT_CHUNK=3) == 2
    assert "MODEL.TEXT_CHUNK is 0 there, 3 here" in capsys.readouterr().err


# ---- train.py, sweep.py and what surrounds a process ------------------------------------------

SURROUNDINGS = (
    {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Kathmandu", "OMP_NUM_THREADS": "1"},
    {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "America/Caracas", "OMP_NUM_THREADS": "3"},
)


def test_neither_the_program_nor_hash_seed_locale_time_zone_threads_and_folder_show(small, tmp_path, capfd):
    small.write(shots=[1], seeds=[1])
    assert sweep.main(small.command("--jobs", "1", "TRAIN.DETERMINISTIC", "True")) == 0
    [swept] = small.output.rglob("results.json")
    config = ["--config-file", str(swept.parent / "config.yaml")]
    children = []
    for number, variables in enumerate(SURROUNDINGS):
        here = tmp_path / f"here{number}"
        here.mkdir()
        command = [sys.executable, str(CHECKOUT / "train.py"), *config, "--output-dir", str(tmp_path / f"run{number}")]
        children.append(subprocess.Popen(command, cwd=here, env={**os.environ, **variables}))
    assert [child.wait(timeout=300) for child in children] == [0, 0]
    texts = [without_times(folder) for folder in (swept.parent, tmp_path / "run0", tmp_path / "run1")]
    assert texts[0] == texts[1] == texts[2]
    assert '"threads": 1' in texts[0]


# ---- a GPU's algorithms; there need not be a GPU here -----------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """A process that believes in a GPU which it has not used yet; returns the config of a deterministic run."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setenv(WORKSPACE, "")  # so that it is put back
    monkeypatch.delenv(WORKSPACE)
    cfg = get_cfg_default()
    cfg.TRAIN.DETERMINISTIC = True
    return cfg


def test_on_a_gpu_the_algorithms_are_deterministic_during_the_run(gpu, monkeypatch):
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", True)
    with arithmetic(gpu):
        assert os.environ[WORKSPACE] == ":4096:8"
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert cudnn.deterministic and not cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    assert cudnn.benchmark and not cudnn.deterministic


def test_an_operation_without_a_deterministic_version_is_one_line(gpu):
    told = pytest.raises(UserError, match=r"^TRAIN\.DETERMINISTIC is True, and put_ has no deterministic version")
    with told, arithmetic(gpu), lacks_explained():
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
    with pytest.raises(RuntimeError, match="shape"), lacks_explained():
        raise RuntimeError("shape of another kind")


def test_cublas_must_not_have_started_otherwise(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    told = pytest.raises(UserError, match=f"start the command with {WORKSPACE}=:4096:8 in its environment")
    with told, arithmetic(gpu):
        pass
    monkeypatch.setenv(WORKSPACE, ":16:8")
    with arithmetic(gpu):
        assert os.environ[WORKSPACE] == ":16:8"
    monkeypatch.setenv(WORKSPACE, ":0:0")
    with pytest.raises(UserError, match=f"{WORKSPACE} is ':0:0'.* unset it"), arithmetic(gpu):
        pass


def test_on_the_cpu_and_without_the_key_nothing_of_that_is_set(gpu):
    for key, value in (("USE_CUDA", False), ("TRAIN", {"DETERMINISTIC": False})):
        cfg = gpu.clone()
        cfg.merge_from_other_cfg(type(cfg)({key: value}))
        with arithmetic(cfg):
            assert WORKSPACE not in os.environ and not torch.are_deterministic_algorithms_enabled()
