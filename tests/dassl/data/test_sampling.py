import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.data import sampling
from dassl.data.datum import Datum, Split, Task, classes_in
from dassl.utils.errors import UserError
from tests.folders import golden_folder

SIZES = (2, 3, 1)


@st.composite
def pair_lists(draw):
    """One to three (task, label) pairs of different tasks."""
    tasks = draw(st.lists(st.sampled_from(range(len(SIZES))), min_size=1, max_size=3, unique=True))
    return [(task, draw(st.integers(0, SIZES[task] - 1))) for task in tasks]


def as_items(pairs, prefix=""):
    return [Datum(f"{prefix}{i}", first[1], first[0], tuple(also)) for i, (first, *also) in enumerate(pairs)]


ITEMS = st.lists(pair_lists(), max_size=30).map(as_items)
SINGLE = st.lists(st.integers(0, 3), max_size=40).map(lambda labels: as_items([[(0, label)] for label in labels]))
SPLITS = st.builds(lambda a, b, c: Split(tuple(make_tasks(SIZES)), a, b, c), ITEMS, ITEMS, ITEMS)


def make_tasks(sizes):
    return [Task(f"t{n}", tuple(f"c{n}.{i}" for i in range(size))) for n, size in enumerate(sizes)]


def pairs_by_name(split, items):
    """{image: {(task name, class name)}}: what a label means, whatever its number is."""
    return {
        item.impath: {(split.tasks[t].name, split.tasks[t].classnames[label]) for t, label in item.targets}
        for item in items
    }


def test_small_class_gives_all_in_order_and_draws_nothing():
    items = as_items([[(0, 0)], [(0, 1)], [(0, 0)], [(0, 1)], [(0, 1)]])
    rng = random.Random(5)
    chosen = sampling.few_shot(items, 3, rng)
    assert [item.impath for item in chosen[:2]] == ["0", "2"]
    expected = random.Random(5)
    assert [item.impath for item in chosen[2:]] == expected.sample(["1", "3", "4"], 3)
    assert rng.getstate() == expected.getstate()


@given(SINGLE, st.integers(1, 6), st.integers(0, 2**32))
def test_few_shot_takes_shots_of_every_class(items, shots, seed):
    chosen = sampling.few_shot(items, shots, random.Random(seed))
    have = Counter(item.label for item in items)
    assert Counter(item.label for item in chosen) == {label: min(shots, n) for label, n in have.items()}
    assert len({id(item) for item in chosen}) == len(chosen)
    assert all(any(item is other for other in items) for item in chosen)
    assert list(dict.fromkeys(i.label for i in chosen)) == list(dict.fromkeys(i.label for i in items))


@given(ITEMS, st.integers(1, 4), st.integers(0, 100))
def test_few_shot_with_several_targets_serves_every_class_once(items, shots, seed):
    chosen = sampling.few_shot(items, shots, random.Random(seed))
    assert len({item.impath for item in chosen}) == len(chosen)
    have = Counter(pair for item in items for pair in item.targets)
    got = Counter(pair for item in chosen for pair in item.targets)
    assert all(got[pair] >= min(shots, n) for pair, n in have.items())


@given(SINGLE, SINGLE, st.integers(1, 6), st.integers(0, 100))
def test_subset_depends_on_its_arguments_alone(train, val, shots, seed):
    first = sampling.fewshot_split(train, val, shots, seed)
    state = random.getstate()
    random.random()
    assert sampling.fewshot_split(train, val, shots, seed) == first
    random.setstate(state)
    assert max(Counter(item.label for item in first[1]).values(), default=0) <= min(shots, 4)


def test_train_and_val_share_one_stream():
    train, val = (as_items([[(0, n % 2)] for n in range(24)], prefix) for prefix in ("train", "val"))
    rng = random.Random(7)
    groups = [[item for item in items if item.label == label] for items in (train, val) for label in (0, 1)]
    one, two, three, four = (rng.sample(group, shots) for group, shots in zip(groups, (6, 6, 4, 4), strict=True))
    assert sampling.fewshot_split(train, val, 6, 7) == (one + two, three + four)


