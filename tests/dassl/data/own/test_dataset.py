import logging
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import train
from dassl.config import get_cfg_default, merge_cfg
from dassl.data import build_dataset
from dassl.data.manager import DataManager
from dassl.data.own.listing import _MISSING, text_form
from dassl.utils.errors import UserError
from dassl.utils.files import read_json
from tests.dassl.data.toy import ToyShapes, write_image, write_toy

SPLIT_FILE = "split_my_tasks/parts.json"
COLOURS = ["red", "blue", ""]
SHAPES = ["round", "square"]


@pytest.fixture
def root(tmp_path):
    """Mugs in folders (ok 10, chip 5), tiles with colour and shape in a table; the images are empty files."""
    root = tmp_path / "pictures"
    for name, count in (("ok", 10), ("chip", 5)):
        touch(root, *(f"mugs/{name}/{number}.jpg" for number in range(count)))
    rows = [(f"tiles/{n:02}.png", COLOURS[n % 3], SHAPES[n % 2]) for n in range(24)]
    touch(root, *(row[0] for row in rows))
    write_table(root, rows)
    return root


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_table(root, rows, name="tiles.csv", header="image,colour,shape"):
    (root / name).write_text("\n".join([header, *(",".join(row) for row in rows)]), encoding="utf-8")


MUGS = {"name": "mug condition", "folder": "mugs"}
COLOUR = {"name": "tile colour", "table": "tiles.csv", "label": "colour"}
SHAPE = {"name": "tile shape", "table": "tiles.csv", "label": "shape", "metric": "mean_acc"}


