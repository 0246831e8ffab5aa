import numpy as np
import pytest
from PIL import Image

from dassl.data import checking, contents
from dassl.data.checking import BLANK, CLIPPED, DARK, READABLE, UNREADABLE, check_images, look_at, remarks
from dassl.data.images import AS_SEEN, ORIGINAL, Reading
from tests.dassl.data.toy import write_image


@pytest.fixture
def decoded(monkeypatch):
    """Names of the images that are really decoded."""
    seen, real = [], checking.decode
    monkeypatch.setattr(checking, "decode", lambda path, reading: (seen.append(path), real(path, reading))[1])
    return seen


def icon(path, colour, *, ground=(0, 0, 0, 0)):
    """A square in a colour on a transparent ground."""
    picture = Image.new("RGBA", (20, 16), ground)
    picture.paste(colour, (5, 4, 12, 11))
    picture.save(path)
    return str(path)


def kinds(paths, reading=AS_SEEN):
    return [look.kind for look in look_at(paths, reading=reading).values()]


def test_unreadable_images_come_with_their_reasons(damaged, tmp_path):
    bad = check_images(damaged, tmp_path / "cache")
    assert [path for path, _ in bad] == damaged[1:]
    reasons = dict(bad)
    assert reasons[damaged[3]] == "a text and not a picture; replace or remove it"
    assert reasons[damaged[4]] == "an empty file; replace or remove it"
    assert reasons[damaged[5]] == "No such file or directory; replace or remove it"
    assert check_images(["a\0.png"], tmp_path / "cache") == [("a\0.png", "embedded null byte; replace or remove it")]
    assert check_images([]) == []


def test_an_unchanged_list_is_not_decoded_again(damaged, tmp_path, decoded):
    first = look_at(damaged, tmp_path / "cache")
    assert sorted(decoded) == sorted(damaged)
    decoded.clear()
    assert look_at(damaged[::-1], tmp_path / "cache") == first
    assert sorted(decoded) == sorted(damaged[1:])
    write_image(tmp_path / "damaged/text.png", 3)
    assert [path for path, _ in check_images(damaged, tmp_path / "cache")] == [
        p for p in damaged[1:] if "text" not in p
    ]


def test_a_known_picture_is_neither_read_nor_decoded(tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(contents, "_UNSETTLED_NS", 0)
    paths = [str(write_image(tmp_path / f"{number}.png", number)) for number in range(4)]
    first = look_at(paths, tmp_path / "cache")
    copy = str(write_image(tmp_path / "copy.png", 2))
    decoded.clear()
    # The same content elsewhere is read, but not decoded.
    assert look_at([copy], tmp_path / "cache")[copy] == first[paths[2]] and not decoded
    monkeypatch.setattr(checking, "read_content", None)
    assert look_at(paths, tmp_path / "cache") == first and not decoded


def test_a_verdict_holds_for_one_way_of_reading(tmp_path):
    path = icon(tmp_path / "a.png", (0, 0, 0, 255))
    for _ in range(2):
        for reading, kind in ((AS_SEEN, READABLE), (ORIGINAL, BLANK), (Reading("black"), BLANK)):
            assert look_at([path], tmp_path / "cache", reading)[path].kind == kind
    assert look_at([path], tmp_path / "cache", Reading(max_pixels=100))[path].kind == UNREADABLE


@pytest.mark.parametrize("file", ["files", "pictures"])
def test_a_damaged_record_is_ignored(tmp_path, file):
    path = str(write_image(tmp_path / "a.png"))
    wanted = look_at([path], tmp_path / "cache")
    for content in (b"{", b"", bytes(200)):
        (tmp_path / "cache/contents" / file).write_bytes(content)
        assert look_at([path], tmp_path / "cache") == wanted


def test_blank_pictures(tmp_path):
    black, white = (0, 0, 0, 255), (255, 255, 255, 255)
    drawn, pale = icon(tmp_path / "a.png", black), icon(tmp_path / "b.png", white)
    assert kinds([drawn, pale]) == [READABLE, BLANK]
    assert kinds([drawn, pale], ORIGINAL) == [BLANK, READABLE]
    assert kinds([drawn, pale], Reading("grey")) == [READABLE, READABLE]
    # Noise of JPEG does not hide it, and one small mark is something.
    Image.new("RGB", (90, 70), (120, 60, 30)).save(tmp_path / "c.jpg")
    marked = Image.new("RGB", (900, 700), "white")
    marked.putpixel((401, 333), (90, 90, 90))
    marked.save(tmp_path / "d.png")
    Image.new("1", (1, 1)).save(tmp_path / "e.png")
    assert kinds([str(tmp_path / name) for name in ("c.jpg", "d.png", "e.png")]) == [BLANK, READABLE, BLANK]


def test_deep_pictures_that_do_not_fit_their_scale(tmp_path):
    scene = np.linspace(0, 1, 60).reshape(6, 10)
    files = {
        "sixteen bits": (scene * 65535).astype(np.uint16),
        "twelve bits": (scene * 4095).astype(np.uint16),
        "floats to 1": scene.astype(np.float32),
        "floats a little above 1": (scene * 1.1).astype(np.float32),
        "floats to 255": (scene * 255).astype(np.float32),
        "signed": (scene * 4000 - 2000).astype(np.int32),
        "nothing": np.full((6, 10), 700, np.uint16),
    }
    for name, pixels in files.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.tif")
    found = kinds([str(tmp_path / f"{name}.tif") for name in files])
    assert found == [READABLE, DARK, READABLE, READABLE, CLIPPED, CLIPPED, BLANK]


def told(tmp_path, reading, **parts):
    paths = [path for some in parts.values() for path in some]
    return remarks({"train": [], "val": [], "test": [], **parts}, look_at(paths, tmp_path / "cache", reading), reading)


def test_blank_pictures_are_counted_once_and_named(tmp_path):
    train = [icon(tmp_path / f"{number}.png", (number, 0, 0, 255)) for number in range(5)]
    test = [str(write_image(tmp_path / f"t{number}.png", number)) for number in range(3)]
    assert told(tmp_path, AS_SEEN, train=train, test=test) == []
    (text,) = told(tmp_path, Reading("black"), train=train * 2, test=[*test, train[1]])
    assert text.startswith("4 of 8 pictures (train 4, val 0, test 1) are blank: ")
    assert train[0] in text and train[2] in text and train[3] not in text and text.endswith("INPUT.BACKGROUND grey")
    (text,) = told(tmp_path, ORIGINAL, train=train[:1])
    assert text.endswith("INPUT.BACKGROUND white")


def test_a_part_whose_pictures_are_mostly_the_same(tmp_path):
    others = [str(write_image(tmp_path / f"o{number}.png", number)) for number in range(3)]
    same = [
        str(write_image(tmp_path / f"s{number}.{end}", 7)) for number, end in enumerate(("png", "bmp", "png", "tif"))
    ]
    (text,) = told(tmp_path, AS_SEEN, train=others, test=[*same, *others])
    assert text.startswith(f"4 of 7 test pictures have the same pixels, e.g. {same[0]}, {same[1]}, {same[2]}; ")
    assert told(tmp_path, AS_SEEN, train=same[:2] + others[:2], test=others) == []
    # Many rows of one picture are one picture.
    assert told(tmp_path, AS_SEEN, train=same[:1] * 9, test=others) == []
