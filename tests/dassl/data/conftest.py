import pytest

from tests.dassl.data.toy import toy_cfg, write_image


@pytest.fixture
def make_cfg(toy_root, tmp_path):
    """toy_cfg with its folders filled in."""

    def make(name="ToyPets", root=toy_root, **changes):
        return toy_cfg(root, tmp_path / "output" / "run", name, **changes)

    return make


@pytest.fixture
def damaged(tmp_path):
    """Paths of one good image and five that cannot be read."""
    folder = tmp_path / "damaged"
    whole = write_image(folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    jpeg = write_image(folder / "cut.jpg", size=(64, 64)).read_bytes()
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "text.png").write_text("hello")
    (folder / "empty.jpg").write_bytes(b"")
    return [str(folder / name) for name in ("good.png", "cut.png", "cut.jpg", "text.png", "empty.jpg", "absent.png")]
