"""Images of one group are on one side of every split and few-shot draw."""

import json
import logging
import random
from collections import Counter, defaultdict

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dassl.config import get_cfg_default, merge_cfg
from dassl.data import Datum, build_dataset
from dassl.data.own import groups
from dassl.data.own.splitfile import ClassImages, Together, assign_splits
from dassl.data.sampling import few_shot
from dassl.utils.errors import UserError
from tests.dassl.data.own.test_splitfile import HALF, ratios

SPLIT_FILE = "split_my_tasks/parts.json"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def root(tmp_path):
    """Two classes with six patients in folders of their own, two of whom have both classes; four images of each."""
    root = tmp_path / "pictures"
    for label, patients in (("ill", range(6)), ("well", range(4, 10))):
        touch(root, *(f"scans/{label}/p{patient}/{number}.png" for patient in patients for number in range(4)))
    return root


SCANS = {"name": "scan", "folder": "scans", "group": "parent_folder"}


def built(root, *tasks, **keys):
    file = root.parent / "mine.yaml"
    file.write_text(yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TASKS": list(tasks)}}), encoding="utf-8")
    cfg = get_cfg_default()
    pairs = {"DATASET.ROOT": root, "OUTPUT_DIR": root.parent / "output" / "run", "SEED": 1}
    pairs |= {"DATASET.CHECK_IMAGES": False, **keys}  # the images are empty files
    merge_cfg(cfg, files=[file], pairs=[str(word) for pair in pairs.items() for word in pair])
    return build_dataset(cfg)


def mistake(root, *tasks):
    with pytest.raises(UserError) as caught:
        built(root, *tasks)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def patients(dataset):
    """The patients in each list of a data set."""
    lists = dataset.train_x, dataset.val, dataset.test
    return [Counter(item.impath.split("/")[-2] for item in items) for items in lists]


def together(dataset):
    train, val, test = map(set, patients(dataset))
    return bool(train and test) and not (train & val or train & test or val & test)


# -- what names groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["parent_folder", r"/(p\d)/", "scans/[a-z]+/([^/]+)"])
def test_groups_of_folders_are_not_divided(root, group, caplog):
    caplog.set_level(logging.INFO)
    dataset = built(root, {**SCANS, "group": group})
    assert together(dataset) and len(dataset.train_x + dataset.val + dataset.test) == 48
    assert f"task 'scan': group: {group}: 10 groups (train 6, val 2, test 2), none divided" in caplog.messages
    assert together(built(root, {**SCANS, "group": group}, **{"DATASET.NUM_SHOTS": 2}))


def table(root, rows, name="scans.csv"):
    (root / name).write_text("\n".join(["image,finding,patient", *(",".join(row) for row in rows)]), encoding="utf-8")


ROWS = [(f"scans/ill/p{patient}/{n}.png", "ab"[n % 2], str(patient)) for patient in range(6) for n in range(4)]
TABLE = {"name": "finding", "table": "scans.csv", "label": "finding"}


@pytest.mark.parametrize("group", ["patient", "parent_folder", r"p(\d)"])
def test_groups_of_tables_are_not_divided(root, group):
    table(root, ROWS)
    assert together(built(root, {**TABLE, "group": group}))


def test_images_of_several_tasks_keep_the_groups_of_each(root):
    table(root, [(image, label, f"burst{number % 12}") for number, (image, label, _) in enumerate(ROWS)])
    dataset = built(root, SCANS, {**TABLE, "group": "patient"})
    assert together(dataset)
    split_of = {item.impath: name for name in ("train_x", "val", "test") for item in getattr(dataset, name)}
    sides = defaultdict(set)
    for number, (image, _, _) in enumerate(ROWS):
        sides[number % 12].add(split_of[str(root / image)])
    assert all(len(its) == 1 for its in sides.values())


def test_an_image_without_a_group_stands_for_itself(root, caplog):
    touch(root, "scans/ill/loose.png", "scans/well/loose.png", "scans/well/loose2.png")
    built(root, SCANS)
    (message,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert message == (
        "task 'scan': group: parent_folder: 3 of 51 images have no group, e.g. scans/ill/loose.png; each counts as a "
        "group of its own"
    )


def test_the_folder_of_a_class_is_no_group(root):
    touch(root, *(f"mugs/{name}/{number}.png" for name in ("ok", "chip") for number in range(4)))
    message = mistake(root, {"name": "mug", "folder": "mugs", "group": "parent_folder"})
    assert "none of 8 images has a group, e.g. mugs/chip/0.png" in message
    touch(root, *(f"cups/{s}/{name}/{n}.png" for s in ("train", "test") for name in ("ok", "chip") for n in range(4)))
    assert "none of 16" in mistake(root, {"name": "cup", "folder": "cups", "group": "parent_folder"})


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("patent", "is neither a column nor parent_folder nor a pattern with a group in brackets"),
        ("(p", "is no regular expression (missing ), unterminated subpattern at position 0); mend it"),
        ("(?:p)", "the pattern has no group; put brackets around what names the group"),
        (r"(zebra\d)", "none of 24 images has a group, e.g. scans/ill/p0/0.png"),
        ("(a+)+b", "could search for hours"),
        ("((?:a|ab)*)_x", "could search for hours"),
        (r"(?:(a*)*)", "could search for hours"),
        ("(.*).*.*.*.*x", "could search for hours"),
        ("(" + "a" * 300 + ")", "has 302 of 200 allowed letters"),
        ("(a{4294967296})", "is no regular expression"),
    ],
)
def test_bad_patterns_get_one_line(root, group, words):
    table(root, ROWS)
    message = mistake(root, {**TABLE, "group": group})
    assert message.startswith(f"task 'finding': group: {group}: ") and words in message


