import json

import numpy as np
import pytest
from scipy.io import savemat

from dassl.data.dataset import DATASET_REGISTRY
from dassl.utils.errors import UserError
from tests.datasets.layout import load, pairs, reference, touch, touch_classes, write_lines

MEMBERS = {
    "caltech101": "Caltech101",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "fgvc_aircraft": "FGVCAircraft",
    "food101": "Food101",
    "oxford_flowers": "OxfordFlowers",
    "oxford_pets": "OxfordPets",
    "stanford_cars": "StanfordCars",
    "sun397": "SUN397",
    "ucf101": "UCF101",
}
COUNTS = {  # of CoOp's published splits
    "caltech101": (4128, 1649, 2465),
    "dtd": (2820, 1128, 1692),
    "eurosat": (13500, 5400, 8100),
    "fgvc_aircraft": (3334, 3333, 3333),
    "food101": (50500, 20200, 30300),
    "oxford_flowers": (4093, 1633, 2463),
    "oxford_pets": (2944, 736, 3669),
    "stanford_cars": (6509, 1635, 8041),
    "sun397": (15880, 3970, 19850),
    "ucf101": (7639, 1898, 3783),
}


def sizes(dataset):
    return [len(items) for items in (dataset.train_x, dataset.val, dataset.test)]


def test_members_in_the_order_of_the_reference():
    facts = reference("datasets_classes_general10.json")
    assert facts["task_order"] == list(MEMBERS)
    suite = DATASET_REGISTRY.get("General10")
    assert list(suite.members) == list(MEMBERS.values())
    assert suite.num_classes == facts["total_classes"]
    for key, name in MEMBERS.items():
        assert DATASET_REGISTRY.get(name).num_classes == facts["classes"][key]["num_classes"]


@pytest.mark.parametrize("key", MEMBERS)
def test_declared_counts(key):
    assert DATASET_REGISTRY.get(MEMBERS[key]).counts == COUNTS[key]


@pytest.mark.parametrize("key", ["caltech101", "dtd", "eurosat", "food101"])
def test_class_folders_give_the_reference_names(tmp_path, key):
    facts = reference("datasets_classes_general10.json")["classes"][key]
    names, folders = facts["names_in_label_order"], facts["folders_in_label_order"]
    folders = names if isinstance(folders, str) else folders
    declared = DATASET_REGISTRY.get(MEMBERS[key])
    images = touch_classes(tmp_path / declared.dataset_dir / declared.image_dir, [*folders, *declared.skipped], 5)
    dataset = load(key, tmp_path)
    assert dataset.tasks[0].classnames == tuple(names)
    assert sizes(dataset) == [2 * len(names), len(names), 2 * len(names)]
    for path, label in pairs(dataset.test, images):
        assert path.split("/")[0] == folders[label]


def test_old_split_files_get_readable_names(tmp_path):
    """A split file that was made from raw folders holds the folders' names."""
    meta = {"taskid2cname": [["AnnualCrop", "Forest", "Sea or Lake"]], "taskid2tname": ["land"]}
    rows = [[f"{n}.jpg", [n], [0]] for n in range(3)]
    path = tmp_path / "eurosat" / "split_dk_EuroSAT.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"train": rows, "val": rows, "test": rows, "meta": meta}))
    (task,) = load("eurosat", tmp_path).tasks
    assert task.classnames == ("Annual Crop Land", "Forest", "Sea or Lake")
    assert (task.name, task.template) == ("land", "a centered satellite photo of {}.")


def test_another_top_folder_of_the_archive_is_found(tmp_path):
    images = touch_classes(tmp_path / "eurosat" / "EuroSAT_RGB", ["River", "Forest"])
    first = load("eurosat", tmp_path, NUM_SHOTS=1)
    assert [label for _, label in pairs(first.train_x, images)] == [0, 1]
    split = json.loads((tmp_path / "eurosat/split_dk_EuroSAT.json").read_text())
    assert split["train"][0][0].startswith("Forest/")
    assert load("eurosat", tmp_path, NUM_SHOTS=1).train_x == first.train_x


def test_texts_of_the_data_folder_name_the_task(tmp_path):
    touch_classes(tmp_path / "dtd" / "images", ["banded", "dotted"])
    write_lines(tmp_path / "dtd" / "task_name.txt", "kinds of surface", "")
    (task,) = load("dtd", tmp_path).tasks
    assert (task.name, task.description) == ("kinds of surface", "classify texture images into 47 categories")


