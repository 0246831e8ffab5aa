"""What the page's runs answer."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dassl.app import runs as room
from dassl.app.runs import MOST_PIXELS, Visit, class_names, load_runs, short_names
from dassl.inference import load_classifier
from dassl.utils.errors import UserError


@pytest.fixture
def visit(runs, photo):
    """A page with a picture."""
    return runs.look(Visit(), photo, photo.name)[0]


def test_every_task_of_every_run_is_answered_as_predict_does(runs, places, photo, visit):
    answers = runs.answers(visit, runs.names, 2)
    assert [each.run for each in answers] == ["soft", "res", "tuned.safetensors"]
    for place, answer in zip(places, answers, strict=True):
        expected = load_classifier(place, device="cpu").predict(photo, top_k=2)
        assert [each.task for each in answer.tasks] == [each.task for each in expected]
        for got, wanted in zip(answer.tasks, expected, strict=True):
            assert [each.name for each in got.classes] == [each.name for each in wanted.classes]
            assert [each.probability for each in got.classes] == pytest.approx(
                [each.probability for each in wanted.classes]
            )
            assert not got.renamed
            count, share = got.others
            assert share == pytest.approx(1 - sum(each.probability for each in got.classes), abs=1e-5)
            assert count == len(runs.class_names(Visit(), got.task)) - 2


def test_without_a_picture_there_is_no_answer(runs):
    assert runs.answers(Visit(), runs.names, 5) == []


def test_other_class_names_give_what_with_classes_gives(runs, places, photo, visit):
    renamed, refusals = runs.rename(visit, ["soft"], "tool", "spade\n  old rake \n\n")
    assert refusals == []
    answer, refusing = runs.answers(renamed, ["soft", "res"], 5)
    got = {each.task: each for each in answer.tasks}
    expected = load_classifier(places[0], device="cpu").with_classes({"tool": ["spade", "old rake"]})
    (wanted,) = expected.predict(photo, task="tool")
    assert {each.name: each.probability for each in got["tool"].classes} == pytest.approx(
        {each.name: each.probability for each in wanted.classes}
    )
    assert (got["tool"].renamed, got["pet_kind"].renamed) == (True, False)
    assert "TaskRes" in refusing.refused
    assert [each.renamed for each in refusing.tasks] == [False, False]
    assert runs.class_names(renamed, "tool") == ("spade", "old rake")
    back = runs.restore(renamed, "tool")
    assert runs.answers(back, ["soft"], 5) == runs.answers(visit, ["soft"], 5)


def test_a_calibration_is_said_and_ends_with_other_class_names(runs, visit, monkeypatch):
    (run,) = [each for each in runs._runs.values() if each.name == "soft"]
    monkeypatch.setattr(run.own, "temperatures", [2.0, 3.0])
    (answer,) = runs.answers(visit, ["soft"], 1)
    assert [each.calibrated for each in answer.tasks] == [True, True]
    (answer,) = runs.answers(runs.rename(visit, ["soft"], "tool", "fork\nhoe")[0], ["soft"], 1)
    assert [(each.task, each.renamed, each.calibrated) for each in answer.tasks] == [
        ("pet_kind", False, True),
        ("tool", True, False),
    ]


def test_the_visit_before_stays_as_it_was(runs, visit):
    runs.rename(visit, ["soft"], "tool", "spade")
    assert visit.names == {}


def test_runs_that_refuse_are_named_beside_one_that_does_not(runs, visit):
    _, refusals = runs.rename(visit, runs.names, "tool", "spade\nrake")
    assert [line.split(":")[0] for line in refusals] == ["res", "tuned.safetensors"]
    with pytest.raises(UserError, match="no text encoder"):
        runs.rename(visit, ["tuned.safetensors"], "tool", "spade\nrake")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("spade\nspade", "is in the list twice"),
        ("x" * 201, "has 201 characters; give up to 200"),
        ("\n".join(f"n{number}" for number in range(1001)), "1,001 class names are too many"),
        ("sp\u202eade", "hidden characters"),
        ("v " * 99 + "v", "tokens"),
    ],
)
def test_names_that_cannot_be_used_are_one_line(runs, visit, text, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        runs.rename(visit, ["soft"], "tool", text)
    assert "\n" not in str(caught.value)


def test_a_run_without_the_task_is_said(runs, visit):
    with pytest.raises(UserError, match="soft has no task 'music'"):
        runs.rename(visit, ["soft"], "music", "jazz")


def test_only_the_last_renamed_classifiers_are_held(runs, visit):
    (run,) = [each for each in runs._runs.values() if each.name == "soft"]
    made = [run.with_names({"tool": (f"name {number}", "other")}) for number in range(6)]
    assert len(run._renamed) == room._RENAMED
    assert run.with_names({"tool": ("name 5", "other")}) is made[5]
    assert run.with_names({"tool": ("name 0", "other")}) is not made[0]


def test_what_is_no_picture_is_said_by_its_own_name(runs, tmp_path):
    path = tmp_path / "stored-under-another-name"
    for content in (b"", b"%PDF-1.7 and more", b"\x89PNG\r\n\x1a\n cut"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read image holiday\.jpg: ") as caught:
            runs.look(Visit(), path, "holiday.jpg")
        assert str(tmp_path) not in str(caught.value)


def test_too_many_pixels_are_refused_before_they_are_decoded(runs, tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("1", (20_000, MOST_PIXELS // 20_000 + 1)).save(path)
    monkeypatch.setattr(room, "read_image", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"100,020,000 pixels, and the page reads up to 100,000,000; make it smaller"):
        runs.look(Visit(), path, "large.png")


def test_a_bomb_is_refused(runs, tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (64, 64)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    with pytest.raises(UserError, match=r"bomb\.png has far more pixels"):
        runs.look(Visit(), path, "bomb.png")


def test_pictures_are_read_as_each_run_reads_them(runs, places, photo, visit):
    for name, place in zip(runs.names, places, strict=True):
        classifier = load_classifier(place, device="cpu")
        with Image.open(photo) as image:
            assert torch.equal(visit.pictures[name], classifier.transform(image.convert("RGB")))


def test_too_many_runs_and_one_twice(places):
    with pytest.raises(UserError, match="5 runs were given, the page shows up to 4"):
        load_runs([places[0]] * 5)
    with pytest.raises(UserError, match="was given twice"):
        load_runs([places[0], places[1], places[0] + "/"])


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=4, unique_by=tuple))
def test_short_names_tell_runs_apart(parts):
    paths = [room.Path("/", *each) for each in parts]
    names = short_names(paths)
    assert len(set(names)) == len(paths)
    assert all(str(path).endswith(name) for path, name in zip(paths, names, strict=True))


@given(st.text(max_size=300))
def test_any_text_is_names_or_one_line(text):
    try:
        names = class_names(text)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert all(name and name == name.strip() for name in names)
