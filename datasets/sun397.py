"""SUN397: photographs of 397 kinds of places."""

from pathlib import Path

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split
from dassl.data.raw import Labels, hold_out, read_lines


@DATASET_REGISTRY.register()
class SUN397(DatasetBase):
    """First of the official partitions: 50 test images a class; a fifth of the training images is for validation."""

    dataset_dir = "sun397"
    image_dir = "SUN397"
    task_name = "scene image classification"
    task_description = "classify scene images into 397 categories"
    template = "a photo of a {}."
    counts = (15880, 3970, 19850)
    num_classes = 397
    class_counts = (100,)

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """Classes in the order of ``ClassName.txt``, images from the lists; both are paths such as /a/abbey."""
        labels = Labels(read_lines(folder / "ClassName.txt"), folder / "ClassName.txt")
        images = cls.image_folder(folder)
        train, test = (
            [Datum(f"{images}{path}", labels[path.rsplit("/", 1)[0]]) for path in read_lines(folder / name)]
            for name in ("Training_01.txt", "Testing_01.txt")
        )
        return Split((cls.task(folder, [_classname(path) for path in labels]),), *hold_out(train), test)


def _classname(path: str) -> str:
    """/a/apse/indoor -> "indoor apse"."""
    return " ".join(reversed(path.split("/")[2:]))
