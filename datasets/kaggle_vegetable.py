"""Vegetables (Kaggle misrakahmed/vegetable-image-dataset): 15 kinds, 1,400 images each."""

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset


@DATASET_REGISTRY.register()
class KaggleVegetable(FolderDataset):
    """The archive's three splits are each split anew and joined, as the original does."""

    dataset_dir = "kaggle_vegetable"
    image_dir = "images"
    other_image_dirs = ("Vegetable Images",)
    subfolders = ("train", "test", "validation")
    task_name = "vegetable image classification"
    task_description = "classify vegetable images into 15 categories"
    template = "a photo of a {}, a type of vegetable."
    counts = (10500, 4200, 6300)
    num_classes = 15
    class_counts = (1400,)
