"""Food-101: photographs of 101 dishes."""

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset


@DATASET_REGISTRY.register()
class Food101(FolderDataset):
    """The folders are split anew; the archive's own lists (``meta``) are not used."""

    dataset_dir = "food-101"
    image_dir = "images"
    other_image_dirs = ("food-101/images",)
    task_name = "food image classification"
    task_description = "classify food images into 101 categories"
    template = "a photo of {}, a type of food."
    counts = (50500, 20200, 30300)
    num_classes = 101
    class_counts = (1000,)
