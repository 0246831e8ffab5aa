"""The heat maps of predict.py --explain, from the command line to the files."""

import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import export
import predict
from clip.backbones import Backbone
from dassl.data.images import AS_SEEN
from dassl.data.transforms import seen_box
from dassl.explain import places
from dassl.explain.places import map_path, overlay
from dassl.inference import load_classifier
from dassl.utils.errors import UserError
from tests.clip.helpers import openai_state, random_model
from tests.dassl.inference.test_classifier import ALL, photos, settings

assert photos, "a fixture"


@pytest.fixture
def run(lab):
    """A finished run of two tasks."""
    lab.run(OPTIM__MAX_EPOCH=1)
    return lab.folder("run")


@pytest.fixture
def maps(tmp_path):
    """A folder for maps, which is not there yet."""
    return tmp_path / "maps"


def answers(capsys, *arguments):
    """The lines that a call that succeeds writes."""
    capsys.readouterr()
    assert predict.main([*map(str, arguments), "--format", "jsonl", "--workers", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # A run in the same process has left a log on the screen, where warnings go.
    return [json.loads(line) for line in lines if not line.startswith("warning: ")]


def mistake(capsys, *arguments):
    """The one line of a call that is refused."""
    capsys.readouterr()
    assert predict.main([*map(str, arguments), "--workers", "0"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    return captured.err


# Methods whose score is no cosine with a feature of the class.
WITHOUT = {
    "LinearProbe": "no class features",
    "MVLPT": "features of places",
    "MaPLe": "features of places",
    "PromptSRC": "features of places",
    **dict.fromkeys(("CLIPAdapter", "ProLIP"), "no features of classes for --explain"),
    **dict.fromkeys(("CrossModal", "GDA", "LPPlusPlus", "TipAdapter", "TipAdapterF"), "no class features"),
}


@pytest.mark.parametrize("name", ALL)
def test_every_method_draws_maps_or_says_why_it_has_none(lab, photos, maps, capsys, name):
    lab.run(**settings(name))
    call = (lab.folder("run"), photos, "--explain", maps)
    if name in WITHOUT:
        assert re.search(rf"{name} (has|tunes) .*{WITHOUT[name]}", mistake(capsys, *call))
        assert not maps.exists()
        return
    lines = answers(capsys, *call)
    assert sorted(line["map"]["file"] for line in lines) == sorted(map(str, maps.iterdir()))
    assert len(lines) == 6
    for line in lines:
        with Image.open(line["map"]["file"]) as drawn, Image.open(line["image"]) as picture:
            assert drawn.size == picture.size
        assert -1 <= line["map"]["least"] < line["map"]["largest"] <= 1


def plain_cosines(trainer, image, text):
    """Cosines of an image's places with one feature."""
    local = torch.nn.functional.normalize(trainer.backbone.encode_local(image)[0, 1:].float(), dim=-1)
    return (local @ torch.nn.functional.normalize(text.float(), dim=-1)).reshape(2, 2)


def plain_texts(trainer, image, task, label):
    """Features of a class, several where it has several prompts, as the method's own model makes them."""
    column = int(trainer.dm.offsets[task]) + label
    if type(trainer).__name__ == "CoCoOp":
        feature = torch.nn.functional.normalize(trainer.backbone.encode_image(image).float(), dim=-1)
        return trainer.model(trainer.model.prompt_learner(feature), task, label, label + 1)[0]
    if type(trainer).__name__ == "ProtoNet":
        return trainer.model.prototypes[column, None]
    features = trainer.model()
    return features[:, column] if features.dim() == 3 else features[column, None]


@pytest.mark.parametrize("name", ["CoOp", "MTCoOp", "PLOT", "CoCoOp", "ProtoNet", "ZeroshotCLIP"])
def test_cosines_are_those_of_a_plain_computation(lab, name):
    lab.run(**settings(name))
    classifier = load_classifier(lab.folder("run"))
    trainer, image = classifier.trainer, torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    found = classifier.place_cosines(image.repeat(2, 1, 1, 1), {1: torch.tensor([2, 0])})[1]
    with torch.no_grad():
        for row, label in enumerate((2, 0)):
            texts = plain_texts(trainer, image, 1, label)
            expected = torch.stack([plain_cosines(trainer, image, text) for text in texts]).amax(dim=0)
            assert torch.allclose(found[row], expected, atol=1e-5)


def test_an_exported_file_draws_what_the_run_draws(lab, run, photos, maps, capsys):
    exported = lab.output / "tuned.safetensors"
    assert export.main([str(run), "-o", str(exported)]) == 0
    mine = answers(capsys, run, photos, "--explain", maps)
    theirs = answers(capsys, exported, photos, "--explain", maps.with_name("others"))
    for one, other in zip(mine, theirs, strict=True):
        assert one["map"]["least"] == pytest.approx(other["map"]["least"], abs=1e-5)
        pictures = [np.asarray(Image.open(each["map"]["file"]), int) for each in (one, other)]
        assert np.abs(pictures[0] - pictures[1]).max() <= 2


def test_an_exported_linear_head_is_refused(lab, photos, maps, capsys):
    lab.run(**settings("LinearProbe"))
    exported = lab.output / "tuned.safetensors"
    assert export.main([str(lab.folder("run")), "-o", str(exported)]) == 0
    assert "LinearProbe has weights and biases" in mistake(capsys, exported, photos, "--explain", maps)


def test_a_resnet_draws_maps(lab, photos, maps, capsys, tmp_path):
    path = tmp_path / "resnet.safetensors"
    save_file(openai_state(random_model("rn")), path)
    lab.run(backbone=str(path), OPTIM__MAX_EPOCH=1, INPUT__SIZE="64,64")
    assert all(line["map"] for line in answers(capsys, lab.folder("run"), photos, "--explain", maps))


def test_a_backbone_without_local_features_is_refused_by_name(run, photos, maps, capsys, monkeypatch):
    monkeypatch.setattr(Backbone, "has_places", False)
    error = mistake(capsys, run, photos, "--explain", maps)
    assert "vit.safetensors has no local features (its image tower, a VisionTransformer, is none whose places" in error
    assert not maps.exists()


def red_places(classifier):
    """A stand-in for the image tower: its 8 x 8 places are as near to every class as they are red."""
    direction = classifier.class_features(0).mean(dim=0)
    across = torch.nn.functional.normalize(torch.randn_like(direction), dim=0)

    def encode_local(self, images):
        red = torch.nn.functional.adaptive_avg_pool2d(images[:, 0] - images[:, 2], 8).flatten(1)
        features = red[..., None].clamp(min=0) * direction + 0.1 * across
        return torch.cat([features.mean(dim=1, keepdim=True), features], dim=1)

    return encode_local


def picture_with_object(size, corner):
    """A blue picture with a red square in a corner of its middle square, which is what the model sees."""
    short = min(size)
    places = [(length - short) // 2 + end * (short - short // 4) for length, end in zip(size, corner, strict=True)]
    picture = Image.new("RGB", size, "blue")
    picture.paste("red", (*places, places[0] + short // 4, places[1] + short // 4))
    return picture


def middle_square(pixels):
    """What the model sees of a picture, but for its edge, where whole pixels are rounded."""
    edge = round(0.04 * min(pixels.shape))
    (top, left) = ((length - min(pixels.shape)) // 2 + edge for length in pixels.shape)
    side = min(pixels.shape) - 2 * edge
    return pixels[top : top + side, left : left + side]


@pytest.mark.parametrize("size", [(64, 64), (200, 80), (90, 301), (1000, 700)])
def test_the_hottest_pixels_lie_on_the_object(run, maps, capsys, tmp_path, monkeypatch, size):
    classifier = load_classifier(run)
    monkeypatch.setattr(Backbone, "encode_local", red_places(classifier))
    for corner in ((0, 0), (1, 0), (0, 1), (1, 1)):
        picture, place = picture_with_object(size, corner), tmp_path / f"{corner}.png"
        picture.save(place)
        (line, _) = answers(capsys, run, place, "--explain", maps)
        drawn = np.asarray(Image.open(line["map"]["file"]), float)
        red = np.asarray(picture.resize(drawn.shape[1::-1], Image.Resampling.NEAREST))[..., 0] > 0
        # In the middle only hot colours have much green.
        hot = middle_square(drawn[..., 1]) > 0.9 * middle_square(drawn[..., 1]).max()
        red = middle_square(red)
        assert hot.sum() > 0.3 * red.sum()
        assert (hot & red).sum() > 0.7 * hot.sum()


def test_the_map_lies_on_the_picture_as_a_person_sees_it(run, maps, capsys, tmp_path, monkeypatch):
    """A camera's note of its orientation turns the picture and the map alike."""
    classifier = load_classifier(run)
    monkeypatch.setattr(Backbone, "encode_local", red_places(classifier))
    monkeypatch.setattr(predict, "load_classifier", lambda *_, **__: classifier)
    classifier.reading = AS_SEEN
    picture, exif = picture_with_object((200, 80), (1, 0)), Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    picture.save(tmp_path / "upright.png")
    files = [
        answers(capsys, run, tmp_path / f"{name}.png", "--explain", maps)[0]["map"]["file"]
        for name in ("turned", "upright")
    ]
    turned, upright = (np.asarray(Image.open(file), int) for file in files)
    assert turned.shape == (80, 200, 3)
    assert np.abs(turned - upright).max() <= 1


def test_images_of_one_name_have_files_of_their_own_and_a_second_call_replaces_them(run, photos, maps, capsys):
    shutil.copy(photos / "b.png", photos / "deeper" / "a.png")
    files = {line["map"]["file"] for line in answers(capsys, run, photos, "--explain", maps)}
    assert len(files) == 8
    before = {path.name: path.read_bytes() for path in maps.iterdir()}
    assert {line["map"]["file"] for line in answers(capsys, run, photos, "--explain", maps)} == files
    assert {path.name: path.read_bytes() for path in maps.iterdir()} == before


@pytest.mark.parametrize("content", ["a picture", "no picture", "a map of another image"])
def test_a_file_of_another_image_is_never_replaced(run, photos, maps, capsys, content):
    maps.mkdir()
    path, _ = map_path(maps, str(photos / "a.png"), "pet_kind")
    if content == "no picture":
        path.write_bytes(b"mine")
    elif content == "a picture":
        shutil.copy(photos / "b.png", path)
    else:
        (line, _) = answers(capsys, run, photos / "b.png", "--explain", maps.with_name("others"))
        shutil.copy(line["map"]["file"], path)
    before = path.read_bytes()
    error = mistake(capsys, run, photos / "a.png", "--explain", maps)
    assert f"{path} is no heat map of this image and task; choose another folder" in error
    assert path.read_bytes() == before
    assert list(maps.iterdir()) == [path]


def test_the_number_of_maps_is_bounded_and_the_end_is_said(run, photos, maps, capsys, monkeypatch, caplog):
    monkeypatch.setattr(places, "MOST_MAPS", 5)
    lines = answers(capsys, run, photos, "--explain", maps, "--batch-size", "2")
    assert [line["map"] is None for line in lines] == [False] * 4 + [True] * 2
    assert len(list(maps.iterdir())) == 4
    assert caplog.text.count("--explain: 4 heat maps were drawn, and no more are") == 1


@pytest.mark.parametrize("below", [False, True])
def test_a_folder_among_the_images_is_refused(run, photos, capsys, below):
    folder = photos / "maps" if below else photos
    error = mistake(capsys, run, photos, "--explain", folder)
    assert "whose images are asked for; choose another folder" in error
    assert not (photos / "maps").exists()


def test_a_file_for_a_folder_is_refused(run, photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "is a file; name a folder" in mistake(capsys, run, photos, "--explain", tmp_path / "file")


def test_names_of_files_are_short_plain_and_different(tmp_path):
    names = ["a.png", "b/a.png", "\x1b[31m.png", "x" * 250 + ".png", "..png", "\udce9.png", "猫" * 80 + ".png"]
    found = [map_path(tmp_path, name, task)[0].name for name in names for task in ("kind/../of", "猫" * 50, "kind")]
    assert len(set(found)) == len(found)
    for name in found:
        assert len(name.encode()) <= 200
        assert not set(name) & set("/\\\x1b\udce9 ")
        assert not name.startswith((".", "-"))


def test_table_and_csv_name_the_map(run, photos, maps, capsys):
    call = [str(run), str(photos / "a.png"), "--task", "0", "--explain", str(maps), "--workers", "0"]
    assert predict.main(call) == 0
    (path,) = maps.iterdir()
    assert f"({path}: cosines " in capsys.readouterr().out
    assert predict.main([*call, "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["map"] == str(path)
    assert float(row["map_least"]) < float(row["map_largest"])


def test_a_method_with_scores_of_its_own_says_so(lab, monkeypatch):
    trainer = lab.trainer(trainer="CoOp", TRAINER__COOP__PREC="fp32")
    monkeypatch.setattr(type(trainer), "logits", lambda *_: None)
    trainer.before_test()
    with pytest.raises(UserError, match="CoOp has no features of classes for --explain: it scores images in another"):
        trainer.place_cosines(torch.zeros(1, 5, 24), 0, torch.tensor([0]))


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_black_bars_of_the_longer_side_belong_to_the_map_but_not_to_the_picture(size):
    grid = np.zeros((4, 4))
    grid[1, 2] = 1
    left, top, right, bottom = box = seen_box(size, (32, 32), "longest")
    drawn = np.asarray(overlay(Image.new("RGB", size), grid, box)).astype(int)
    assert drawn.shape == (size[1], size[0], 3)
    heat = drawn[..., 0] - drawn[..., 2]
    rows, columns = np.where(heat == heat.max())
    center = left + (right - left) * 2.5 / 4, top + (bottom - top) * 1.5 / 4
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(center, abs=1)