def config(root, *tasks, **keys):
    file = root.parent / "mine.yaml"
    file.write_text(yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TASKS": list(tasks)}}), encoding="utf-8")
    cfg = get_cfg_default()
    pairs = {"DATASET.ROOT": root, "OUTPUT_DIR": root.parent / "output" / "run", "SEED": 1}
    pairs |= {name.replace("__", "."): value for name, value in keys.items()}
    merge_cfg(cfg, files=[file], pairs=[str(word) for pair in pairs.items() for word in pair])
    return cfg


def built(root, *tasks, **keys):
    return build_dataset(config(root, *tasks, **keys))


def seen(dataset, split="train_x"):
    """{relative path: {task name: class name}} of a list of images."""
    return {
        Path(item.impath).relative_to(dataset.root).as_posix(): {
            dataset.tasks[task].name: dataset.tasks[task].classnames[label] for task, label in item.targets
        }
        for item in getattr(dataset, split)
    }


def whole(dataset):
    return seen(dataset) | seen(dataset, "val") | seen(dataset, "test")


def mistake(root, *tasks, **keys):
    with pytest.raises(UserError) as caught:
        built(root, *tasks, **keys)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    return message


# -- what is read ----------------------------------------------------------------------------------------------


def test_folders_and_tables_become_tasks(root):
    dataset = built(root, MUGS, {**SHAPE, "description": "round?", "template": "a {} tile"}, COLOUR)
    assert [(task.name, task.classnames, task.metric) for task in dataset.tasks] == [
        ("mug condition", ("chip", "ok"), "overall_acc"),
        ("tile shape", ("round", "square"), "mean_acc"),
        ("tile colour", ("blue", "red"), "overall_acc"),
    ]
    assert (dataset.tasks[1].description, dataset.tasks[1].template) == ("round?", "a {} tile")
    images = whole(dataset)
    assert len(images) == 15 + 24
    for number in range(24):
        colour = {"tile colour": COLOURS[number % 3]} if COLOURS[number % 3] else {}
        assert images[f"tiles/{number:02}.png"] == {"tile shape": SHAPES[number % 2], **colour}
    assert images["mugs/ok/3.jpg"] == {"mug condition": "ok"}


def test_every_class_gets_its_shares(root):
    dataset = built(root, MUGS, {**COLOUR, "ratios": {"train": 0.25, "val": 0.25, "test": 0.5}})
    counts = [
        Counter(pair for item in items for pair in item.targets)
        for items in (dataset.train_x, dataset.val, dataset.test)
    ]
    assert [[count[0, label] for count in counts] for label in (0, 1)] == [[2, 1, 2], [5, 2, 3]]
    assert [[count[1, label] for count in counts] for label in (0, 1)] == [[2, 2, 4], [2, 2, 4]]


def test_classes_can_be_renamed_joined_and_ordered(root):
    touch(root, "mugs/crack/1.jpg", "mugs/crack/2.jpg")
    renamed = built(root, {**MUGS, "classes": {"crack": "broken", "chip": "broken", "ok": "whole"}})
    assert renamed.tasks[0].classnames == ("broken", "whole")
    assert Counter(labels["mug condition"] for labels in whole(renamed).values()) == {"broken": 7, "whole": 10}
    ordered = built(root, {**MUGS, "classes": ["ok", "chip", "crack"]})
    assert ordered.tasks[0].classnames == ("ok", "chip", "crack")
    assert whole(ordered)["mugs/ok/1.jpg"] == {"mug condition": "ok"}


def test_the_data_may_say_what_is_for_training(root):
    rows = [(f"tiles/{n:02}.png", SHAPES[n % 2], ["train", "test", ""][n // 2 % 3]) for n in range(24)]
    write_table(root, rows, header="image,shape,split")
    dataset = built(root, SHAPE)
    for name, _, split in rows:
        where = [each for each in ("train_x", "val", "test") if name in seen(dataset, each)]
        assert len(where) == 1
        assert not split or where[0].startswith(split)
    stored = read_json(root / SPLIT_FILE)
    assert len([*stored["train"], *stored["val"], *stored["test"]]) == 8
    assert dataset.val  # the open ones fill what lacks


def test_tables_that_share_images_are_one_data_set(root):
    write_table(root, [(f"tiles/{n:02}.png", "ab"[n % 2]) for n in range(12)], "more.csv", "image,maker")
    dataset = built(root, SHAPE, {"name": "maker", "table": "more.csv", "label": "maker"})
    assert whole(dataset)["tiles/03.png"] == {"tile shape": "square", "maker": "b"}
    assert whole(dataset)["tiles/20.png"] == {"tile shape": "round"}


# -- what stays the same ---------------------------------------------------------------------------------------


def test_a_subset_does_not_depend_on_the_tasks_beside_it(root):
    alone = seen(built(root, MUGS, DATASET__NUM_SHOTS=2))
    beside = built(root, COLOUR, SHAPE, MUGS, DATASET__NUM_SHOTS=2)
    assert {name: labels for name, labels in seen(beside).items() if name.startswith("mugs")} == alone
    assert len(alone) == 4
    records = list((root / "split_my_tasks").rglob("shot_2-seed_1.json"))
    assert len(records) == 2
    assert {name for record in records for name in read_json(record)["train"]} == set(seen(beside))


def test_the_digest_names_the_subset_wherever_it_lies(root):
    digest = built(root, MUGS, SHAPE, DATASET__NUM_SHOTS=2).subset_digest
    moved = root.rename(root.parent / "moved")
    assert built(moved, MUGS, SHAPE, DATASET__NUM_SHOTS=2).subset_digest == digest
    assert built(moved, MUGS, SHAPE, DATASET__NUM_SHOTS=2, SEED=2).subset_digest != digest


def test_detours_in_paths_change_nothing(root):
    straight = built(root, MUGS, SHAPE, DATASET__NUM_SHOTS=2)
    (root / SPLIT_FILE).unlink()
    tasks = (
        {**MUGS, "folder": "../pictures/./mugs"},
        {**SHAPE, "table": "mugs\\..\\tiles.csv", "image_folder": "mugs/.."},
    )
    detour = built(root / ".." / "pictures", *tasks, DATASET__NUM_SHOTS=2)
    assert detour.subset_digest == straight.subset_digest
    assert (detour.root, detour.train_x, detour.test) == (straight.root, straight.train_x, straight.test)


def test_the_split_does_not_depend_on_the_order_of_rows(root):
    first = built(root, COLOUR, SHAPE)
    rows = (root / "tiles.csv").read_text(encoding="utf-8").splitlines()
    (root / "tiles.csv").write_text("\n".join([rows[0], *rows[:0:-1]]), encoding="utf-8")
    (root / SPLIT_FILE).unlink()
    again = built(root, COLOUR, SHAPE)
    assert (again.train_x, again.val, again.test) == (first.train_x, first.val, first.test)


def test_new_and_removed_pictures(root, caplog):
    before = built(root, MUGS)
    (root / "mugs/ok/0.jpg").unlink()
    touch(root, "mugs/ok/new.jpg", "mugs/chip/new.jpg")
    caplog.set_level(logging.INFO)
    after = built(root, MUGS)
    (message,) = [message for message in caplog.messages if "keep their split" in message]
    assert "14 images keep their split, 2 new ones got one, 1 are gone" in message
    for split in ("train_x", "val", "test"):
        old = {name for name in seen(before, split) if name != "mugs/ok/0.jpg"}
        assert old <= set(seen(after, split))
    assert {"mugs/ok/new.jpg", "mugs/chip/new.jpg"} <= set(whole(after))


def test_a_task_keeps_its_split_when_another_one_comes(root):
    before = built(root, COLOUR)
    after = built(root, COLOUR, SHAPE)
    for split in ("train_x", "val", "test"):
        assert set(seen(before, split)) <= set(seen(after, split))


# -- with registered data sets ---------------------------------------------------------------------------------


def test_registered_data_sets_stand_beside_own_tasks(root):
    write_toy(root)
    pets = {"dataset": "ToyPets", "name": "pet", "classes": {"grey_parrot": "parrot"}}
    dataset = built(root, {"dataset": "ToyShapes"}, MUGS, pets, DATASET__NUM_SHOTS=1)
    assert [task.name for task in dataset.tasks] == ["colour", "shape", "mug condition", "pet"]
    assert dataset.tasks[3].classnames == ("cat", "dog", "parrot") and dataset.tasks[3].metric == "mean_acc"
    alone = ToyShapes(config(root, DATASET__NUM_SHOTS=1))
    shapes = {name: labels for name, labels in seen(dataset).items() if name.startswith("shapes")}
    assert shapes == seen(alone)
    assert {name.split("/")[0] for name in seen(dataset)} == {"shapes", "mugs", "pets"}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"dataset": "ToyPet"}, ["unknown data set 'ToyPet'", "ToyPets"]),
        ({"dataset": "ToyShapes", "name": "x"}, ["ToyShapes has 2 tasks"]),
        ({"dataset": "MyTasks"}, ["cannot be one of its own"]),
        ({"dataset": "ToyPets", "classes": {"catt": "x"}}, ["'catt'", "did you mean 'cat'"]),
        ({"dataset": "ToyPets", "classes": {"cat": "dog"}}, ["cannot be merged"]),
        ({"dataset": "ToyPets", "classes": ["cat", "dog"]}, ["can only be renamed"]),
        ({"name": "Pet kind", "folder": "mugs"}, ["two tasks are called 'pet_kind'", "rename one"]),
    ],
)
def test_mistakes_with_registered_data_sets(root, task, words):
    write_toy(root)
    message = mistake(root, {"dataset": "ToyPets"}, task)
    assert all(word in message for word in words), message


