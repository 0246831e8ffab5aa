"""Stanford Cars: 196 makes, models and years."""

from pathlib import Path

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split
from dassl.data.raw import hold_out, label_from_one, read_mat


@DATASET_REGISTRY.register()
class StanfordCars(DatasetBase):
    """Official test list; a fifth of the official training list is for validation. Paths start at the data folder."""

    dataset_dir = "stanford_cars"
    task_name = "car model image classification"
    task_description = "classify car model images into 196 categories"
    template = "a photo of a {}."
    counts = (6509, 1635, 8041)
    num_classes = 196

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """``annotations`` have a file name and a class from 1; the year ends a class name and is moved to its front."""
        names = [str(name) for name in read_mat(folder / "devkit/cars_meta.mat", "class_names")]
        train = _items(folder / "cars_train", folder / "devkit/cars_train_annos.mat", len(names))
        test = _items(folder / "cars_test", folder / "cars_test_annos_withlabels.mat", len(names))
        classnames = [" ".join(reversed(name.rsplit(" ", 1))) for name in names]
        return Split((cls.task(folder, classnames),), *hold_out(train), test)


def _items(images: Path, source: Path, classes: int) -> list[Datum]:
    rows = read_mat(source, "annotations")
    return [Datum(f"{images}/{row['fname']}", label_from_one(row["class"], classes, source)) for row in rows]
