"""Fruits and vegetables (Kaggle kritikseth/fruit-and-vegetable-image-recognition)."""

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset


@DATASET_REGISTRY.register()
class FruitVegetable(FolderDataset):
    """The archive's three splits are each split anew and joined, as the original does.

    The test folder repeats images of the other two, so some test images are seen in training. Class names are those
    of the folders, misspelt ones (jalepeno, raddish) and overlapping ones (corn, sweetcorn) included.
    """

    dataset_dir = "fruit_vegetable"
    image_dir = "images"
    subfolders = ("train", "test", "validation")
    task_name = "fruits and vegetables image classification"
    task_description = "classify fruit and vegetable images into 36 categories"
    template = "a photo of a {}, a type of fruit or vegetable."
    counts = (1907, 767, 1151)
    num_classes = 36
    class_counts = (
        *(88, 93, 108, 109, 112, 109, 101, 99, 106, 107, 114, 104, 112, 88, 119, 107, 108, 102),
        *(116, 106, 114, 88, 103, 109, 120, 119, 99, 97, 100, 117, 117, 111, 89, 112, 118, 104),
    )
