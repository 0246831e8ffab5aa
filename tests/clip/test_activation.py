"""Which activation fits a file."""

import pytest
import torch
from PIL import Image

import clip
from clip import activation
from clip.weights import DEMO, DEMO_FILES
from tests.clip.helpers import random_model


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for name, colour in (("red", "red"), ("dark_blue", "navy")):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (40, 30 + number), colour).save(folder / name / f"{number:02}.png")
    return folder


def test_both_activations_are_tried(pictures, tmp_path):
    torch.save(random_model("vit").state_dict(), tmp_path / "w.pt")
    right = dict.fromkeys(("quickgelu", "gelu"), 0)
    *shares, _ = activation.compare(str(DEMO_FILES[DEMO]), pictures, most=5)
    assert [line.split(":")[0] for line in shares] == list(right)
    assert all("% of 10 images, 2 classes" in line for line in shares)


@pytest.mark.parametrize(
    ("right", "verdict"),
    [
        ({"quickgelu": 38, "gelu": 20}, "quickgelu is better: set MODEL.BACKBONE.ACTIVATION quickgelu"),
        ({"quickgelu": 2, "gelu": 39}, "gelu is better: set MODEL.BACKBONE.ACTIVATION gelu"),
        ({"quickgelu": 30, "gelu": 29}, "no clear difference"),
    ],
)
def test_the_better_one_is_named_if_the_difference_is_clear(right, verdict, pictures, monkeypatch):
    monkeypatch.setattr(activation, "load", lambda file, arch, activation: (activation, None))
    monkeypatch.setattr(activation, "_right", lambda backbone, *_: right[backbone])
    assert list(activation.compare("w.pt", pictures))[-1].startswith(verdict)


def test_mistakes_are_one_line(pictures, tmp_path):
    for options, folder, message in (
        ({}, tmp_path / "nowhere", "has 0 folders with images"),
        ({"template": "a photo"}, pictures, "has no {} for the class"),
    ):
        with pytest.raises(clip.BackboneError, match=message):
            list(activation.compare("w.pt", folder, **options))
    (pictures / "red" / "00.png").write_text("no picture")
    with pytest.raises(clip.BackboneError, match=r"00.png cannot be read as an image"):
        list(activation.compare(str(DEMO_FILES[DEMO]), pictures))
