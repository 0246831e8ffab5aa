import json
from collections import Counter

import pytest

from dassl.data.dataset import DATASET_REGISTRY
from dassl.utils.errors import UserError
from tests.datasets.layout import load, pairs, reference, touch_classes, write_lines

CLASSES = [2 + number % 4 for number in range(20)]


@pytest.fixture
def root(tmp_path):
    """Twenty tasks; task n has 2 + n % 4 classes of 10 images."""
    lines = ["id\ttask_name\tdescription\tclasses"]
    for number, count in enumerate(CLASSES):
        names = ", ".join(f"style {chr(97 + label)}" for label in range(count))
        lines.append(f"{number}\tgarment type {number}\tsome words\t{names}")
        touch_classes(tmp_path / "fashion20" / "images" / str(number), map(str, range(count)))
    write_lines(tmp_path / "fashion20" / "task_info.csv", *lines)
    return tmp_path


def test_tasks_and_images(root):
    dataset = load("fashion20", root)
    assert [len(task.classnames) for task in dataset.tasks] == CLASSES
    assert {task.metric for task in dataset.tasks} == {"mean_acc"}
    first, last = dataset.tasks[0], dataset.tasks[19]
    assert (first.name, first.classnames) == ("garment_type_0", ("style a", "style b"))
    assert first.description == "classify garment type 0 into 2 categories"
    assert (first.template, last.template) == (
        "a photo of {}, a type of pants.",
        "a photo of {}, a type of underwear.",
    )
    for items, share in ((dataset.train_x, 5), (dataset.val, 2), (dataset.test, 3)):
        assert [sum(item.task == n for item in items) for n in range(20)] == [share * count for count in CLASSES]
    for item, (path, label) in zip(dataset.test, pairs(dataset.test, root / "fashion20/images"), strict=True):
        assert path.split("/")[:2] == [str(item.task), str(label)]
    assert load("fashion20", root).train_x == dataset.train_x


def test_one_task_is_chosen(root):
    whole = load("fashion20", root)
    dataset = load("fashion20", root, SUBSAMPLE_TASKS="task3")
    assert dataset.tasks == whole.tasks[3:4]
    assert {item.task for item in (*dataset.train_x, *dataset.val, *dataset.test)} == {0}
    assert [i.impath for i in dataset.test] == [i.impath for i in whole.test if i.task == 3]
    assert load("fashion20", root, SUBSAMPLE_TASKS="new").tasks[0].name == "garment_type_10"


def test_halves_of_the_classes(root):
    base = load("fashion20", root, SUBSAMPLE_CLASSES="base")
    new = load("fashion20", root, SUBSAMPLE_CLASSES="new")
    assert [len(task.classnames) for task in base.tasks] == [(count + 1) // 2 for count in CLASSES]
    assert new.tasks[3].classnames == ("style d", "style e")
    assert {item.label for item in new.test if item.task == 3} <= {0, 1}


def test_few_shots(root):
    whole = Counter((item.task, item.label) for item in load("fashion20", root).train_x)
    few = Counter((item.task, item.label) for item in load("fashion20", root, NUM_SHOTS=2).train_x)
    assert few == {pair: min(2, count) for pair, count in whole.items()}


def test_numbers_are_ordered_as_numbers(root):
    names = ",".join(f"c{label}" for label in range(12))
    write_lines(root / "fashion20" / "task_info.csv", "header", f"0\tsleeve length\t{names}")
    touch_classes(root / "fashion20" / "images" / "0", map(str, range(12)))
    dataset = load("fashion20", root)
    assert dataset.tasks[0].classnames[10] == "c10"
    found = {label: path for path, label in pairs(dataset.train_x, root / "fashion20/images/0")}
    assert all(path.split("/")[0] == str(label) for label, path in found.items())


def test_the_table_wins_over_the_split_file_of_the_original(root):
    folder = root / "fashion20"
    load("fashion20", root)
    path = folder / "split_dk_Fashion20.json"
    split = json.loads(path.read_text())
    del split["meta"]["taskid2template"]
    split["meta"]["taskid2desc"] = [["cassify into 5 categories"] * count for count in CLASSES]
    path.write_text(json.dumps(split))
    assert load("fashion20", root).tasks[19].template == "a photo of {}, a type of underwear."
    (folder / "task_info.csv").unlink()
    assert load("fashion20", root).tasks[19].classnames[0] == "style a"


def test_a_table_that_does_not_fit(root):
    load("fashion20", root)
    table = root / "fashion20" / "task_info.csv"
    lines = table.read_text().splitlines()
    write_lines(table, *lines[:-1])
    with pytest.raises(UserError, match=r"task_info\.csv has .* classes, the split file"):
        load("fashion20", root)
    (root / "fashion20" / "split_dk_Fashion20.json").unlink()
    write_lines(table, *lines[:-1], "19\tsocks type\tsome words\tonly one")
    with pytest.raises(UserError, match=r"folder '1' is none of the 1 classes of task 'socks_type'"):
        load("fashion20", root)


def test_garments_of_the_reference():
    tasks = reference("datasets.json")["fashion20"]
    assert DATASET_REGISTRY.get("Fashion20").num_classes == tasks["num_classes_total"]
    from datasets.fashion20 import _KINDS

    assert list(_KINDS) == [task["garment_word_in_zero_shot_template"] for task in tasks["tasks"]]
