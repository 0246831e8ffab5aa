import json

import pytest

from dassl.utils.errors import UserError
from tests.datasets.layout import load, pairs, touch, touch_classes, write_lines

IDS = ("n01440764", "n01443537", "n01484850")
NAMES = ("tench", "goldfish", "great white shark")


def write_names(folder):
    """The order of the lines must not matter."""
    write_lines(folder / "classnames.txt", *(f"{i} {name}" for i, name in reversed(list(zip(IDS, NAMES, strict=True)))))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "imagenet"
    write_names(folder)
    touch(folder / "images" / "train", *(f"{i}/{i}_{n}.JPEG" for i in IDS for n in range(9)))
    touch(folder / "images" / "val", *(f"{i}/ILSVRC2012_val_{n}.JPEG" for n, i in enumerate(IDS * 6)))
    return tmp_path


def test_imagenet(root):
    dataset = load("imagenet", root)
    assert dataset.tasks[0].classnames == NAMES
    assert (len(dataset.train_x), len(dataset.test)) == (27, 18)
    assert dataset.val == dataset.test
    assert all(path.split("/")[:2] == ["train", IDS[n]] for path, n in pairs(dataset.train_x, root / "imagenet/images"))


def test_validation_images_stay_whole_with_few_shots(root):
    dataset = load("imagenet", root, NUM_SHOTS=2)
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (6, 18, 18)


def test_the_layout_of_the_kaggle_archive(root):
    (root / "imagenet" / "ILSVRC" / "Data").mkdir(parents=True)
    (root / "imagenet" / "images").rename(root / "imagenet" / "ILSVRC" / "Data" / "CLS-LOC")
    assert len(load("imagenet", root).train_x) == 27


def test_imagenet_with_an_unknown_or_missing_class(root):
    touch(root / "imagenet/images/train", "n99/1.JPEG")
    with pytest.raises(UserError, match="class folder 'n99' is only in one of train and val"):
        load("imagenet", root)
    touch(root / "imagenet/images/val", "n99/1.JPEG")
    with pytest.raises(UserError, match=r"class folder 'n99' of ImageNet .* is not listed in classnames\.txt"):
        load("imagenet", root)


VARIANTS = {
    "imagenet_sketch": "imagenet-sketch/images",
    "imagenet_a": "imagenet-adversarial/imagenet-a",
    "imagenet_r": "imagenet-rendition/imagenet-r",
}


@pytest.mark.parametrize(("name", "place"), VARIANTS.items())
@pytest.mark.parametrize("own_names", [True, False])
def test_variants_of_some_classes(root, name, place, own_names):
    images = touch_classes(touch(root / place, "README.txt"), [IDS[2], IDS[0]], 3)
    if own_names:
        write_names(images.parent)
        (root / "imagenet" / "classnames.txt").unlink()
    dataset = load(name, root, NUM_SHOTS=1)
    assert dataset.tasks[0].classnames == ("tench", "great white shark")
    assert dataset.train_x == dataset.test
    assert dataset.val == []
    assert pairs(dataset.test, images)[:4] == [(f"{IDS[0]}/{k}.jpg", 0) for k in "abc"] + [(f"{IDS[2]}/a.jpg", 1)]


def test_imagenet_v2_folders_are_labels(root):
    ids = [f"n{n:08d}" for n in range(12)]
    write_lines(root / "imagenet" / "classnames.txt", *(f"{i} name {n}" for n, i in enumerate(ids)))
    images = touch_classes(root / "imagenetv2" / "imagenetv2-matched-frequency-format-val", map(str, range(12)), 2)
    dataset = load("imagenetv2", root)
    assert dataset.tasks[0].classnames[10] == "name 10"
    assert [label for _, label in pairs(dataset.test, images)] == [n // 2 for n in range(24)]
    assert all(path.split("/")[0] == str(label) for path, label in pairs(dataset.test, images))
    (root / "imagenetv2" / "split_dk_ImageNetV2.json").unlink()
    touch(images, "12/x.jpeg")
    with pytest.raises(UserError, match=r"class folder '12' .* is no number of a class"):
        load("imagenetv2", root)


def test_names_are_asked_for(root):
    (root / "imagenet" / "classnames.txt").unlink()
    with pytest.raises(UserError, match=r"imagenet/classnames\.txt does not exist"):
        load("imagenet", root)


def test_the_split_is_stored_with_relative_paths(root):
    load("imagenet", root)
    split = json.loads((root / "imagenet" / "split_dk_ImageNet.json").read_text())
    assert split["train"][0] == [f"train/{IDS[0]}/{IDS[0]}_0.JPEG", [0], [0]]
