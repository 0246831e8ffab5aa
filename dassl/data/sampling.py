"""Which images and classes take part: few-shot subsets, base/new halves, choice of tasks, suites.

Pure functions on lists of ``Datum``: the same arguments give the same answer, whatever ran before.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from dassl.data.datum import Datum, Split, Task, classes_in
from dassl.utils.errors import UserError

HALVES = ("all", "base", "new")
MAX_VAL_SHOTS = 4
_ALL_BUT = "not:"
NONE = -1  # stands for none of the classes of a multi-label task

Pair = tuple[int, int]
Grouped = tuple[int, str]  # task and path of an image


def few_shot(
    items: Sequence[Datum],
    shots: int,
    rng: random.Random,
    groups: Mapping[Grouped, str] | None = None,
    multi: Mapping[int, random.Random] | None = None,
) -> list[Datum]:
    """Draw ``shots`` images of every class, classes in order of first appearance.

    A class is a (task, label) pair. With at least ``shots`` images it takes one ``rng.sample``; a smaller class
    gives all its images in order and draws nothing. An image of several tasks is a candidate in each of its
    classes and is kept once, where it was drawn first.

    Args:
        groups: names of groups, by task and path of an image. A class with groups gives one image of each of
            ``shots`` groups; if it has fewer groups, each gives a second one, and so on.
        multi: the multi-label tasks, each with its own generator (:func:`draw_label_sets`); drawn last.
    """
    members: dict[Pair, list[int]] = {}
    sets: dict[int, dict[int, int]] = {task: {} for task in multi or ()}
    for position, item in enumerate(items):
        for task, label in item.targets:
            if task in sets:
                sets[task][position] = label
            else:
                members.setdefault((task, label), []).append(position)
    chosen: dict[int, None] = {}
    for (task, _), positions in members.items():
        names = [groups.get((task, items[position].impath), "") for position in positions] if groups else []
        if len(positions) < shots:
            chosen.update(dict.fromkeys(positions))
        elif any(names):
            chosen.update(dict.fromkeys(_spread(positions, names, shots, rng)))
        else:
            chosen.update(dict.fromkeys(rng.sample(positions, shots)))
    for task, labels in sets.items():
        order = sorted(labels, key=lambda position: items[position].impath)
        names = [(groups or {}).get((task, items[position].impath), "") for position in order]
        own, rng = {position: labels[position] for position in order}, (multi or {})[task]
        chosen.update(dict.fromkeys(draw_label_sets(own, shots, rng, names)))
    return [items[position] for position in chosen]


def draw_label_sets(labels: Mapping[int, int], shots: int, rng: random.Random, names: Sequence[str] = ()) -> list[int]:
    """Draw images of a multi-label task until each class has ``shots`` of them, or all that there are.

    The images are shuffled once. Then come the classes, the rarest first (of equal ones the first), and each takes
    images in that order until it has ``shots``, counting those that other classes took. Images without any of the
    classes are one more class, the last.

    Args:
        labels: the classes of each image (:func:`label_set`), by its number, in an order that does not change.
        names: name of each image's group; the first images of all groups come first, then the second ones, ...
    """
    images = list(labels)
    order = _spread(images, names or [""] * len(images), len(images), rng)
    classes = {image: classes_in(label) or (NONE,) for image, label in labels.items()}
    count = Counter(each for its in classes.values() for each in its)
    have: Counter[int] = Counter()
    chosen: dict[int, None] = {}
    for each in sorted(count, key=lambda each: (each == NONE, count[each], each)):
        for image in order:
            if have[each] < shots and each in classes[image] and image not in chosen:
                chosen[image] = None
                have.update(classes[image])
    return list(chosen)


def _spread(positions: Sequence[int], names: Sequence[str], shots: int, rng: random.Random) -> list[int]:
    """A draw of ``shots`` images over as many groups as possible; an image without a name is a group."""
    turns: Counter[str | int] = Counter()
    rounds: list[tuple[int, int]] = []
    for place in rng.sample(range(len(positions)), len(positions)):
        group = names[place] or positions[place]
        rounds.append((turns[group], positions[place]))
        turns[group] += 1
    return [position for _, position in sorted(rounds, key=lambda each: each[0])[:shots]]


def fewshot_split(
    train: Sequence[Datum],
    val: Sequence[Datum],
    shots: int,
    seed: int,
    groups: Mapping[Grouped, str] | None = None,
    tasks: Sequence[Task] = (),
) -> tuple[list[Datum], list[Datum]]:
    """The few-shot subset of (split, shots, seed) by CoOp's procedure: train first, then val, from one stream.

    The val list gets min(shots, 4) images of a class. ``shots`` below 1 means all images. The multi-label ones among
    ``tasks`` have streams of their own, so that they change nothing for other tasks, nor these for them.
    """
    if shots < 1:
        return list(train), list(val)
    rng = random.Random(seed)
    streams = {
        name: {number: random.Random(f"{name} {seed}") for number, task in enumerate(tasks) if task.multi}
        for name in ("train", "val")
    }
    chosen = few_shot(train, shots, rng, groups, streams["train"])
    return chosen, few_shot(val, min(shots, MAX_VAL_SHOTS), rng, groups, streams["val"])


def short_classes(tasks: Sequence[Task], train: Iterable[Datum], shots: int) -> list[tuple[int, int, int]]:
    """Classes with fewer than ``shots`` training images, as (task, label, number of images)."""
    counts = Counter(
        (number, each) for item in train for number, label in item.targets for each in tasks[number].classes_of(label)
    )
    pairs = [(number, label) for number, task in enumerate(tasks) for label in range(len(task.classnames))]
    return [(*pair, counts[pair]) for pair in pairs if counts[pair] < shots]


def halves(numbers: Sequence[int], half: str) -> list[int]:
    """The half "base" is the first ceil(n/2) of ``numbers``, "new" the rest, "all" everything.

    Raises:
        UserError: another half.
    """
    if half not in HALVES:
        raise UserError(f"DATASET.SUBSAMPLE_CLASSES: unknown value {half!r}; choose one of {', '.join(HALVES)}")
    middle = (len(numbers) + 1) // 2
    return {"all": list(numbers), "base": list(numbers[:middle]), "new": list(numbers[middle:])}[half]


def subsample_classes(split: Split, half: str, *, present_only: bool = False) -> Split:
    """Keep the base or new half of the classes of every task, with labels counted from 0 again.

    Args:
        present_only: halve the classes that occur in the training list (CoOp's rule for a single data set)
            and not all classes of the task (the rule for suites).

    Raises:
        UserError: an unknown half, a task without a class in it, or a multi-label task.
    """
    if half == "all":
        return split
    if multi := [task.name for task in split.tasks if task.multi]:
        raise UserError(
            f"DATASET.SUBSAMPLE_CLASSES {half}: an image of the multi-label task {multi[0]!r} may have classes of both "
            "halves, so there is no evaluation from base to new classes; leave the task out, or set it to all"
        )
    present = {pair for item in split.train for pair in item.targets} if present_only else None
    table: dict[Pair, Pair] = {}
    tasks = []
    for number, task in enumerate(split.tasks):
        labels = [label for label in range(len(task.classnames)) if present is None or (number, label) in present]
        kept = halves(labels, half)
        if not kept:
            raise UserError(f"DATASET.SUBSAMPLE_CLASSES: task {task.name!r} has no class in its {half!r} half")
        table.update({(number, label): (number, new) for new, label in enumerate(kept)})
        tasks.append(replace(task, classnames=tuple(task.classnames[label] for label in kept)))
    return _mapped(split, tuple(tasks), table.get)


def subsample_tasks(split: Split, which: str | Sequence[str]) -> Split:
    """Keep some tasks and number them from 0 again; see :func:`choose_tasks` for ``which``."""
    numbers = choose_tasks(split.tasks, which)
    if len(numbers) == len(split.tasks):
        return split
    new_number = {old: new for new, old in enumerate(numbers)}

    def renumber(pair: Pair) -> Pair | None:
        return (new_number[pair[0]], pair[1]) if pair[0] in new_number else None

    return _mapped(split, tuple(split.tasks[number] for number in numbers), renumber)


def choose_tasks(tasks: Sequence[Task], which: str | Sequence[str]) -> list[int]:
    """Numbers of the chosen tasks, ascending.

    Args:
        which: "all", "base" (the first ceil(T/2) tasks), "new" (the rest), "task3" or "3", several such as
            "task0,task3", or "not:" and one of these for all other tasks.

    Raises:
        UserError: anything else, a number out of range, or a choice without any task.
    """
    words = [word.strip() for word in which.split(",")] if isinstance(which, str) else list(which)
    if words[:1] and words[0].startswith(_ALL_BUT):
        left_out = choose_tasks(tasks, [words[0].removeprefix(_ALL_BUT), *words[1:]])
        numbers = [number for number in range(len(tasks)) if number not in left_out]
    elif len(words) == 1 and words[0] in HALVES:
        numbers = halves(range(len(tasks)), words[0])
    else:
        numbers = sorted({_task_number(word, tasks) for word in words})
    if not numbers:
        raise UserError(f"DATASET.SUBSAMPLE_TASKS: {which!r} leaves no task; {_known_tasks(tasks)}")
    return numbers


def merge(splits: Sequence[Split]) -> Split:
    """Join data sets end to end: task numbers continue, lists are joined in order."""
    tasks: list[Task] = []
    train: list[Datum] = []
    val: list[Datum] = []
    test: list[Datum] = []
    for split in splits:
        first = len(tasks)
        shifted = _mapped(split, split.tasks, partial(_shifted, first=first)) if first else split
        tasks += shifted.tasks
        train += shifted.train
        val += shifted.val
        test += shifted.test
    return Split(tuple(tasks), train, val, test)


def _shifted(pair: Pair, *, first: int) -> Pair:
    return pair[0] + first, pair[1]


def _mapped(split: Split, tasks: tuple[Task, ...], new_pair: Callable[[Pair], Pair | None]) -> Split:
    return Split(tasks, *(relabel(items, new_pair) for items in split.lists))


def relabel(items: Iterable[Datum], new_pair: Callable[[Pair], Pair | None]) -> list[Datum]:
    """Give every (task, label) pair its new value; drop pairs without one, and images without a pair."""
    changed = []
    for item in items:
        pairs = [new for new in map(new_pair, item.targets) if new is not None]
        if pairs:
            (task, label), *also = pairs
            changed.append(Datum(item.impath, label, task, tuple(also)))
    return changed


def _task_number(word: str, tasks: Sequence[Task]) -> int:
    match = re.fullmatch(r"(?:task)?(\d{1,9})", word)
    if match is None:
        raise UserError(
            f"DATASET.SUBSAMPLE_TASKS: unknown value {word!r}; "
            'choose "all", "base", "new", a task such as "task0", several such as "task0,task3", '
            'or all but one of these by "not:task0,task3"'
        )
    if int(match[1]) >= len(tasks):
        raise UserError(f"DATASET.SUBSAMPLE_TASKS: there is no {word}; {_known_tasks(tasks)}")
    return int(match[1])


def _known_tasks(tasks: Sequence[Task]) -> str:
    shown = [f"task{number} {task.name!r}" for number, task in enumerate(tasks[:20])]
    if len(tasks) > len(shown):
        shown.append(f"... task{len(tasks) - 1} {tasks[-1].name!r}")
    return f"the data set has {len(tasks)} task{'s' * (len(tasks) != 1)}: {', '.join(shown)}"
