"""The runs behind the page: what they say of a picture, with their own class names or with a visitor's."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dassl.data.images import Reading, read_image
from dassl.inference import Classifier, ClassScore, load_classifier
from dassl.utils.errors import UserError
from dassl.utils.texts import is_one_line

MOST_RUNS = 4  # side by side on a wide screen
MOST_PIXELS = 100_000_000  # 400 MB while it is decoded
MOST_CLASSES = 1000
LONGEST_NAME = 200  # characters
_RENAMED = 4  # classifiers with other class names that are held for each run

Names = tuple[str, ...]


@dataclass(frozen=True)
class TaskAnswer:
    """The most probable classes of a task, the best one first.

    Attributes:
        others: how many classes are not among them, and the sum of their probabilities.
        renamed: whether the class names are a visitor's.
        calibrated: whether the probabilities have a temperature that was fitted to these classes.
        threshold: of a multi-label task, the probability from which a class is predicted.
    """

    task: str
    classes: tuple[ClassScore, ...]
    others: tuple[int, float]
    renamed: bool
    calibrated: bool = False
    threshold: float | None = None


@dataclass(frozen=True)
class RunAnswer:
    """What a run says of a picture; ``refused``: why it does not take a visitor's class names ("": it does)."""

    run: str
    tasks: tuple[TaskAnswer, ...]
    refused: str = ""


@dataclass(frozen=True)
class Visit:
    """What is known of one open page; nothing in it is ever changed.

    Attributes:
        file: name of the picture's file.
        pictures: the (3, H, W) tensors that the backbones read, by name of the run.
        names: class names by task, of the tasks that the visitor has given others.
    """

    file: str = ""
    pictures: Mapping[str, Tensor] = field(default_factory=dict)
    names: Mapping[str, Names] = field(default_factory=dict)


class Run:
    """A run of the command line, with the classifiers that were lately made of it."""

    def __init__(self, name: str, own: Classifier) -> None:
        self.name, self.own = name, own
        most = min(own.reading.max_pixels, MOST_PIXELS)
        self.reading = replace(own.reading, max_pixels=most)
        self.tasks: dict[str, Names] = {task.name: tuple(task.classnames) for task in own.tasks}
        self._renamed: OrderedDict[tuple[tuple[str, Names], ...], Classifier] = OrderedDict()

    def with_names(self, names: Mapping[str, Names]) -> Classifier:
        """The classifier with a visitor's class names, of those tasks that the run has.

        Raises:
            UserError: it cannot take them; says why.
        """
        other: dict[str | int, Names] = {task: own for task, own in names.items() if self.tasks.get(task, own) != own}
        if not other:
            return self.own
        key = tuple((task, other[task]) for task in self.tasks if task in other)
        if key not in self._renamed:
            made = self.own.with_classes(other)
            while len(self._renamed) >= _RENAMED:
                self._renamed.popitem(last=False)
            self._renamed[key] = made
        self._renamed.move_to_end(key)
        return self._renamed[key]


class Runs:
    """The runs of the page, by name."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = {run.name: run for run in runs}
        self.names = list(self._runs)
        self.tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))

    def class_names(self, visit: Visit, task: str) -> Names:
        """The class names of a task: the visitor's, or those of the first run that has it."""
        own = next(run.tasks[task] for run in self._runs.values() if task in run.tasks)
        return visit.names.get(task, own)

    def look(self, visit: Visit, path: Path, file: str) -> tuple[Visit, Image.Image]:
        """The visit with a picture, which is read as each run reads it; and the picture as the first run reads it.

        Raises:
            UserError: it is no picture, or too large; names ``file`` and not ``path``.
        """
        _check_pixels(path, file)
        decoded: dict[Reading, Image.Image] = {}
        try:
            for reading in {run.reading: None for run in self._runs.values()}:
                decoded[reading] = read_image(path, reading)
        except UserError as error:
            raise UserError(str(error).replace(str(path), file)) from error
        tensors = {run.name: run.own.transform(decoded[run.reading]) for run in self._runs.values()}
        return replace(visit, file=file, pictures=tensors), next(iter(decoded.values()))

    def rename(self, visit: Visit, shown: Sequence[str], task: str, text: str) -> tuple[Visit, list[str]]:
        """The visit with other class names of a task.

        Args:
            shown: names of the runs that must take them.
            text: the class names, one a line.

        Returns:
            The visit, and a line for each run that does not take them.

        Raises:
            UserError: the names cannot be used, or none of the runs takes them.
        """
        names = {**visit.names, task: class_names(text)}
        asked = [self._runs[name] for name in shown if task in self._runs[name].tasks]
        if not asked:
            raise UserError(f"{', '.join(shown)} has no task {task!r}; choose another task or run")
        refusals = [(run.name, reason) for run in asked if (reason := _refusal(run, names))]
        if len(refusals) == len(asked):
            raise UserError("\n".join(dict.fromkeys(reason for _, reason in refusals)))
        return replace(visit, names=names), [f"{name}: {reason}" for name, reason in refusals]

    def restore(self, visit: Visit, task: str) -> Visit:
        """The visit with the runs' own class names of a task."""
        return replace(visit, names={name: own for name, own in visit.names.items() if name != task})

    def answers(self, visit: Visit, shown: Sequence[str], top_k: int) -> list[RunAnswer]:
        """What the runs called ``shown`` say of the visit's picture; nothing without a picture."""
        if not visit.pictures:
            return []
        return [_answer(self._runs[name], visit, top_k) for name in shown]


