"""Check whether data sets are complete: python -m datasets.check SUITE --root DATA.

For every member it reports the folder, the images of each split and class against the published numbers, missing and
unreadable files, pictures that are both in training and in test or have two labels, and class names that CLIP cannot
tell apart. It changes nothing in the data folders.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from yacs.config import CfgNode

from clip.tokenizer import same_tokens
from dassl.data.checking import check_images
from dassl.data.completeness import left_out
from dassl.data.copies import Doubles, doubles, near_pairs, same_pictures
from dassl.data.dataset import DatasetBase
from dassl.data.datum import Split
from dassl.data.own.dataset import MyTasks
from dassl.data.own.doctor import Finding
from dassl.data.places import cache_folder, stand_in
from dassl.data.splits import SPLITS
from dassl.data.threads import in_threads
from dassl.utils.cli import exit_code
from dassl.utils.errors import UserError
from dassl.utils.remarks import collect_warnings
from datasets._command import build_parser, members_of, read_choice

_EPILOG = """\
exit code: 0 everything is in order, 1 something is not (it is named), 2 the command is wrong.

example: the plant data sets, without decoding each image
  python -m datasets.check plant6 --root ~/data --quick"""
SHOWN = 3  # examples of each kind of problem

Pair = tuple[int, int]


@dataclass
class Report:
    """Findings about one data set.

    Attributes:
        facts: lines to print in any case.
        problems: what is wrong, each with its remedy.
        found: whether there is any data.
        classes: a line for each class, for ``--classes``.
    """

    name: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    found: bool = True
    classes: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = build_parser("check", __doc__, _EPILOG)
    parser.add_argument("--quick", action="store_true", help="do not decode images, only check that they exist")
    parser.add_argument("--classes", action="store_true", help="list every class with its numbers of images")
    parser.add_argument(
        "--allow-duplicates", action="store_true", help="name images that are in training and in test, but accept them"
    )
    parser.add_argument(
        "--near", action="store_true", help="name test images that look like a training image, such as scaled copies"
    )
    parser.add_argument("--examples", type=int, default=SHOWN, metavar="N", help="examples of a finding, 3 by default")
    reports: list[Report] = []

    def run() -> None:
        options = parser.parse_args(arguments)
        cfg = read_choice(options.suite, options.root)
        allowed, quick, near, examples = options.allow_duplicates, options.quick, options.near, options.examples
        for member in members_of(cfg):
            reports.append(check(member, cfg, quick=quick, near=near, allow_duplicates=allowed, examples=examples))
            _show(reports[-1], classes=options.classes)
        _show_sum(reports)

    return exit_code(run) or int(any(report.problems for report in reports))


def check(
    member: type[DatasetBase],
    cfg: CfgNode,
    *,
    quick: bool = False,
    near: bool = False,
    allow_duplicates: bool = False,
    examples: int = SHOWN,
) -> Report:
    """Check one data set.

    Args:
        quick: do not decode images.
        near: name test images that look like a training image.
        allow_duplicates: the same picture in training and test or under two labels is a fact and no problem.
        examples: number of examples of a finding about own tasks.

    Raises:
        UserError: the data root is not named or does not exist.
    """
    report = Report(cfg.DATASET.TITLE or member.__name__)
    if member is MyTasks:
        _check_own(cfg, report, quick=quick, near=near, allowed=allow_duplicates, examples=examples)
        return report
    folder = member.data_root(cfg) / member.dataset_dir
    for split in _read(member, cfg, folder, report):
        _check_counts(member, split, report)
        _check_left_out(member, split, cfg, report)
        _check_files(split, report, quick=quick, again=_fetch_command(member, cfg))
        doubled = _doubles(split, quick=quick, for_testing=member.for_testing)
        _check_doubles(split, doubled, report, near=near, allowed=allow_duplicates)
        _check_names(split, report)
    return report


# -- finding it ------------------------------------------------------------------------------------------------


def _read(member: type[DatasetBase], cfg: CfgNode, folder: Path, report: Report) -> list[Split]:
    """The whole splits, without writing anything; empty if there is no data."""
    try:
        if member.load.__func__ is not DatasetBase.load.__func__:  # type: ignore[attr-defined]
            return [member.load(cfg).split]
        stand = stand_in(cache_folder(cfg), folder)
        if not folder.is_dir() and not member.embedded:
            report.found = False
            report.problems.append(f"not found; looked for the folder {folder}; {_fetch_command(member, cfg)}")
            return []
        report.facts += _where(member, folder, stand)
        split = member.read(folder, stand, keep=False)
    except UserError as error:
        report.problems.append(str(error))
        return []
    if not any(split.lists):
        report.problems.append(f"no image in {folder}; {_fetch_command(member, cfg)}")
        return []
    return [split]


def _check_own(cfg: CfgNode, report: Report, *, quick: bool, near: bool, allowed: bool, examples: int) -> None:
    """The own tasks as a run would read them; whatever a run would warn of is a problem."""
    examined: list[tuple[Split, list[Finding]]] = []
    with collect_warnings() as warnings:
        try:
            examined = MyTasks.examine(cfg, decode=not quick, near=near, shown=examples)
        except UserError as error:
            report.problems.append(str(error))
    report.problems += warnings
    others = sorted({name for name in MyTasks.task_datasets(cfg) if name})
    report.facts += [f"{name}: python -m datasets.check {name}" for name in others]
    for split, findings in examined:
        if len(examined) > 1:
            report.facts.append(", ".join(f"task {task.name!r}" for task in split.tasks))
        _check_counts(MyTasks, split, report)
        _check_files(split, report, quick=quick, again="")
        _check_names(split, report)
        for finding in findings:
            accepted = not finding.doubtful or (finding.doubles and allowed)
            (report.facts if accepted else report.problems).append(finding.text)


def _where(member: type[DatasetBase], folder: Path, stand: Path) -> list[str]:
    """Where images and split file were searched, and what was found."""
    names = [folder / name for name in (member.image_dir, *member.other_image_dirs)]
    images = member.image_folder(folder)
    looked = f"no folder {' or '.join(map(str, names))}"
    files = member.split_files(folder, stand)
    there = files[0] if files else None
    unread = [f"not read: {path} (rename {files[0].name} to choose it)" for path in files[1:]]
    made = f"made from the raw annotation (no file {' or '.join(member.split_names())})"
    return [f"images in {images}" if images.is_dir() else looked, f"split {there or made}", *unread]


def _fetch_command(member: type[DatasetBase], cfg: CfgNode) -> str:
    return f"get it with: python -m datasets.fetch {member.__name__} --root {cfg.DATASET.ROOT}"


# -- counting --------------------------------------------------------------------------------------------------


def _check_counts(member: type[DatasetBase], split: Split, report: Report) -> None:
    sizes = [
        Counter(
            (number, c)
            for item in items
            for number, label in item.targets
            for c in split.tasks[number].classes_of(label)
        )
        for items in split.lists
    ]
    pairs = [(number, label) for number, task in enumerate(split.tasks) for label in range(len(task.classnames))]
    expected = member.counts or (0, 0, 0)
    of = [f" of {count:,}" if member.counts else "" for count in expected]
    numbers = [f"{name} {len(items):,}{text}" for name, items, text in zip(SPLITS, split.lists, of, strict=True)]
    report.facts.append(f"{', '.join(numbers)} images; {len(pairs)} of {member.num_classes or len(pairs)} classes")
    spread = [f"{name} {_spread(size[pair] for pair in pairs)}" for name, size in zip(SPLITS, sizes, strict=True)]
    report.facts.append(f"images a class: {', '.join(spread)}")
    report.classes += [_class_line(member, split, pair, sizes, position) for position, pair in enumerate(pairs)]
    if member.counts and [len(items) for items in split.lists] != list(member.counts):
        report.problems.append(
            f"{', '.join(numbers)} images: files are missing, or it is another edition or split; see docs/datasets.md"
        )
    if member.num_classes and len(pairs) != member.num_classes:
        report.problems.append(f"{len(pairs)} classes instead of {member.num_classes}; see docs/datasets.md")
    if member is not MyTasks:  # for own tasks, reading them has reported this
        _check_classes(member, split, pairs, sizes, report)


def _check_classes(
    member: type[DatasetBase], split: Split, pairs: Sequence[Pair], sizes: Sequence[Counter[Pair]], report: Report
) -> None:
    def name(pair: Pair) -> str:
        return repr(split.tasks[pair[0]].classnames[pair[1]])

    for kind, size, items in zip(SPLITS, sizes, split.lists, strict=True):
        empty = [name(pair) for pair in pairs if not size[pair]]
        if empty and items and kind != "val":
            text = _some(f"classes without an image for {kind}", empty)
            report.problems.append(
                f"{text}; put images into their folders, or rename the split file to have it made again"
            )
    totals = [sum(size[pair] for size in sizes) for pair in pairs]
    wanted = [_published(member, position) for position in range(len(pairs))]
    odd = [
        f"{name(pair)} has {total} of {count}"
        for pair, total, count in zip(pairs, totals, wanted, strict=True)
        if count and total != count
    ]
    if odd:
        report.problems.append(f"{_some('classes with another number of images', odd)}; see --classes")


def _published(member: type[DatasetBase], position: int) -> int:
    """Published number of images of a class; 0 where it is not known."""
    counts = member.class_counts * (member.num_classes if len(member.class_counts) == 1 else 1)
    return counts[position] if position < len(counts) else 0


def _class_line(
    member: type[DatasetBase], split: Split, pair: Pair, sizes: Sequence[Counter[Pair]], position: int
) -> str:
    task = split.tasks[pair[0]]
    numbers = ", ".join(f"{name} {size[pair]}" for name, size in zip(SPLITS, sizes, strict=True))
    published = _published(member, position)
    total = f" (together {sum(size[pair] for size in sizes)} of {published})" if published else ""
    place = f"{task.name}: " if len(split.tasks) > 1 else ""
    return f"{place}{task.classnames[pair[1]]}: {numbers}{total}"


def _spread(numbers: Iterable[int]) -> str:
    values = list(numbers)
    low, high = min(values, default=0), max(values, default=0)
    return str(low) if low == high else f"{low} to {high}"


def _check_left_out(member: type[DatasetBase], split: Split, cfg: CfgNode, report: Report) -> None:
    """Name images that were added after the split file was made."""
    folder = member.data_root(cfg) / member.dataset_dir
    files = member.split_files(folder, stand_in(cache_folder(cfg), folder))
    if files and member.makes(files[0]):
        new = left_out(member.__name__, split, member.images_on_disk(folder), files[0])
        report.problems += [new] if new else []


# -- files -----------------------------------------------------------------------------------------------------


def _check_files(split: Split, report: Report, *, quick: bool, again: str) -> None:
    paths = list(dict.fromkeys(item.impath for items in split.lists for item in items))
    sizes = dict(zip(paths, in_threads(_size, paths, "looking for files"), strict=True))
    missing = [path for path, size in sizes.items() if size is None]
    unreadable = [(path, "empty file") for path, size in sizes.items() if size == 0]
    if not quick:
        unreadable = check_images([path for path, size in sizes.items() if size is not None])
    if missing:
        report.problems.append(f"{_some('missing images', missing)}; {again}")
    if unreadable:
        examples = [f"{path} ({reason})" for path, reason in unreadable]
        text = _some("unreadable images", examples)
        report.problems.append(f"{text}; replace them, or train with DATASET.SKIP_UNREADABLE True")


def _doubles(split: Split, *, quick: bool, for_testing: bool) -> Doubles:
    """Equal pictures in training and test or under two labels: equal files, and unless ``quick`` equal pixels."""
    paths = [item.impath for items in split.lists for item in items]
    same = same_pictures(paths, 0 if quick else float("inf"))
    return doubles(split, same.pictures, for_testing=for_testing)


def _check_doubles(split: Split, found: Doubles, report: Report, *, near: bool, allowed: bool) -> None:
    """Name duplicates; with ``near`` also test images that only look like a training image."""
    place = report.facts if allowed else report.problems
    if found.leaked:
        text = _some("images of the test list that are in the training list too", _equal(found.leaked))
        place.append(f"{text}; delete one of each two, or accept them with --allow-duplicates")
    if found.labels:
        text = _some("images that are the same picture as one with another label", _equal(found.labels))
        place.append(f"{text}; keep the right label, or accept them with --allow-duplicates")
    if near:
        alike = [pair for pair in near_pairs(split) if pair not in found.leaked]
        report.facts.append(f"{_some('test images that look like a training image', _equal(alike))}")


def _equal(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [path if path == other else f"{path} = {other}" for path, other in pairs]


def _check_names(split: Split, report: Report) -> None:
    """Names of classes that CLIP cannot tell apart."""
    pairs = [(name, other) for task in split.tasks for name, other in same_tokens(task.classnames)]
    if pairs:
        names = [f"{other!r} = {name!r}" for name, other in pairs]
        report.problems.append(f"{_some('class names that CLIP cannot tell apart', names)}; rename one of each two")


def _size(path: str) -> int | None:
    with suppress(OSError):
        return os.stat(path).st_size  # noqa: PTH116  (a Path for each of a million images costs seconds)
    return None


# -- printing --------------------------------------------------------------------------------------------------


def _some(what: str, examples: Sequence[str]) -> str:
    more = ", ..." if len(examples) > SHOWN else ""
    return f"{what} ({len(examples):,}): {', '.join(islice(examples, SHOWN))}{more}"


def _show(report: Report, *, classes: bool) -> None:
    print(f"{report.name}: {'in order' if not report.problems else 'PROBLEMS' if report.found else 'NOT FOUND'}")
    for line in report.facts:
        print(f"  {line}")
    for line in report.classes if classes else ():
        print(f"    {line}")
    for line in report.problems:
        print(f"  ! {line}")
    sys.stdout.flush()


def _show_sum(reports: Sequence[Report]) -> None:
    good = sum(not report.problems for report in reports)
    absent = sum(not report.found for report in reports)
    print(f"\n{good} of {len(reports)} data sets are in order", end="")
    print(f", {absent} not found, {len(reports) - good - absent} with problems" if good < len(reports) else "")


if __name__ == "__main__":
    sys.exit(main())
