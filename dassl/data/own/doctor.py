"""What is doubtful about the images and labels of own tasks: one sentence for each kind and task."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from dassl.data.checking import BLANK, UNREADABLE, Look, blemishes
from dassl.data.copies import Pair, Same, doubles, look_alike
from dassl.data.datum import Split, Task
from dassl.data.images import AS_RELEASED, Reading, identity
from dassl.data.own.splitnames import slips
from dassl.data.sampling import Grouped
from dassl.data.splits import SPLITS

SHOWN = 3  # examples of each kind
NEAR_IMAGES = 10_000  # of a task, up to which every two images are compared
_MOST = 0.5  # share of a task's images
_FEWEST = 8  # images of which "unlike the rest" says anything
_RARE = 0.1  # more images that are unlike the rest are the rule
_SIDES = 4  # times as long or as short as the usual side of a picture
_ASPECT = 3  # times as wide or as narrow as the usual picture
_UNEQUAL = 5  # times as many images in the largest class as in the smallest
_SLIP_RATIO = 5  # a label is a slip of one that is this many times as frequent
_SLIP_LETTERS = 4  # shorter labels differ by a letter on purpose, as "car" and "cat"


@dataclass(frozen=True)
class Finding:
    """A sentence about a task.

    Attributes:
        text: number, example and remedy.
        doubtful: it may affect a figure, so the log warns of it; else it says what is done.
        doubles: it is about equal pictures in training and test, or under two labels.
    """

    text: str
    doubtful: bool = True
    doubles: bool = False


@dataclass(frozen=True)
class Subject:
    """The images of one task.

    Attributes:
        splits: paths of the images by split.
        labels: the class of each image, as in a Datum.
        balanced: what the task does about classes of unequal size; "" is nothing.
        groups: the group of each image that has one.
        shown: number of examples in a sentence.
    """

    task: Task
    splits: Mapping[str, Sequence[str]]
    labels: Mapping[str, int]
    root: Path
    balanced: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    shown: int = SHOWN

    @property
    def paths(self) -> list[str]:
        """The images of all splits."""
        return [path for paths in self.splits.values() for path in paths]

    def counted_classes(self, paths: Iterable[str]) -> Counter[int]:
        """How many of some images each class has."""
        return Counter(each for path in paths for each in self.task.classes_of(self.labels[path]))

    def said(self, text: str, *, doubtful: bool = True) -> Finding:
        """A finding about this task."""
        return Finding(f"task {self.task.name!r}: {text}", doubtful)

    def counted(self, paths: Iterable[str]) -> str:
        """Number of images, of how many, and in which splits."""
        chosen = set(paths)
        each = ", ".join(f"{split} {len(chosen & {*its})}" for split, its in self.splits.items())
        return f"{len(chosen)} of {len(self.paths)} pictures ({each})"

    def examples(self, paths: Iterable[str]) -> str:
        """The first few paths, below the data root."""
        return self.some([identity(path, self.root) for path in paths])

    def pairs(self, pairs: Sequence[Pair], sign: str = "=") -> str:
        """The first few pairs of paths, below the data root."""
        return self.some([f"{identity(one, self.root)} {sign} {identity(other, self.root)}" for one, other in pairs])

    def some(self, texts: Sequence[str]) -> str:
        """The first few texts."""
        return ", ".join(texts[: self.shown]) + ", ..." * (len(texts) > self.shown)


def subjects(
    split: Split,
    root: Path,
    balanced: Sequence[str] = (),
    groups: Mapping[Grouped, str] | None = None,
    shown: int = SHOWN,
) -> list[Subject]:
    """The tasks of a split, each with its own images."""
    found = []
    for number, task in enumerate(split.tasks):
        lists = {
            name: {item.impath: dict(item.targets)[number] for item in items if number in dict(item.targets)}
            for name, items in zip(SPLITS, split.lists, strict=True)
        }
        labels = {path: label for its in lists.values() for path, label in its.items()}
        paths = {name: list(its) for name, its in lists.items()}
        its = {path: groups[number, path] for path in labels if (number, path) in groups} if groups else {}
        found.append(Subject(task, paths, labels, root, balanced[number] if balanced else "", its, shown))
    return found


def findings(
    split: Split,
    same: Same,
    looks: Mapping[str, Look],
    reading: Reading,
    root: Path,
    *,
    balanced: Sequence[str] = (),
    groups: Mapping[Grouped, str] | None = None,
    near_images: float = NEAR_IMAGES,
    shown: int = SHOWN,
) -> list[Finding]:
    """All sentences about the tasks of a split.

    Args:
        same: equal images.
        looks: of every image; empty: only labels and numbers are examined.
        balanced: for each task, what it does about classes of unequal size.
        groups: the group of each image that has one, by task and path.
        near_images: size of a task up to which images that look alike are searched.
        shown: number of examples in a sentence.
    """
    found = _doubles(split, same, Subject(split.tasks[0], {}, {}, root, shown=shown))
    for subject in subjects(split, root, balanced, groups, shown):
        found += [*_labels(subject), *_imbalance(subject), *_copies(subject, same)]
        good = {path: looks[path] for path in subject.paths if path in looks and looks[path].kind != UNREADABLE}
        if good:
            paths = {name: [path for path in its if path in good] for name, its in subject.splits.items()}
            found += [subject.said(text) for text in blemishes(paths, good, reading)]
            found += [*_transparent(subject, good, reading), *_turned(subject, good, reading), *_odd(subject, good)]
            found += _near(subject, good, same, near_images)
    return found


# -- labels ----------------------------------------------------------------------------------------------------


def _labels(subject: Subject) -> Iterator[Finding]:
    """Class names that look like a slip of a more frequent one."""
    names, counts = subject.task.classnames, subject.counted_classes(subject.labels)
    meant = [
        (rare, often)
        for rare, often in _one_letter_apart(names)
        if counts[rare] > 0 and counts[rare] * _SLIP_RATIO <= counts[often]
    ]
    if meant:
        pairs = [f"{names[rare]!r} ({counts[rare]}) beside {names[often]!r} ({counts[often]})" for rare, often in meant]
        yield subject.said(
            f"{len(meant)} class names differ by a letter from a more frequent one: {subject.some(pairs)}; if they are "
            "slips, mend the labels, or join them with classes: {LABEL: CLASS NAME}"
        )


def _one_letter_apart(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ordered pairs of names that one slip turns into each other; digits and short names differ on purpose."""
    folded = [name.casefold() for name in names]
    parts: defaultdict[str, set[int]] = defaultdict(set)
    for number, name in enumerate(folded):
        for place in range(len(name) if len(name) >= _SLIP_LETTERS else 0):
            parts[name[:place] + name[place + 1 :]].add(number)
        parts[name].add(number)
    seen = set()
    for numbers in parts.values():
        for pair in ((one, other) for one in numbers for other in numbers if one != other):
            if pair not in seen and slips(*(folded[number] for number in pair)) == 1:
                seen.add(pair)
                if all(_is_word_slip(folded[one], folded[other]) for one, other in (pair, pair[::-1])):
                    yield pair


