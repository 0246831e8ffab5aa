"""Plant Seedlings, version 1 (Aarhus University): seedlings of 12 species, not segmented."""

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset


@DATASET_REGISTRY.register()
class PlantSeedlingV1(FolderDataset):
    """How many images version 1 has is not known for certain, so no counts are declared."""

    dataset_dir = "PlantSeedlingV1"
    image_dir = "Nonsegmented"
    task_name = "plant seedling species image classification"
    task_description = "classify plant seedling species images into 12 categories"
    template = "a photo of a {}, a type of seedling."
    num_classes = 12
