"""Labels of multi-label tasks in tables: several in a cell, 0/1 columns, several rows."""

import logging
import random
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.data.datum import classes_in
from dassl.data.manager import DataManager
from dassl.data.own.splitfile import split_sizes
from dassl.utils.tools import CHECKOUT
from tests.dassl.data.own.test_dataset import built, config, mistake, touch
from tests.own import write_pictures
from tests.test_docs import blocks

TAGS = {"name": "tags", "table": "t.csv", "label": "tags", "type": "multi"}


def write(root, *lines, header="image,tags"):
    root.mkdir(exist_ok=True)
    touch(root, *{line.split(",")[0] for line in lines})
    (root / "t.csv").write_text("\n".join([header, *lines]), encoding="utf-8")


def labels(dataset):
    """{name of the image: its labels} of all images of the first task."""
    (task, *_), found = dataset.tasks, {}
    for item in (*dataset.train_x, *dataset.val, *dataset.test):
        found[Path(item.impath).name] = [task.classnames[each] for each in classes_in(dict(item.targets)[0])]
    return found


@pytest.fixture
def root(tmp_path):
    return tmp_path / "pictures"


@pytest.mark.parametrize("mark", [";", "|"])
def test_several_labels_in_a_cell(root, caplog, mark):
    write(root, f"a.jpg,cat{mark}dog", f"b.jpg,dog {mark} dog", "c.jpg,cat", "d.jpg,none", "e.jpg,")
    with caplog.at_level(logging.INFO):
        found = built(root, {**TAGS, "none": "none"})
    assert found.tasks[0].classnames == ("cat", "dog") and found.tasks[0].multi and found.tasks[0].metric == "mAP"
    assert labels(found) == {"a.jpg": ["cat", "dog"], "b.jpg": ["dog"], "c.jpg": ["cat"], "d.jpg": []}
    assert f"labels in column 'tags' are separated by '{mark}' (2 of 5 cells have it)" in caplog.text
    assert "1 of 4 images have none of its labels" in caplog.text


def test_a_separator_that_is_said_and_an_empty_cell_that_means_none(root, caplog):
    write(root, "a.jpg,black; white + dog", "b.jpg,dog", "c.jpg,", "d.jpg,dog")
    found = built(root, {**TAGS, "separator": "+", "none": ""})
    assert labels(found) == {"a.jpg": ["black; white", "dog"], "b.jpg": ["dog"], "c.jpg": [], "d.jpg": ["dog"]}
    assert "separated by" not in caplog.text


def test_a_guess_between_two_separators_is_a_warning(root, caplog):
    write(root, "a.jpg,black|white;dog", "b.jpg,dog", "c.jpg,dog")
    assert built(root, TAGS).tasks[0].classnames == ("black|white", "dog")
    (line,) = [record.getMessage() for record in caplog.records if "separated by" in record.getMessage()]
    assert "'|' are part of labels; separator: says it" in line


def test_columns_of_ones_and_zeros(root):
    rows = ("a.jpg,1,0,yes", "b.jpg,0,-1,no", "c.jpg,,,", "d.jpg,x,0,1")
    write(root, *rows, header="image,dog,bird,cat")
    task = {"name": "tags", "table": "t.csv", "labels": ["dog", "bird", "cat"], "type": "multi"}
    found = built(root, {**task, "classes": {"cat": "tabby cat"}})
    assert found.tasks[0].classnames == ("dog", "bird", "tabby cat")
    assert labels(found) == {"a.jpg": ["dog", "tabby cat"], "b.jpg": [], "d.jpg": ["dog", "tabby cat"]}
    write(root, "a.jpg,1,0,2", header="image,dog,bird,cat")
    assert "line 2: column 'cat' is '2'; write 1 for images with the label, else 0" in mistake(root, task)
    write(root, "a.jpg,1,0,", header="image,dog,bird,cat")
    assert "column 'cat' is empty" in mistake(root, task)


