"""What all cases share."""

from pathlib import Path

import pytest

from tests.lab import Lab
from tests.rubbish.case import Bench


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, toy_root: Path, tiny_clip: Path) -> Path:
    """A short run with checkpoints and results."""
    lab = Lab(toy_root, tiny_clip, tmp_path_factory.mktemp("finished"))
    lab.run("whole", trainer="MTCoOpHard", dataset="ToyPets", OPTIM__MAX_EPOCH=1, OPTIM__WARMUP_EPOCH=0)
    return lab.folder("whole")


@pytest.fixture
def bench(
    tmp_path: Path, toy_root: Path, tiny_clip: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """A folder of its own, in which the case is tried."""
    folder = tmp_path / "inside"
    folder.mkdir()
    monkeypatch.chdir(folder)
    lab = Lab(toy_root, tiny_clip, folder / "output")
    return Bench(folder, tmp_path / "code-was-run", lab, finished_run, monkeypatch)
