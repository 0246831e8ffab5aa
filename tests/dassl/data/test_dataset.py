import errno
import json
import logging
import os
import random
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.data import build_dataset, places
from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split, Task
from dassl.data.splits import read_split, split_content
from dassl.utils.errors import UserError
from dassl.utils.files import read_json, write_json
from dassl.utils.texts import is_one_line
from tests.dassl.data.toy import COUNTS, write_image, write_toy

SUBSET = "split_fewshot_mt/shot_2-seed_1.json"


def names(dataset, part="train_x"):
    return [os.path.relpath(item.impath, dataset.root) for item in getattr(dataset, part)]


def test_a_data_set_reads_its_split(make_cfg, toy_root):
    dataset = build_dataset(make_cfg())
    (task,) = dataset.tasks
    assert (task.name, task.metric, task.classnames) == ("pet_kind", "mean_acc", ("cat", "dog", "grey_parrot"))
    assert task.template == "a photo of a {}, a type of pet."
    assert [len(dataset.train_x), len(dataset.val), len(dataset.test)] == [3 * count for count in COUNTS.values()]
    assert dataset.root == toy_root
    assert all(Path(item.impath).is_absolute() and Path(item.impath).is_file() for item in dataset.test)
    assert names(dataset)[1] == "pets/images/train/kind1_0.png"
    assert dataset.train_x[1].label == 1


def test_images_of_two_tasks(make_cfg):
    dataset = build_dataset(make_cfg("ToyShapes"))
    assert dataset.train_x[1].targets == ((0, 1), (1, 1))
    only = build_dataset(make_cfg("ToyShapes", DATASET__SUBSAMPLE_TASKS="task1"))
    assert [task.name for task in only.tasks] == ["shape"]
    assert [item.targets for item in only.train_x[:3]] == [((0, 0),), ((0, 1),), ((0, 2),)]


def test_the_subset_is_stored_and_named(tmp_path, make_cfg):
    root = write_toy(tmp_path / "data")
    dataset = build_dataset(make_cfg(root=root, DATASET__NUM_SHOTS=2))
    stored = json.loads((root / "pets" / SUBSET).read_text())
    assert [f"pets/images/{name}" for name in stored["train"]] == names(dataset)
    assert [f"pets/images/{name}" for name in stored["val"]] == names(dataset, "val")
    assert len(names(dataset)) == len(names(dataset, "val")) == 6
    assert stored["train_sha256"] == sha256("\n".join(stored["train"]).encode()).hexdigest()
    assert stored["digest"] == dataset.subset_digest
    assert (stored["shots"], stored["seed"]) == (2, 1)


def test_the_test_images_are_named(tmp_path, make_cfg):
    """By paths below the root, tasks and labels: not by seed, shots, choice of tasks, place or order in the list."""
    root = write_toy(tmp_path / "data")
    digest = build_dataset(make_cfg("ToyBoth", root=root)).test_digest
    shutil.copytree(root, tmp_path / "moved")
    split = tmp_path / "moved/pets/split_dk_ToyPets.json"
    content = read_json(split)
    write_json(split, {**content, "test": content["test"][::-1]})
    other = {"DATASET__NUM_SHOTS": 1, "SEED": 7, "DATASET__SUBSAMPLE_TASKS": "task1"}
    assert build_dataset(make_cfg("ToyBoth", root=tmp_path / "moved", **other)).test_digest == digest
    for changed in (content["test"][1:], [[content["test"][0][0], [1], [0]], *content["test"][1:]]):
        write_json(split, {**content, "test": changed})
        assert build_dataset(make_cfg("ToyBoth", root=tmp_path / "moved")).test_digest != digest


def test_a_foreign_stored_subset_is_not_trusted(tmp_path, make_cfg):
    root = write_toy(tmp_path / "data")
    wanted = build_dataset(make_cfg(root=root, DATASET__NUM_SHOTS=2))
    path = root / "pets" / SUBSET
    good = path.read_text()
    for bad in ('{"train": []}', "not json", good.replace("kind1", "kind2")):
        path.write_text(bad)
        assert build_dataset(make_cfg(root=root, DATASET__NUM_SHOTS=2)).train_x == wanted.train_x
        assert path.read_text() == good
    time = path.stat().st_mtime_ns
    build_dataset(make_cfg(root=root, DATASET__NUM_SHOTS=2))
    assert path.stat().st_mtime_ns == time


