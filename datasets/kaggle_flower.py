"""Flowers (Kaggle alxmamaev/flowers-recognition): daisy, dandelion, rose, sunflower, tulip."""

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset


@DATASET_REGISTRY.register()
class KaggleFlower(FolderDataset):
    """The counts are those of the present archive (4,317 images); an older one has 4,326."""

    dataset_dir = "kaggle_flower_recognition"
    image_dir = "flowers"
    split_file = "split_dk_kaggle_flower.json"
    task_name = "flower image classification"
    task_description = "classify flower images into 5 categories"
    template = "a photo of a {}, a type of flower."
    counts = (2158, 864, 1295)
    num_classes = 5
    class_counts = (764, 1052, 784, 733, 984)
