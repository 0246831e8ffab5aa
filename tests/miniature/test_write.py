"""Miniatures are the same every time, replace nothing but themselves, and hold pictures that can be told apart."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import loadmat

from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT
from tests.miniature import MINIATURES, names_of, write_miniature
from tests.miniature.__main__ import main
from tests.miniature.box import Box, Miniature, draw, known
from tests.miniature.write import MARK, SUITES

SIZES = {"General10": 1191, "Plant6": 116, "RS8": 208}
IMAGES = (".jpg", ".jpeg", ".png", ".tif")


def digests(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize("name", ["StanfordCars", "OxfordFlowers", "UCM", "PlantSeedlingV1", "Caltech101"])
def test_the_same_every_time_and_no_picture_twice(name, tmp_path):
    one, two = (digests(write_miniature(name, tmp_path / part, per_class=4, classes=9)) for part in "ab")
    assert one == two
    pictures = [digest for path, digest in one.items() if path.lower().endswith(IMAGES)]
    assert len(set(pictures)) == len(pictures) >= 36


def test_pictures_of_one_class_are_alike():
    """Mean and spread of the colours are enough to tell most classes apart."""

    def signature(subject: str, number: int) -> np.ndarray:
        pixels = np.asarray(draw(subject, number), dtype=float).reshape(-1, 3)
        return np.concatenate([pixels.mean(0), pixels.std(0)])

    subjects = known("DescribableTextures")
    prototypes = np.stack([signature(subject, 0) for subject in subjects])
    found = [np.linalg.norm(prototypes - signature(subject, 1), axis=1).argmin() for subject in subjects]
    assert np.mean(found == np.arange(len(subjects))) > 0.8
    sizes = {draw(subject, 0).size for subject in subjects}
    assert len(sizes) > 20 and all(40 <= side <= 70 for size in sizes for side in size)


def test_grey_cmyk_and_palette_pictures_are_among_them(tmp_path):
    folder = write_miniature("DescribableTextures", tmp_path, per_class=4)
    kinds = set()
    for path in folder.rglob("*.jpg"):
        with Image.open(path) as image:
            kinds.add((image.format, image.mode))
    assert kinds == {("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P")}


@pytest.mark.parametrize("suite", SIZES)
def test_class_lists_are_whole(suite):
    assert sum(len(known(name)) for name in SUITES[suite]) == SIZES[suite]
    assert all(len(set(known(name, "folders"))) == len(known(name)) for name in SUITES[suite])


def test_class_lists_stay_whole_when_fewer_classes_have_images(tmp_path):
    cars = write_miniature("StanfordCars", tmp_path, per_class=4, classes=3)
    assert loadmat(cars / "devkit/cars_meta.mat")["class_names"].shape == (1, 196)
    assert loadmat(cars / "devkit/cars_train_annos.mat")["annotations"].shape == (1, 12)
    sun = write_miniature("SUN397", tmp_path, per_class=4, classes=3)
    assert len((sun / "ClassName.txt").read_text().splitlines()) == 397
    assert len(list((sun / "SUN397").rglob("*.jpg"))) == 3 * (4 + 2)


def test_nothing_but_a_miniature_is_replaced(tmp_path):
    write_miniature("EuroSAT", tmp_path, per_class=4)
    folder = write_miniature("EuroSAT", tmp_path, per_class=5, classes=2)
    assert len(list(folder.rglob("*.jpg"))) == 10
    (folder / MARK).unlink()
    with pytest.raises(UserError, match="is no miniature"):
        write_miniature("EuroSAT", tmp_path)
    assert len(list(folder.rglob("*.jpg"))) == 10


def test_a_miniature_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(box: Box) -> None:
        box.picture("a.jpg", "cat")
        raise KeyboardInterrupt

    monkeypatch.setitem(MINIATURES, "Cut", Miniature("cut", fail))
    with pytest.raises(KeyboardInterrupt):
        write_miniature("Cut", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path, capsys):
    assert main(["KaggleFlower", str(tmp_path), "--per-class", "4", "--classes", "2"]) == 0
    assert "KaggleFlower: " in capsys.readouterr().out
    assert len(list((tmp_path / "kaggle_flower_recognition").rglob("*.jpg"))) == 8
    assert main(["KaggleFlower", str(tmp_path), "--per-class", "3"]) == 2
    assert "at least 4 images" in capsys.readouterr().err
    assert main(["Kagle", str(tmp_path)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "no miniature of 'Kagle'; choose one of" in error and "KaggleFlower" in error


def test_a_file_in_the_way_is_told(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["EuroSAT", str(tmp_path / "file" / "data")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_all_means_all():
    assert names_of("all") == tuple(MINIATURES) and len(set(names_of("all"))) == 37
    assert {name for suite in SUITES for name in names_of(suite)} == set(MINIATURES) - {"Fashion20"}
    assert len({miniature.folder for miniature in MINIATURES.values()}) == len(MINIATURES)


@pytest.mark.parametrize("path", sorted((CHECKOUT / "configs" / "datasets").glob("*.yaml")), ids=lambda path: path.stem)
def test_config_files_name_what_they_name_everywhere(path):
    name = yaml.safe_load(path.read_text())["DATASET"]["NAME"]
    if name not in {*MINIATURES, *SUITES}:  # embedded, or somebody's own
        with pytest.raises(UserError, match="there is no miniature"):
            names_of(path.stem)
        return
    assert names_of(path.stem) == names_of(str(path)) == names_of(name)


def test_a_config_file_of_a_suite_of_ones_own(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text("DATASET:\n  NAME: Plant6\n  MEMBERS: [UCM, EuroSAT]\n")
    assert names_of(str(path)) == ("UCM", "EuroSAT")