@given(st.lists(st.sampled_from(["a", "(", ")", "*", "+", "|", "{2,}", "[ab]", ".", "?", "b", "(?:"]), max_size=9))
def test_any_pattern_is_refused_or_ends_soon(parts):
    try:
        pattern = groups._compiled("(" + "".join(parts) + ")", "here")
    except UserError:
        return
    pattern.search("ab" * 60 + "!")


def test_a_search_that_takes_long_is_stopped(root, monkeypatch):
    monkeypatch.setattr(groups, "_SECONDS", -1)
    assert "takes too long; write a simpler pattern" in mistake(root, {**SCANS, "group": r"(p\d)"})


def test_a_registered_set_has_no_groups(root):
    from dassl.data.own.description import parse_tasks

    _, problems = parse_tasks([{"dataset": "ToyPets", "group": "parent_folder"}])
    assert "group is for your own images" in problems[0]


# -- splits ----------------------------------------------------------------------------------------------------


@st.composite
def grouped_tables(draw):
    """Images with a label in some of up to three tasks, and a group in each of them or none."""
    cell = st.none() | st.integers(0, 2)
    rows = draw(st.lists(st.tuples(*[cell] * 3, *[st.none() | st.integers(0, 4)] * 3), max_size=40))
    classes, named = defaultdict(list), defaultdict(list)
    for number, row in enumerate(rows):
        for task in range(3):
            if row[task] is not None:
                classes[task, row[task]].append(f"{number:02}.png")
                if row[task + 3] is not None:
                    named[str(task), str(row[task + 3])].append(f"{number:02}.png")
    return classes, [Together(images, name) for name, images in named.items()]


def sides(splits, images):
    return {splits[image] for image in images}


@given(grouped_tables(), grouped_tables(), ratios())
def test_no_group_is_on_two_sides(old, new, shares):
    classes, joined = old
    before = assign_splits([ClassImages(images, shares) for images in classes.values()], {}, joined)
    assert all(len(sides(before, each.images)) == 1 for each in joined)
    assert before.keys() == {image for images in classes.values() for image in images}
    # All old images are gone, and the file knows their groups.
    known = {each.group: before[each.images[0]] for each in joined}
    classes, joined = new
    after = assign_splits([ClassImages(images, shares) for images in classes.values()], {}, joined, known)
    assert all(len(sides(after, each.images)) == 1 for each in joined)
    apart = Counter(image for each in joined for image in each.images)
    for each in joined:
        if all(apart[image] == 1 for image in each.images):  # no other group holds it elsewhere
            assert each.group not in known or sides(after, each.images) == {known[each.group]}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), ratios())
