"""Tasks, images and how they reach a trainer; start at ``dassl.data.manager.DataManager``."""

from dassl.data.columns import class_offsets, flat_classnames, task_of_class
from dassl.data.dataset import DATASET_REGISTRY, DatasetBase, Suite, build_dataset
from dassl.data.datum import Datum, Split, Task
from dassl.data.raw import FolderDataset

__all__ = [
    "DATASET_REGISTRY",
    "DatasetBase",
    "Datum",
    "FolderDataset",
    "Split",
    "Suite",
    "Task",
    "build_dataset",
    "class_offsets",
    "flat_classnames",
    "task_of_class",
]
