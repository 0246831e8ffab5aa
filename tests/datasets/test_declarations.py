"""What holds for every shipped data set: its config file, its texts."""

import pytest
import yaml

from dassl.data.dataset import DATASET_REGISTRY, Suite
from dassl.data.datum import METRICS
from dassl.data.splits import read_split
from dassl.utils.files import write_json
from tests.datasets.layout import CHECKOUT, reference

CONFIGS = sorted((CHECKOUT / "configs" / "datasets").glob("*.yaml"))
SHIPPED = [cls.__name__ for cls in DATASET_REGISTRY if cls.__module__.startswith("datasets.")]


def test_the_yaml_files_of_the_original_are_there():
    general = "caltech101 dtd eurosat fgvc_aircraft food101 oxford_flowers oxford_pets stanford_cars sun397 ucf101"
    plants = "fruit_vegetable kaggle_flower kaggle_mushroom kaggle_vegetable plant_seedling plant_village"
    others = "general10 plant6 fashion20 imagenet imagenetv2 imagenet_sketch imagenet_a imagenet_r"
    names = f"{general} {plants} {others}".split()
    assert set(names) <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_name_registered_data_sets(path):
    assert yaml.safe_load(path.read_text())["DATASET"]["NAME"] in DATASET_REGISTRY


@pytest.mark.parametrize("name", SHIPPED)
def test_declarations_are_whole(name):
    declared = DATASET_REGISTRY.get(name)
    if issubclass(declared, Suite):
        members = [DATASET_REGISTRY.get(member) for member in declared.members]
        assert declared.num_classes == sum(member.num_classes for member in members)
        return
    assert declared.metric in METRICS
    assert declared.template.count("{}") == 1
    assert declared.template.endswith(".")
    if len(declared.class_counts) > 1:
        assert len(declared.class_counts) == declared.num_classes
        assert declared.counts is None or sum(declared.class_counts) == sum(declared.counts)
    elif declared.class_counts and declared.counts:
        assert declared.class_counts[0] * declared.num_classes == sum(declared.counts)


# As in the paper's code; for PlantVillage see there.
TEMPLATES = {
    "Caltech101": "a photo of a {}.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "Food101": "a photo of {}, a type of food.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "OxfordPets": "a photo of a {}, a type of pet.",
    "StanfordCars": "a photo of a {}.",
    "SUN397": "a photo of a {}.",
    "UCF101": "a photo of a person doing {}.",
    "ImageNet": "a photo of a {}.",
    "ImageNetSketch": "a photo of a {}.",
    "ImageNetV2": "a photo of a {}.",
    "ImageNetA": "a photo of a {}.",
    "ImageNetR": "a photo of a {}.",
    "FruitVegetable": "a photo of a {}, a type of fruit or vegetable.",
    "KaggleFlower": "a photo of a {}, a type of flower.",
    "KaggleMushroom": "a photo of a {}, a type of mushroom.",
    "KaggleVegetable": "a photo of a {}, a type of vegetable.",
    "PlantSeedlingV1": "a photo of a {}, a type of seedling.",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates(name):
    assert DATASET_REGISTRY.get(name).template == TEMPLATES[name]


@pytest.mark.parametrize("name", ["Caltech101", "DescribableTextures", "EuroSAT", "OxfordPets", "UCF101"])
def test_published_split_files_are_not_remarked_on(name, tmp_path):
    declared = DATASET_REGISTRY.get(name)
    source = tmp_path / f"split_zhou_{name}.json"
    write_json(source, reference(f"splits/{source.name}"))
    split = read_split(source, tmp_path / "images", declared.task(tmp_path))
    assert [text for text in declared.remarks(split, tmp_path, [source]) if text] == []
