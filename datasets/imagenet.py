"""ImageNet and its four variants for testing: V2, Sketch, A (adversarial), R (renditions)."""

from pathlib import Path
from typing import ClassVar

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split
from dassl.data.raw import class_images, images_below, labelled, read_rows
from dassl.utils.errors import UserError

_NAMES = "classnames.txt"


class _ImageNetFamily(DatasetBase):
    """Class folders are WordNet ids, whose order is that of the labels; ``classnames.txt`` has their names.

    The file may also lie in the folder of ImageNet itself.
    """

    task_name = "object image classification"
    task_description = "classify object images into 1000 categories"
    template = "a photo of a {}."
    num_classes = 1000
    subfolders: ClassVar[tuple[str, ...]] = ("",)

    @classmethod
    def names(cls, folder: Path) -> dict[str, str]:
        """Class name of each WordNet id, in the order of the ids."""
        places = [place / _NAMES for place in (folder, folder.parent / ImageNet.dataset_dir)]
        return dict(sorted(read_rows(next((p for p in places if p.is_file()), places[0]), 2)))

    @classmethod
    def classnames(cls, folder: Path, classes: list[str]) -> list[str]:
        """Names of the class folders."""
        names = cls.names(folder)
        unknown = [name for name in classes if name not in names]
        if unknown:
            raise UserError(f"class folder {unknown[0]!r} of {cls.__name__} in {folder} is not listed in {_NAMES}")
        return [names[name] for name in classes]

    @classmethod
    def images_on_disk(cls, folder: Path) -> list[str]:
        """Images of all class folders."""
        return images_below(cls.image_folder(folder) / name for name in cls.subfolders)


@DATASET_REGISTRY.register()
class ImageNet(_ImageNetFamily):
    """The official validation images serve as validation and test images, all of them in few-shot runs too."""

    dataset_dir = "imagenet"
    image_dir = "images"
    other_image_dirs = ("ILSVRC/Data/CLS-LOC",)
    subfolders = ("train", "val")
    few_shot_splits = ("train",)
    counts = (1_281_167, 50_000, 50_000)

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """Folders ``train`` and ``val`` with one folder a class."""
        train, val = (class_images(cls.image_folder(folder) / name) for name in cls.subfolders)
        if list(train) != list(val):
            odd = sorted(set(train).symmetric_difference(val))[0]
            raise UserError(f"class folder {odd!r} is only in one of train and val in {cls.image_folder(folder)}")
        lists = [_all_items(images) for images in (train, val)]
        return Split((cls.task(folder, cls.classnames(folder, list(train))),), lists[0], lists[1], lists[1])


class _Variant(_ImageNetFamily):
    """All images are both training and test images: a variant tests what was learned on ImageNet."""

    few_shot_splits = ()
    for_testing = True

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """One folder a class."""
        classes = class_images(cls.image_folder(folder))
        items = _all_items(classes)
        return Split((cls.task(folder, cls.classnames(folder, list(classes))),), items, [], items)


@DATASET_REGISTRY.register()
class ImageNetV2(_Variant):
    """New photographs of ImageNet's classes; folders are the labels 0 to 999."""

    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    counts = (10_000, 0, 10_000)

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """Folder n holds the n-th class of ImageNet."""
        names = list(cls.names(folder).values())
        classes = class_images(cls.image_folder(folder))
        unknown = [name for name in classes if not name.isdecimal() or int(name) >= len(names)]
        if unknown:
            raise UserError(f"class folder {unknown[0]!r} of {cls.image_folder(folder)} is no number of a class")
        items = [item for name in sorted(classes, key=int) for item in labelled(classes[name], int(name))]
        return Split((cls.task(folder, names),), items, [], items)


@DATASET_REGISTRY.register()
class ImageNetSketch(_Variant):
    """Black and white sketches of ImageNet's classes."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    other_image_dirs = ("sketch",)
    counts = (50_889, 0, 50_889)


@DATASET_REGISTRY.register()
class ImageNetA(_Variant):
    """Photographs that ResNet-50 gets wrong, of 200 classes."""

    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    task_description = "classify object images into 200 categories"
    counts = (7_500, 0, 7_500)
    num_classes = 200


@DATASET_REGISTRY.register()
class ImageNetR(_Variant):
    """Paintings, toys, cartoons and other renditions of 200 classes."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    task_description = "classify object images into 200 categories"
    counts = (30_000, 0, 30_000)
    num_classes = 200


def _all_items(classes: dict[str, list[str]]) -> list[Datum]:
    return [item for label, paths in enumerate(classes.values()) for item in labelled(paths, label)]
