"""Data sets: where the images are, which of them take part, and how several sets make a suite.

A data set file declares what is special about its data set. This module reads and writes split files, draws few-shot
subsets, and chooses base/new halves and tasks.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from yacs.config import CfgNode

from dassl.data import completeness, sampling
from dassl.data.completeness import COOP_SPLIT, OUR_SPLIT
from dassl.data.datum import Datum, Split, Task
from dassl.data.layouts import image_folder
from dassl.data.places import cache_folder, data_root, stand_in, write_json_somewhere
from dassl.data.splits import SPLITS, labels_digest, read_split, split_content, subset_content
from dassl.registries import DATASET_REGISTRY
from dassl.utils.cache import cached
from dassl.utils.digests import ChangedError
from dassl.utils.errors import UserError
from dassl.utils.files import read_json
from dassl.utils.tools import collector_paused

logger = logging.getLogger(__name__)

_LISTED = 200_000  # folders of a data set with more images are not listed on every run, only in doubt


@dataclass(frozen=True)
class Subset:
    """A split after few-shot selection, before any choice of tasks and classes.

    Attributes:
        digest: SHA-256 that names the chosen training and validation images and their order.
        short: (task, label, number of training images) of classes with fewer images than shots.
        examined: paths of images whose faults have been told.
    """

    split: Split
    digest: str
    short: Sequence[tuple[int, int, int]] = ()
    examined: Collection[str] = ()


class DatasetBase:
    """One data set; a subclass declares the class attributes and, if needed, one of the two hooks.

    Class attributes:
        dataset_dir: the data set's folder below the data root.
        image_dir: folder below ``dataset_dir`` that the paths in the split file are relative to.
        other_image_dirs: other names of this folder, tried in order if ``image_dir`` does not exist (some archives are
            packed differently).
        split_file: split file in ``dataset_dir``; default ``split_dk_<class name>.json``. CoOp's
            ``split_zhou_...`` of the same name is read if only that one exists.
        task_name, task_description, metric, template: the task, unless the split file, ``task_name.txt`` or
            ``task_desc.txt`` in the data folder say otherwise.
        released_template: the released code's template if it is another than ``template``; DATASET.TEMPLATES released
            chooses it.
        renames: class names to replace, in split files too.
        few_shot_splits: lists from which few-shot runs draw; the others are used whole.
        for_testing: its images are both training and test images, to test what was learned on another data set.
        as_seen: pictures are read as a person sees them: transparent areas on white, and turned upright as the camera
            says. Without it they are read as in the released code. INPUT.BACKGROUND and INPUT.ORIENTATION override
            both.
        embedded: the data is made on first use (hook ``prepare``) and needs no DATASET.ROOT.
        counts: published numbers of training, validation and test images; None if unknown.
        num_classes: number of classes over all tasks; 0 if unknown.
        num_tasks: number of tasks; 0 if only the data says it.
        class_counts: published number of images of each class over the three splits, in label order (a single number
            holds for every class); empty if unknown.

    Attributes:
        tasks: the T tasks.
        train_x, val, test: images with absolute paths; the first two after few-shot selection.
        examined: paths of images whose faults have been told.
        root: the data root; an image's path relative to it is its identity.
        subset_digest: SHA-256 that names the few-shot subset (before the choice of tasks and classes).
        test_digest: SHA-256 that names the test images and their labels (before that choice, too).
    """

    dataset_dir: ClassVar[str] = ""
    image_dir: ClassVar[str] = ""
    other_image_dirs: ClassVar[tuple[str, ...]] = ()
    split_file: ClassVar[str] = ""
    task_name: ClassVar[str] = ""
    task_description: ClassVar[str] = ""
    metric: ClassVar[str] = "overall_acc"
    template: ClassVar[str] = "a photo of a {}."
    released_template: ClassVar[str] = ""
    renames: ClassVar[Mapping[str, str]] = {}
    few_shot_splits: ClassVar[tuple[str, ...]] = ("train", "val")
    for_testing: ClassVar[bool] = False
    as_seen: ClassVar[bool] = False
    embedded: ClassVar[bool] = False
    counts: ClassVar[tuple[int, int, int] | None] = None
    num_classes: ClassVar[int] = 0
    num_tasks: ClassVar[int] = 0
    class_counts: ClassVar[tuple[int, ...]] = ()

    def __init__(self, cfg: CfgNode) -> None:
        with collector_paused():
            subset = self.load(cfg)
        self.root: Path = self.data_root(cfg)
        self.examined = subset.examined
        self.subset_digest = subset.digest
        self.test_digest = labels_digest(subset.split.test, self.root)
        _report_short_classes(subset, cfg.DATASET.NUM_SHOTS)
        # Tasks first, then classes: the halves of a class list do not depend on the other tasks.
        split = sampling.subsample_tasks(subset.split, cfg.DATASET.SUBSAMPLE_TASKS)
        split = sampling.subsample_classes(
            split, cfg.DATASET.SUBSAMPLE_CLASSES, present_only=self.halve_present_classes(subset.split)
        )
        self.tasks: list[Task] = list(split.tasks)
        self.train_x: list[Datum] = split.train
        self.val: list[Datum] = split.val
        self.test: list[Datum] = split.test

    # -- hooks of a data set file ------------------------------------------------------------------------------

    @classmethod
    def prepare(cls, folder: Path) -> None:
        """Make the data in ``folder`` if it does not exist yet (embedded data sets); safe to call twice."""

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """Read the raw annotation if there is no split file; image paths are absolute."""
        names = " or ".join(cls.split_names())
        raise UserError(f"data set {cls.__name__}: no split file {names} in {folder}; put it there")

    # -- what the engine does with the declaration -------------------------------------------------------------

    @classmethod
    def data_root(cls, cfg: CfgNode) -> Path:
        """Folder that holds the data folders."""
        return data_root(cfg, cls.__name__, embedded=cls.embedded)

    @classmethod
    def load(cls, cfg: CfgNode) -> Subset:
        """Read the whole data set and draw its few-shot subset.

        The subset is a pure function of (split, shots, seed), so it is drawn again every time; the file that
        records it is for people and other programs.

        Raises:
            UserError: the data does not exist there, or its split file is damaged.
        """
        folder = cls.data_root(cfg) / cls.dataset_dir
        stand = stand_in(cache_folder(cfg), folder)
        # Runs take from the lists of a split and never change them.
        split = cached("split", (cls, folder, stand), lambda: cls._read_and_compare(folder, stand), limit=32)
        if cfg.DATASET.TEMPLATES == "released" and cls.released_template:
            split = replace(split, tasks=tuple(replace(t, template=cls.released_template) for t in split.tasks))
        images = cls.image_folder(folder)
        return draw_subset(cfg, split, images=images, places=(folder, stand), names=cls.few_shot_splits)

    @classmethod
    def count_tasks(cls, cfg: CfgNode) -> int:
        """T, without reading the data if the declaration says it; nothing is written."""
        if cls.num_tasks or cls.task_name:
            return cls.num_tasks or 1
        folder = cls.data_root(cfg) / cls.dataset_dir
        return len(cls.read(folder, stand_in(cache_folder(cfg), folder), keep=False).tasks)

    @classmethod
    def check_data(cls, cfg: CfgNode) -> None:
        """Refuse a data folder that does not exist (raise UserError); nothing is read or written."""
        if not cls.embedded:
            cls._check_folder(cls.data_root(cfg) / cls.dataset_dir)

    @classmethod
    def _check_folder(cls, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(
                f"data set {cls.__name__}: folder {folder} does not exist; "
                "put the data there, or name the folder of your data sets with --root FOLDER"
            )

    @classmethod
    def task_datasets(cls, cfg: CfgNode) -> list[str]:
        """Registered name of the data set that each of the T tasks comes from; "" for an own task."""
        return [cls.__name__] * cls.count_tasks(cfg)

    @classmethod
    def _read_and_compare(cls, folder: Path, stand: Path) -> Split:
        """The whole split, with a warning for each difference from the published data set."""
        split = cls.read(folder, stand)
        for sentence in cls.remarks(split, folder, cls.split_files(folder, stand)):
            if sentence:
                logger.warning("%s", sentence)
        return split

    @classmethod
    def remarks(cls, split: Split, folder: Path, files: Sequence[Path]) -> Iterator[str]:
        """Warnings for readers of its figures, a sentence each ("" is none).

        Args:
            files: existing split files; the first is the one that was read or just made.
        """
        name, source = cls.__name__, files[0] if files else None
        own = source if source and cls.makes(source) else None
        numbers = completeness.other_numbers(
            name, split, tasks=cls.num_tasks, classes=cls.num_classes, counts=cls.counts, source=own
        )
        yield numbers
        if source is None:
            return
        yield completeness.unread_split(name, source, files[1:])
        if own and (numbers or sum(cls.counts or ()) <= _LISTED):
            yield completeness.left_out(name, split, cls.images_on_disk(folder), own)
        if not cls.for_testing:
            yield completeness.shared_with_training(name, split, source)

    @classmethod
    def makes(cls, source: Path) -> bool:
        """Whether a split file would be made again if it were deleted."""
        return source.name == cls.split_names()[0] and not source.name.startswith(COOP_SPLIT)

    @classmethod
    def images_on_disk(cls, folder: Path) -> list[str]:
        """Paths of the images that a split made now would have, if the folders tell; else none."""
        return []

    @classmethod
    def only_for_testing(cls, cfg: CfgNode) -> list[str]:
        """Names of the data sets whose training images are their test images."""
        return [cls.__name__] if cls.for_testing else []

    @classmethod
    def split_files(cls, folder: Path, stand: Path) -> list[Path]:
        """The existing split files; the first one is read."""
        places = [place / name for place in (folder, stand) for name in cls.split_names()]
        return [path for path in places if path.is_file()]

    @classmethod
    def read(cls, folder: Path, stand: Path, *, keep: bool = True) -> Split:
        """The whole split, from its file or else from the raw annotation, which is then written as a split file.

        Args:
            stand: replaces ``folder`` if that is read-only.
            keep: write the split file.
        """
        cls.prepare(folder)
        cls._check_folder(folder)
        images = cls.image_folder(folder)
        for path in cls.split_files(folder, stand)[:1]:
            return cls._renamed(read_split(path, images, cls.task(folder)))
        split = cls._renamed(cls.read_raw(folder))
        if not keep:
            return split
        name = cls.split_names()[0]
        path = write_json_somewhere((folder / name, stand / name), split_content(split, images), indent=None)
        logger.info("Wrote the split of %s to %s", cls.__name__, path)
        return split

    @classmethod
    def image_folder(cls, folder: Path) -> Path:
        """Folder that the paths in the split file are relative to; the first choice if none exists."""
        return image_folder(folder, (cls.image_dir, *cls.other_image_dirs))

    @classmethod
    def task(cls, folder: Path, classnames: Sequence[str] = ()) -> Task:
        """The declared task with these classes."""
        name, description = (_text(folder / file) for file in ("task_name.txt", "task_desc.txt"))
        return Task(
            name or cls.task_name or cls.__name__,
            tuple(classnames),
            cls.metric,
            description or cls.task_description,
            cls.template,
        )

    @classmethod
    def _renamed(cls, split: Split) -> Split:
        names = [tuple(cls.renames.get(name, name) for name in task.classnames) for task in split.tasks]
        tasks = (replace(task, classnames=new) for task, new in zip(split.tasks, names, strict=True))
        return replace(split, tasks=tuple(tasks))

    @classmethod
    def split_names(cls) -> list[str]:
        """Possible names of the split file; the first one is written."""
        own = cls.split_file or f"{OUR_SPLIT}{cls.__name__}.json"
        return list(dict.fromkeys([own, own.replace(OUR_SPLIT, COOP_SPLIT, 1)]))

    def validated_on_test(self) -> dict[int, int]:
        """Number of validation images that are test images of the same task, by the number of the task."""
        return Counter(task for _, task in completeness.shared(self.val, self.test))

    @classmethod
    def halve_present_classes(cls, split: Split) -> bool:
        """Whether base/new halve the classes seen in training (a single task, as CoOp does) or all classes."""
        return len(split.tasks) == 1


class Suite(DatasetBase):
    """Several data sets joined end to end.

    Class attributes:
        members: registered names of the data sets; DATASET.MEMBERS replaces them.
    """

    members: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def data_root(cls, cfg: CfgNode) -> Path:
        """The data root that all members share."""
        return [member.data_root(cfg) for member in cls.member_classes(cfg)][-1]

    @classmethod
    def load(cls, cfg: CfgNode) -> Subset:
        """Load every member and join them end to end; the digest is that of the members' digests."""
        return join_subsets([member.load(cfg) for member in cls.member_classes(cfg)])

    @classmethod
    def count_tasks(cls, cfg: CfgNode) -> int:
        """Those of all members."""
        return len(cls.task_datasets(cfg))

    @classmethod
    def task_datasets(cls, cfg: CfgNode) -> list[str]:
        """Those of all members."""
        return [name for member in cls.member_classes(cfg) for name in member.task_datasets(cfg)]

    @classmethod
    def only_for_testing(cls, cfg: CfgNode) -> list[str]:
        """Those among the members."""
        return [name for member in cls.member_classes(cfg) for name in member.only_for_testing(cfg)]

    @classmethod
    def check_data(cls, cfg: CfgNode) -> None:
        """Those of all members."""
        for member in cls.member_classes(cfg):
            member.check_data(cfg)

    @classmethod
    def member_classes(cls, cfg: CfgNode) -> list[type[DatasetBase]]:
        """The data sets of the suite.

        Raises:
            UserError: a name is unknown, is the suite itself or occurs twice, or there is none.
        """
        names = list(cfg.DATASET.MEMBERS or cls.members)
        if not names:
            raise UserError(f"suite {cls.__name__} has no member; name some with DATASET.MEMBERS")
        for name in names:
            if names.count(name) > 1 or name == cls.__name__:
                raise UserError(f"DATASET.MEMBERS: {name!r} cannot be a member; each data set may occur once")
        return [DATASET_REGISTRY.get(name) for name in names]

    @classmethod
    def halve_present_classes(cls, split: Split) -> bool:
        """A suite halves all classes of each task."""
        return False


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """The data set or suite called DATASET.NAME, read and sampled.

    Raises:
        UserError: the name is missing or unknown, or the data does not exist.
    """
    return find_dataset(cfg)(cfg)


