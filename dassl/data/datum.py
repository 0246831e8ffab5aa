"""The parts of a data set: tasks and labelled images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

METRICS = ("overall_acc", "mean_acc")
MULTI_METRICS = ("mAP",)
WEIGHTS = ("balanced",)


@dataclass(frozen=True)
class Task:
    """One classification problem.

    Attributes:
        name: the task's name; SoftCPT reads it as text ("_" counts as a space).
        classnames: names of the C_t classes, in label order.
        metric: "overall_acc" (hits / images) or "mean_acc" (mean over classes of their recall).
        description: free text for people.
        template: hand-written prompt of zero-shot CLIP with one "{}" for the class name.
        places: for messages, the source of each class name of an own task; empty for other tasks.
        weight: "balanced" to give all classes the same share of the loss (:mod:`dassl.metrics.weights`); "": images
            count alike.
        multi: an image may have any number of the classes. Its label is then the sum of 2**c over its classes c (see
            :func:`label_set`), and the metric is "mAP".
    """

    name: str
    classnames: tuple[str, ...]
    metric: str = "overall_acc"
    description: str = ""
    template: str = "a photo of a {}."
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    weight: str = ""
    multi: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "classnames", tuple(self.classnames))
        metrics = MULTI_METRICS if self.multi else METRICS
        if self.metric not in metrics:
            raise ValueError(f"task {self.name!r}: metric {self.metric!r}; choose one of {', '.join(metrics)}")
        if self.weight not in ("", *WEIGHTS):
            raise ValueError(f"task {self.name!r}: weight {self.weight!r}; choose {', '.join(WEIGHTS)} or none")

    def classes_of(self, label: int) -> tuple[int, ...]:
        """The classes that a label stands for, ascending: the label itself unless the task is ``multi``."""
        return classes_in(label) if self.multi else (label,)


def label_set(classes: Iterable[int]) -> int:
    """The label of an image with these classes of a multi-label task; 0: with none."""
    return sum(1 << each for each in set(classes))


def classes_in(label: int) -> tuple[int, ...]:
    """The classes in the label of a multi-label task, ascending."""
    return tuple(place for place in range(label.bit_length()) if label >> place & 1)


@dataclass(frozen=True, slots=True)
class Datum:
    """One labelled image.

    Attributes:
        impath: path of the image file.
        label: class index inside its task; of a multi-label task, all its classes (:func:`label_set`).
        task: index of the task in the data set.
        also: further (task, label) pairs of an image that belongs to several tasks.
    """

    impath: str
    label: int
    task: int = 0
    also: tuple[tuple[int, int], ...] = field(default=())

    @property
    def targets(self) -> tuple[tuple[int, int], ...]:
        """All (task, label) pairs of the image."""
        return ((self.task, self.label), *self.also)


@dataclass(frozen=True)
class Split:
    """The tasks of a data set and its three lists of images.

    Attributes:
        tasks: the T tasks; the ``task`` of a Datum counts in this tuple.
        train: images for training, val for choosing an epoch, test for the reported figures.
    """

    tasks: tuple[Task, ...]
    train: list[Datum]
    val: list[Datum]
    test: list[Datum]

    @property
    def lists(self) -> tuple[list[Datum], list[Datum], list[Datum]]:
        """The three lists in the order train, val, test."""
        return self.train, self.val, self.test
