"""Other people's packages have the names of our folders: Hugging Face's datasets, OpenAI's clip."""

import os
import subprocess
import sys

import pytest

from dassl.utils.tools import CHECKOUT

RIVALS = ("datasets", "clip", "trainers", "dassl")


@pytest.fixture
def rivals(tmp_path):
    """A folder with packages that fail when they are imported."""
    for name in RIVALS:
        (tmp_path / "rivals" / name).mkdir(parents=True)
        (tmp_path / "rivals" / name / "__init__.py").write_text(f"raise RuntimeError('{name} is the other one')\n")
    return tmp_path / "rivals"


def run(*command, path, cwd):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("program", ["train.py", "sweep.py", "parse_test_res.py", "predict.py"])
def test_a_program_finds_its_own_packages(rivals, tmp_path, program):
    done = run(str(CHECKOUT / program), "--help", path=[rivals], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["datasets.check", "datasets.fetch"])
@pytest.mark.parametrize("behind", [True, False], ids=["behind", "before, but started in the checkout"])
def test_a_module_finds_its_own_packages(rivals, tmp_path, module, behind):
    path, cwd = ([CHECKOUT, rivals], tmp_path) if behind else ([rivals], CHECKOUT)
    done = run("-m", module, "--help", path=path, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")


def test_data_sets_are_found_although_another_package_of_the_name_is_installed(rivals, tmp_path):
    code = "from dassl.data.dataset import DATASET_REGISTRY; print(DATASET_REGISTRY.get('General10').__module__)"
    done = run("-c", code, path=[CHECKOUT, rivals], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "datasets.general10\n", "")


@pytest.mark.parametrize("rival", ["datasets.py", "datasets/__init__.py"])
def test_data_sets_are_found_behind_another_package_of_the_name(tmp_path, rival):
    (tmp_path / rival).parent.mkdir(exist_ok=True)
    (tmp_path / rival).write_text("raise RuntimeError('the other one')\n")
    code = "from dassl.data.dataset import DATASET_REGISTRY; print(DATASET_REGISTRY.get('General10').__module__)"
    done = run("-c", code, path=[tmp_path, CHECKOUT], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "datasets.general10\n", "")


@pytest.mark.parametrize("rival", ["datasets.py", "datasets/__init__.py"])
def test_another_package_that_is_loaded_is_named_in_one_line(tmp_path, rival):
    (tmp_path / rival).parent.mkdir(exist_ok=True)
    (tmp_path / rival).write_text("")
    code = (
        f"import sys, datasets; sys.path.insert(0, {str(CHECKOUT)!r}); import train; "
        "sys.exit(train.main(['--trainer', 'MTCoOp', '--backbone', 'demo', 'INPUT.SIZE', '64,64', "
        "'DATASET.NAME', 'General10']))"
    )
    done = run("-c", code, path=[tmp_path], cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"another package called 'datasets', in {tmp_path / rival.removesuffix('/__init__.py')}, is" in done.stderr
