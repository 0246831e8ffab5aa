"""One archive, several ways to unpack it: the image folder is found."""

import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.data.layouts import image_folder, spelt_on_disk

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


FORMS = st.lists(st.tuples(*[st.sampled_from(["NFC", "NFD"])] * 2), min_size=1, max_size=3)
NAMES_WITH_ACCENTS = ("café", "Ångström", "plain")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(forms=FORMS)
def test_each_name_is_spelt_as_on_the_disk(tmp_path, forms):
    """Whichever way a folder and the folders in it are written."""
    shutil.rmtree(tmp_path / "images", ignore_errors=True)
    names = NAMES_WITH_ACCENTS[: len(forms)]
    sides = (
        [unicodedata.normalize(pair[side], name) for pair, name in zip(forms, names, strict=True)] for side in (0, 1)
    )
    there, asked = (Path(tmp_path, "images", *side) for side in sides)
    there.mkdir(parents=True)
    assert spelt_on_disk(str(asked)) == str(there)
    assert spelt_on_disk(f"{asked}/gone.png") == f"{there}/gone.png"
