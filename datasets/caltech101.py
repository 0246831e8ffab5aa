"""Caltech-101: photographs of objects of 100 kinds."""

from typing import ClassVar

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset


@DATASET_REGISTRY.register()
class Caltech101(FolderDataset):
    """Folders sort by byte: Faces, Leopards and Motorbikes come before accordion."""

    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    other_image_dirs = ("caltech-101/101_ObjectCategories",)
    skipped = ("BACKGROUND_Google", "Faces_easy")
    renames: ClassVar[dict[str, str]] = {
        "Faces": "face",
        "Leopards": "leopard",
        "Motorbikes": "motorbike",
        "airplanes": "airplane",
    }
    task_name = "generic object image classification"
    task_description = "classify generic object images into 100 categories"
    metric = "mean_acc"
    template = "a photo of a {}."
    counts = (4128, 1649, 2465)
    num_classes = 100