# -- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({**MUGS, "folder": "mgus"}, ["no folder", "did you mean 'mugs'?"]),
        ({**MUGS, "classes": {"chp": "chipped"}}, ["no image has the label 'chp'", "did you mean 'chip'?"]),
        ({**MUGS, "classes": {"zzz": "x"}}, ["its labels are 'chip', 'ok'"]),
        ({**MUGS, "classes": ["ok", "chip", "crack"]}, ["no image has the label 'crack'"]),
        ({**MUGS, "classes": {"ok": "chip_", "chip": "Chip"}}, ["'Chip' and 'chip_' read alike"]),
        ({**MUGS, "classes": {"ok": "chip"}}, ["only the class 'chip'", "needs two"]),
        ({**MUGS, "folder": "."}, ["only the class", "holds the class folders"]),
        ({**COLOUR, "classes": ["red", "green"]}, ["tiles.csv, line 3", "'blue' is not among its classes"]),
        ({**COLOUR, "classes": ["red", "bleu"]}, ["label 'blue'", "did you mean 'bleu'?"]),
        ({**COLOUR, "label": "color"}, ["no column 'color'", "did you mean 'colour'?"]),
        ({**COLOUR, "image_folder": "tiles"}, ["line 2", "there is no image"]),
    ],
)
def test_mistakes_get_one_line(root, task, words):
    if task["folder" if "folder" in task else "table"] == ".":
        (root / "tiles").rename(root.parent / "tiles")
    message = mistake(root, task)
    assert message.startswith(f"task {task['name']!r}: ")
    assert all(word in message for word in words), message