@pytest.mark.parametrize("shots", [0, -1])
def test_no_shots_means_all(shots):
    items = as_items([[(0, 1)], [(0, 0)]])
    assert sampling.fewshot_split(items, items[:1], shots, 3) == (items, items[:1])


def test_short_classes_counts_absent_ones_too():
    tasks = make_tasks((3,))
    assert sampling.short_classes(tasks, as_items([[(0, 0)], [(0, 0)], [(0, 2)]]), 2) == [(0, 1, 0), (0, 2, 1)]


@given(st.lists(st.integers(), unique=True))
def test_halves_partition(numbers):
    base, new = sampling.halves(numbers, "base"), sampling.halves(numbers, "new")
    assert base + new == numbers == sampling.halves(numbers, "all")
    assert 0 <= len(base) - len(new) <= 1


@given(SPLITS)
def test_base_and_new_share_out_every_label(split):
    split = sampling.subsample_tasks(split, ["task0", "task1"])
    base, new = (sampling.subsample_classes(split, part) for part in ("base", "new"))
    for whole, one, two in zip(split.lists, base.lists, new.lists, strict=True):
        named, first, second = (
            pairs_by_name(s, items) for s, items in zip((split, base, new), (whole, one, two), strict=True)
        )
        assert {path: first.get(path, set()) | second.get(path, set()) for path in named} == named
        assert all(not first.get(path, set()) & second.get(path, set()) for path in named)
    assert [len(task.classnames) for task in base.tasks] == [1, 2]
    assert [len(task.classnames) for task in new.tasks] == [1, 1]


@given(SPLITS, st.sets(st.integers(0, 2), min_size=1))
def test_choosing_tasks_keeps_exactly_their_labels(split, numbers):
    chosen = sampling.subsample_tasks(split, ",".join(f"task{n}" for n in numbers))
    assert [task.name for task in chosen.tasks] == [f"t{n}" for n in sorted(numbers)]
    for whole, part in zip(split.lists, chosen.lists, strict=True):
        wanted = {}
        for path, pairs in pairs_by_name(split, whole).items():
            kept = {pair for pair in pairs if pair[0] in {f"t{n}" for n in numbers}}
            if kept:
                wanted[path] = kept
        assert pairs_by_name(chosen, part) == wanted
        assert [i.impath for i in part] == [i.impath for i in whole if i.impath in wanted]


@given(SPLITS, SPLITS)
def test_merging_and_choosing_undo_each_other(one, two):
    suite = sampling.merge([one, two])
    assert sampling.subsample_tasks(suite, ["task0", "task1", "task2"]) == one
    assert sampling.subsample_tasks(suite, "new") == two


@given(SPLITS, st.sampled_from(["base", "task1", "task0,task1"]))
def test_tasks_first_or_classes_first_is_the_same(split, which):
    one = sampling.subsample_classes(sampling.subsample_tasks(split, which), "base")
    assert one == sampling.subsample_tasks(sampling.subsample_classes(split, "base"), which)


