import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dassl.data import Datum, Split, Task, contents, copies
from dassl.data.copies import Same, doubles, near_pairs, recorded_pictures, same_pictures
from tests.dassl.data.toy import write_image

TASKS = (Task("kind", ("a", "b")), Task("colour", ("red", "blue")))


@pytest.fixture
def pictures(tmp_path):
    """Six different pictures of one size, by number."""
    for number in range(6):
        write_image(tmp_path / f"{number}.png", seed=number)
    return [str(tmp_path / f"{number}.png") for number in range(6)]


def groups(paths, **options):
    same = same_pictures(paths, **options)
    return [{path.rpartition("/")[2] for path in group} for group in same.pictures]


def test_equal_files(pictures, tmp_path):
    shutil.copy(pictures[0], tmp_path / "0 (1).png")
    shutil.copy(pictures[0], tmp_path / "0 - Copy.png")
    (tmp_path / "link.png").symlink_to(pictures[3])
    for name in ("empty.png", "void.png"):
        (tmp_path / name).touch()
    names = ["0 (1).png", "0 - Copy.png", "link.png", "empty.png", "void.png", "gone.png"]
    paths = [*pictures, *(str(tmp_path / name) for name in names)]
    same = same_pictures(paths, 0)
    assert same == Same(same.files, same.files, False)
    assert same.files == [[pictures[0], *paths[6:8]], [pictures[3], paths[8]]]


@pytest.mark.parametrize("name", ["x.bmp", "x.webp", "x.tif", "palette.png", "lying.png", "rgba.png"])
def test_equal_pixels(pictures, tmp_path, name):
    image = Image.open(pictures[2]).convert("RGB")
    exif = Image.Exif()
    if name == "palette.png":
        image = image.quantize(4)
        image.convert("RGB").save(pictures[2])
    if name == "lying.png":
        image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
    image = image.convert("RGBA") if name == "rgba.png" else image
    image.save(tmp_path / name, exif=exif, **({"lossless": True} if name == "x.webp" else {}))
    assert groups([*pictures, str(tmp_path / name)]) == [{"2.png", name}]
    assert groups([*pictures, str(tmp_path / name)], limit=0) == []


def test_what_differs_is_no_copy(tmp_path):
    """Transparency and the upper bits of 16-bit pictures count."""
    values = np.zeros((8, 8, 4), np.uint8)
    for number in range(2):
        values[number, number, 3] = 255
        Image.fromarray(values).save(tmp_path / f"alpha{number}.png")
        Image.fromarray(np.full((8, 8), 300 + 300 * number, np.uint16)).save(tmp_path / f"deep{number}.png")
    assert groups([str(path) for path in tmp_path.iterdir()]) == []


def test_equal_files_with_an_equal_picture_are_one_group(pictures, tmp_path):
    shutil.copy(pictures[1], tmp_path / "copy.png")
    Image.open(pictures[1]).save(tmp_path / "x.bmp")
    paths = [*pictures, str(tmp_path / "copy.png"), str(tmp_path / "x.bmp")]
    assert groups(paths) == [{"1.png", "copy.png", "x.bmp"}]
    assert len(same_pictures(paths).files) == 1


def test_too_many_pixels_are_not_decoded(pictures, monkeypatch):
    side = Image.open(pictures[0]).size
    assert same_pictures(pictures, 6 * side[0] * side[1]).pixels
    monkeypatch.setattr(copies, "_pixel_digest", None)
    assert same_pictures(pictures, 6 * side[0] * side[1] - 1) == Same([], [], False)


def test_the_record_serves_until_a_file_changes(pictures, tmp_path, monkeypatch):
    shutil.copy(pictures[0], tmp_path / "copy.png")
    paths = [*pictures, str(tmp_path / "copy.png")]
    recorded_pictures(paths, tmp_path / "cache", 1e9)
    assert not (tmp_path / "cache").exists(), "what was written a moment ago may be changed again"
    monkeypatch.setattr(contents, "_UNSETTLED_NS", 0)
    first = recorded_pictures(paths, tmp_path / "cache", 1e9)
    (record,) = (tmp_path / "cache" / "copies").iterdir()
    monkeypatch.setattr(copies, "same_pictures", lambda paths, limit: Same([], [], True))
    assert recorded_pictures(paths, tmp_path / "cache", 1e9) == first
    assert recorded_pictures(paths, tmp_path / "cache", 0) == Same([], [], True)  # another limit
    record.write_text("{")
    assert recorded_pictures(paths, tmp_path / "cache", 1e9) == Same([], [], True)


# -- splits ----------------------------------------------------------------------------------------------------


def split(train, test, val=()):
    return Split(TASKS, *([Datum(*row) for row in rows] for rows in (train, val, test)))


def test_pictures_in_training_and_test():
    found = doubles(split([("1", 0), ("2", 0), ("3", 1)], [("x", 0), ("3", 1), ("y", 1)]), [["2", "x"], ["y", "z"]])
    assert found.leaked == [("x", "2"), ("3", "3")] and found.labels == []


def test_a_picture_may_train_one_task_and_test_another():
    assert doubles(split([("1", 0, 0)], [("x", 0, 1)]), [["1", "x"]]).leaked == []
    assert doubles(split([("1", 0, 0, ((1, 1),))], [("x", 0, 1)]), [["1", "x"]]).leaked == [("x", "1")]


def test_pictures_under_two_labels():
    found = doubles(split([("1", 0), ("2", 1)], [("3", 0)], val=[("4", 1)]), [["1", "2"], ["3", "4"]])
    assert found.labels == [("2", "1"), ("3", "4")]
    assert doubles(split([("1", 0, 0), ("2", 1, 1)], []), [["1", "2"]]).labels == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1), st.integers(0, 2)), max_size=20))
def test_doubles_are_those_of_the_definition(rows):
    """(picture, label, part) of each image, against a comparison of each with each."""
    items = [(f"{number}-{picture}", label, part) for number, (picture, label, part) in enumerate(rows)]
    lists = [[Datum(name, label) for name, label, its in items if its == part] for part in range(3)]
    same = [[name for name, *_ in items if name.endswith(f"-{picture}")] for picture in range(10)]
    found = doubles(Split(TASKS, *lists), [group for group in same if len(group) > 1])
    pictures = [{item.impath.split("-")[1] for item in part} for part in lists]
    assert {path.split("-")[1] for path, _ in found.leaked} == pictures[0] & pictures[2]
    labels = {picture: {label for its, label, _ in rows if its == picture} for picture in range(10)}
    assert {path.split("-")[1] for path, _ in found.labels} == {str(p) for p, its in labels.items() if len(its) > 1}


def test_pictures_that_look_alike(tmp_path):
    def draw(name, seed, side=96, **options):
        rng = np.random.default_rng(seed)
        image = Image.new("RGB", (96, 96), "white")
        for left, top, size, *colour in rng.integers(0, 70, (8, 6)):
            ImageDraw.Draw(image).ellipse((left, top, left + size + 20, top + size + 20), tuple(map(int, colour)))
        image.resize((side, side)).save(tmp_path / name, **options)
        return (str(tmp_path / name), 0)

    train = [draw(f"{seed}.png", seed) for seed in range(8)]
    small, other = draw("small.jpg", 3, 48, quality=60), draw("other.png", 20)
    for name in ("flat.png", "plain.png"):
        Image.new("RGB", (96, 96), "red").save(tmp_path / name)
    flat, plain = ((str(tmp_path / name), 0) for name in ("flat.png", "plain.png"))
    pairs = near_pairs(split([*train, plain], [small, other, flat]))
    assert pairs == [(small[0], train[3][0])]
