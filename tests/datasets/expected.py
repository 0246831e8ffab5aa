"""What the documented rules make of a miniature: class names, metrics, and images of a class in each part."""

from tests.miniature.box import known
from tests.miniature.fashion20 import TASKS
from tests.miniature.imagenet import name_table
from tests.miniature.write import SUITES

MEAN_ACC = ("Caltech101", "FGVCAircraft", "OxfordFlowers", "OxfordPets", "Fashion20")
FIFTH_OF_TRAIN = ("OxfordPets", "StanfordCars", "SUN397", "UCF101")
THREE_FOLDERS = ("FruitVegetable", "KaggleVegetable")
TEST_ONLY = ("ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR")


def metric(name: str) -> str:
    """The metric of every task of a data set."""
    return "mean_acc" if name in MEAN_ACC else "overall_acc"


def half_fifth_rest(images: int) -> tuple[int, int, int]:
    """Sizes of the parts of a class without an official split."""
    train, val = round(0.5 * images), round(0.2 * images)
    return train, val, images - train - val


def class_parts(name: str, per_class: int) -> tuple[int, int, int]:
    """Training, validation and test images of each class with images (of Fashion20, see :func:`task_parts`)."""
    fewer = max(1, per_class // 2)
    if name in FIFTH_OF_TRAIN:
        val = round(0.2 * per_class)
        return per_class - val, val, fewer
    if name == "FGVCAircraft":
        return fewer, fewer, fewer
    if name == "ImageNet":
        return per_class, fewer, fewer
    if name in TEST_ONLY:
        return fewer, 0, fewer
    if name in THREE_FOLDERS:
        train, val, test = half_fifth_rest(per_class)
        return 3 * train, 3 * val, 3 * test
    return half_fifth_rest(per_class * (2 if name == "RSD46WHU" else 1))


def task_parts(name: str, per_class: int, classes: list[int]) -> list[tuple[int, int, int]]:
    """Training, validation and test images of each task, given how many of its classes have images."""
    if name == "Fashion20":
        return [half_fifth_rest(count * per_class) for count in classes]
    return [tuple(count * images for images in class_parts(name, per_class)) for count in classes]


def classes_of(name: str) -> list[list[tuple[str, str]]]:
    """For each task the classes in label order: what the pictures show, and the class name that it should get.

    Of the ImageNet family these are all classes of the list, also those without images.
    """
    if name == "Fashion20":
        return [[(f"{task}: {label}", label) for label in labels] for task, labels in TASKS.items()]
    if name.startswith("ImageNet"):
        table = list(name_table().items())
        return [[table[label] for label in known(name, "labels")] if name in ("ImageNetA", "ImageNetR") else table]
    return [list(zip(known(name, "folders"), known(name), strict=True))]


def members(name: str) -> tuple[str, ...]:
    """The data sets of a suite, or the data set itself."""
    return SUITES.get(name, (name,))