def test_halves_of_present_classes():
    split = Split(tuple(make_tasks((5,))), as_items([[(0, 4)], [(0, 1)], [(0, 3)]]), [], as_items([[(0, 0)], [(0, 3)]]))
    base = sampling.subsample_classes(split, "base", present_only=True)
    assert base.tasks[0].classnames == ("c0.1", "c0.3")
    assert [(item.impath, item.label) for item in base.train] == [("1", 0), ("2", 1)]
    assert [(item.impath, item.label) for item in base.test] == [("1", 1)]
    assert sampling.subsample_classes(split, "all", present_only=True) == split


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("task9", ["task9", "3 tasks", "task2 't2'"]),
        ("tsk1", ["'tsk1'", "task0"]),
        ("task0,base", ["'base'"]),
        ("", ["''"]),
        ("task-1", ["'task-1'"]),
        ("not:task9", ["task9", "3 tasks"]),
        ("not:all", ["leaves no task"]),
        ("not:", ["''"]),
        ("0,not:1", ["'not:1'"]),
    ],
)
def test_wrong_task_choice_says_what_there_is(which, words):
    with pytest.raises(UserError) as caught:
        sampling.choose_tasks(make_tasks(SIZES), which)
    assert all(word in str(caught.value) for word in ["SUBSAMPLE_TASKS", *words])


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        ("all", [0, 1, 2]),
        ("base", [0, 1]),
        ("new", [2]),
        ("2", [2]),
        ("2,task0, 2", [0, 2]),
        (["task1", "0"], [0, 1]),
        ("not:1", [0, 2]),
        ("not:task2,0", [1]),
        ("not:base", [2]),
        ("not:not:1", [1]),
    ],
)
def test_choices_of_tasks(which, numbers):
    assert sampling.choose_tasks(make_tasks(SIZES), which) == numbers


def test_empty_choices_are_errors():
    one_class = Split(tuple(make_tasks((1,))), [], [], [])
    for call in (sampling.subsample_classes, sampling.subsample_tasks):
        with pytest.raises(UserError, match="new"):
            call(one_class, "new")
    with pytest.raises(UserError, match="'bsae'; choose one of all, base, new"):
        sampling.subsample_classes(one_class, "bsae")


# -- recorded cases --------------------------------------------------------------------------------------------


def recorded(name):
    return json.loads((golden_folder("sampling") / name).read_text(encoding="utf-8"))


def golden_split(parts, classnames=None, name="toy", metric="mean_acc"):
    lists = [as_named(parts[part]) for part in ("train", "val", "test")]
    names = tuple(classnames) if classnames else tuple(str(i) for i in range(12))
    return Split((Task(name, names, metric),), *lists)


def as_named(rows):
    return [Datum(name, label) for name, label in rows]


def test_recorded_selections():
    splits, samples = recorded("splits.json"), recorded("softcpt.json")["samples"]
    for seed, by_shots in samples.items():
        for shots, by_set in by_shots.items():
            for name, wanted in by_set.items():
                split = golden_split(splits[name])
                train, val = sampling.fewshot_split(split.train, split.val, int(shots), int(seed))
                assert [item.impath for item in train] == wanted["train"]
                assert [item.impath for item in val] == wanted["val"]


@pytest.mark.parametrize("tasks_first", [True, False])
def test_recorded_suites(tasks_first):
    splits, merged = recorded("splits.json"), recorded("softcpt.json")["merged"]
    whole = merged["seed1.shots2.classes=all.tasks=all"]
    for key, wanted in merged.items():
        seed, shots = (int(part[4:] if part.startswith("seed") else part[5:]) for part in key.split(".")[:2])
        classes, tasks = (part.split("=")[1] for part in key.split(".")[2:])
        members = []
        for number, parts in enumerate(splits.values()):
            facts = (whole["class_names"][number], whole["task_names"][number], whole["task_metrics"][number])
            split = golden_split(parts, *facts)
            members.append(Split(split.tasks, *sampling.fewshot_split(split.train, split.val, shots, seed), split.test))
        split = sampling.merge(members)
        steps = [(sampling.subsample_tasks, tasks), (sampling.subsample_classes, classes)]
        for step, value in steps if tasks_first else reversed(steps):
            split = step(split, value)
        assert [list(task.classnames) for task in split.tasks] == wanted["class_names"], key
        assert [task.name for task in split.tasks] == wanted["task_names"]
        assert [task.metric for task in split.tasks] == wanted["task_metrics"]
        for part, items in zip(("train", "val", "test"), split.lists, strict=True):
            assert [[item.impath, [item.task], [item.label]] for item in items] == wanted[part], (key, part)