def _is_word_slip(name: str, other: str) -> bool:
    """Whether the letter that differs is neither a digit nor a word of its own ("grade a", "grade b")."""
    digits = "".join(letter for letter in name if not letter.isalpha() and not letter.isspace())
    its_digits = "".join(letter for letter in other if not letter.isalpha() and not letter.isspace())
    odd = {*name.split()} ^ {*other.split()}
    return len(name) >= _SLIP_LETTERS and digits == its_digits and all(len(word) >= _SLIP_LETTERS - 1 for word in odd)


def _imbalance(subject: Subject) -> Iterator[Finding]:
    """Classes of very unequal size, with what is done about them."""
    counts = subject.counted_classes(subject.splits["train"])
    if len(counts) < 2 or subject.task.multi:  # labels that most images lack are the rule there, and mAP is a mean
        return
    (most, high), *_, (least, low) = counts.most_common()
    if high < _UNEQUAL * low:
        return
    names, metric = subject.task.classnames, subject.task.metric
    if metric == "mean_acc":
        figure = "metric: mean_acc counts every class alike"
    else:
        figure = (
            f"always answering {names[most]!r} gets {100 * high / sum(counts.values()):.0f} %, so add metric: mean_acc"
        )
    done = subject.balanced or "training follows the frequent ones, so add weight: balanced, or draw DATASET.NUM_SHOTS"
    yield subject.said(
        f"the classes have {low} ({names[least]!r}) to {high} ({names[most]!r}) training pictures; {figure}; {done}",
        doubtful=not subject.balanced or metric != "mean_acc",
    )


# -- copies ----------------------------------------------------------------------------------------------------


def _doubles(split: Split, same: Same, shown: Subject) -> list[Finding]:
    """Equal pictures in training and test, or under two labels."""
    told, found = [], doubles(split, same.pictures)
    place = ", ".join(f"task {task.name!r}" for task in split.tasks)
    if found.leaked:
        told.append(
            f"{len(found.leaked)} of {len(split.test)} test images are the same pictures as training images, e.g. "
            f"{shown.pairs(found.leaked)}; remove one of each two (python -m datasets.check --examples 1000 names them)"
        )
    if found.labels:
        told.append(
            f"{len(found.labels)} images are the same pictures as others with another label, e.g. "
            f"{shown.pairs(found.labels)}; keep the right ones"
        )
    return [Finding(f"{place}: {text}", doubles=True) for text in told]


def _copies(subject: Subject, same: Same) -> Iterator[Finding]:
    """Equal pictures of one class within a split."""
    of = {path: split for split, paths in subject.splits.items() for path in paths}
    pairs: list[Pair] = []
    for group in same.pictures:
        first: dict[tuple[str, int], str] = {}
        for path in group:
            if path in of:
                key = (of[path], subject.labels[path])
                if first.setdefault(key, path) != path:
                    pairs.append((path, first[key]))
    if pairs:
        yield subject.said(
            f"{subject.counted(path for path, _ in pairs)} are copies of another one of their class and split, e.g. "
            f"{subject.pairs(pairs)}; each counts as a picture, so delete all but one"
        )


