"""The remote-sensing sets read the layouts that their archives come in, and RS-8 has the paper's size."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from dassl.data.dataset import DATASET_REGISTRY
from dassl.utils.errors import UserError
from datasets import remote_sensing
from datasets.remote_sensing import SceneDataset, readable
from datasets.rs8 import RS8
from tests.dassl.data.toy import toy_cfg

SCENES = sorted(name for name in DATASET_REGISTRY.names() if issubclass(DATASET_REGISTRY.get(name), SceneDataset))
SIZES = {
    "AID": 30,
    "RESISC45": 45,
    "UCM": 21,
    "WHURS19": 19,
    "RSSCN7": 7,
    "PatternNet": 38,
    "OPTIMAL31": 31,
    "SIRIWHU": 12,
    "RSICB128": 45,
    "RSICB256": 35,
    "NaSCTG2": 10,
    "RSD46WHU": 46,
    "MLRSNet": 46,
    "CLRS": 25,
    "RSC11": 11,
}


def write_images(folder: Path, count: int, *, ending: str = ".jpg", prefix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (4, 4), (number * 20, 0, 0)).save(folder / f"{prefix}{folder.name}_{number:02}{ending}")


def read(dataset, root: Path):
    return dataset.read(root / dataset.dataset_dir, root / "stand")


def relative(split, root: Path) -> list[str]:
    return [str(Path(item.impath).relative_to(root)) for items in split.lists for item in items]


def test_all_sixteen_sets_are_there_with_their_classes():
    assert {name: DATASET_REGISTRY.get(name).num_classes for name in SCENES} == SIZES
    assert "EuroSAT" in DATASET_REGISTRY


@pytest.mark.parametrize("name", SCENES)
def test_declarations_agree_with_themselves(name):
    dataset = DATASET_REGISTRY.get(name)
    folders = dataset.folders.split(", ")
    assert len({readable(folder) for folder in folders}) == len(folders) == dataset.num_classes
    assert dataset.template.count("{}") == 1
    assert str(dataset.num_classes) in dataset.task_description
    if dataset.counts and dataset.class_counts:
        sizes = dataset.class_counts * (len(folders) if len(dataset.class_counts) == 1 else 1)
        train, val = sum(round(size * 0.5) for size in sizes), sum(round(size * 0.2) for size in sizes)
        assert dataset.counts == (train, val, sum(sizes) - train - val)


def test_rs8_has_the_size_the_paper_gives():
    assert len(RS8.members) == 8
    assert sum(DATASET_REGISTRY.get(member).num_classes for member in RS8.members) == RS8.num_classes == 208


def test_members_of_rs8_can_be_changed(tmp_path):
    cfg = toy_cfg(tmp_path, tmp_path / "output", "RS8", DATASET__MEMBERS=("RSSCN7", "WHURS19"))
    assert RS8.member_classes(cfg) == [remote_sensing.RSSCN7, remote_sensing.WHURS19]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("BareLand", "bare land"),
        ("footballField", "football field"),
        ("mobilehomepark", "mobile home park"),
        ("ground_track_field", "ground track field"),
        ("Sewage plant-type-one", "sewage plant type one"),
        ("dRiverLake", "river or lake"),
        ("golf-course", "golf course"),
    ],
)
def test_class_names_are_plain_words(folder, name):
    assert readable(folder) == name


@pytest.mark.parametrize("top", ["", "RSSCN7-master", "RSSCN7"])
@pytest.mark.parametrize("spelling", [str, str.upper, readable])
def test_layouts_of_one_archive_give_the_same_split(tmp_path, top, spelling):
    folders = remote_sensing.RSSCN7.folders.split(", ")
    for folder in folders:
        write_images(tmp_path / "RSSCN7" / top / spelling(folder), 10)
    split = read(remote_sensing.RSSCN7, tmp_path)
    assert split.tasks[0].classnames[:4] == ("grass", "field", "industry", "river or lake")
    assert [Counter(item.label for item in items) for items in split.lists] == [
        dict.fromkeys(range(7), count) for count in (5, 2, 3)
    ]
    for item in split.train + split.val + split.test:
        assert Path(item.impath).parent.name == spelling(folders[item.label])
    plain = [path.rsplit("_", 1)[1] for path in relative(split, tmp_path)]
    for folder in folders:
        write_images(tmp_path / "plain" / "RSSCN7" / folder, 10)
    assert plain == [
        path.rsplit("_", 1)[1] for path in relative(read(remote_sensing.RSSCN7, tmp_path / "plain"), tmp_path)
    ]


def test_super_classes_are_not_taken_for_classes(tmp_path):
    folders = remote_sensing.RSICB256.folders.split(", ")
    for number, folder in enumerate(folders):
        write_images(tmp_path / "RSI-CB256" / ("woodland" if number % 2 else "water area") / folder, 4, ending=".tif")
    split = read(remote_sensing.RSICB256, tmp_path)
    assert len(split.tasks[0].classnames) == 35
    assert len(split.train) == 70


def test_official_train_and_val_folders_are_pooled(tmp_path):
    for folder in remote_sensing.RSD46WHU.folders.split(", "):
        write_images(tmp_path / "RSD46-WHU" / "train" / folder, 3, prefix="a")
        write_images(tmp_path / "RSD46-WHU" / "val" / folder, 2, prefix="b")
    assert [len(items) for items in read(remote_sensing.RSD46WHU, tmp_path).lists] == [46 * 2, 46 * 1, 46 * 2]


def test_multi_spectral_copies_are_left_out(tmp_path):
    for folder in remote_sensing.NaSCTG2.folders.split(", "):
        write_images(tmp_path / "NaSC-TG2" / "RGB" / folder, 4)
        write_images(tmp_path / "NaSC-TG2" / "bands" / folder, 4, ending=".tif")
    assert {Path(path).suffix for path in relative(read(remote_sensing.NaSCTG2, tmp_path), tmp_path)} == {".jpg"}


def test_a_missing_class_is_named(tmp_path):
    for folder in remote_sensing.RSSCN7.folders.split(", ")[1:]:
        write_images(tmp_path / "RSSCN7" / folder, 4)
    with pytest.raises(UserError, match=r"1 of the 7 classes of RSSCN7, e\.g\. 'aGrass'"):
        read(remote_sensing.RSSCN7, tmp_path)


def test_paths_in_the_split_file_do_not_name_the_archive_folder(tmp_path):
    """A split file made from one layout serves the same data in another one."""
    for folder in remote_sensing.UCM.folders.split(", "):
        write_images(tmp_path / "UCMerced_LandUse" / "UCMerced_LandUse" / "Images" / folder, 4)
    first = read(remote_sensing.UCM, tmp_path)
    folder = tmp_path / "UCMerced_LandUse"
    (folder / "UCMerced_LandUse" / "Images").rename(folder / "Images")
    assert (folder / "split_dk_UCM.json").is_file()
    second = read(remote_sensing.UCM, tmp_path)
    assert second.tasks == first.tasks
    assert all(Path(item.impath).is_file() for item in second.train + second.val + second.test)
