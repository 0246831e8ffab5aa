"""EuroSAT (RGB): land use in Sentinel-2 satellite images."""

from typing import ClassVar

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.raw import FolderDataset


@DATASET_REGISTRY.register()
class EuroSAT(FolderDataset):
    """Folder names are words run together; readable names replace them."""

    dataset_dir = "eurosat"
    image_dir = "2750"
    other_image_dirs = ("EuroSAT_RGB", "EuroSAT/2750", "EuroSAT")
    renames: ClassVar[dict[str, str]] = {
        "AnnualCrop": "Annual Crop Land",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "SeaLake": "Sea or Lake",
    }
    task_name = "satellite land use image classification"
    task_description = "classify satellite land use images into 10 categories"
    template = "a centered satellite photo of {}."
    counts = (13500, 5400, 8100)
    num_classes = 10