def write_aircraft(folder):
    write_lines(folder / "variants.txt", "Tu-134", "707-320", "F/A-18", "Beech 1900 C")
    write_lines(folder / "images_variant_train.txt", "0034309 Beech 1900 C", "0034310 Tu-134")
    write_lines(folder / "images_variant_val.txt", "11 F/A-18")
    write_lines(folder / "images_variant_test.txt", "12 707-320", "13 Tu-134")
    (folder / "images").mkdir()


@pytest.mark.parametrize("below", ["", "data", "fgvc-aircraft-2013b/data"])
def test_aircraft(tmp_path, below):
    folder = tmp_path / "fgvc_aircraft" / below
    write_aircraft(folder)
    dataset = load("fgvc_aircraft", tmp_path)
    assert dataset.tasks[0].classnames == ("Tu-134", "707-320", "F/A-18", "Beech 1900 C")
    assert dataset.tasks[0].metric == "mean_acc"
    assert pairs(dataset.train_x, folder / "images") == [("0034309.jpg", 3), ("0034310.jpg", 0)]
    assert pairs(dataset.val, folder / "images") == [("11.jpg", 2)]
    assert pairs(dataset.test, folder / "images") == [("12.jpg", 1), ("13.jpg", 0)]


def test_aircraft_with_an_unknown_variant(tmp_path):
    write_aircraft(tmp_path / "fgvc_aircraft")
    write_lines(tmp_path / "fgvc_aircraft" / "images_variant_val.txt", "11 Zeppelin")
    with pytest.raises(UserError, match=r"class 'Zeppelin' is not listed in .*variants\.txt"):
        load("fgvc_aircraft", tmp_path)


def test_flowers(tmp_path):
    folder = touch(tmp_path / "oxford_flowers", "jpg/image_00001.jpg")
    labels = [2, 3, 1] * 10
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    write_lines(folder / "cat_to_name.json", json.dumps({"3": "rose", "1": "daisy", "2": "pink"}))
    dataset = load("oxford_flowers", tmp_path)
    assert dataset.tasks[0].classnames == ("daisy", "pink", "rose")
    assert [item.label for item in dataset.train_x] == [1] * 5 + [2] * 5 + [0] * 5
    assert sizes(dataset) == [15, 6, 9]
    for path, label in pairs(dataset.test, folder / "jpg"):
        assert labels[int(path.removeprefix("image_").removesuffix(".jpg")) - 1] == label + 1
        assert len(path) == len("image_00001.jpg")


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([1, 4], {"1": "a", "2": "b"}, "class '4' is not a number from 1 to 2"),
        ([1], {"1": "a", "3": "b"}, "class 2 of 3 is missing"),
        ([1], ["a"], "must map"),
    ],
)
def test_damaged_flowers(tmp_path, labels, names, words):
    folder = tmp_path / "oxford_flowers"
    folder.mkdir()
    savemat(folder / "imagelabels.mat", {"labels": labels})
    write_lines(folder / "cat_to_name.json", json.dumps(names))
    with pytest.raises(UserError, match=words):
        load("oxford_flowers", tmp_path)


def pet_name(label):
    return "Abyssinian" if label == 0 else f"Great_Breed{chr(65 + label)}"


def test_pets(tmp_path):
    folder = tmp_path / "oxford_pets"
    lines = [f"{pet_name(label)}_{n} {label + 1} 1 1" for n in range(10) for label in range(37)]
    write_lines(folder / "annotations" / "trainval.txt", *lines)
    write_lines(folder / "annotations" / "test.txt", "Abyssinian_201 1 1 1")
    dataset = load("oxford_pets", tmp_path)
    assert dataset.tasks[0].classnames[:2] == ("abyssinian", "great_breedb")
    assert sizes(dataset) == [8 * 37, 2 * 37, 1]
    assert pairs(dataset.test, folder / "images") == [("Abyssinian_201.jpg", 0)]
    assert all(path.rsplit("_", 1)[0] == pet_name(label) for path, label in pairs(dataset.val, folder / "images"))
    assert not {item.impath for item in dataset.val} & {item.impath for item in dataset.train_x}