def find_dataset(cfg: CfgNode) -> type[DatasetBase]:
    """The class of the data set or suite called DATASET.NAME.

    Raises:
        UserError: the name is missing or unknown.
    """
    if not cfg.DATASET.NAME:
        raise UserError("no data set is named; use --dataset-config-file or DATASET.NAME")
    dataset = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if cfg.DATASET.MEMBERS and not issubclass(dataset, Suite):
        raise UserError(f"DATASET.MEMBERS is for suites, and {cfg.DATASET.NAME} is a single data set; leave it out")
    return dataset


def draw_subset(
    cfg: CfgNode,
    split: Split,
    *,
    images: Path,
    places: tuple[Path, Path],
    names: Sequence[str] = ("train", "val"),
    groups: Mapping[sampling.Grouped, str] | None = None,
) -> Subset:
    """The few-shot subset of a split under DATASET.NUM_SHOTS and SEED; its record is kept as JSON.

    Args:
        images: folder that the paths in the record are relative to.
        places: folder of the record, and its replacement if that is read-only.
        names: lists to draw from; "train" or "val" stays whole when it is not among them.
        groups: names of groups, by task and path of an image, see :func:`dassl.data.sampling.few_shot`.
    """
    shots, seed = cfg.DATASET.NUM_SHOTS, cfg.SEED
    drawn = sampling.fewshot_split(split.train, split.val, shots, seed, groups, split.tasks)
    train, val = (few if name in names else whole for name, few, whole in zip(SPLITS, drawn, split.lists, strict=False))
    record = subset_content(train, val, images)
    chosen = Split(split.tasks, train, val, split.test)
    if shots < 1 or not (split.train or split.val):  # nothing was drawn
        return Subset(chosen, record["digest"])
    _keep_subset(*places, {"shots": shots, "seed": seed, **record})
    return Subset(chosen, record["digest"], sampling.short_classes(split.tasks, split.train, shots))