def _near(subject: Subject, looks: Mapping[str, Look], same: Same, limit: float) -> Iterator[Finding]:
    """Pictures that look like another one without being equal."""
    if len(looks) > limit:
        yield subject.said(
            f"did not look for pictures that look alike, because there are more than {limit:,}; "
            "python -m datasets.check --near does",
            doubtful=False,
        )
        return
    first = {path: group[0] for group in same.pictures for path in group}
    marks = {path: look.marks for path, look in looks.items() if first.get(path, path) == path}
    paths = {split: [path for path in its if path in marks] for split, its in subject.splits.items()}
    leaked = look_alike(paths["test"], paths["train"], marks)
    val = look_alike(paths["val"], paths["train"] + paths["test"], marks)
    within = [
        (one, other)
        for its in paths.values()
        for one, other in look_alike(its, its, marks)
        if not subject.groups.get(one) or subject.groups[one] != subject.groups.get(other)
    ]
    told = [
        f"{counts} look like {what}, e.g. {subject.pairs(pairs, '~')}"
        for pairs, counts, what in (
            (leaked, f"{len(leaked)} of {len(subject.splits['test'])} test pictures", "a training picture"),
            (val, f"{len(val)} of {len(subject.splits['val'])} val pictures", "one for training or testing"),
            (within, subject.counted(path for path, _ in within), "another one of their split"),
        )
        if pairs
    ]
    if told:
        yield subject.said(
            f"{'; '.join(told)}; if they show the same object at the same time, keep such pictures together with "
            "group:, or delete all but one"
        )


# -- how pictures are read -------------------------------------------------------------------------------------


def _transparent(subject: Subject, looks: Mapping[str, Look], reading: Reading) -> Iterator[Finding]:
    paths = [path for path, look in looks.items() if look.clear]
    if not paths:
        return
    share = sum(looks[path].clear for path in paths) / len(paths)
    if reading.ground is None:
        done = (
            "transparency is dropped (INPUT.BACKGROUND original), which shows the colour that each file stores under "
            "it, often black; choose a colour as background"
        )
    else:
        done = (
            f"what is transparent becomes {reading.background} (INPUT.BACKGROUND); if the pictures are light, or later "
            "ones lie on another ground, choose that colour"
        )
    yield subject.said(
        f"{subject.counted(paths)} are transparent, on average {100 * share:.0f} % of the area, e.g. "
        f"{subject.examples(paths)}; {done}",
        doubtful=len(paths) > _MOST * len(looks),
    )


def _turned(subject: Subject, looks: Mapping[str, Look], reading: Reading) -> Iterator[Finding]:
    paths = [path for path, look in looks.items() if look.turned]
    if not paths:
        return
    ignored = reading.orientation == AS_RELEASED
    done = (
        "and are read as stored, on their side (INPUT.ORIENTATION original); choose upright"
        if ignored
        else "and are turned upright (INPUT.ORIENTATION); programs that ignore EXIF show them otherwise"
    )
    yield subject.said(
        f"{subject.counted(paths)} have an EXIF entry that turns them, e.g. {subject.examples(paths)}, {done}",
        doubtful=ignored,
    )


def _odd(subject: Subject, looks: Mapping[str, Look]) -> Iterator[Finding]:
    """Pictures much larger, smaller, wider or narrower than the rest."""
    shapes = {path: look.size for path, look in looks.items() if all(look.size)}
    if len(shapes) < _FEWEST:
        return
    side = median((width * height) ** 0.5 for width, height in shapes.values())
    aspect = median(max(size) / min(size) for size in shapes.values())  # the same for a picture that is turned
    odd = [
        path
        for path, (width, height) in shapes.items()
        if not side / _SIDES < (width * height) ** 0.5 < side * _SIDES
        or not aspect / _ASPECT < max(width, height) / min(width, height) < aspect * _ASPECT
    ]
    if not odd or len(odd) > _RARE * len(shapes):
        return
    middle = min(shapes.values(), key=lambda size: (abs((size[0] * size[1]) ** 0.5 - side), size))
    shown = [f"{identity(path, subject.root)} ({'x'.join(map(str, shapes[path]))})" for path in odd]
    yield subject.said(
        f"{subject.counted(odd)} are much larger, smaller, wider or narrower than the rest, which are about "
        f"{middle[0]}x{middle[1]}, e.g. {subject.some(shown)}; look whether these are the right files"
    )


def seen_alike(files: Same, looks: Mapping[str, Look]) -> Same:
    """Equal files joined with pictures that are read to equal pixels; blank ones are reported apart."""
    first = {path: group[0] for group in files.files for path in group}
    members: defaultdict[str, list[str]] = defaultdict(list)
    for path in dict.fromkeys([*looks, *first]):
        members[first.get(path, path)].append(path)
    groups: defaultdict[object, list[str]] = defaultdict(list)
    for one, paths in members.items():
        look = looks.get(one)
        shows = look is not None and look.kind not in (UNREADABLE, BLANK)
        groups[look.pixels if look and shows else one].extend(paths)
    return Same(files.files, [group for group in groups.values() if len(group) > 1], bool(looks))
