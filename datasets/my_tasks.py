"""Your own tasks, described in a yaml file and not in Python; docs/your-own-data.md explains it."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from yacs.config import CfgNode

from dassl.config.tasks import OwnTask, own_task, plain_name
from dassl.data import DATASET_REGISTRY, DatasetBase, Datum, Split, Task
from dassl.data.dataset import Subset, draw_subset, join_subsets
from dassl.data.images import identity
from dassl.data.listing import OWN_FOLDERS
from dassl.data.parts import ClassImages, PartsFile
from dassl.data.places import cache_folder, stand_in
from dassl.data.sampling import relabel
from dassl.data.splits import PARTS
from dassl.utils.errors import UserError
from datasets._own_tasks import Images, read_task, refuse_alike, refuse_unknown

logger = logging.getLogger(__name__)

FOLDER = OWN_FOLDERS[0]
PARTS_FILE = "parts.json"


@DATASET_REGISTRY.register()
class MyTasks(DatasetBase):
    """The tasks of DATASET.TASKS; paths are relative to the data root.

    Tasks that share images are one data set, and every other task is one by itself: its few-shot subset does not
    depend on the tasks beside it. All pictures of a run are read in one way, those of registered data sets among the
    tasks, too.
    """

    as_seen = True

    @classmethod
    def load(cls, cfg: CfgNode) -> Subset:
        """Read all tasks, split their images and draw the few-shot subsets."""
        root = cls.data_root(cfg)
        described = [own_task(entry) for entry in cfg.DATASET.TASKS]
        if not described:
            raise UserError(
                "DATASET.TASKS is empty; describe your tasks as configs/datasets/my_tasks.yaml does, and name "
                "that file with --dataset-config-file"
            )
        own = {number: task for number, task in enumerate(described) if not task.dataset}
        images: Images = {}
        tasks = {number: read_task(task, number, root, images) for number, task in own.items()}
        parts = _complete_parts(cfg, root, own, images)
        subsets: list[Subset] = []
        numbers: list[list[int]] = []  # of the tasks in each subset
        for group, members in _groups(tasks, images).items():
            split = _split({number: tasks[number] for number in group}, members, parts)
            places = tuple(place / FOLDER / _folder_name(split.tasks) for place in _places(cfg, root))
            subsets.append(draw_subset(cfg, split, images=root, places=places))
            numbers.append(list(group))
        for number, task in enumerate(described):
            if task.dataset:
                subsets.append(_registered(task, cfg))
                numbers.append([number] * len(subsets[-1].split.tasks))
        whole = _in_order(join_subsets(subsets), [number for group in numbers for number in group])
        _refuse_same_names(whole.split.tasks)
        return whole if len(subsets) > 1 else replace(whole, digest=subsets[0].digest)

    @classmethod
    def count_tasks(cls, cfg: CfgNode) -> int:
        """One for each description, or as many as its registered data set has."""
        named = [own_task(entry).dataset for entry in cfg.DATASET.TASKS]
        # A MyTasks among its own tasks is refused when the data is read.
        return sum(
            DATASET_REGISTRY.get(name).count_tasks(cfg) if name not in ("", cls.__name__) else 1 for name in named
        )


def _places(cfg: CfgNode, root: Path) -> tuple[Path, Path]:
    return root, stand_in(cache_folder(cfg), root)


# -- parts -----------------------------------------------------------------------------------------------------


def _complete_parts(cfg: CfgNode, root: Path, own: Mapping[int, OwnTask], images: Images) -> dict[str, str]:
    """The part of every image, by its path."""
    names = {path: identity(path, root) for path in images}
    groups: dict[tuple[int, int], list[str]] = {}
    for path, image in images.items():
        for pair in image.targets.items():
            groups.setdefault(pair, []).append(path)
    open_tasks = {number for image in images.values() if not image.part for number in image.targets}
    classes = [
        ClassImages([names[path] for path in paths], own[number].ratios)
        for (number, _), paths in sorted(groups.items())
    ]
    fixed = {names[path]: image.part for path, image in images.items() if image.part}
    ratios = {own[number].source: own[number].ratios for number in sorted(open_tasks)}
    places = tuple(place / FOLDER / PARTS_FILE for place in _places(cfg, root))
    parts = PartsFile(places, root).complete(classes, fixed, ratios)
    _report_thin_classes(own, groups, {path: parts[name] for path, name in names.items()})
    return {path: parts[name] for path, name in names.items()}


def _report_thin_classes(
    own: Mapping[int, OwnTask], groups: Mapping[tuple[int, int], Sequence[str]], parts: Mapping[str, str]
) -> None:
    """Say once how many classes have no image in a part, and refuse tasks without training or test images."""
    sizes = {pair: Counter(parts[path] for path in paths) for pair, paths in groups.items()}
    for number, described in own.items():
        whole = sum((size for (task, _), size in sizes.items() if task == number), Counter())
        for part in ("train", "test"):
            if not whole[part]:
                raise UserError(
                    f"task {described.name!r} has no image for {part}; put some into its folder or split column for "
                    f"{part}, or, where the ratios decide, give a class more than one image"
                )
    thin = [(pair, part) for pair, size in sizes.items() for part in ("train", "test") if not size[part]]
    if thin:
        ((number, _), part), *_ = thin
        logger.warning(
            "%d classes have no image for training or none for testing, e.g. one of task %r has none for %s; "
            "add images or merge classes",
            len({pair for pair, _ in thin}),
            own[number].name,
            part,
        )


# -- from tasks to data sets -----------------------------------------------------------------------------------


def _groups(tasks: Mapping[int, Task], images: Images) -> dict[tuple[int, ...], Images]:
    """The tasks that share images, directly or through other tasks, with their images."""
    group = {number: (number,) for number in tasks}
    for numbers in {tuple(image.targets) for image in images.values()}:
        joined = tuple(sorted({member for number in numbers for member in group[number]}))
        group.update(dict.fromkeys(joined, joined))
    groups: dict[tuple[int, ...], Images] = {group[number]: {} for number in tasks}
    for path, image in images.items():
        groups[group[next(iter(image.targets))]][path] = image
    return groups


def _split(tasks: Mapping[int, Task], images: Images, parts: Mapping[str, str]) -> Split:
    """The split of some tasks, numbered from 0; images in the order of their first class and their path."""
    new = {number: place for place, number in enumerate(tasks)}
    lists: dict[str, list[Datum]] = {part: [] for part in PARTS}
    for path, image in images.items():
        (task, label), *also = sorted((new[number], label) for number, label in image.targets.items())
        lists[parts[path]].append(Datum(path, label, task, tuple(also)))
    for items in lists.values():
        items.sort(key=lambda item: (item.targets, item.impath))
    return Split(tuple(tasks.values()), **lists)


def _folder_name(tasks: Sequence[Task]) -> str:
    """A folder name for the records of some tasks: readable, and different for different tasks."""
    names = "+".join(task.name for task in tasks)
    plain = re.sub(r"[^A-Za-z0-9_+-]+", "_", names)[:60]
    return plain if plain == names else f"{plain}-{sha256(names.encode()).hexdigest()[:8]}"


def _registered(described: OwnTask, cfg: CfgNode) -> Subset:
    """The subset of a registered data set, with the names that the description gives."""
    if described.dataset == MyTasks.__name__:
        raise UserError("DATASET.TASKS: MyTasks cannot be one of its own tasks; describe the tasks themselves")
    subset = DATASET_REGISTRY.get(described.dataset).load(cfg)
    texts = {name: getattr(described, name) for name in ("name", "description", "metric", "template")}
    changes = {name: text for name, text in texts.items() if text}
    if not changes and not described.classes:
        return subset
    if len(subset.split.tasks) > 1:
        raise UserError(
            f"DATASET.TASKS: {described.dataset} has {len(subset.split.tasks)} tasks, which keep their names; "
            "leave all fields but dataset out"
        )
    (task,) = subset.split.tasks
    if described.classes:
        changes["classnames"] = _renamed(replace(described, name=described.name or task.name), task.classnames)
    return replace(subset, split=replace(subset.split, tasks=(replace(task, **changes),)))


def _renamed(described: OwnTask, classnames: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(described.classes, Mapping):
        raise UserError(
            f"task {described.name!r}: the classes of a registered data set can only be renamed (LABEL: CLASS NAME)"
        )
    refuse_unknown(described, list(described.classes), classnames)
    names = tuple(described.classes.get(name, name) for name in classnames)
    refuse_alike(described, list(dict.fromkeys(names)))
    if len(set(names)) < len(names):
        raise UserError(f"task {described.name!r}: classes of a registered data set cannot be merged; use other names")
    return names


def _in_order(subset: Subset, numbers: Sequence[int]) -> Subset:
    """Bring the tasks into the order of their numbers (their places in DATASET.TASKS)."""
    order = sorted(range(len(numbers)), key=lambda place: numbers[place])
    new = {old: place for place, old in enumerate(order)}
    split = subset.split
    lists = [relabel(items, lambda pair: (new[pair[0]], pair[1])) for items in split.lists]
    short = [(new[task], label, count) for task, label, count in subset.short]
    return replace(subset, split=Split(tuple(split.tasks[old] for old in order), *lists), short=short)


def _refuse_same_names(tasks: Sequence[Task]) -> None:
    counts = Counter(plain_name(task.name) for task in tasks)
    for task in tasks:
        if counts[plain_name(task.name)] > 1:
            raise UserError(f"DATASET.TASKS: two tasks are called {task.name!r}; rename one with name:")
