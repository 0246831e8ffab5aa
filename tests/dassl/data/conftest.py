import pytest

from tests.dassl.data.toy import toy_cfg


@pytest.fixture
def make_cfg(toy_root, tmp_path):
    """toy_cfg with its folders filled in."""

    def make(name="ToyPets", root=toy_root, **changes):
        return toy_cfg(root, tmp_path / "output" / "run", name, **changes)

    return make
