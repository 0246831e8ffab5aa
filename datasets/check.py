"""Say whether data sets are complete: python -m datasets.check SUITE --root DATA.

For every member: where it was looked for, images of each part and class against the published numbers, missing and
unreadable files, images that stand in training and in test. The data folders are left as they are.
"""

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.checking import check_images
from dassl.data.dataset import DatasetBase
from dassl.data.datum import Datum, Split
from dassl.data.places import cache_folder, stand_in
from dassl.data.splits import PARTS
from dassl.data.threads import in_threads
from dassl.utils.cli import exit_code
from dassl.utils.errors import UserError
from datasets._command import build_parser, members_of, read_choice

_EPILOG = """\
exit code: 0 everything is in order, 1 something is not (it is named), 2 the command is wrong.

example: the plant data sets, without decoding each image
  python -m datasets.check plant6 --root ~/data --quick"""
SHOWN = 3  # examples of each kind of problem
_READ = 1 << 20

Pair = tuple[int, int]


@dataclass
class Report:
    """What was found out about one data set.

    Attributes:
        facts: lines to print in any case.
        problems: what is wrong, with its remedy.
        found: whether there is data at all.
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
    parser.add_argument("--quick", action="store_true", help="do not decode images, only see that they are there")
    parser.add_argument("--classes", action="store_true", help="list every class with its numbers of images")
    parser.add_argument(
        "--allow-duplicates", action="store_true", help="name images that are in training and in test, but accept them"
    )
    options = parser.parse_args(arguments)
    reports: list[Report] = []

    def run() -> None:
        cfg = read_choice(options.suite, options.root)
        for member in members_of(cfg):
            reports.append(check(member, cfg, quick=options.quick, allow_duplicates=options.allow_duplicates))
            _show(reports[-1], classes=options.classes)
        _show_sum(reports)

    return exit_code(run) or int(any(report.problems for report in reports))


def check(member: type[DatasetBase], cfg: CfgNode, *, quick: bool = False, allow_duplicates: bool = False) -> Report:
    """Check one data set.

    Args:
        quick: do not decode images.
        allow_duplicates: images in training and test are a fact and no problem.

    Raises:
        UserError: the data root is not named or does not exist.
    """
    report = Report(member.__name__)
    folder = member.data_root(cfg) / member.dataset_dir
    split = _read(member, cfg, folder, report)
    if split is None:
        return report
    _check_counts(member, split, report)
    _check_files(split, report, quick=quick, again=_fetch_command(member, cfg))
    twice = _in_train_and_test(split)
    if twice:
        text = _some("images of the test list that are in the training list too", twice)
        remedy = "delete one of each two, or accept them with --allow-duplicates"
        (report.facts if allow_duplicates else report.problems).append(f"{text}; {remedy}")
    return report


# -- finding it ------------------------------------------------------------------------------------------------


def _read(member: type[DatasetBase], cfg: CfgNode, folder: Path, report: Report) -> Split | None:
    """The whole split, without writing anything; None when there is none to be had."""
    own_reader = member.load.__func__ is not DatasetBase.load.__func__  # type: ignore[attr-defined]
    try:
        if own_reader:
            return member.load(cfg).split
        stand = stand_in(cache_folder(cfg), folder)
        if not folder.is_dir() and not member.embedded:
            report.found = False
            report.problems.append(f"not found; looked for the folder {folder}; {_fetch_command(member, cfg)}")
            return None
        report.facts += _where(member, folder, stand)
        split = member.read(folder, stand, keep=False)
    except UserError as error:
        report.problems.append(str(error))
        return None
    if not any(split.lists):
        report.problems.append(f"no image in {folder}; {_fetch_command(member, cfg)}")
        return None
    return split


def _where(member: type[DatasetBase], folder: Path, stand: Path) -> list[str]:
    """Where images and split file were looked for, and what of it is there."""
    names = [folder / name for name in (member.image_dir, *member.other_image_dirs)]
    images = member.image_folder(folder)
    looked = f"no folder {' or '.join(map(str, names))}"
    places = [place / name for place in (folder, stand) for name in member.split_names()]
    there = next((place for place in places if place.is_file()), None)
    made = f"made from the raw annotation (no file {' or '.join(member.split_names())})"
    return [f"images in {images}" if images.is_dir() else looked, f"split {there or made}"]


def _fetch_command(member: type[DatasetBase], cfg: CfgNode) -> str:
    return f"get it with: python -m datasets.fetch {member.__name__} --root {cfg.DATASET.ROOT}"


# -- counting --------------------------------------------------------------------------------------------------


def _check_counts(member: type[DatasetBase], split: Split, report: Report) -> None:
    sizes = [Counter(pair for item in items for pair in item.targets) for items in split.lists]
    pairs = [(number, label) for number, task in enumerate(split.tasks) for label in range(len(task.classnames))]
    expected = member.counts or (0, 0, 0)
    of = [f" of {count:,}" if member.counts else "" for count in expected]
    numbers = [f"{part} {len(items):,}{text}" for part, items, text in zip(PARTS, split.lists, of, strict=True)]
    report.facts.append(f"{', '.join(numbers)} images; {len(pairs)} of {member.num_classes or len(pairs)} classes")
    spread = [f"{part} {_spread(size[pair] for pair in pairs)}" for part, size in zip(PARTS, sizes, strict=True)]
    report.facts.append(f"images a class: {', '.join(spread)}")
    report.classes = [_class_line(member, split, pair, sizes, position) for position, pair in enumerate(pairs)]
    if member.counts and [len(items) for items in split.lists] != list(member.counts):
        report.problems.append(
            f"{', '.join(numbers)} images: files are missing, or it is another edition or split; see docs/datasets.md"
        )
    if member.num_classes and len(pairs) != member.num_classes:
        report.problems.append(f"{len(pairs)} classes instead of {member.num_classes}; see docs/datasets.md")
    _check_classes(member, split, pairs, sizes, report)


def _check_classes(
    member: type[DatasetBase], split: Split, pairs: Sequence[Pair], sizes: Sequence[Counter[Pair]], report: Report
) -> None:
    def name(pair: Pair) -> str:
        return repr(split.tasks[pair[0]].classnames[pair[1]])

    for part, size, items in zip(PARTS, sizes, split.lists, strict=True):
        empty = [name(pair) for pair in pairs if not size[pair]]
        if empty and items and part != "val":
            text = _some(f"classes without an image for {part}", empty)
            report.problems.append(f"{text}; put images into their folders, or delete the split file")
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
    numbers = ", ".join(f"{part} {size[pair]}" for part, size in zip(PARTS, sizes, strict=True))
    published = _published(member, position)
    total = f" (together {sum(size[pair] for size in sizes)} of {published})" if published else ""
    place = f"{task.name}: " if len(split.tasks) > 1 else ""
    return f"{place}{task.classnames[pair[1]]}: {numbers}{total}"


def _spread(numbers: Iterable[int]) -> str:
    values = list(numbers)
    low, high = min(values, default=0), max(values, default=0)
    return str(low) if low == high else f"{low} to {high}"


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


def _in_train_and_test(split: Split) -> list[str]:
    """Test images with the content of a training image of the same task.

    Only files of equal size are read. Sets that are made for testing have one list as both; that is no mistake.
    """
    if split.train == split.test:
        return []
    parts = [split.train, split.test]
    paths = [list(dict.fromkeys(item.impath for item in items)) for items in parts]
    sizes = [dict(zip(names, in_threads(_size, names, "comparing sizes"), strict=True)) for names in paths]
    shared = set(sizes[0].values()) & set(sizes[1].values()) - {None, 0}
    alike = [path for size in sizes for path, number in size.items() if number in shared]
    alike = list(dict.fromkeys(alike))
    digests = dict(zip(alike, in_threads(_digest, alike, "looking for duplicates"), strict=True))
    first: defaultdict[tuple[int, bytes], str] = defaultdict(str)
    for key, item in _by_content(split.train, digests):
        first.setdefault(key, item.impath)
    twice = {item.impath: first[key] for key, item in _by_content(split.test, digests) if key in first}
    return [path if path == other else f"{path} = {other}" for path, other in twice.items()]


def _by_content(items: Iterable[Datum], digests: dict[str, bytes]) -> Iterator[tuple[tuple[int, bytes], Datum]]:
    for item in items:
        digest = digests.get(item.impath)
        if digest:
            yield from (((task, digest), item) for task, _ in item.targets)


def _size(path: str) -> int | None:
    with suppress(OSError):
        return os.stat(path).st_size  # noqa: PTH116  (a Path for each of a million images costs seconds)
    return None


def _digest(path: str) -> bytes:
    digest = sha256()
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
        while chunk := file.read(_READ):
            digest.update(chunk)
        return digest.digest()
    return b""


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
