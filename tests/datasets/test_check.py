"""The check names what is wrong with a data set, and only that."""

import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase, Suite
from dassl.data.raw import FolderDataset
from dassl.utils.files import read_json, write_json
from datasets.check import check, main
from tests.dassl.data.toy import ToyShapes, toy_cfg, write_image, write_toy

PARTS = ("train", "val", "test")


@DATASET_REGISTRY.register()
class CheckedFruit(FolderDataset):
    dataset_dir = "fruit"
    image_dir = "pictures"
    other_image_dirs = ("archive/pictures",)
    counts = (10, 4, 6)
    num_classes = 2
    class_counts = (10,)


@DATASET_REGISTRY.register()
class CheckedSuite(Suite):
    members = ("CheckedFruit", "ToyPets")


@pytest.fixture
def root(tmp_path):
    """A data root with two classes of ten different images each."""
    for number, name in enumerate(("apple", "pear")):
        for image in range(10):
            write_image(tmp_path / "data" / "fruit" / "pictures" / name / f"{image}.png", seed=number * 100 + image)
    return tmp_path / "data"


def run(capsys, *arguments):
    """Exit code and output of the command."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def split_of(root):
    """The parts of CheckedFruit as the check sees them: part -> paths."""
    folder = root / "fruit"
    split = CheckedFruit.read(folder, root / "none", keep=False)
    return {part: [Path(item.impath) for item in items] for part, items in zip(PARTS, split.lists, strict=True)}


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_complete_data_set(root, capsys):
    before = files_below(root)
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 0
    assert text.startswith("CheckedFruit: in order\n")
    assert f"images in {root}/fruit/pictures\n" in text
    assert (
        "split made from the raw annotation (no file split_dk_CheckedFruit.json or split_zhou_CheckedFruit.json)"
        in text
    )
    assert "train 10 of 10, val 4 of 4, test 6 of 6 images; 2 of 2 classes" in text
    assert "images a class: train 5, val 2, test 3" in text
    assert "1 of 1 data sets are in order\n" in text
    assert files_below(root) == before  # nothing is written


def test_each_class_on_demand(root, capsys):
    code, text = run(capsys, "CheckedFruit", "--root", root, "--classes")
    assert code == 0
    assert "    apple: train 5, val 2, test 3 (together 10 of 10)\n" in text


def test_what_is_not_there(tmp_path, root, capsys):
    shutil.rmtree(root / "fruit")
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 1
    assert "CheckedFruit: NOT FOUND" in text
    assert f"looked for the folder {root}/fruit;" in text
    assert f"python -m datasets.fetch CheckedFruit --root {root}" in text


def test_no_images_in_the_folder(root, capsys):
    shutil.rmtree(root / "fruit" / "pictures")
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 1
    assert f"no folder {root}/fruit/pictures or {root}/fruit/archive/pictures" in text
    assert "  ! " in text


@pytest.mark.parametrize("place", ["archive/pictures", "pictures/pictures"])
def test_other_layouts_of_the_archive(root, capsys, place):
    pictures = (root / "fruit" / "pictures").rename(root / "aside")
    (root / "fruit" / place).parent.mkdir(parents=True, exist_ok=True)
    pictures.rename(root / "fruit" / place)
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 0, text
    assert f"images in {root}/fruit/{place}\n" in text


def test_a_class_with_too_few_images(root, capsys):
    for number in (8, 9):
        (root / "fruit" / "pictures" / "pear" / f"{number}.png").unlink()
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 1
    assert "train 9 of 10, val 4 of 4, test 5 of 6 images" in text
    assert "classes with another number of images (1): 'pear' has 8 of 10" in text


def test_a_class_too_many(root, capsys):
    for image in range(10):
        write_image(root / "fruit" / "pictures" / "plum" / f"{image}.png", seed=500 + image)
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 1
    assert "3 classes instead of 2" in text


def test_unreadable_images_are_named_with_a_reason(root, capsys):
    broken = root / "fruit" / "pictures" / "apple" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 1
    assert f"! unreadable images (1): {broken} (" in text
    assert "replace them" in text
    assert run(capsys, "CheckedFruit", "--root", root, "--quick")[0] == 0  # looks at sizes only
    broken.write_bytes(b"")
    code, text = run(capsys, "CheckedFruit", "--root", root, "--quick")
    assert code == 1
    assert f"! unreadable images (1): {broken} (empty file)" in text


@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_missing_images_of_a_split_file(root, capsys, quick):
    CheckedFruit.read(root / "fruit", root / "none")
    gone = [path for paths in split_of(root).values() for path in paths[:2]]
    for path in gone:
        path.unlink()
    code, text = run(capsys, "CheckedFruit", "--root", root, *quick)
    assert code == 1
    assert f"split {root}/fruit/split_dk_CheckedFruit.json" in text
    assert f"! missing images (6): {gone[0]}, {gone[1]}, {gone[2]}, ...; get it with" in text
    assert "unreadable" not in text


def test_the_same_picture_in_training_and_test(root, capsys):
    parts = split_of(root)
    shutil.copy(parts["train"][0], parts["test"][0])
    shutil.copy(parts["train"][1], parts["val"][0])  # only train and test must not mix
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 1
    assert (
        f"! images of the test list that are in the training list too (1): {parts['test'][0]} = {parts['train'][0]}"
        in text
    )
    code, text = run(capsys, "CheckedFruit", "--root", root, "--allow-duplicates")
    assert code == 0
    assert "images of the test list" in text


def test_the_same_pixels_in_training_and_test(root, capsys):
    parts = split_of(root)
    Image.open(parts["train"][0]).save(parts["test"][0], compress_level=0)
    line = f"in the training list too (1): {parts['test'][0]} = {parts['train'][0]}"
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 1 and line in text
    assert run(capsys, "CheckedFruit", "--root", root, "--quick")[0] == 0  # nothing is decoded


def test_the_same_picture_under_two_labels(root, capsys):
    apple, pear = (root / "fruit" / "pictures" / name / "0.png" for name in ("apple", "pear"))
    shutil.copy(apple, pear)
    text = run(capsys, "CheckedFruit", "--root", root)[1]
    assert "! images that are the same picture as one with another label (1): " in text
    assert f"{pear} = {apple}" in text or f"{apple} = {pear}" in text
    assert "another label" in run(capsys, "CheckedFruit", "--root", root, "--allow-duplicates")[1]


def test_pictures_that_look_alike_on_demand(root, capsys):
    parts = split_of(root)
    Image.open(parts["train"][0]).resize((64, 64)).save(parts["test"][0])
    assert "look like" not in run(capsys, "CheckedFruit", "--root", root)[1]
    code, text = run(capsys, "CheckedFruit", "--root", root, "--near")
    assert code == 0
    assert f"test images that look like a training image (1): {parts['test'][0]} = {parts['train'][0]}\n" in text


def test_class_names_that_clip_cannot_tell_apart(root, capsys):
    (root / "fruit" / "pictures" / "pear").rename(root / "fruit" / "pictures" / "Apple")
    text = run(capsys, "CheckedFruit", "--root", root)[1]
    assert "! class names that CLIP cannot tell apart (1): 'Apple' = 'apple'; rename one of each two" in text


def own_tasks(root, *tasks):
    """A yaml file of own tasks, whose pictures are those of CheckedFruit."""
    path = root.parent / "own.yaml"
    path.write_text(yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TASKS": list(tasks)}}))
    return path


def test_own_tasks(root, capsys):
    before = files_below(root)
    path = own_tasks(root, {"name": "fruit", "folder": "fruit/pictures"}, {"dataset": "CheckedFruit"})
    code, text = run(capsys, path, "--root", root)
    assert code == 0, text
    assert "train 10, val 4, test 6 images; 2 of 2 classes" in text
    assert "CheckedFruit: python -m datasets.check CheckedFruit\n" in text
    assert files_below(root) == before  # no split is made


def test_what_is_wrong_with_own_tasks(root, capsys):
    pictures = root / "fruit" / "pictures"
    for part, name in (("train", "apple"), ("test", "apple"), ("train", "pear")):
        shutil.copytree(pictures / name, root / "mine" / part / name)
    write_image(root / "mine" / "test" / "odd.png", seed=900)
    code, text = run(capsys, own_tasks(root, {"name": "fruit", "folder": "mine"}), "--root", root)
    assert code == 1
    assert "! task 'fruit': 10 of 10 test images are the same pictures as training images, e.g. mine/test/" in text
    assert "! Task 'fruit': left out 1 images that lie in no class folder" in text
    assert "! task 'fruit': 1 of 2 classes have no image for testing: 'pear'" in text


def test_files_of_one_size_with_other_content_are_no_duplicates(root, capsys):
    parts = split_of(root)
    for number, path in enumerate(parts["train"] + parts["test"]):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(path.with_suffix(".bmp"))
        path.unlink()
    sizes = {path.stat().st_size for path in (root / "fruit" / "pictures").rglob("*.bmp")}
    assert len(sizes) == 1
    assert run(capsys, "CheckedFruit", "--root", root)[0] == 0


def test_one_file_in_both_lists(root, capsys):
    CheckedFruit.read(root / "fruit", root / "none")
    place = root / "fruit" / "split_dk_CheckedFruit.json"
    content = read_json(place)
    content["test"][0] = content["train"][0]
    write_json(place, content)
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 1
    assert "images of the test list that are in the training list too (1)" in text


def test_a_list_that_serves_as_both_is_no_mistake_of_a_set_for_testing(root, capsys, monkeypatch):
    CheckedFruit.read(root / "fruit", root / "none")
    place = root / "fruit" / "split_dk_CheckedFruit.json"
    content = read_json(place)
    content["test"] = content["train"]
    write_json(place, content)
    assert "in the training list too (10)" in run(capsys, "CheckedFruit", "--root", root)[1]
    monkeypatch.setattr(CheckedFruit, "for_testing", True)
    assert "in the training list too" not in run(capsys, "CheckedFruit", "--root", root)[1]


def test_tasks_may_share_pictures(tmp_path):
    """A picture that trains one task may test another one."""
    root = write_toy(tmp_path)
    cfg = toy_cfg(root, tmp_path / "output", "ToyShapes")
    assert check(ToyShapes, cfg).problems == []
    place = root / ToyShapes.dataset_dir / ToyShapes.split_names()[0]
    content = read_json(place)
    content["train"] = [[row[0], row[1][:1], row[2][:1]] for row in content["train"]]
    trained = content["train"][0][0]  # for task 0 only
    content["test"].append([trained, [2], [1]])
    write_json(place, content)
    assert not any("training list" in problem for problem in check(ToyShapes, cfg).problems)
    content["test"].append([trained, [0], [0]])
    write_json(place, content)
    assert any("training list" in problem for problem in check(ToyShapes, cfg).problems)


def test_a_suite_reports_each_member(root, capsys):
    code, text = run(capsys, "CheckedSuite", "--root", root)
    assert code == 1
    assert text.index("CheckedFruit: in order") < text.index("ToyPets: NOT FOUND")
    assert "1 of 2 data sets are in order, 1 not found, 0 with problems" in text


def test_a_yaml_file_can_change_the_members(root, tmp_path, capsys):
    path = tmp_path / "own.yaml"
    path.write_text("DATASET:\n  NAME: CheckedSuite\n  MEMBERS: [CheckedFruit]\n")
    code, text = run(capsys, path, "--root", root)
    assert code == 0, text
    assert "1 of 1 data sets" in text


def test_damaged_split_file(root, capsys):
    (root / "fruit" / "split_dk_CheckedFruit.json").write_text("{")
    code, text = run(capsys, "CheckedFruit", "--root", root)
    assert code == 1
    assert "is not valid JSON" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CheckedFrut", "--root", "."], "did you mean CheckedFruit"),
        (["CheckedFruit"], "--root FOLDER"),
        (["CheckedFruit", "--root", "/nonexistent"], "does not exist"),
    ],
)
def test_mistakes_in_the_command(capsys, arguments, message):
    code, text = run(capsys, *arguments)
    assert code == 2
    assert text.count("\n") == 1
    assert message in text


def test_no_progress_bar_without_a_terminal(root, capsys):
    main(["CheckedFruit", "--root", str(root)])
    assert capsys.readouterr().err == ""


def test_every_data_set_declares_plausible_numbers():
    """Where counts are declared they fit the number of classes; a typing error would show as a false alarm."""
    for dataset in DATASET_REGISTRY:
        if issubclass(dataset, DatasetBase) and dataset.class_counts and dataset.counts:
            times = dataset.num_classes if len(dataset.class_counts) == 1 else 1
            assert sum(dataset.class_counts) * times == sum(dataset.counts), dataset
