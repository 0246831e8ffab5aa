"""A user's own tasks, described in a yaml file; docs/your-own-data.md explains it."""

import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data import DATASET_REGISTRY, DatasetBase, Datum, Split, Task
from dassl.data.checking import Look, look_at, look_within
from dassl.data.copies import Same, recorded_pictures, same_pictures
from dassl.data.dataset import Subset, draw_subset, join_subsets
from dassl.data.images import reading_of
from dassl.data.own.assignment import complete_splits, report_groups, report_thin_classes
from dassl.data.own.description import OwnTask, is_placed, own_task, plain_name
from dassl.data.own.doctor import NEAR_IMAGES, Finding, findings, seen_alike
from dassl.data.own.listing import OWN_FOLDERS
from dassl.data.own.reading import Images, read_task, refuse_alike, refuse_unknown
from dassl.data.own.splitfile import SplitFile
from dassl.data.places import cache_folder, stand_in
from dassl.data.reduced import ReducedImages
from dassl.data.sampling import Grouped, relabel
from dassl.data.splits import SPLITS
from dassl.utils.errors import UserError

logger = logging.getLogger(__name__)

FOLDER = OWN_FOLDERS[0]
SPLIT_FILE = "parts.json"
# Up to here all pictures are examined when a run begins, and not only those of the run: half a minute on one core.
PIXELS_EXAMINED, IMAGES_EXAMINED = 2_000_000_000, 20_000


@DATASET_REGISTRY.register()
class MyTasks(DatasetBase):
    """The tasks of DATASET.TASKS; paths are relative to the data root.

    Tasks that share images form one data set. Every other task is a data set on its own, so its few-shot subset does
    not depend on other tasks. All pictures of a run are read in the same way, also those of registered data sets.
    """

    as_seen = True

    @classmethod
    def data_root(cls, cfg: CfgNode) -> Path:
        """DATASET.ROOT, which is the folder of the yaml file if all paths in it are absolute."""
        if not cfg.DATASET.ROOT and any(not task.get("dataset") and not is_placed(task) for task in cfg.DATASET.TASKS):
            raise UserError(
                "DATASET.TASKS has paths that are relative to the folder of your data; name it with --root FOLDER, or "
                "write absolute paths"
            )
        return super().data_root(cfg)

    @classmethod
    def load(cls, cfg: CfgNode) -> Subset:
        """Read all tasks, split their images and draw the few-shot subsets."""
        root, described = cls.data_root(cfg), _described(cfg)
        subsets: list[Subset] = []
        numbers: list[list[int]] = []  # of the tasks in each subset
        for own in _read_own(cfg, root, described):
            looks = _looks(cfg, own.split)
            for finding in _findings(cfg, own, looks):
                logger.log(logging.WARNING if finding.doubtful else logging.INFO, "%s", finding.text)
            first, other = (place / FOLDER / _folder_name(own.split.tasks) for place in _places(cfg, root))
            subset = draw_subset(cfg, own.split, images=root, places=(first, other), groups=own.groups)
            subsets.append(replace(subset, examined=looks.keys()))
            numbers.append(list(own.numbers))
        for number, task in enumerate(described):
            if task.dataset:
                subsets.append(_registered(task, cfg))
                numbers.append([number] * len(subsets[-1].split.tasks))
        whole = _in_order(join_subsets(subsets), [number for group in numbers for number in group])
        _refuse_same_names(whole.split.tasks)
        return whole if len(subsets) > 1 else replace(whole, digest=subsets[0].digest)

    @classmethod
    def examine(cls, cfg: CfgNode, *, decode: bool, near: bool, shown: int) -> list[tuple[Split, list[Finding]]]:
        """The whole splits of the own tasks with what is doubtful about them, without writing anything.

        Tasks that share images share a split.

        Args:
            decode: look at the pictures themselves.
            near: search pictures that look alike however many there are.
            shown: number of examples in a sentence.
        """
        examined = []
        for own in _read_own(cfg, cls.data_root(cfg), _described(cfg), keep=False):
            paths = [item.impath for items in own.split.lists for item in items]
            looks = look_at(paths, reading=reading_of(cfg, as_seen=True)) if decode else {}
            options = {"near_images": math.inf if near else NEAR_IMAGES, "shown": shown}
            examined.append((own.split, _findings(cfg, own, looks, **options)))
        return examined

    @classmethod
    def groups(cls, cfg: CfgNode) -> dict[tuple[str, str], str]:
        """The group of each image of an own task that has one, by the name of the task and the path."""
        return {
            (own.split.tasks[place].name, path): group
            for own in _read_own(cfg, cls.data_root(cfg), _described(cfg), keep=False)
            for (place, path), group in own.groups.items()
        }

    @classmethod
    def check_data(cls, cfg: CfgNode) -> None:
        """Refuse tasks whose images or labels are missing or unreadable (raise UserError)."""
        root = cls.data_root(cfg)
        for number, task in enumerate(_described(cfg)):
            if not task.dataset:
                read_task(task, number, root, {})
            elif task.dataset != cls.__name__:  # refused when the data is read
                DATASET_REGISTRY.get(task.dataset).check_data(cfg)

    @classmethod
    def count_tasks(cls, cfg: CfgNode) -> int:
        """One for each description, or as many as its registered data set has."""
        return len(cls.task_datasets(cfg))

    @classmethod
    def task_datasets(cls, cfg: CfgNode) -> list[str]:
        """ "" for each own task, and the names of the registered data sets among them."""
        named = [own_task(entry).dataset for entry in cfg.DATASET.TASKS]
        # A MyTasks among its own tasks is refused when the data is read.
        found = [
            DATASET_REGISTRY.get(name).task_datasets(cfg) if name not in ("", cls.__name__) else [""] for name in named
        ]
        return [name for names in found for name in names]


