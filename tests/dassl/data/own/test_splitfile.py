import json
import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.data.own.splitfile import ClassImages, SplitFile, Together, assign_splits, split_sizes
from dassl.utils.errors import UserError

HALF = (0.5, 0.2, 0.3)


@st.composite
def ratios(draw):
    """Shares as the config accepts them: train and test above 0, sum 1."""
    train = draw(st.integers(1, 98))
    val = draw(st.integers(0, 99 - train))
    return train / 100, val / 100, (100 - train - val) / 100


@st.composite
def label_tables(draw):
    """Images that are in some classes of up to three tasks, as {(task, label): names}."""
    rows = draw(st.lists(st.lists(st.none() | st.integers(0, 2), min_size=3, max_size=3), max_size=40))
    groups = {}
    for number, row in enumerate(rows):
        for task, label in enumerate(row):
            if label is not None:
                groups.setdefault((task, label), []).append(f"{number:02}.png")
    return groups


def sizes_of(splits, images):
    counts = Counter(splits[image] for image in images)
    return counts["train"], counts["val"], counts["test"]


def test_published_shares():
    assert split_sizes(80, HALF) == (40, 16, 24)
    assert split_sizes(31, HALF) == (16, 6, 9)  # Caltech101's smallest class


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1)), (5, (2, 1, 2))]
)
def test_small_classes(count, sizes):
    assert split_sizes(count, HALF) == sizes


def test_validation_gives_first():
    assert split_sizes(2, (0.01, 0.75, 0.24)) == (1, 0, 1)


@given(st.integers(0, 500), ratios())
def test_sizes_add_up_and_no_part_is_forgotten(count, shares):
    sizes = split_sizes(count, shares)
    assert sum(sizes) == count and min(sizes) >= 0
    wanted = [shares[0] > 0, shares[2] > 0, shares[1] > 0]
    assert [sizes[0] > 0, sizes[2] > 0, sizes[1] > 0][: min(count, 3)] == wanted[: min(count, 3)]
    assert all(abs(size - share * count) <= 2 for size, share in zip(sizes, shares, strict=True))


@given(st.lists(st.integers(0, 30), max_size=5), ratios())
def test_single_tasks_get_their_exact_shares(counts, shares):
    classes = [ClassImages([f"{c}/{i}" for i in range(count)], shares) for c, count in enumerate(counts)]
    splits = assign_splits(classes, {})
    for group in classes:
        assert sizes_of(splits, group.images) == split_sizes(len(group.images), shares)


