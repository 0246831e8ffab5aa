"""A data set that is not what its name says is remarked on, with numbers, place and remedy."""

import logging
import shutil
import unicodedata
from dataclasses import replace

import pytest

from dassl.data import dataset as module
from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.datum import Datum, Split, Task
from dassl.data.raw import FolderDataset
from dassl.data.splits import read_split, split_content
from dassl.utils.errors import UserError
from dassl.utils.files import read_json, write_json
from tests.dassl.data.toy import toy_cfg, write_toy


@DATASET_REGISTRY.register()
class ToyLeaves(FolderDataset):
    """Four classes of five images, which a copy may lack."""

    dataset_dir, task_name = "leaves", "leaf"
    num_classes = 4
    counts = (8, 4, 8)


@pytest.fixture
def root(tmp_path):
    """Half of the classes."""
    write_toy(tmp_path)
    add(tmp_path, "oak", "elm")
    return tmp_path


def add(root, *names):
    for name in names:
        folder = root / "leaves" / name
        folder.mkdir(parents=True)
        for number in range(5):
            (folder / f"{number}.png").write_bytes(b"")


def remarks(root, caplog, name="ToyLeaves"):
    """The warnings of loading a data set."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        DATASET_REGISTRY.get(name).load(toy_cfg(root, name))
    return caplog.messages


def test_a_copy_without_some_classes_says_so_now_and_later(root, caplog):
    file = root / "leaves" / "split_dk_ToyLeaves.json"
    (first,) = remarks(root, caplog)
    assert first.startswith(
        "data set ToyLeaves has 2 of 4 classes and 4 of 8 images for train, 2 of 4 images for val, "
    )
    assert f"complete the data and have {file} made again: delete it, or rename it if it was made by hand" in first
    add(root, "ash", "yew")
    again, new = remarks(root, caplog)
    assert again == first
    assert new.startswith(f"data set ToyLeaves: 10 images in 2 class folders (ash, yew) are not in {file}")
    file.unlink()
    assert remarks(root, caplog) == []


def test_a_whole_copy_is_not_remarked_on(root, caplog):
    add(root, "ash", "yew")
    assert remarks(root, caplog) == []
    assert remarks(root, caplog) == []


def test_a_class_without_an_image_is_no_class(root, caplog):
    file = root / "leaves" / "split_dk_ToyLeaves.json"
    remarks(root, caplog)
    content = read_json(file)
    content["meta"]["taskid2cname"] = [["oak", "elm", "ash", "yew"]]
    write_json(file, content)
    assert "ToyLeaves has 2 of 4 classes" in remarks(root, caplog)[0]


def test_a_task_that_is_missing_is_counted(root, caplog, monkeypatch):
    declared = DATASET_REGISTRY.get("ToyShapes")
    monkeypatch.setattr(declared, "num_tasks", 3)
    (remark,) = remarks(root, caplog, "ToyShapes")
    assert remark.startswith("data set ToyShapes has 2 of 3 tasks, against")


def test_a_split_file_from_elsewhere_is_not_said_to_be_made_anew(root, caplog):
    """Its data cannot be completed by deleting it."""
    remarks(root, caplog)
    file = (root / "leaves" / "split_dk_ToyLeaves.json").rename(root / "leaves" / "split_zhou_ToyLeaves.json")
    add(root, "ash", "yew")
    (remark,) = remarks(root, caplog)
    assert "2 of 4 classes" in remark and remark.endswith("compare with docs/datasets.md")
    assert file.is_file()


def test_a_folder_without_its_images_is_left_to_others(root, caplog):
    """They may be kept as features, and the check of images names what is missing."""
    remarks(root, caplog)
    for folder in ("oak", "elm"):
        shutil.rmtree(root / "leaves" / folder)
    (remark,) = remarks(root, caplog)
    assert "2 of 4 classes" in remark


def test_a_large_whole_data_set_is_not_listed_on_each_run(root, caplog, monkeypatch):
    add(root, "ash", "yew")
    remarks(root, caplog)
    add(root, "fir")
    assert "5 images in 1 class folders (fir)" in remarks(root, caplog)[0]
    monkeypatch.setattr(module, "_LISTED", 19)
    assert remarks(root, caplog) == []


def test_of_two_split_files_the_one_that_is_not_read_is_named(root, caplog):
    (own,) = (root / "pets").glob("split_*.json")
    other = own.with_name(own.name.replace("split_dk_", "split_zhou_"))
    assert remarks(root, caplog, "ToyPets") == []
    other.write_text(own.read_text())
    (remark,) = remarks(root, caplog, "ToyPets")
    assert f"{own} is read, and {other} is not; to choose the other, rename {own.name}" in remark


def test_test_images_that_are_training_images_are_counted(root, caplog):
    (own,) = (root / "pets").glob("split_*.json")
    content = read_json(own)
    content["test"][:2] = content["train"][:2]
    write_json(own, content)
    (remark,) = remarks(root, caplog, "ToyPets")
    assert f"2 of 12 test images of {own} are training images too" in remark


def split_file(folder, **lists):
    path = folder / "split_zhou_Own.json"
    write_json(path, {part: [[name, 0, "cat"] for name in names] for part, names in lists.items()})
    return path


def names(path, folder):
    split = read_split(path, folder, Task("own", ()))
    return [[item.impath.removeprefix(f"{folder}/") for item in items] for items in split.lists]


def test_a_split_file_without_validation_images_is_read(tmp_path):
    path = split_file(tmp_path, train=["a.png"], test=["b.png"])
    assert names(path, tmp_path) == [["a.png"], [], ["b.png"]]


@pytest.mark.parametrize("lists", [{"train": ["a.png"], "val": []}, {"test": []}, {}])
def test_what_is_missing_is_named_and_nobody_is_told_to_delete_the_file(tmp_path, lists):
    with pytest.raises(UserError) as caught:
        read_split(split_file(tmp_path, **lists), tmp_path, Task("own", ()))
    assert all(repr(part) in str(caught.value) for part in ("train", "test") if part not in lists)
    assert "delete" not in str(caught.value)


def test_paths_that_another_system_wrote_are_found(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for folder, name in (("cat", "a.png"), (decomposed, "b.png"), ("odd", "c\\d.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(b"")
    (tmp_path / decomposed / f"{composed}.png").write_bytes(b"")
    given = [
        f"{composed}/{composed}.png",
        f"{decomposed}\\{decomposed}.png",
        "./cat//a.png",
        "\\cat\\a.png",
        "/cat/a.png",
    ]
    mixed = f"{decomposed}/{composed}.png"
    found = [mixed, mixed, *["cat/a.png"] * 3]
    assert names(split_file(tmp_path, train=given, test=[]), tmp_path)[0] == found
    given = ["cat\\a.png", f"{composed}\\b.png", f"{composed}/b.png", "odd/c\\d.png", "cat\\missing.png"]
    found = ["cat/a.png", f"{decomposed}/b.png", f"{decomposed}/b.png", "odd/c\\d.png", "cat/missing.png"]
    assert names(split_file(tmp_path, train=given, test=[]), tmp_path)[0] == found


def test_an_image_outside_the_image_folder_is_read_back(tmp_path):
    image = tmp_path / "elsewhere" / "a.png"
    image.parent.mkdir()
    image.write_bytes(b"")
    split = Split((Task("own", ("cat",)),), [Datum(str(image), 0)], [], [])
    write_json(tmp_path / "split.json", split_content(split, tmp_path / "images"))
    assert read_split(tmp_path / "split.json", tmp_path / "images", Task("own", ())).train == split.train


def test_validation_images_that_are_test_images_are_counted_by_task(root):
    data = DATASET_REGISTRY.get("ToyBoth")(toy_cfg(root, "ToyBoth"))
    assert data.validated_on_test() == {}
    data.val = [*data.test[:2], *data.val]
    (task,) = {item.task for item in data.test[:2]}
    assert data.validated_on_test() == {task: 2}
    other = replace(data.test[0], task=1 - task)
    assert isinstance(other, Datum)
    data.val = [other]
    assert data.validated_on_test() == {}