def _described(cfg: CfgNode) -> list[OwnTask]:
    """The descriptions in DATASET.TASKS.

    Raises:
        UserError: there is none, or one is invalid.
    """
    if not cfg.DATASET.TASKS:
        raise UserError(
            "DATASET.TASKS is empty; describe your tasks as configs/datasets/my_tasks.yaml does, and name "
            "that file with --dataset-config-file"
        )
    return [own_task(entry) for entry in cfg.DATASET.TASKS]


def _places(cfg: CfgNode, root: Path) -> tuple[Path, Path]:
    return root, stand_in(cache_folder(cfg), root)


@dataclass(frozen=True)
class _Joined:
    """Tasks that share images.

    Attributes:
        numbers: their places in DATASET.TASKS.
        split: the whole split, with these tasks in order.
        same: which images are equal files.
        groups: the group of each image that has one, by the place of the task in ``split`` and its path.
    """

    numbers: tuple[int, ...]
    split: Split
    same: Same
    groups: Mapping[Grouped, str]


def _read_own(cfg: CfgNode, root: Path, described: Sequence[OwnTask], *, keep: bool = True) -> list[_Joined]:
    """The own tasks, with those joined that share images.

    Args:
        keep: write the split file, and the copies into the cache.
    """
    own = {number: task for number, task in enumerate(described) if not task.dataset}
    images: Images = {}
    tasks = {number: read_task(task, number, root, images) for number, task in own.items()}
    joined = _joined(tasks, images)
    lists = [sorted(members) for members in joined.values()]
    cache = cache_folder(cfg)
    same = [recorded_pictures(paths, cache, 0) if keep else same_pictures(paths, 0) for paths in lists]
    first, other = (place / FOLDER / SPLIT_FILE for place in _places(cfg, root))
    file = SplitFile((first, other), root)
    splits = complete_splits(file, own, images, same, keep=keep)
    report_groups(own, images, splits, file)
    report_thin_classes(tasks, images, splits)
    return [
        _Joined(
            numbers,
            _split({number: tasks[number] for number in numbers}, members, splits),
            copies,
            {(numbers.index(n), path): group for path, image in members.items() for n, group in image.groups.items()},
        )
        for (numbers, members), copies in zip(joined.items(), same, strict=True)
    ]