def test_every_split_gets_a_group_if_there_are_enough(sizes, shares):
    joined = [Together([f"{g}-{i}" for i in range(size)], ("task", str(g))) for g, size in enumerate(sizes)]
    images = [image for each in joined for image in each.images]
    found = sides(assign_splits([ClassImages(images, shares)], {}, joined), images)
    share_of = dict(zip(("train", "val", "test"), shares, strict=True))
    wanted = [split for split in ("train", "test", "val") if share_of[split]]
    assert {*wanted[: len(sizes)]} <= found


def test_added_images_follow_their_group(root):
    first = patients(built(root, SCANS))
    touch(root, *(f"scans/ill/p{patient}/new{number}.png" for patient in range(6) for number in range(9)))
    second = built(root, SCANS)
    assert together(second) and [set(its) for its in patients(second)] == [set(its) for its in first]
    stored = json.loads((root / SPLIT_FILE).read_text())["groups"]["scans by parent_folder"]
    assert {split: {p for p, its in stored.items() if its == split} for split in ("train", "val", "test")} == {
        split: set(its) for split, its in zip(("train", "val", "test"), first, strict=True)
    }
    for path in (root / "scans/ill").rglob("*.png"):  # other images of the same patients
        path.rename(path.with_name(f"again{path.name}"))
    assert [set(its) for its in patients(built(root, SCANS))] == [set(its) for its in first]


def test_a_file_from_before_there_were_groups_is_read_and_the_divided_ones_are_named(root, caplog):
    plain = built(root, {"name": "scan", "folder": "scans"})
    before = patients(plain)
    caplog.clear()
    assert patients(built(root, SCANS)) == before
    (message,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "task 'scan': group: parent_folder: 10 of 10 groups are on two sides of the split, e.g. 'p" in message
    assert f"put each group into one split, or delete {root / SPLIT_FILE} to have all images split anew" in message
    (root / SPLIT_FILE).unlink()
    assert together(built(root, SCANS))


def test_a_split_of_the_data_that_divides_groups_is_named(root, caplog):
    for split, number in (("train", 0), ("train", 1), ("test", 2)):
        touch(root, *(f"given/{split}/{label}/p{p}/{number}.png" for label in ("ill", "well") for p in range(3)))
    touch(root, "given/test/ill/p9/0.png")
    built(root, {**SCANS, "folder": "given"})
    (message,) = [record.message for record in caplog.records if "sides" in record.message]
    assert "3 of 4 groups are on two sides of the split, e.g. 'p0' (train 4, test 2)" in message
    assert message.endswith("put each group into one split")


# -- few shots -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 3)), max_size=40),
    st.integers(1, 6),
    st.integers(0, 9),
)
def test_a_draw_takes_as_many_groups_as_there_are(rows, shots, seed):
    items = [Datum(f"{number}.png", label) for number, (label, _) in enumerate(rows)]
    named = {(0, f"{number}.png"): str(group) for number, (_, group) in enumerate(rows) if group is not None}
    drawn = few_shot(items, shots, random.Random(seed), named)
    assert drawn == few_shot(items, shots, random.Random(seed), named)
    for label in range(3):
        here, all_of = ([item for item in its if item.label == label] for its in (drawn, items))
        assert len(here) == min(shots, len(all_of))
        counts = Counter(named.get((0, item.impath), item.impath) for item in here)
        sizes = Counter(named.get((0, item.impath), item.impath) for item in all_of)
        assert len(counts) == min(shots, len(sizes))
        most = max(counts.values(), default=0)
        assert all(counts[group] >= min(size, most - 1) for group, size in sizes.items())
    if not named:
        assert drawn == few_shot(items, shots, random.Random(seed))


def test_shots_come_from_different_groups(root):
    dataset = built(root, SCANS, **{"DATASET.NUM_SHOTS": 2})
    for label in (0, 1):
        items = [item.impath for item in dataset.train_x if item.label == label]
        assert len({path.split("/")[-2] for path in items}) == 2 == len(items)


def test_the_shares_are_about_right():
    joined = [Together([f"{g}-{i}" for i in range(1 + g % 7)], ("task", str(g))) for g in range(60)]
    images = [image for each in joined for image in each.images]
    counts = Counter(assign_splits([ClassImages(images, HALF)], {}, joined).values())
    assert abs(counts["train"] / len(images) - 0.5) < 0.03 and abs(counts["test"] / len(images) - 0.3) < 0.03
