import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from dassl.data import raw
from dassl.data.datum import Datum
from dassl.utils.errors import UserError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_class_folders_in_byte_order(tmp_path):
    touch(
        tmp_path,
        "b/2.jpg",
        "b/10.JPEG",
        "b/notes.txt",
        "b/.hidden.jpg",
        "a/1.tif",
        "Z/1.png",
        ".git/x.jpg",
        "loose.jpg",
    )
    images = raw.class_images(tmp_path)
    assert list(images) == ["Z", "a", "b"]
    assert images["b"] == [str(tmp_path / "b" / name) for name in ("10.JPEG", "2.jpg")]


def test_folders_without_images_are_looked_into(tmp_path):
    touch(tmp_path, "water/sea/1.tif", "land/field/1.tif", "land/road/1.tif", "empty/readme.md", "__MACOSX/sea/1.tif")
    assert list(raw.class_images(tmp_path)) == ["field", "road", "sea"]


def test_a_second_copy_deeper_down_is_left_out(tmp_path):
    touch(tmp_path, "rose/1.jpg", "tulip/1.jpg", "flowers/rose/1.jpg", "flowers/tulip/1.jpg")
    assert raw.class_images(tmp_path)["rose"] == [str(tmp_path / "rose/1.jpg")]


def test_one_class_in_two_groups_is_joined(tmp_path):
    touch(tmp_path, "train/rose/2.jpg", "val/rose/1.jpg")
    assert raw.class_images(tmp_path) == {
        "rose": [str(tmp_path / "train/rose/2.jpg"), str(tmp_path / "val/rose/1.jpg")]
    }


def test_skipped_folders(tmp_path):
    touch(tmp_path, "a/1.jpg", "clutter/1.jpg")
    assert list(raw.class_images(tmp_path, ("clutter",))) == ["a"]


def test_no_class_folder(tmp_path):
    with pytest.raises(UserError, match="has no class folders"):
        raw.class_images(touch(tmp_path, "1.jpg", "empty/x.txt"))
    with pytest.raises(UserError, match=r"folder .*nowhere cannot be read"):
        raw.class_images(tmp_path / "nowhere")


@given(sizes=st.lists(st.integers(4, 40), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_each_class_is_split_by_itself(sizes, seed):
    groups = {
        f"c{label}": raw.labelled([f"{label}/{n}" for n in range(size)], label) for label, size in enumerate(sizes)
    }
    random.seed(seed)
    before = random.getstate()
    train, val, test = raw.split_classes(groups)
    assert random.getstate() == before
    assert sorted(item.impath for item in (*train, *val, *test)) == sorted(i.impath for g in groups.values() for i in g)
    for label, size in enumerate(sizes):
        counts = [sum(item.label == label for item in items) for items in (train, val, test)]
        assert counts == [round(0.5 * size), round(0.2 * size), size - round(0.5 * size) - round(0.2 * size)]
    assert [item.label for item in train] == sorted(item.label for item in train)
    # A class is split the same way whatever the others are.
    assert raw.split_classes({"c0": groups["c0"]})[0] == [item for item in train if item.label == 0]


def test_the_split_never_changes():
    """The same on every machine and with every Python: a change here changes everybody's splits."""
    lists = raw.split_classes({"cat": raw.labelled("abcdefghij", 0)})
    assert ["".join(item.impath for item in items) for items in lists] == ["edjfa", "ci", "bhg"]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_too_few_images_to_split(count):
    with pytest.raises(UserError, match=f"class 'train/cat' has only {count} images"):
        raw.split_classes({"train/cat": raw.labelled("abc"[:count], 0)})


def test_a_fifth_is_held_out():
    items = [Datum(f"{n}", label) for n in range(10) for label in (5, 2)] + [Datum("x", 1), Datum("y", 1)]
    train, val = raw.hold_out(items)
    assert [item.label for item in train] == [5] * 8 + [2] * 8 + [1] * 2
    assert [item.label for item in val] == [5] * 2 + [2] * 2
    assert sorted(i.impath for i in (*train, *val)) == sorted(i.impath for i in items)
    assert [i.impath for i in train[:8]] != [f"{n}" for n in range(8)]
    assert raw.hold_out(items) == (train, val)


def test_rows_of_a_list(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf12 Tu-134 B\r\n\r\n  7 F/A-18  \n")
    assert raw.read_rows(path, 2) == [["12", "Tu-134 B"], ["7", "F/A-18"]]
    with pytest.raises(UserError, match=r"list\.txt: entry 2 is \['7', 'F/A-18'\], but 3 fields"):
        raw.read_rows(path, 3)
    with pytest.raises(UserError, match=r"gone\.txt does not exist"):
        raw.read_lines(tmp_path / "gone.txt")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"list\.txt cannot be read"):
        raw.read_lines(path)


def test_matlab_files(tmp_path):
    path = tmp_path / "x.mat"
    savemat(path, {"labels": [[3]], "annotations": {"fname": "a.jpg", "class": 2}})
    assert raw.read_mat(path, "labels").tolist() == [3]
    (row,) = raw.read_mat(path, "annotations")
    assert (row["fname"], int(row["class"])) == ("a.jpg", 2)
    for bad, words in ((path, "KeyError"), (tmp_path / "gone.mat", "does not exist")):
        with pytest.raises(UserError, match=words):
            raw.read_mat(bad, "nothing")
    path.write_bytes(b"no matlab")
    with pytest.raises(UserError, match=r"x\.mat cannot be read"):
        raw.read_mat(path, "labels")


def test_class_numbers_and_names(tmp_path):
    assert [raw.label_from_one(value, 3, tmp_path) for value in ("1", 3)] == [0, 2]
    for value in ("0", 4, "x", -1, "1.0"):
        with pytest.raises(UserError, match="is not a number from 1 to 3"):
            raw.label_from_one(value, 3, tmp_path)
    assert raw.names_in_order({1: "b", 0: "a"}, tmp_path) == ["a", "b"]
    with pytest.raises(UserError, match="class 2 of 3 is missing"):
        raw.names_in_order({0: "a", 2: "c"}, tmp_path)
    labels = raw.Labels(["b", "a"], tmp_path)
    assert (labels["a"], list(labels)) == (1, ["b", "a"])
    with pytest.raises(UserError, match="class 'c' is not listed"):
        labels["c"]