def test_an_image_with_two_labels(root, caplog):
    with (root / "tiles.csv").open("a", encoding="utf-8") as file:
        file.write("\ntiles/00.png,red,round\n./tiles/03.png,blue,square\n")
    message = mistake(root, COLOUR)
    assert all(word in message for word in ("tiles/03.png", "'red' in line 5", "'blue' in line 27", "remove one"))
    caplog.set_level(logging.INFO)
    built(root, SHAPE)
    assert "Task 'tile shape': 2 images are listed more than once, with the same label" in caplog.messages


def test_labels_that_differ_in_case_only(root):
    with (root / "tiles.csv").open("a", encoding="utf-8") as file:
        file.write("\ntiles/02.png,Red,round\n")
    assert "'Red' and 'red' read alike" in mistake(root, COLOUR)
    assert built(root, {**COLOUR, "classes": {"Red": "red"}}).tasks[0].classnames == ("red", "blue")


def test_one_image_cannot_be_in_two_splits(root):
    rows = [(f"tiles/{n:02}.png", "ab"[n % 2], "train") for n in range(12)]
    write_table(root, rows, "a.csv", "image,label,split")
    write_table(root, [(name, label, "test") for name, label, _ in rows], "b.csv", "image,label,split")
    message = mistake(root, {"name": "a", "table": "a.csv"}, {"name": "b", "table": "b.csv"})
    assert "is for test" in message and "for train" in message
    assert "task 'a' has no image for test; put some into" in mistake(root, {"name": "a", "table": "a.csv"})


def test_changed_ratios(root):
    built(root, MUGS, COLOUR)
    message = mistake(root, {**MUGS, "ratios": [0.8, 0.1, 0.1]}, COLOUR)
    assert "the ratios of mugs are 0.8/0.1/0.1" in message and SPLIT_FILE in message
    (root / SPLIT_FILE).unlink()
    assert len(built(root, {**MUGS, "ratios": [0.8, 0.1, 0.1]}).train_x) == 3 + 8


def test_tiny_classes_are_said(root, caplog):
    touch(root, "mugs/crack/only.jpg")
    dataset = built(root, MUGS)
    assert "mugs/crack/only.jpg" in seen(dataset)
    (message,) = [message for message in caplog.messages if "testing" in message]
    assert message == (
        "task 'mug condition': 1 of 3 classes have no image for testing: 'crack' (single images: 1); "
        "add images or merge classes"
    )


def pictures(root, *names):
    """Images that all differ."""
    for number, name in enumerate(names):
        write_image(root / name, seed=number)


