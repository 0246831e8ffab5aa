"""Oxford-IIIT Pets: 37 breeds of cats and dogs."""

from pathlib import Path

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split
from dassl.data.raw import hold_out, label_from_one, names_in_order, read_rows


@DATASET_REGISTRY.register()
class OxfordPets(DatasetBase):
    """Official test list; a fifth of the official training list is for validation."""

    dataset_dir = "oxford_pets"
    image_dir = "images"
    task_name = "pet breed image classification"
    task_description = "classify pet breed images into 37 categories"
    metric = "mean_acc"
    template = "a photo of a {}, a type of pet."
    counts = (2944, 736, 3669)
    num_classes = 37

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """Lines are an image's name without its ending, its class from 1, species and breed."""
        images = cls.image_folder(folder)
        names: dict[int, str] = {}
        parts = []
        for path in (folder / "annotations/trainval.txt", folder / "annotations/test.txt"):
            rows = [
                (image, label_from_one(number, cls.num_classes, path)) for image, number, _, _ in read_rows(path, 4)
            ]
            names.update((label, image.rsplit("_", 1)[0].lower()) for image, label in rows)
            parts.append([Datum(f"{images}/{image}.jpg", label) for image, label in rows])
        task = cls.task(folder, names_in_order(names, folder / "annotations"))
        return Split((task,), *hold_out(parts[0]), parts[1])
