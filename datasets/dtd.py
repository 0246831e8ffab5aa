"""Describable Textures: 47 words for what a surface looks like."""

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset


@DATASET_REGISTRY.register()
class DescribableTextures(FolderDataset):
    """The folders are split anew; the archive's own ten splits are not used."""

    dataset_dir = "dtd"
    image_dir = "images"
    other_image_dirs = ("dtd/images",)
    task_name = "texture image classification"
    task_description = "classify texture images into 47 categories"
    template = "{} texture."
    counts = (2820, 1128, 1692)
    num_classes = 47
    class_counts = (120,)
