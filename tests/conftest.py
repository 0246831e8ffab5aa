"""What all rooms' tests share: toy data sets, a tiny random CLIP, and short runs on them."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file

from dassl.utils.cache import use_cache
from tests.clip.helpers import openai_state, random_model
from tests.dassl.data.toy import write_toy
from tests.dassl.sweep.small import Small
from tests.lab import Lab

# How long an example takes says something about the machine, not about the program.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All toy data sets; tests must leave the images as they are."""
    return write_toy(tmp_path_factory.mktemp("toy_data"))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny ViT in OpenAI's layout."""
    path = tmp_path_factory.mktemp("tiny_clip") / "vit.safetensors"
    save_file(openai_state(random_model("vit")), path)
    return path


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    """Take away what ``setup_logger`` leaves behind: the next test's output must be its own."""
    yield
    root = logging.getLogger()
    for handler in [each for each in root.handlers if type(each).__module__.startswith("dassl.")]:
        root.removeHandler(handler)
    logging.captureWarnings(False)


@pytest.fixture
def lab(toy_root: Path, tiny_clip: Path, tmp_path: Path) -> Lab:
    """Short runs below the test's own folder."""
    return Lab(toy_root, tiny_clip, tmp_path / "output")


@pytest.fixture
def small(tmp_path: Path, tiny_clip: Path) -> Small:
    """A small sweep, written below the test's own folder."""
    return Small(tmp_path / "small", tiny_clip).write()


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    """What one test's worker of a sweep has loaded is not there in the next test."""
    yield
    use_cache(False)


@pytest.fixture
def worker_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker of a sweep may live in this process: what it sets is put back afterwards."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    threads = torch.get_num_threads()
    levels = {handler: handler.level for handler in logging.getLogger().handlers}
    yield
    for handler, level in levels.items():
        handler.setLevel(level)
    torch.set_num_threads(threads)
    use_cache(False)
