"""FGVC-Aircraft: 100 variants of aeroplanes."""

from pathlib import Path

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split
from dassl.data.raw import Labels, read_lines, read_rows


@DATASET_REGISTRY.register()
class FGVCAircraft(DatasetBase):
    """Official lists of training, validation and test images; the lists lie beside the folder ``images``."""

    dataset_dir = "fgvc_aircraft"
    image_dir = "images"
    other_image_dirs = ("data/images", "fgvc-aircraft-2013b/data/images")
    task_name = "aircraft model image classification"
    task_description = "classify aircraft model images into 100 categories"
    metric = "mean_acc"
    template = "a photo of a {}, a type of aircraft."
    counts = (3334, 3333, 3333)
    num_classes = 100

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """``variants.txt`` has the class names in order; lines of the lists are an image's number and its variant."""
        images = cls.image_folder(folder)
        lists = images.parent
        labels = Labels(read_lines(lists / "variants.txt"), lists / "variants.txt")
        parts = [read_rows(lists / f"images_variant_{part}.txt", 2, " ") for part in ("train", "val", "test")]
        items = [[Datum(f"{images}/{number}.jpg", labels[variant]) for number, variant in rows] for rows in parts]
        return Split((cls.task(folder, tuple(labels)),), *items)