def test_recorded_single_sets():
    splits = recorded("splits.json")
    cases = [(key, value, False) for key, value in recorded("softcpt.json")["single"].items()]
    cases += [(key, value, True) for key, value in recorded("coop.json").items()]
    for key, wanted, with_names in cases:
        name, seed, shots, classes = key.split(".")
        split = golden_split(splits[name])
        subset = sampling.fewshot_split(split.train, split.val, int(shots[5:]), int(seed[4:]))
        split = Split(split.tasks, *subset, split.test)
        split = sampling.subsample_classes(split, classes.split("=")[1], present_only=True)
        for part, items in zip(("train", "val", "test"), split.lists, strict=True):
            rows = [row[:2] if with_names else [row[0], row[2][0]] for row in wanted[part]]
            assert [[item.impath, item.label] for item in items] == rows, (key, part)


LABELS = st.lists(st.integers(0, 2**5 - 1), max_size=40)


@given(LABELS, st.integers(1, 6), st.integers(0, 9))
def test_a_multi_label_draw_gives_each_class_its_images(labels, shots, seed):
    table = dict(enumerate(labels))
    chosen = sampling.draw_label_sets(table, shots, random.Random(seed))
    assert len(set(chosen)) == len(chosen) and set(chosen) <= set(table)
    classes = {n: classes_in(label) or (sampling.NONE,) for n, label in table.items()}
    count, have = (Counter(c for n in numbers for c in classes[n]) for numbers in (table, chosen))
    assert all(have[each] >= min(shots, count[each]) for each in count)
    assert chosen == sampling.draw_label_sets(table, shots, random.Random(seed))
    for last in chosen[-1:]:  # the last image was needed: without it a class lacks one
        assert any(have[each] - 1 < shots for each in classes[last])


def multi_task(name="tags", classes=5):
    return Task(name, tuple(f"tag {n}" for n in range(classes)), "mAP", multi=True)


@given(LABELS.filter(bool), st.integers(1, 4), st.integers(0, 9))
def test_other_tasks_change_no_multi_label_draw_and_the_other_way_round(labels, shots, seed):
    """Two data sets merged; each task's images are those that it has alone."""
    tags = [Datum(f"tags/{n:02}", label, 0) for n, label in enumerate(labels)]
    kinds = [Datum(f"kinds/{n:02}", label % 3, 0) for n, label in enumerate(labels)]
    kind = Task("kind", ("a", "b", "c"))
    alone = [
        sampling.fewshot_split(tags, [], shots, seed, None, [multi_task()])[0],
        sampling.few_shot(kinds, shots, random.Random(seed)),
    ]
    moved = [Datum(item.impath, item.label, 1) for item in tags]
    for items in ([*kinds, *moved], [*moved, *kinds]):
        both, _ = sampling.fewshot_split(items, [], shots, seed, None, [kind, multi_task()])
        paths = {item.impath for item in both}
        assert paths == {item.impath for each in alone for item in each}


def test_a_subset_without_multi_label_tasks_is_the_one_that_it_was():
    items = as_items([[(0, n % 2)] for n in range(20)])
    plain = sampling.few_shot(items, 3, random.Random(1))
    assert sampling.fewshot_split(items, [], 3, 1, None, [Task("t", ("a", "b"))])[0] == plain


def test_halves_of_multi_label_classes_are_refused():
    split = Split((multi_task(),), [Datum("a", 3)], [], [])
    with pytest.raises(UserError, match="multi-label task 'tags' may have classes of both halves"):
        sampling.subsample_classes(split, "base")
    assert sampling.subsample_classes(split, "all") is split


def test_short_classes_of_a_multi_label_task_are_counted_label_by_label():
    found = sampling.short_classes([multi_task(classes=3)], [Datum("a", 0b011), Datum("b", 0b001), Datum("c", 0)], 2)
    assert found == [(0, 1, 1), (0, 2, 0)]
