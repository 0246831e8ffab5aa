import pytest

from tests.dassl.data.toy import toy_cfg, write_toy


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory):
    """All toy data sets; tests must leave the images as they are."""
    return write_toy(tmp_path_factory.mktemp("toy_data"))


@pytest.fixture
def make_cfg(toy_root, tmp_path):
    """toy_cfg with its folders filled in."""

    def make(name="ToyPets", root=toy_root, **changes):
        return toy_cfg(root, tmp_path / "output" / "run", name, **changes)

    return make
