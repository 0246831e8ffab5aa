"""Random backbones that the tests of this room share."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

import clip
from tests.clip.helpers import openai_state, random_model


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A weights file of each kind of small random model."""
    folder = tmp_path_factory.mktemp("models")
    files = {kind: folder / f"{kind}.safetensors" for kind in ("vit", "rn")}
    for kind, path in files.items():
        save_file(openai_state(random_model(kind)), path)
    return files


@pytest.fixture(scope="session")
def backbones(model_files: dict[str, Path]) -> dict[str, clip.Backbone]:
    """The same models, loaded in fp32."""
    return {kind: clip.load(str(path))[0] for kind, path in model_files.items()}


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without any cached weights; returns the cache folder that would be used."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "clip"