def test_cars(tmp_path):
    folder = tmp_path / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    names = np.array([["Ram C/V Cargo Van Minivan 2012", "smart fortwo Convertible 2012"]], object)
    savemat(folder / "devkit/cars_meta.mat", {"class_names": names})
    row = [("bbox_x1", object), ("fname", object), ("class", object)]
    train = np.array([[(1, f"{n:05d}.jpg", 2 - n // 10) for n in range(1, 20)]], row)
    savemat(folder / "devkit/cars_train_annos.mat", {"annotations": train})
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": np.array([[(1, "00001.jpg", 1)]], row)})
    dataset = load("stanford_cars", tmp_path)
    assert dataset.tasks[0].classnames == ("2012 Ram C/V Cargo Van Minivan", "2012 smart fortwo Convertible")
    assert pairs(dataset.test, folder) == [("cars_test/00001.jpg", 0)]
    assert sizes(dataset) == [15, 4, 1]
    assert {label for path, label in pairs(dataset.train_x, folder) if path < "cars_train/00010.jpg"} == {1}
    split = json.loads((folder / "split_dk_StanfordCars.json").read_text())
    assert split["test"] == [["cars_test/00001.jpg", [0], [0]]]


def test_scenes(tmp_path):
    folder = tmp_path / "sun397"
    write_lines(folder / "ClassName.txt", "/a/abbey", "/a/apse/indoor", "/w/wine_cellar/barrel_storage")
    write_lines(folder / "Training_01.txt", *(f"/a/apse/indoor/sun_{n}.jpg" for n in range(5)), "/a/abbey/sun_b.jpg")
    write_lines(folder / "Testing_01.txt", "/w/wine_cellar/barrel_storage/sun_c.jpg")
    dataset = load("sun397", tmp_path)
    assert dataset.tasks[0].classnames == ("abbey", "indoor apse", "barrel_storage wine_cellar")
    assert pairs(dataset.test, folder / "SUN397") == [("w/wine_cellar/barrel_storage/sun_c.jpg", 2)]
    assert [item.label for item in dataset.train_x] == [1, 1, 1, 1, 0]


def test_actions(tmp_path):
    folder = tmp_path / "ucf101"
    write_lines(folder / "ucfTrainTestlist/classInd.txt", "1 ApplyEyeMakeup", "2 HandstandPushups", "3 YoYo")
    write_lines(
        folder / "ucfTrainTestlist/trainlist01.txt",
        *(f"HandstandPushups/v_HandStandPushups_g{n}_c01.avi 2" for n in range(5)),
    )
    write_lines(folder / "ucfTrainTestlist/testlist01.txt", "YoYo/v_YoYo_g01.avi", "ApplyEyeMakeup/v_x.y.avi")
    dataset = load("ucf101", tmp_path)
    assert dataset.tasks[0].classnames == ("Apply_Eye_Makeup", "Handstand_Pushups", "Yo_Yo")
    images = folder / "UCF-101-midframes"
    assert pairs(dataset.test, images) == [("Yo_Yo/v_YoYo_g01.jpg", 2), ("Apply_Eye_Makeup/v_x.y.jpg", 0)]
    assert pairs(dataset.val, images)[0][0].startswith("Handstand_Pushups/v_HandStandPushups_g")


@pytest.mark.parametrize("key", MEMBERS)
def test_missing_annotation_is_named(tmp_path, key):
    (tmp_path / DATASET_REGISTRY.get(MEMBERS[key]).dataset_dir).mkdir()
    with pytest.raises(UserError) as caught:
        load(key, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["caltech101", "dtd", "eurosat", "oxford_pets", "ucf101"])
def test_published_split_files(tmp_path, key):
    declared = DATASET_REGISTRY.get(MEMBERS[key])
    name = f"split_zhou_{MEMBERS[key]}.json"
    split = reference(f"splits/{name}")
    (tmp_path / declared.dataset_dir).mkdir()
    (tmp_path / declared.dataset_dir / name).write_text(json.dumps(split))
    facts = reference("datasets_classes_general10.json")["classes"][key]
    dataset = load(key, tmp_path)
    assert tuple(sizes(dataset)) == declared.counts
    assert dataset.tasks[0].classnames == tuple(facts["names_in_label_order"])
    assert (dataset.tasks[0].name, dataset.tasks[0].metric) == (declared.task_name, declared.metric)
