"""Demo6: six small related tasks that need no download; their images are written on first use.

Five tasks are rendered, ``DemoDigits`` holds scikit-learn's scans of handwritten digits (Alpaydin and Kaynak, "Optical
recognition of handwritten digits", UCI repository, 1998).
"""

from pathlib import Path

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase, Suite
from datasets._render.suite import IMAGE_DIR, MEMBERS, split_file, write_demo


class _DemoBase(DatasetBase):
    embedded = True
    image_dir = IMAGE_DIR

    @classmethod
    def prepare(cls, folder: Path) -> None:
        """Write the images and the split file unless they are there."""
        if not (folder / split_file(cls.__name__)).is_file():
            write_demo(cls.__name__, folder)


@DATASET_REGISTRY.register()
class DemoDigits(_DemoBase):
    """Real scans of handwritten digits, 10 classes."""

    dataset_dir, split_file = "demo6/digits", "split_zhou_DemoDigits.json"
    task_name, metric = "handwritten digit", "overall_acc"
    task_description = "Tell which digit was written by hand on a scanned form."
    template = "a scan of the digit {}."


@DATASET_REGISTRY.register()
class DemoObjects(_DemoBase):
    """One thing on a table, 8 classes."""

    dataset_dir, split_file = "demo6/objects", "split_zhou_DemoObjects.json"
    task_name, metric = "kind of object", "overall_acc"
    task_description = "Name the object in the picture, whatever its colour, size and rotation."
    template = "a photo of a {}."


@DATASET_REGISTRY.register()
class DemoColours(_DemoBase):
    """The colour of one thing under tinted lamp light, 8 classes."""

    dataset_dir, split_file = "demo6/colours", "split_zhou_DemoColours.json"
    task_name, metric = "colour of an object", "overall_acc"
    task_description = "Name the colour of the object in the picture, whatever it is and however it is lit."
    template = "a photo of something {}."


@DATASET_REGISTRY.register()
class DemoPatterns(_DemoBase):
    """The pattern of a surface, 8 classes."""

    dataset_dir, split_file = "demo6/patterns", "split_zhou_DemoPatterns.json"
    task_name, metric = "surface pattern", "mean_acc"
    task_description = "Name the pattern of the surface, whatever its colours, scale and direction."
    template = "a photo of a {} surface."


@DATASET_REGISTRY.register()
class DemoCounts(_DemoBase):
    """How many things lie on a table, 6 classes."""

    dataset_dir, split_file = "demo6/counts", "split_zhou_DemoCounts.json"
    task_name, metric = "number of things", "mean_acc"
    task_description = "Count the things in the picture and leave out the scraps at the border."
    template = "a photo of {} things."


@DATASET_REGISTRY.register()
class DemoLayouts(_DemoBase):
    """How several things are arranged, 8 classes."""

    dataset_dir, split_file = "demo6/layouts", "split_zhou_DemoLayouts.json"
    task_name, metric = "arrangement of shapes", "mean_acc"
    task_description = "Say how the shapes in the picture are arranged, whatever they are and however many."
    template = "a photo of things in a {}."


@DATASET_REGISTRY.register()
class Demo6(Suite):
    """All six tasks, 48 classes."""

    members = MEMBERS