def test_copies_stay_in_one_split(root, caplog):
    caplog.set_level(logging.INFO)
    pictures(root, *(f"cups/{name}/{number}.png" for name in ("ok", "chip") for number in range(8)))
    for number in range(8):
        for copy in (f"{number} (1).png", f"{number} - Copy.png"):
            shutil.copy(root / "cups/ok" / f"{number}.png", root / "cups/ok" / copy)
    dataset = built(root, {"name": "cup", "folder": "cups"})
    for split, count in (("train_x", 4), ("val", 2), ("test", 2)):
        names = [name for name in seen(dataset, split) if "/ok/" in name]
        assert len(names) == 3 * count and len({re.split(r"[ .]", name)[0] for name in names}) == count
    (message,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert "16 of 32 pictures (train 8, val 4, test 4) are copies of another one of their class and split" in message


def test_equal_pictures_in_training_and_test_are_a_remark(root, caplog):
    names = [
        f"cups/{split}/{name}/{number}.png" for split in ("train", "test") for name in ("ok", "chip") for number in "12"
    ]
    pictures(root, *names)
    shutil.copy(root / "cups/train/ok/1.png", root / "cups/test/ok/copy.png")
    Image.open(root / "cups/train/chip/2.png").save(root / "cups/test/chip/again.bmp")
    Image.open(root / "cups/test/chip/1.png").save(root / "cups/test/ok/wrong.bmp")
    built(root, {"name": "cup", "folder": "cups"})
    leaked, labels = (record.message for record in caplog.records if record.levelno == logging.WARNING)
    assert leaked.startswith("task 'cup': 2 of 7 test images are the same pictures as training images, e.g. ")
    assert "cups/test/ok/copy.png = cups/train/ok/1.png" in leaked and "again.bmp = cups/train/chip/2.png" in leaked
    assert "1 images are the same pictures as others with another label, e.g. cups/test/ok/wrong.bmp = " in labels
    caplog.clear()
    built(root, {"name": "cup", "folder": "cups"})  # from the record
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [leaked, labels]
    caplog.clear()
    built(root, {"name": "cup", "folder": "cups"}, DATASET__CHECK_IMAGES=False)  # equal files only
    assert "1 of 7 test images" in caplog.text


def test_a_class_of_copies_of_one_picture_is_shared_out(root, caplog):
    pictures(root, *(f"cups/{name}/{number}.png" for name in ("ok", "chip") for number in range(4)))
    for number in range(1, 4):
        shutil.copy(root / "cups/ok/0.png", root / f"cups/ok/{number}.png")
    assert built(root, {"name": "cup", "folder": "cups"}).test
    assert "the same pictures as training images" in caplog.text


def test_classes_that_only_the_test_folder_has(root, caplog):
    touch(root, *(f"cups/train/{name}/{number}.png" for name in ("ok", "chip") for number in "123"))
    touch(root, "cups/test/ok/4.png", "cups/test/chpi/5.png", "cups/test/chpi/6.png")
    built(root, {"name": "cup", "folder": "cups"})
    untrained, untested = caplog.messages
    assert "1 of 3 classes have 2 images for testing and none for training" in untrained
    assert "'chpi' (is 'chpi' meant to be 'chip'?); add training images" in untrained
    assert "1 of 3 classes have no image for testing: 'chip'" in untested
    (root / "cups/test/ok/4.png").rename(root / "cups/test/chpi/4.png")
    (root / "cups/test/ok").rmdir()
    message = mistake(root, {"name": "cup", "folder": "cups"})
    assert "the classes for testing ('chpi') are none of those for training ('chip', 'ok')" in message


def test_folders_and_labels_in_another_normal_form(root):
    composed, decomposed = "t\u00e9", "te\u0301"
    touch(root, *(f"{decomposed}/{name}/{number}.png" for name in (decomposed, "ok") for number in range(4)))
    dataset = built(root, {"name": "cup", "folder": composed, "classes": {composed: "tea"}})
    assert dataset.tasks[0].classnames == ("ok", "tea")
    again = built(root, {"name": "cup", "folder": decomposed, "classes": {decomposed: "tea"}})
    assert again.test == dataset.test


def test_absolute_paths_need_no_root(root, tmp_path):
    tasks = [{**MUGS, "folder": str(root / "mugs")}, {**COLOUR, "table": str(root / "tiles.csv")}]
    here = built(root, MUGS, COLOUR)
    there = built(root, *tasks, DATASET__ROOT="")
    assert there.root == tmp_path and (tmp_path / SPLIT_FILE).is_file()  # beside the yaml file
    assert [task.name for task in there.tasks] == [task.name for task in here.tasks]
    assert {item.impath for item in there.test} | {item.impath for item in there.train_x} | {
        item.impath for item in there.val
    } == {str(root / name) for name in whole(here)}
    again = built(root, *tasks, DATASET__ROOT="")
    assert again.test_digest == there.test_digest and again.subset_digest == there.subset_digest
    message = mistake(root, MUGS, DATASET__ROOT="")
    assert "name it with --root FOLDER, or write absolute paths" in message


def test_no_tasks_and_no_root(root, tmp_path):
    assert "DATASET.TASKS is empty" in mistake(root)
    assert "--root" in mistake(root, MUGS, DATASET__ROOT="")


def test_a_name_that_does_not_fit_is_one_line(root, tmp_path, capsys):
    """The backbone's room counts the tokens of a prompt; task, label and remedy are added."""
    for path in root.rglob("*.jpg"):
        write_image(path)
    config(root, MUGS | {"classes": {"ok": "very " * 80 + "good"}})
    words = ["--trainer", "MTCoOp", "--root", str(root), "--output-dir", str(tmp_path / "output" / "x"), "--seed", "1"]
    words += ["--dataset-config-file", str(tmp_path / "mine.yaml"), "INPUT.SIZE", "64,64", "MODEL.BACKBONE.NAME"]
    assert train.main([*words, str(tiny_backbone(tmp_path))]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "'mug condition': class 'very very" in line and "77" in line
    assert "the name of label 'ok', a folder in mugs" in line and "classes: {LABEL: SHORTER NAME}" in line


def tiny_backbone(folder):
    from safetensors.torch import save_file

    from tests.clip.helpers import openai_state, random_model

    save_file(openai_state(random_model("rn")), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


# -- any data --------------------------------------------------------------------------------------------------

LETTERS = (
    st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters='",_'), min_size=1, max_size=6)
    .map(text_form)
    .filter(lambda name: name.casefold() not in _MISSING)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(LETTERS, min_size=2, max_size=4, unique_by=str.casefold),
    st.lists(st.lists(st.integers(-1, 3), min_size=2, max_size=2), min_size=6, max_size=24),
    st.sampled_from([(0.5, 0.2, 0.3), (0.8, 0.0, 0.2), (0.34, 0.33, 0.33)]),
)
def test_any_table_loses_and_invents_nothing(tmp_path, names, cells, ratios):
    """Labels of two tasks come back as they were written, each image is in one split, and empty cells count as none."""
    root = tmp_path / "any"
    labels = [[names[cell % len(names)] if cell >= 0 else "" for cell in row] for row in cells]
    paths = [f"i{number}.png" for number in range(len(labels))]
    touch(root, *paths)
    (root / SPLIT_FILE).unlink(missing_ok=True)
    write_table(root, [(path, *row) for path, row in zip(paths, labels, strict=True)], "any.csv", "image,a,b")
    tasks = [{"name": f"task {c}", "table": "any.csv", "label": c, "ratios": list(ratios)} for c in "ab"]
    wanted = {
        path: {task["name"]: label for task, label in zip(tasks, row, strict=True) if label}
        for path, row in zip(paths, labels, strict=True)
    }
    try:
        dataset = built(root, *tasks)
    except UserError as error:
        few = any(len({row[column] for row in labels} - {""}) < 2 for column in range(2))
        apart = "are none of those for training" in str(error)
        assert few or apart or "has no image for" in str(error), error
        return
    assert whole(dataset) == {path: row for path, row in wanted.items() if row}
    assert sum(map(len, (dataset.train_x, dataset.val, dataset.test))) == len(whole(dataset))


def test_batches_of_own_tasks(root):
    for path in [*root.rglob("*.jpg"), *root.rglob("*.png")]:
        write_image(path)
    manager = DataManager(config(root, MUGS, COLOUR, SHAPE, INPUT__SIZE="16,16", DATALOADER__NUM_WORKERS=0))
    entries = sum(len(batch["label"]) for batch in manager.test_loader)
    assert entries == sum(len(item.targets) for item in manager.dataset.test) > len(manager.dataset.test)


def test_labels_that_yaml_reads_as_octal_numbers(root):
    touch(root, "boxes/001/a.jpg", "boxes/010/b.jpg")
    task = {"name": "box", "folder": "boxes", "classes": yaml.safe_load("{001: open, 010: shut}")}
    with pytest.raises(UserError, match=r'label .1. .* need quotes in YAML, such as "001"'):
        build_dataset(config(root, task))