def load_runs(places: Sequence[str], *, device: str = "", weights: str = "") -> Runs:
    """Load run folders and exported files.

    Raises:
        UserError: too many, one twice, or one that is no finished run.
    """
    if len(places) > MOST_RUNS:
        raise UserError(f"{len(places)} runs were given, the page shows up to {MOST_RUNS}; give fewer")
    full = [Path(place).expanduser().resolve() for place in places]
    twice = [place for place, path in zip(places, full, strict=True) if full.count(path) > 1]
    if twice:
        raise UserError(f"run {twice[0]} was given twice; give each once")
    loaded = [load_classifier(place, device=device, weights=weights) for place in places]
    return Runs([Run(name, own) for name, own in zip(short_names(full), loaded, strict=True)])


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of different paths, as many of them as tell the paths apart."""
    for count in range(1, 1 + max(len(path.parts) for path in paths)):
        names = [str(Path(*path.parts[-count:])) for path in paths]
        if len(set(names)) == len(names):
            return names
    return list(map(str, paths))


def class_names(text: str) -> Names:
    """Class names from the lines of a text.

    Raises:
        UserError: none, too many, too long, or with hidden characters.
    """
    names = tuple(name.strip() for name in text.split("\n") if name.strip())
    if not names:
        raise UserError("the list of class names is empty; give one a line")
    if len(names) > MOST_CLASSES:
        raise UserError(f"{len(names):,} class names are too many; give up to {MOST_CLASSES:,}")
    for name in names:
        if len(name) > LONGEST_NAME:
            raise UserError(f"the class name {name[:40]!r}... has {len(name):,} characters; give up to {LONGEST_NAME}")
        if not is_one_line(name):
            raise UserError(f"the class name {name!r} has hidden characters; type it again")
    return names


def _check_pixels(path: Path, file: str) -> None:
    try:
        with Image.open(path) as image:
            pixels = f"{image.width * image.height:,}" if image.width * image.height > MOST_PIXELS else ""
    except Image.DecompressionBombError:
        pixels = "far more"
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, MemoryError):
        return  # the reader says what it is
    if pixels:
        raise UserError(f"{file} has {pixels} pixels, and the page reads up to {MOST_PIXELS:,}; make it smaller")


def _refusal(run: Run, names: Mapping[str, Names]) -> str:
    try:
        run.with_names(names)
    except UserError as error:
        return str(error)
    return ""


def _answer(run: Run, visit: Visit, top_k: int) -> RunAnswer:
    refused = _refusal(run, visit.names)
    classifier = run.own if refused else run.with_names(visit.names)
    (*found,) = classifier.answers([visit.file], visit.pictures[run.name][None], top_k=top_k)
    tasks = []
    for task, temperature, answer in zip(classifier.tasks, classifier.temperatures, found, strict=True):
        left = len(task.classnames) - len(answer.classes)
        share = max(0.0, 1 - sum(each.probability for each in answer.classes)) if left else 0.0
        renamed = tuple(task.classnames) != run.tasks[task.name]
        shown = TaskAnswer(task.name, answer.classes, (left, share), renamed, temperature != 1, answer.threshold)
        tasks.append(shown)
    return RunAnswer(run.name, tuple(tasks), refused)