def _looks(cfg: CfgNode, split: Split) -> dict[str, Look]:
    """What all pictures of a split look like; empty if that is not wanted or takes too long."""
    if not cfg.DATASET.CHECK_IMAGES:
        return {}
    paths = [item.impath for items in split.lists for item in items]
    reading = reading_of(cfg, as_seen=True)
    cache = cache_folder(cfg)
    reduced = ReducedImages(cache, cfg.DATASET.REDUCED_GIB)
    looks = look_within(paths, cache, reading, reduced, images=IMAGES_EXAMINED, pixels=PIXELS_EXAMINED)
    if not looks:
        logger.info(
            "%s: more than %d pictures or %.0f million pixels, so only those of this run are examined, and copies were "
            "looked for among equal files; python -m datasets.check examines all",
            ", ".join(f"task {task.name!r}" for task in split.tasks),
            IMAGES_EXAMINED,
            PIXELS_EXAMINED / 1e6,
        )
    return looks


def _findings(cfg: CfgNode, own: _Joined, looks: Mapping[str, Look], **options: Any) -> list[Finding]:
    drawn = "DATASET.NUM_SHOTS draws equal numbers for training" if cfg.DATASET.NUM_SHOTS > 0 else ""
    weighted = "weight: balanced counts every class alike in training"
    balanced = [weighted if task.weight == "balanced" else drawn for task in own.split.tasks]
    reading, root = reading_of(cfg, as_seen=True), MyTasks.data_root(cfg)
    same = seen_alike(own.same, looks)
    return findings(own.split, same, looks, reading, root, balanced=balanced, groups=own.groups, **options)


# -- from tasks to data sets -----------------------------------------------------------------------------------


def _joined(tasks: Mapping[int, Task], images: Images) -> dict[tuple[int, ...], Images]:
    """The tasks that share images, directly or through other tasks, with their images."""
    group: dict[int, tuple[int, ...]] = {number: (number,) for number in tasks}
    for numbers in {tuple(image.targets) for image in images.values()}:
        joined = tuple(sorted({member for number in numbers for member in group[number]}))
        group.update(dict.fromkeys(joined, joined))
    groups: dict[tuple[int, ...], Images] = {group[number]: {} for number in tasks}
    for path, image in images.items():
        groups[group[next(iter(image.targets))]][path] = image
    return groups


def _split(tasks: Mapping[int, Task], images: Images, splits: Mapping[str, str]) -> Split:
    """The split of some tasks, numbered from 0; images in the order of their first class and their path."""
    new = {number: place for place, number in enumerate(tasks)}
    lists: dict[str, list[Datum]] = {split: [] for split in SPLITS}
    for path, image in images.items():
        (task, label), *also = sorted((new[number], label) for number, label in image.targets.items())
        lists[splits[path]].append(Datum(path, label, task, tuple(also)))
    for items in lists.values():
        items.sort(key=lambda item: (item.targets, item.impath))
    return Split(tuple(tasks.values()), **lists)


def _folder_name(tasks: Sequence[Task]) -> str:
    """A folder name for the records of some tasks: readable, and different for different tasks."""
    names = "+".join(task.name for task in tasks)
    plain = re.sub(r"[^A-Za-z0-9_+-]+", "_", names)[:60]
    return plain if plain == names else f"{plain}-{sha256(names.encode()).hexdigest()[:8]}"


def _registered(described: OwnTask, cfg: CfgNode) -> Subset:
    """The subset of a registered data set, renamed as described."""
    if described.dataset == MyTasks.__name__:
        raise UserError("DATASET.TASKS: MyTasks cannot be one of its own tasks; describe the tasks themselves")
    subset = DATASET_REGISTRY.get(described.dataset).load(cfg)
    texts = {name: getattr(described, name) for name in ("name", "description", "metric", "template", "weight")}
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
