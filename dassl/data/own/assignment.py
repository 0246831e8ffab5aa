"""Which split each image of the own tasks is in, and warnings about splits that make a figure mean little."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from dassl.data import Task
from dassl.data.copies import Same
from dassl.data.images import identity
from dassl.data.own.description import OwnTask
from dassl.data.own.groups import report_divided
from dassl.data.own.listing import shown, text_form
from dassl.data.own.reading import Images
from dassl.data.own.splitfile import ClassImages, GroupName, SplitFile, Together
from dassl.data.own.splitnames import slips
from dassl.data.tested import is_only_tested
from dassl.utils.errors import UserError

logger = logging.getLogger(__name__)

_LETTERS = 2  # by which a mistyped class name may differ


def complete_splits(
    file: SplitFile, own: Mapping[int, OwnTask], images: Images, same: Sequence[Same], *, keep: bool = True
) -> dict[str, str]:
    """The split of every image, by its path; equal files and groups share a split unless the data says otherwise.

    Args:
        file: the file that remembers the splits.
        own: the tasks by their numbers.
        keep: write the file.
    """
    names = {path: text_form(identity(path, file.root)) for path in images}
    groups = sorted(_by_class(images, own).items())
    classes = [ClassImages([names[path] for path in paths], own[number].ratios) for (number, _), paths in groups]
    fixed = {names[path]: image.split for path, image in images.items() if image.split}
    open_tasks = {number for image in images.values() if not image.split for number in image.targets}
    ratios = {own[number].source: own[number].ratios for number in sorted(open_tasks)}
    copies = [paths for each in same for paths in _copies(each.files, images, own)]
    together = [Together([names[path] for path in paths]) for paths in copies]
    together += [Together(sorted(names[path] for path in paths), name) for name, paths in _groups(own, images).items()]
    splits = file.complete(classes, fixed, ratios, together=together, keep=keep)
    return {path: splits[name] for path, name in names.items()}


def _copies(files: Sequence[Sequence[str]], images: Images, own: Mapping[int, OwnTask]) -> list[list[str]]:
    """Groups of equal files with the same labels; a class of nothing but copies is divided file by file."""
    sizes = {pair: len(paths) for pair, paths in _by_class(images, own).items()}
    groups: dict[tuple[int, tuple[tuple[int, int], ...]], list[str]] = {}
    for number, group in enumerate(files):
        for path in group:
            groups.setdefault((number, tuple(sorted(images[path].classes(own)))), []).append(path)
    return [group for (_, targets), group in groups.items() if all(sizes[pair] > len(group) for pair in targets)]


def _groups(own: Mapping[int, OwnTask], images: Images) -> dict[GroupName, list[str]]:
    """The images of each group; tasks with the same source and rule share groups."""
    found: dict[GroupName, list[str]] = {}
    for path, image in images.items():
        for number, group in image.groups.items():
            names = found.setdefault((f"{own[number].table or own[number].folder} by {own[number].group}", group), [])
            if names[-1:] != [path]:
                names.append(path)
    return found


def report_groups(own: Mapping[int, OwnTask], images: Images, splits: Mapping[str, str], file: SplitFile) -> None:
    """Warn of groups on two sides of the split."""
    stored = any(not image.split for image in images.values())
    remedy = "put each group into one split"
    remedy += f", or delete {file.places[0]} to have all images split anew" if stored else ""
    for number, task in own.items():
        groups = {path: image.groups[number] for path, image in images.items() if number in image.groups}
        if groups:
            report_divided(task, groups, splits, remedy)


def _by_class(images: Images, own: Mapping[int, OwnTask] | Mapping[int, Task]) -> dict[tuple[int, int], list[str]]:
    groups: dict[tuple[int, int], list[str]] = {}
    for path, image in images.items():
        for pair in image.classes(own):
            groups.setdefault(pair, []).append(path)
    return groups


def report_thin_classes(tasks: Mapping[int, Task], images: Images, splits: Mapping[str, str]) -> None:
    """Warn once of classes without an image in a split; refuse a task that cannot be trained or tested.

    A task that is only tested needs no image for training.
    """
    sizes = {pair: Counter(splits[path] for path in paths) for pair, paths in _by_class(images, tasks).items()}
    for number, task in tasks.items():
        known = {(number, label) for label in range(len(task.classnames))}  # without NO_CLASS
        of = {task.classnames[label]: size for (its, label), size in sizes.items() if (its, label) in known}
        place = f"task {task.name!r}"
        tested = is_only_tested() and not any(size["train"] for size in of.values())
        for split in ("test",) if tested else ("train", "test"):
            if not any(size[split] for size in of.values()):
                raise UserError(
                    f"{place} has no image for {split}; put some into its {split} folder or mark them in its split "
                    "column, or, where the ratios decide, give a class more than one image (and group, as "
                    "groups are not divided)"
                )
        if tested:
            continue
        if not any(size["train"] and size["test"] for size in of.values()):
            raise UserError(
                f"{place}: the classes for testing ({shown([name for name in of if of[name]['test']])}) are none of "
                f"those for training ({shown([name for name in of if of[name]['train']])}); give them the same names"
            )
        _report_missing_split(place, of)


def _report_missing_split(place: str, of: Mapping[str, Counter[str]]) -> None:
    unknown = [name for name, size in of.items() if size["test"] and not size["train"]]
    learned = [name for name, size in of.items() if size["train"]]
    if unknown:
        meant = next(((a, b) for a in unknown for b in learned if slips(a, b) <= _LETTERS), None)
        hint = f" (is {meant[0]!r} meant to be {meant[1]!r}?)" if meant else ""
        logger.warning(
            "%s: %d of %d classes have %d images for testing and none for training, so nothing is learned about them: "
            "%s%s; add training images, mend the names, or move them away",
            place,
            len(unknown),
            len(of),
            sum(of[name]["test"] for name in unknown),
            shown(unknown),
            hint,
        )
    untested = [name for name in learned if not of[name]["test"]]
    single = sum(of[name].total() == 1 for name in untested)
    if untested:
        logger.warning(
            "%s: %d of %d classes have no image for testing: %s%s; add images or merge classes",
            place,
            len(untested),
            len(of),
            shown(untested),
            f" (single images: {single})" if single else "",
        )
