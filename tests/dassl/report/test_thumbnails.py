import io
import os
import time
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from dassl.report.thumbnails import MOST_BYTES, check_root, thumbnail
from dassl.utils.errors import UserError

LATER = time.time() + 1e6


def decoded(found):
    head, _, content = found.uri.partition(",")
    assert head == "data:image/jpeg;base64"
    content = b64decode(content)
    assert len(content) <= MOST_BYTES
    return Image.open(io.BytesIO(content))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data/set").mkdir(parents=True)
    return tmp_path / "data"


@pytest.mark.parametrize("shape", [(600, 800, 3), (5, 3000, 3), (1, 1, 3)])
def test_a_thumbnail_is_small(root, shape):
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(noise).save(root / "set/a.png")
    found = thumbnail(root, "set/a.png", tested=LATER)
    assert max(decoded(found).size) <= 128 and found.remark == ""


def test_it_is_read_as_a_person_sees_it(root):
    Image.new("RGBA", (40, 20), (255, 0, 0, 0)).save(root / "set/clear.png")
    red, green, blue = decoded(thumbnail(root, "set/clear.png", tested=LATER)).convert("RGB").getpixel((5, 5))
    assert min(red, green, blue) > 250


def test_a_picture_that_was_changed_later_is_told(root):
    Image.new("RGB", (4, 4)).save(root / "set/a.png")
    os.utime(root / "set/a.png", (2000, 2000))
    assert thumbnail(root, "set/a.png", tested=2000.0).remark == ""
    changed = thumbnail(root, "set/a.png", tested=1999.0)
    assert changed.uri and "changed after the test" in changed.remark


def test_what_cannot_be_read_is_told_without_the_place(root):
    (root / "set/text.jpg").write_text("hello")
    (root / "set/folder.jpg").mkdir()
    os.mkfifo(root / "set/pipe.jpg")
    for name, words in {
        "set/gone.jpg": "no such file below the data root",
        "set/text.jpg": "text", "set/folder.jpg": "directory", "set/pipe.jpg": "pipe",
        "set/a\0b.jpg": "", "set/" + "x" * 400: "too long",
    }.items():  # fmt: skip
        found = thumbnail(root, name, tested=LATER)
        assert found.uri == "" and found.remark and words in found.remark, found
        assert str(root) not in found.remark


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "set/../../secret.png", "/secret.png", "~/secret.png", "C:\\secret.png", "..\\secret.png", "\\s"],
)
def test_nothing_outside_the_root_is_read(root, name):
    Image.new("RGB", (4, 4)).save(root.parent / "secret.png")
    found = thumbnail(root, name, tested=LATER)
    assert found.uri == "" and "not below the data root" in found.remark


def test_an_absolute_path_is_not_read_even_below_the_root(root):
    Image.new("RGB", (4, 4)).save(root / "set/a.png")
    assert thumbnail(root, str(root / "set/a.png"), tested=LATER).uri == ""


def test_the_root_is_a_folder(root):
    assert check_root(root) == root
    with pytest.raises(UserError, match="--root FOLDER"):
        check_root(root / "nowhere")
