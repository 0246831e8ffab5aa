"""One archive, several ways to unpack it: the image folder is found."""

from pathlib import Path

import pytest

from dassl.data.layouts import image_folder

NAMES = ("flowers", "mirror/flowers")


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["flowers/rose", "flowers/tulip"], "flowers"),
        (["mirror/flowers/rose", "mirror/flowers/tulip"], "mirror/flowers"),
        (["flowers/rose", "mirror/flowers/tulip"], "flowers"),
        (["flowers/flowers/rose"], "flowers/flowers"),
        (["flowers/flowers/flowers/rose"], "flowers/flowers/flowers"),
        (["flowers/flowers/rose", "flowers/__MACOSX", "flowers/.cache"], "flowers/flowers"),
        (["flowers/flowers", "flowers/rose"], "flowers"),  # "flowers" may be a class here
        (["flowers/rose"], "flowers"),
        (["flowers"], "flowers"),
        ([], "flowers"),
    ],
)
def test_the_image_folder_is_found(tmp_path, there, expected):
    assert image_folder(make(tmp_path, *there), NAMES) == tmp_path / expected


def test_the_data_folder_itself(tmp_path):
    assert image_folder(make(tmp_path / "AID", "Airport", "Beach"), ("",)) == tmp_path / "AID"
    assert image_folder(make(tmp_path / "UCM", "UCM/Airport"), ("",)) == tmp_path / "UCM" / "UCM"


def test_a_file_of_the_same_name_is_not_entered(tmp_path):
    (make(tmp_path, "flowers") / "flowers" / "flowers").write_text("")
    assert image_folder(tmp_path, NAMES) == tmp_path / "flowers"
