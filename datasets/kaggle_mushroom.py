"""Mushrooms (Kaggle maysee/mushrooms-classification-common-genuss-images): nine genera."""

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset


@DATASET_REGISTRY.register()
class KaggleMushroom(FolderDataset):
    """The archive is known to hold truncated images: see DATASET.SKIP_UNREADABLE."""

    dataset_dir = "kaggle_mushroom"
    image_dir = "Mushrooms"
    task_name = "mushroom genus image classification"
    task_description = "classify mushroom genus images into 9 categories"
    template = "a photo of a {}, a type of mushroom."
    counts = (3357, 1344, 2013)
    num_classes = 9
    class_counts = (353, 750, 1073, 836, 364, 316, 1563, 1148, 311)
