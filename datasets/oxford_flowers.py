"""Oxford 102 Flowers."""

from pathlib import Path

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split
from dassl.data.raw import label_from_one, names_in_order, read_mat, split_classes
from dassl.utils.errors import UserError
from dassl.utils.files import read_json


@DATASET_REGISTRY.register()
class OxfordFlowers(DatasetBase):
    """The images are split anew; classes are in the order of their first image in ``imagelabels.mat``."""

    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    task_name = "flower species image classification"
    task_description = "classify flower species images into 102 categories"
    metric = "mean_acc"
    template = "a photo of a {}, a type of flower."
    counts = (4093, 1633, 2463)
    num_classes = 102

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """Entry i of ``imagelabels.mat`` is the label, from 1, of ``image_<i, five digits>.jpg``, i from 1."""
        images, source = cls.image_folder(folder), folder / "imagelabels.mat"
        task = cls.task(folder, _classnames(folder / "cat_to_name.json"))
        groups: dict[str, list[Datum]] = {}
        for number, value in enumerate(read_mat(source, "labels").tolist(), start=1):
            label = label_from_one(value, len(task.classnames), source)
            groups.setdefault(str(label), []).append(Datum(f"{images}/image_{number:05d}.jpg", label))
        return Split((task,), *split_classes(groups))


def _classnames(path: Path) -> list[str]:
    """Names by label from a table of "1" ... "102"."""
    table = read_json(path)
    if not isinstance(table, dict) or not all(key.isdecimal() for key in table):
        raise UserError(f'{path} must map the texts "1" to "102" to names; fetch it again')
    return names_in_order({int(key) - 1: name for key, name in table.items()}, path)