def test_the_subset_depends_on_seed_and_shots_alone(make_cfg):
    def draw(name="ToyTools", **changes):
        return [n for n in names(build_dataset(make_cfg(name, **changes))) if n.startswith("tools")]

    two = draw(DATASET__NUM_SHOTS=2)
    random.seed(99)
    assert draw(DATASET__NUM_SHOTS=2) == two
    assert draw("ToyBoth", DATASET__NUM_SHOTS=2) == two
    assert draw(DATASET__NUM_SHOTS=2, SEED=2) != two
    assert len(draw(DATASET__NUM_SHOTS=3)) == 15
    assert len(draw(DATASET__NUM_SHOTS=0)) == len(draw()) == 25


def test_short_classes_are_said_once(make_cfg, caplog):
    with caplog.at_level(logging.WARNING):
        build_dataset(make_cfg("ToyBoth", DATASET__NUM_SHOTS=16))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "8 of 8 classes have fewer than 16 training images, e.g. 'cat' of task 'pet_kind'"
    )


def test_a_short_class_of_a_later_member_is_named(tmp_path, make_cfg, caplog):
    root = write_toy(tmp_path / "data")
    path = root / "tools" / "split_dk_ToyTools.json"
    split = read_json(path)
    write_json(path, {**split, "train": [row for row in split["train"] if row[1] != [3] or row[0].endswith("_0.png")]})
    build_dataset(make_cfg("ToyBoth", root=root, DATASET__NUM_SHOTS=4))
    assert "1 of 8 classes" in caplog.text
    assert "'file' of task 'tool' has 1;" in caplog.text


def test_halves_of_a_class_list_with_gaps(tmp_path, make_cfg):
    root = write_toy(tmp_path / "data")
    path = root / "tools" / "split_dk_ToyTools.json"
    split = read_json(path)
    write_json(path, {**split, "train": [row for row in split["train"] if row[1] != [1]]})
    single = build_dataset(make_cfg("ToyTools", root=root, DATASET__SUBSAMPLE_CLASSES="base"))
    assert single.tasks[0].classnames == ("hammer", "drill")
    suite = build_dataset(make_cfg("ToyBoth", root=root, DATASET__SUBSAMPLE_CLASSES="base"))
    assert suite.tasks[1].classnames == ("hammer", "saw", "drill")


def test_a_suite_lays_its_members_end_to_end(make_cfg):
    suite = build_dataset(make_cfg("ToyBoth", DATASET__NUM_SHOTS=1))
    assert [task.name for task in suite.tasks] == ["pet_kind", "tool"]
    assert [(item.task, item.label) for item in suite.train_x] == [(0, 0), (0, 1), (0, 2), *((1, n) for n in range(5))]
    digests = [build_dataset(make_cfg(n, DATASET__NUM_SHOTS=1)).subset_digest for n in ("ToyPets", "ToyTools")]
    assert suite.subset_digest == sha256("\n".join(digests).encode()).hexdigest()


