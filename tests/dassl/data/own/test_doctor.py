"""One small data set for each finding; clean data has none."""

import logging
import shutil

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from dassl.config import get_cfg_default, merge_cfg
from dassl.data import build_dataset
from dassl.data.datum import Task
from dassl.data.own import dataset as own_dataset
from dassl.data.own import doctor
from dassl.data.own.dataset import MyTasks
from dassl.data.own.doctor import Subject

COUNT = 10


def scene(seed, size=(40, 30)):
    """A picture of large soft areas, as photographs have them."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def save(path, picture, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


@pytest.fixture
def root(tmp_path):
    """Sound data: three classes of ten different pictures."""
    return sound(tmp_path / "pictures")


def sound(root, names=("ok", "chip", "crack"), counts=(COUNT,) * 3, first=0):
    for number, (name, count) in enumerate(zip(names, counts, strict=True)):
        for image in range(count):
            save(root / "cups" / name / f"{image}.png", scene(first + 100 * number + image))
    return root


def config(root, task=(), **keys):
    file = root.parent / "mine.yaml"
    task = {"name": "cup", "folder": "cups", **dict(task)}
    file.write_text(yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TASKS": [task]}}), encoding="utf-8")
    cfg = get_cfg_default()
    pairs = {"DATASET.ROOT": root, "OUTPUT_DIR": root.parent / "output" / "run", "SEED": 1}
    pairs |= {name.replace("__", "."): value for name, value in keys.items()}
    merge_cfg(cfg, files=[file], pairs=[str(word) for pair in pairs.items() for word in pair])
    return cfg


def told(root, task=(), *, doubtful=True, near=False, **keys):
    """The findings of a kind, without the name of the task."""
    examined = MyTasks.examine(config(root, task, **keys), decode=True, near=near, shown=doctor.SHOWN)
    found = [finding for _, findings in examined for finding in findings if finding.doubtful == doubtful]
    return [finding.text.removeprefix("task 'cup': ") for finding in found]


def test_sound_data_has_no_finding(root):
    assert told(root) == [] and told(root, doubtful=False) == []


def test_blank_pictures(root):
    for name, colour in (("ok/1", "tan"), ("chip/2", "white")):
        save(root / f"cups/{name}.png", Image.new("RGB", (40, 30), colour))
    (text,) = told(root)
    assert (
        text.startswith("2 of 30 pictures (train ") and ") are blank: all their pixels have one colour, e.g. " in text
    )
    assert text.endswith("lay them on another ground, e.g. INPUT.BACKGROUND grey")


@pytest.mark.parametrize(("count", "doubtful"), [(2, False), (COUNT * 2, True)])
def test_transparency_is_doubtful_if_most_pictures_have_it(root, count, doubtful):
    for number in range(count):
        path = root / "cups" / ("ok", "chip")[number // COUNT] / f"{number % COUNT}.png"
        picture = Image.open(path).convert("RGBA")
        picture.paste((9, 9, 9, 0), (0, 0, 20, 30))
        save(path, picture)
    (text,) = told(root, doubtful=doubtful)
    assert text.startswith(f"{count} of 30 pictures (train ") and "are transparent, on average 50 % of the area" in text
    assert "what is transparent becomes white (INPUT.BACKGROUND); if the pictures are light" in text
    assert "becomes grey" in told(root, doubtful=doubtful, INPUT__BACKGROUND="grey")[0]
    assert "transparency is dropped" in told(root, doubtful=doubtful, INPUT__BACKGROUND="original")[0]


def test_an_alpha_channel_that_hides_nothing_is_no_finding(root):
    save(root / "cups/ok/1.png", scene(1).convert("RGBA"))
    assert told(root) == [] and told(root, doubtful=False) == []


def test_exif_turns(root):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for number in (1, 2):
        (root / f"cups/ok/{number}.png").unlink()
        save(root / f"cups/ok/{number}.jpg", scene(number), exif=exif)
    (text,) = told(root, doubtful=False)
    assert text.startswith("2 of 30 pictures (train ") and "turned upright (INPUT.ORIENTATION)" in text
    (text,) = told(root, INPUT__ORIENTATION="original")
    assert "read as stored, on their side (INPUT.ORIENTATION original); choose upright" in text


def test_equal_pictures_within_a_split(root):
    shutil.copy(root / "cups/ok/1.png", root / "cups/ok/copy.png")
    Image.open(root / "cups/ok/1.png").save(root / "cups/ok/again.bmp")
    (text,) = told(root)
    assert "are copies of another one of their class and split, e.g. cups/ok/" in text


def divided(root):
    """The same pictures in folders train and test."""
    for name in ("ok", "chip", "crack"):
        for number in range(COUNT):
            split = "train" if number < 6 else "test"
            new = root / "cups" / split / name / f"{number}.png"
            new.parent.mkdir(parents=True, exist_ok=True)
            (root / "cups" / name / f"{number}.png").rename(new)
        (root / "cups" / name).rmdir()
    return root / "cups"


def test_equal_pictures_in_training_and_test_and_under_two_labels(root):
    cups = divided(root)
    shutil.copy(cups / "train/ok/1.png", cups / "test/ok/copy.png")
    shutil.copy(cups / "train/ok/2.png", cups / "train/chip/wrong.png")
    leaked, labels = told(root)
    assert leaked.startswith("1 of 13 test images are the same pictures as training images, e.g. cups/test/ok/copy.png")
    assert labels.startswith("1 images are the same pictures as others with another label, e.g. cups/train/ok/2.png")


@pytest.mark.parametrize("change", ["scaled", "compressed", "brighter"])
def test_pictures_that_look_alike(root, change):
    cups = divided(root)
    picture = save(cups / "train/ok/1.png", scene(1, (120, 90))) and scene(1, (120, 90))
    changed = {"scaled": picture.resize((80, 60)), "brighter": picture.point(lambda level: min(255, level + 8))}
    save(cups / "test/ok/again.jpg", changed.get(change, picture), quality=60 if change == "compressed" else 95)
    (text,) = told(root)
    assert text.startswith("1 of 13 test pictures look like a training picture, e.g. cups/test/ok/again.jpg ~ cups/")
    assert "keep such pictures together with group:" in text
    (cups / "test/ok/again.jpg").rename(cups / "train/ok/again.jpg")
    (text,) = told(root)
    assert text.startswith("2 of 31 pictures (train 2, val 0, test 0) look like another one of their split")


def test_the_search_for_likeness_is_skipped_in_large_tasks_and_says_so(root, monkeypatch):
    save(root / "cups/ok/again.jpg", scene(1), quality=90)
    monkeypatch.setattr(own_dataset, "NEAR_IMAGES", 30)
    assert told(root) == []
    (text,) = told(root, doubtful=False)
    assert text.startswith("did not look for pictures that look alike, because there are more than 30; ")
    assert text.endswith("python -m datasets.check --near does")
    assert "look like" in told(root, near=True)[0]


@pytest.mark.parametrize("name", ["crak", "cracks", "crakc", "Craxk"])
def test_labels_that_differ_by_a_letter_from_a_more_frequent_one(root, name):
    save(root / "cups" / name / "1.png", scene(900))
    save(root / "cups" / name / "2.png", scene(901))
    texts = [text for text in told(root) if "letter" in text]
    assert texts == [
        f"1 class names differ by a letter from a more frequent one: {name!r} (2) beside 'crack' (10); "
        "if they are slips, mend the labels, or join them with classes: {LABEL: CLASS NAME}"
    ]


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (("cat", "car"), (50, 1)),  # short words
        (("class 1", "class 2"), (50, 1)),
        (("grade a", "grade b"), (50, 1)),
        (("bitter", "better"), (10, 8)),  # both frequent
        (("T-shirt 12", "T-shirt 1"), (50, 1)),
    ],
)
def test_labels_that_differ_on_purpose(names, counts):
    labels = {str((label, number)): label for label, count in enumerate(counts) for number in range(count)}
    assert list(doctor._labels(Subject(Task("cup", names), {}, labels, None))) == []


@given(st.lists(st.text("abé 1", min_size=1, max_size=6), min_size=2, max_size=6, unique=True))
def test_names_one_slip_apart_are_those_of_the_definition(names):
    pairs = set(doctor._one_letter_apart(names))
    for one, first in enumerate(names):
        for other, second in enumerate(names):
            expected = one != other and doctor.slips(first, second) == 1
            expected = expected and doctor._is_word_slip(first, second) and doctor._is_word_slip(second, first)
            assert ((one, other) in pairs) == expected


def test_classes_of_unequal_size(root):
    sound(root, counts=(COUNT, 60, 60), first=1000)
    (text,) = told(root)
    assert text == (
        "the classes have 5 ('ok') to 30 ('chip') training pictures; always answering 'chip' gets 46 %, so add "
        "metric: mean_acc; training follows the frequent ones, so add weight: balanced, or draw DATASET.NUM_SHOTS"
    )
    (text,) = told(root, {"metric": "mean_acc"})
    assert "metric: mean_acc counts every class alike; training follows" in text
    assert told(root, {"metric": "mean_acc"}, DATASET__NUM_SHOTS=2) == []
    (text,) = told(root, {"metric": "mean_acc"}, DATASET__NUM_SHOTS=2, doubtful=False)
    assert text.endswith("; DATASET.NUM_SHOTS draws equal numbers for training")


@pytest.mark.parametrize("size", [(4, 3), (400, 300), (160, 10)])
def test_pictures_unlike_the_rest_in_size_and_shape(root, size):
    save(root / "cups/ok/1.png", scene(1, size))
    (text,) = told(root)
    assert (
        ") are much larger, smaller, wider or narrower than the rest, which are about 40x30, e.g. cups/ok/1.png ("
        in text
    )
    for number in range(2, 7):  # too many for an exception
        save(root / f"cups/ok/{number}.png", scene(number, size))
    assert told(root) == []


def test_a_run_says_it_once_and_again_from_the_cache(root, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    for name, colour in (("ok/1", "tan"), ("chip/2", "white")):
        save(root / f"cups/{name}.png", Image.new("RGB", (40, 30), colour))
    build_dataset(config(root))
    (first,) = caplog.messages
    assert first.startswith("task 'cup': 2 of 30 pictures (train ")
    caplog.clear()
    monkeypatch.setattr("dassl.data.checking.decode", None)  # nothing is decoded again
    build_dataset(config(root))
    assert caplog.messages == [first]


def test_large_data_is_not_examined_as_a_whole_and_this_is_said(root, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    save(root / "cups/ok/1.png", Image.new("RGB", (40, 30), "tan"))
    monkeypatch.setattr(own_dataset, "PIXELS_EXAMINED", 30 * 40 * 30 - 1)
    assert not build_dataset(config(root)).examined
    assert "are blank" not in caplog.text and "python -m datasets.check examines all" in caplog.text
    monkeypatch.setattr(own_dataset, "PIXELS_EXAMINED", 30 * 40 * 30)
    assert len(build_dataset(config(root)).examined) == 30
    assert "are blank" in caplog.text


FARTHER = 10**7  # no scene of a sound folder
FAULTS = {
    "are blank": lambda path, other: save(path, Image.new("RGB", (40, 30))),
    "are copies of|the same pictures as": lambda path, other: shutil.copy(other, path),
    "look like": lambda path, other: save(path, Image.open(other).resize((44, 33))),
    "wider or narrower": lambda path, other: save(path, scene(FARTHER, (200, 12))),
}


@settings(max_examples=10)
@given(
    seed=st.integers(0, 10**6),
    fault=st.sampled_from([None, *FAULTS]),
    place=st.tuples(st.sampled_from(["ok", "chip"]), st.integers(1, COUNT - 1)),
)
def test_a_planted_fault_is_found_and_nothing_else(tmp_path_factory, seed, fault, place):
    root = sound(tmp_path_factory.mktemp("own") / "pictures", ("ok", "chip"), (COUNT, COUNT), first=seed)
    if fault:
        FAULTS[fault](root / "cups" / place[0] / f"{place[1]}.png", root / "cups/ok/0.png")
    if (fault and place[0] == "ok") or fault not in ("are copies of|the same pictures as", "look like"):
        texts = told(root)
        assert len(texts) == bool(fault) and all(any(words in text for words in fault.split("|")) for text in texts)