def join_subsets(subsets: Sequence[Subset]) -> Subset:
    """Join subsets end to end; the digest is that of their digests."""
    digest = sha256("\n".join(subset.digest for subset in subsets).encode()).hexdigest()
    short, first = [], 0
    for subset in subsets:
        short += [(first + task, label, count) for task, label, count in subset.short]
        first += len(subset.split.tasks)
    examined = frozenset(path for subset in subsets for path in subset.examined)
    return Subset(sampling.merge([subset.split for subset in subsets]), digest, short, examined)


def _keep_subset(folder: Path, stand: Path, record: dict) -> None:
    """Store the subset as JSON unless it is stored already."""
    name = Path("split_fewshot_mt") / f"shot_{record['shots']}-seed_{record['seed']}.json"
    for place in (folder / name, stand / name):
        try:
            if read_json(place) == record:
                return
        except ChangedError as error:
            logger.warning("%s; it is written again, and the images are those that were drawn for it", error)
        except UserError:
            pass
    write_json_somewhere((folder / name, stand / name), record)


def _text(path: Path) -> str:
    """The text of a small file; "" if there is none."""
    return path.read_text(encoding="utf-8-sig", errors="replace").strip() if path.is_file() else ""


def _report_short_classes(subset: Subset, shots: int) -> None:
    if not subset.short:
        return
    task, label, count = subset.short[0]
    logger.warning(
        "%d of %d classes have fewer than %d training images, e.g. %r of task %r has %d; all their images are used",
        len(subset.short),
        sum(len(each.classnames) for each in subset.split.tasks),
        shots,
        subset.split.tasks[task].classnames[label],
        subset.split.tasks[task].name,
        count,
    )