@given(label_tables(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(groups, rng):
    classes = [ClassImages(images, HALF) for images in groups.values()]
    shuffled = [ClassImages(rng.sample(group.images, len(group.images)), HALF) for group in classes]
    assert assign_splits(shuffled, {}) == assign_splits(classes, {})


@given(label_tables(), label_tables())
def test_known_splits_are_kept_and_all_images_get_one(old, new):
    before = assign_splits([ClassImages(images, HALF) for images in old.values()], {})
    after = assign_splits([ClassImages(images, HALF) for images in new.values()], before)
    assert before.items() <= after.items()
    assert after.keys() == before.keys() | {image for images in new.values() for image in images}
    assert set(after.values()) <= {"train", "val", "test"}


def test_new_images_go_where_the_class_lacks_most():
    old = [f"a{i}" for i in range(10)]
    before = assign_splits([ClassImages(old, HALF)], {})
    more = old + [f"b{i}" for i in range(10)]
    after = assign_splits([ClassImages(more, HALF)], before)
    assert sizes_of(after, more) == split_sizes(20, HALF)


def test_shared_images_keep_the_shares_of_each_class():
    colour = {c: [f"{i:03}" for i in range(c, 90, 3)] for c in range(3)}
    shape = {s: [f"{i:03}" for i in range(s, 90, 2)] for s in range(2)}
    classes = [ClassImages(images, HALF) for images in (*colour.values(), *shape.values())]
    splits = assign_splits(classes, {})
    for group in classes:
        for have, want in zip(sizes_of(splits, group.images), split_sizes(len(group.images), HALF), strict=True):
            assert abs(have - want) <= 3


@given(st.lists(st.integers(1, 4), min_size=1, max_size=20), ratios())
def test_copies_go_together_and_count_once(sizes, shares):
    copies = [[f"{number:02}-{copy}" for copy in range(size)] for number, size in enumerate(sizes)]
    images = [image for group in copies for image in group]
    together = list(map(Together, copies))
    splits = assign_splits([ClassImages(images, shares)], {}, together)
    assert all(len({splits[image] for image in group}) == 1 for group in copies)
    assert sizes_of(splits, [group[0] for group in copies]) == split_sizes(len(sizes), shares)
    again = assign_splits([ClassImages(images, shares)], {}, [each for each in together if len(each.images) > 1])
    assert again == splits


def test_a_copy_follows_the_known_split():
    splits = assign_splits(
        [ClassImages(["a", "b", "c", "d"], HALF)], {"a": "test", "b": "train"}, [Together(["a", "c"])]
    )
    assert splits["c"] == "test" and splits["b"] == "train"


# -- the file --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A root with ten images of one class."""
    for number in range(10):
        (tmp_path / f"{number}.png").touch()
    return tmp_path


def complete(folder, names, shares=HALF, fixed=None):
    file = SplitFile((folder / "parts.json", folder / "cache" / "parts.json"), folder)
    return file.complete([ClassImages(names, shares)], fixed or {}, {"mugs": shares})


def names_in(folder):
    return sorted(path.name for path in folder.glob("*.png"))


def test_the_file_remembers(folder, caplog):
    caplog.set_level(logging.INFO)
    first = complete(folder, names_in(folder))
    content = json.loads((folder / "parts.json").read_text())
    assert {split: len(content[split]) for split in ("train", "val", "test")} == {"train": 5, "val": 2, "test": 3}
    content["train"], content["test"] = content["test"], content["train"]
    (folder / "parts.json").write_text(json.dumps(content))
    swapped = complete(folder, names_in(folder))
    assert Counter(swapped.values()) == {"test": 5, "val": 2, "train": 3}
    assert swapped != first
    assert len(caplog.messages) == 1  # nothing changed, nothing said


def test_added_and_removed_files_are_said_in_one_line(folder, caplog):
    before = complete(folder, names_in(folder))
    (folder / "3.png").unlink()
    (folder / "new.png").touch()
    (folder / "newer.png").touch()
    caplog.set_level(logging.INFO)
    caplog.clear()
    after = complete(folder, names_in(folder))
    (record,) = caplog.records
    assert "9 images keep their split, 2 new ones got one, 1 are gone; earlier runs had other" in record.message
    assert record.levelno == logging.WARNING  # and so in results.json and in tables
    assert all(after[name] == before[name] for name in names_in(folder) if name in before)
    caplog.clear()
    assert complete(folder, names_in(folder)) == {k: v for k, v in after.items() if k != "3.png"}
    assert not caplog.messages


def test_nothing_is_written_unless_it_is_kept(folder):
    file = SplitFile((folder / "parts.json", folder / "cache" / "parts.json"), folder)
    splits = file.complete([ClassImages(names_in(folder), HALF)], {}, {"mugs": HALF}, keep=False)
    assert not (folder / "parts.json").exists()
    assert splits == complete(folder, names_in(folder))


def test_names_in_another_normal_form_keep_their_split(folder):
    """The data came from a Mac, or goes there."""
    composed, decomposed = "\u00e9.png", "e\u0301.png"
    (folder / decomposed).touch()
    names = [*names_in(folder)[:10], composed]
    names = [name for name in names if name != decomposed]
    first = complete(folder, names)
    content = json.loads((folder / "parts.json").read_text())
    for split in ("train", "val", "test"):
        content[split] = [decomposed if name == composed else name for name in content[split]]
    (folder / "parts.json").write_text(json.dumps(content))
    assert complete(folder, names) == first
    (folder / names[0]).unlink()
    few = complete(folder, names[1:5])  # writes the file, and the decomposed name is there on the disk
    assert few[composed] == first[composed]


def test_images_of_other_tasks_are_left_alone(folder):
    names = names_in(folder)
    whole = complete(folder, names)
    few = complete(folder, names[:4])
    assert all(few[name] == whole[name] for name in names[:4])
    assert complete(folder, names) == whole


def test_what_the_data_says_is_not_stored_and_counts_more(folder):
    names = names_in(folder)
    whole = complete(folder, names)
    other = next(name for name in names if whole[name] == "train")
    assert complete(folder, names, fixed={other: "test"})[other] == "test"
    assert complete(folder, names)[other] == "train"
    fixed = dict.fromkeys(names, "train")
    (folder / "parts.json").unlink()
    assert complete(folder, names, fixed=fixed) == fixed
    assert not (folder / "parts.json").exists()


def test_changed_ratios_stop_the_run(folder):
    complete(folder, names_in(folder))
    with pytest.raises(UserError) as caught:
        complete(folder, names_in(folder), (0.6, 0.1, 0.3))
    message = str(caught.value)
    assert "\n" not in message
    assert "0.6/0.1/0.3" in message and "0.5/0.2/0.3" in message and str(folder / "parts.json") in message


def test_read_only_root(folder, monkeypatch):
    import dassl.data.places as places

    def refuse(path, value, write=places.write_json, **options):
        if path.parent == folder:
            try:
                raise PermissionError(13, "no")
            except PermissionError as error:
                raise UserError("cannot write") from error
        write(path, value, **options)

    monkeypatch.setattr(places, "write_json", refuse)
    first = complete(folder, names_in(folder))
    assert (folder / "cache" / "parts.json").is_file() and not (folder / "parts.json").exists()
    (folder / "new.png").touch()
    second = complete(folder, names_in(folder))
    assert first.items() <= second.items()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"ratios": {}}',
        '{"ratios": 3, "train": [], "val": [], "test": []}',
        '{"ratios": {}, "train": [1], "val": [], "test": []}',
        '{"ratios": {}, "train": ["a"], "val": ["a"], "test": []}',
    ],
)
def test_a_damaged_file_is_named(folder, content):
    (folder / "parts.json").write_text(content)
    with pytest.raises(UserError, match=r"parts\.json"):
        complete(folder, names_in(folder))