def test_members_can_be_named(make_cfg):
    suite = build_dataset(make_cfg("ToyBoth", DATASET__MEMBERS=("ToyShapes", "ToyTools")))
    assert [task.name for task in suite.tasks] == ["colour", "shape", "tool"]
    assert suite.train_x[-1].task == 2
    nested = build_dataset(make_cfg("ToyBoth", DATASET__SUBSAMPLE_TASKS="new", DATASET__SUBSAMPLE_CLASSES="base"))
    assert [task.classnames for task in nested.tasks] == [("hammer", "saw", "drill")]
    assert {item.label for item in nested.test} == {0, 1, 2}


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("ToyPetz", {}, "unknown data set 'ToyPetz'; did you mean ToyPets"),
        ("", {}, "no data set is named"),
        ("ToyPets", {"DATASET__MEMBERS": ("ToyTools",)}, "DATASET.MEMBERS is for suites"),
        ("ToyBoth", {"DATASET__MEMBERS": ("ToyTools", "ToyTools")}, "'ToyTools' cannot be a member"),
        ("ToyBoth", {"DATASET__MEMBERS": ("ToyBoth",)}, "'ToyBoth' cannot be a member"),
        ("ToyBoth", {"DATASET__SUBSAMPLE_TASKS": "task2"}, "there is no task2; the data set has 2 tasks"),
        ("ToyPets", {"DATASET__ROOT": ""}, "data set ToyPets needs the folder of your data sets; name it with --root"),
        ("ToyPets", {"DATASET__ROOT": "/no/such"}, "data folder /no/such does not exist"),
    ],
)
def test_mistakes_get_one_line(make_cfg, name, changes, words):
    with pytest.raises(UserError) as caught:
        build_dataset(make_cfg(name, **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_and_missing_split(tmp_path, make_cfg):
    with pytest.raises(UserError, match=f"ToyPets: folder {tmp_path}/pets does not exist.*--root"):
        build_dataset(make_cfg(root=tmp_path))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "pets").mkdir()
    with pytest.raises(UserError, match=r"no split file split_dk_ToyPets.json or split_zhou_ToyPets.json in .*/pets"):
        build_dataset(make_cfg(root=tmp_path))


@pytest.fixture
def read_only(monkeypatch):
    """Makes folders refuse to be written (a test may run as a user whom permissions do not stop)."""

    def protect(folder):
        write = write_json

        def refuse(path, value, **options):
            if path.is_relative_to(folder):
                cause = OSError(errno.EROFS, "Read-only file system")
                raise UserError(f"cannot write {path}") from cause
            write(path, value, **options)

        monkeypatch.setattr(places, "write_json", refuse)

    return protect


def test_read_only_data_folder(tmp_path, make_cfg, read_only):
    root = write_toy(tmp_path / "data")
    read_only(root)
    cfg = make_cfg(root=root, DATASET__NUM_SHOTS=2, DATASET__CACHE_DIR=str(tmp_path / "cache"))
    dataset = build_dataset(cfg)
    assert not (root / "pets" / SUBSET).exists()
    (stored,) = (tmp_path / "cache").rglob("shot_2-seed_1.json")
    assert read_json(stored)["digest"] == dataset.subset_digest


def test_a_full_disk_is_not_taken_for_read_only(tmp_path, make_cfg, monkeypatch):
    root = write_toy(tmp_path / "data")

    def full(path, value, **options):
        if path.is_relative_to(root):
            raise UserError("no space left") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(places, "write_json", full)
    with pytest.raises(UserError, match="no space left"):
        build_dataset(make_cfg(root=root, DATASET__NUM_SHOTS=2))


@pytest.fixture
def raw_set(tmp_path, monkeypatch):
    """A data set without a split file, whose raw annotation is read and counted."""

    class ToyRaw(DatasetBase):
        dataset_dir = "raw"
        reads = 0

        @classmethod
        def read_raw(cls, folder):
            cls.reads += 1
            items = [Datum(str(path), 0) for path in sorted(folder.glob("*.png"))]
            return Split((Task("thing", ("only",), template="a {}."),), items[:2], items[2:3], items[3:])

    for number in range(4):
        write_image(tmp_path / "data" / "raw" / f"{number}.png", number)
    monkeypatch.setitem(DATASET_REGISTRY._entries, "ToyRaw", ToyRaw)
    return ToyRaw


@pytest.mark.parametrize("protected", [False, True])
def test_the_raw_annotation_is_read_once(tmp_path, make_cfg, raw_set, read_only, protected):
    root = tmp_path / "data"
    if protected:
        read_only(root)
    first, second = (build_dataset(make_cfg("ToyRaw", root=root)) for _ in range(2))
    assert raw_set.reads == 1
    assert (first.tasks, first.train_x, first.test) == (second.tasks, second.train_x, second.test)
    assert (root / "raw" / "split_dk_ToyRaw.json").exists() != protected


def test_embedded_data_is_made_where_it_is_missing(tmp_path, make_cfg, monkeypatch):
    class ToyMade(DatasetBase):
        dataset_dir = "made"
        embedded = True

        @classmethod
        def prepare(cls, folder):
            image = write_image(folder / "a.png")
            write_json(folder / "split_zhou_ToyMade.json", {"train": [["a.png", 0, "x"]], "val": [], "test": []})
            assert image.exists()

    monkeypatch.setitem(DATASET_REGISTRY._entries, "ToyMade", ToyMade)
    monkeypatch.setattr(places, "CHECKOUT", tmp_path / "checkout")
    dataset = build_dataset(make_cfg("ToyMade", root=""))
    assert dataset.train_x == [Datum(str(tmp_path / "checkout/data/made/a.png"), 0)]
    assert build_dataset(make_cfg("ToyMade", root=tmp_path / "new")).root == tmp_path / "new"


# -- split files -----------------------------------------------------------------------------------------------

TASK = Task("default", (), "mean_acc")


def test_coop_split(tmp_path):
    path = tmp_path / "split.json"
    write_json(path, {"train": [["b/2.jpg", 1, "Bee"], ["a/1.jpg", 0, "Ant"]], "val": [], "test": [["3", 2, "Cow"]]})
    split = read_split(path, tmp_path / "images", TASK)
    assert split.tasks == (Task("default", ("Ant", "Bee", "Cow"), "mean_acc"),)
    assert split.train[0] == Datum(str(tmp_path / "images" / "b/2.jpg"), 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "is not a split file"),
        ({"train": [], "val": []}, "is not a split file"),
        ({"train": [], "val": [], "test": []}, "label 0 has no image"),
        ({"train": [["a", 0, "x"]], "val": [["b", 2, "y"]], "test": []}, "label 1 has no image"),
        (
            {"train": [["a", 0, "x"]], "val": [["b", 0, "y"]], "test": []},
            "entry 0 of 'val' is ['b', 0, 'y']: label 0 is",
        ),
        ({"train": [["a", "0", "x"]], "val": [], "test": []}, "entry 0 of 'train'"),
        ({"train": [["a", 0]], "val": [], "test": []}, "entry 0 of 'train'"),
        ({"train": [["C:\\x\\a.png", 0, "x"]], "test": []}, "a path on a Windows drive; write it relative to"),
        ({"train": [["c:/x/a.png", 0, "x"]], "test": []}, "a path on a Windows drive; write it relative to"),
        ({"train": [7], "val": [], "test": []}, "entry 0 of 'train'"),
        ({"train": [], "val": [], "test": [], "meta": {}}, "'meta' does not describe"),
        ({"train": [], "val": [], "test": [], "meta": {"taskid2cname": [["x"]], "taskid2tname": []}}, "'meta'"),
        (
            {
                "train": [],
                "val": [],
                "test": [],
                "meta": {"taskid2cname": [["x"]], "taskid2tname": ["t"], "taskid2template": ["a photo"]},
            },
            "template 'a photo' needs '{}' exactly once",
        ),
    ],
)
def test_damaged_split_files(tmp_path, content, words):
    path = tmp_path / "split.json"
    write_json(path, content)
    with pytest.raises(UserError) as caught:
        read_split(path, tmp_path, TASK)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "row", [["a", [3], [0]], ["a", [0], [1]], ["a", [0, 1], [0, 0]], ["a", [], []], ["a", 0, 0], ["a", [-1], [0]]]
)
def test_softcpt_items_must_fit_the_tasks(tmp_path, row):
    path = tmp_path / "split.json"
    meta = {"taskid2cname": [["x", "y", "z"]], "taskid2tname": ["t"]}
    write_json(path, {"train": [], "val": [], "test": [row], "meta": meta})
    with pytest.raises(UserError, match="entry 0 of 'test'"):
        read_split(path, tmp_path, TASK)


TEXT = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=8).filter(is_one_line)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(names=st.lists(st.lists(TEXT, min_size=1, max_size=3), min_size=1, max_size=3), data=st.data())
def test_written_splits_are_read_back(tmp_path, names, data):
    tasks = tuple(Task(f"t{n}", tuple(classes), "overall_acc", "d", "{}!") for n, classes in enumerate(names))
    pairs = [(task, label) for task, classes in enumerate(names) for label in range(len(classes))]
    images = tmp_path / "img"

    def draw_items():
        for task, label in data.draw(st.lists(st.sampled_from(pairs), max_size=5)):
            also = tuple((t, 0) for t in range(len(names)) if t != task and data.draw(st.booleans()))
            yield Datum(str(images / "x" / data.draw(TEXT).replace("/", "_").replace("\\", "_")), label, task, also)

    split = Split(tasks, list(draw_items()), list(draw_items()), list(draw_items()))
    write_json(tmp_path / "s.json", split_content(split, images), indent=None)
    assert read_split(tmp_path / "s.json", images, TASK) == split