def test_several_rows_of_an_image(root):
    write(root, "a.jpg,cat", "b.jpg,dog", "a.jpg,dog", "c.jpg,none")
    assert labels(built(root, {**TAGS, "none": "none"})) == {"a.jpg": ["cat", "dog"], "b.jpg": ["dog"], "c.jpg": []}
    write(root, "a.jpg,cat", "b.jpg,dog", "a.jpg,none")
    assert "has labels in one of the lines 2 and 4, and none in the other" in mistake(root, {**TAGS, "none": "none"})


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (
            {"name": "t", "folder": "f", "type": "multi"},
            "type: multi needs a table of labels, and this task has a folder",
        ),
        ({"dataset": "ToyPets", "type": "multi"}, "this task has a dataset"),
        ({**TAGS, "type": "both"}, "type is 'both': choose one of single, multi"),
        ({**TAGS, "metric": "mean_acc"}, "with type: multi choose mAP"),
        ({**TAGS, "weight": "balanced"}, "weight is for one label an image"),
        ({**TAGS, "labels": ["a", "b"]}, "label is for labels in one cell, and labels names columns"),
        ({"name": "t", "table": "t.csv", "separator": ";"}, "separator is for a task with type: multi"),
        ({"name": "t", "table": "t.csv", "metric": "mAP"}, "metric mAP is for a task with type: multi"),
        ({**TAGS, "separator": " "}, "expected a text such as"),
    ],
)
def test_mistakes_get_one_line(root, task, words):
    write(root, "a.jpg,cat")
    assert words in mistake(root, task)


SETS = st.lists(st.sets(st.integers(0, 4)), min_size=12, max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(SETS, st.integers(0, 99))
def test_every_label_gets_its_share_of_each_split(tmp_path_factory, sets, seed):
    """The rarest class is divided exactly; the others as nearly as their common images allow."""
    root = tmp_path_factory.mktemp("multi") / "pictures"
    rows = [f"{n:02}.jpg,{';'.join(f'tag{each}' for each in sorted(its)) or 'none'}" for n, its in enumerate(sets)]
    rows += [f"x{n}.jpg,tag{n % 2}" for n in range(8)]
    random.Random(seed).shuffle(rows)
    write(root, *rows)
    for place in root.glob("*.jpg"):
        place.write_text(place.name)  # equal files would be copies, which share a split
    task = {**TAGS, "none": "none", "separator": ";"}
    dataset = built(root, task)
    splits = {"train": dataset.train_x, "val": dataset.val, "test": dataset.test}
    count = {name: Counter(c for i in items for c in classes_in(i.label) or (-1,)) for name, items in splits.items()}
    total = sum(count.values(), Counter())
    rarest = min(total, key=lambda each: (total[each], each != -1, each))
    sizes = [count[name][rarest] for name in splits]
    assert sizes == list(split_sizes(total[rarest], (0.5, 0.2, 0.3)))
    assert sum(map(len, splits.values())) == len(sets) + 8
    again = built(root, task)
    assert [i.impath for i in again.test] == [i.impath for i in dataset.test]


def test_labels_of_batches_are_numbers_of_sets(root):
    names = [f"{n}.png" for n in range(12)]
    write_pictures(root, names)
    rows = [f"{name},{'cat;dog' if n % 2 else 'none'},{'abc'[n % 3]}" for n, name in enumerate(names)]
    write(root, *rows, header="image,tags,kind")
    write_pictures(root, names)
    kind = {"name": "kind", "table": "t.csv", "label": "kind"}
    dm = DataManager(config(root, kind, {**TAGS, "none": "none"}, DATALOADER__NUM_WORKERS=0, INPUT__SIZE="32,32"))
    assert dm.multi.tolist() == [False, True] and dm.label_sets.table.shape == (2, 5)
    seen = {}
    for split in ("train", "val", "test"):
        for batch in dm.plain_loader(split):
            truth = dm.truth(batch)
            for row, task, its in zip(batch["row"].tolist(), batch["task"].tolist(), truth.tolist(), strict=True):
                seen[Path(batch["impath"][row]).stem, task] = its
    none, both = [False] * 5, [False, False, False, True, True]
    assert {n: seen[str(n), 1] for n in range(12)} == {n: both if n % 2 else none for n in range(12)}
    assert all(seen[str(n), 0] == none for n in range(12))


def test_the_page_says_labels_in_these_ways(root):
    page = CHECKOUT / "docs" / "multi-label.md"
    (described,) = blocks(page, "yaml")
    (table,) = [block for block in blocks(page, "") if block.startswith("image,")]
    header, *rows = table.splitlines()
    write(root, *rows, header=header)
    (root / "t.csv").rename(root / "pets.csv")
    found = built(root, *yaml.safe_load(described)["DATASET"]["TASKS"])
    assert [task.name for task in found.tasks] == ["animals in the picture", "pets in the picture"]
    seen = {Path(i.impath).name: i.targets for i in (*found.train_x, *found.val, *found.test)}
    assert seen == {"a.jpg": ((0, 3), (1, 3)), "b.jpg": ((0, 2), (1, 2)), "c.jpg": ((0, 0), (1, 0))}
