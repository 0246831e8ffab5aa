import pytest

from dassl.data.dataset import DATASET_REGISTRY
from dassl.utils.errors import UserError
from tests.datasets.layout import load, pairs, reference, touch_classes
from trainers.zsclip import template_prompts

MEMBERS = {
    "fruit_vegetable": "FruitVegetable",
    "kaggle_flower": "KaggleFlower",
    "kaggle_mushroom": "KaggleMushroom",
    "kaggle_vegetable": "KaggleVegetable",
    "plant_seedling": "PlantSeedlingV1",
    "plant_village": "PlantVillage",
}


def sizes(dataset):
    return [len(items) for items in (dataset.train_x, dataset.val, dataset.test)]


def test_members():
    suite = DATASET_REGISTRY.get("Plant6")
    assert list(suite.members) == list(MEMBERS.values())
    assert sum(DATASET_REGISTRY.get(name).num_classes for name in suite.members) == suite.num_classes == 116


@pytest.mark.parametrize(("key", "split"), [(key, "split_new" if "flower" in key else "split") for key in MEMBERS])
def test_declared_counts(key, split):
    facts = reference("datasets.json")["plant6"][key]
    declared = DATASET_REGISTRY.get(MEMBERS[key])
    assert declared.counts == (tuple(facts[split]) if split in facts else None)
    assert declared.num_classes == len(facts.get("classes", facts.get("classes_folder_order")))


@pytest.mark.parametrize("key", MEMBERS)
def test_class_folders_give_the_names(tmp_path, key):
    declared = DATASET_REGISTRY.get(MEMBERS[key])
    facts = reference("datasets.json")
    folders = facts["plant6"][key].get("classes", facts["plant6"][key].get("classes_folder_order"))
    images = tmp_path / declared.dataset_dir / declared.image_dir
    for part in declared.subfolders:
        touch_classes(images / part, folders, 6)
    dataset = load(key, tmp_path)
    renamed = facts["rename_tables"]["plant_village"] if key == "plant_village" else {}
    assert dataset.tasks[0].classnames == tuple(renamed.get(name, name) for name in folders)
    share = len(folders) * len(declared.subfolders)
    assert sizes(dataset) == [3 * share, share, 2 * share]
    assert (tmp_path / declared.dataset_dir / declared.split_names()[0]).is_file()


@pytest.mark.parametrize("suite", ["plant_village", "plant6"])
def test_the_released_template_can_be_switched_on(tmp_path, suite):
    """Also where the split file was written with ours."""
    for name in MEMBERS.values():
        declared = DATASET_REGISTRY.get(name)
        for part in declared.subfolders:
            touch_classes(tmp_path / declared.dataset_dir / declared.image_dir / part, ["Apple___healthy", "b"], 6)
    own, released = (load(suite, tmp_path, TEMPLATES=choice).tasks for choice in ("own", "released"))
    assert own[-1].template == "a photo of a {}."
    assert template_prompts(released[-1])[0] == "a photo of a plant leaf with healthy apple leaf disease."
    assert own[:-1] == released[:-1] and own[-1].classnames == released[-1].classnames


def test_the_parts_of_an_archive_are_joined(tmp_path):
    images = tmp_path / "fruit_vegetable" / "images"
    for part, count in (("validation", 4), ("train", 20), ("test", 8)):
        touch_classes(images / part, ["kiwi", "corn"], count)
    dataset = load("fruit_vegetable", tmp_path)
    assert sizes(dataset) == [2 * (10 + 4 + 2), 2 * (4 + 2 + 1), 2 * (6 + 2 + 1)]
    found = pairs(dataset.train_x, images)
    assert [path.split("/")[0] for path, _ in found] == ["train"] * 20 + ["test"] * 8 + ["validation"] * 4
    assert all(path.split("/")[1] == ("corn", "kiwi")[label] for path, label in found)


def test_parts_with_different_classes(tmp_path):
    for part in ("train", "test", "validation"):
        touch_classes(tmp_path / "kaggle_vegetable" / "images" / part, ["Bean", part])
    with pytest.raises(UserError, match=r"class folder 'test' is not in each of train, test, validation"):
        load("kaggle_vegetable", tmp_path)


def test_a_nested_archive(tmp_path):
    touch_classes(tmp_path / "kaggle_mushroom" / "Mushrooms" / "Mushrooms", ["Amanita", "Boletus"])
    dataset = load("kaggle_mushroom", tmp_path)
    assert dataset.tasks[0].classnames == ("Amanita", "Boletus")
