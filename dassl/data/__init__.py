"""Tasks, images and how they reach a trainer; ``dassl.data.manager.DataManager`` is the entrance."""

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase, Suite, build_dataset
from dassl.data.datum import Datum, Split, Task

__all__ = ["DATASET_REGISTRY", "DatasetBase", "Datum", "Split", "Suite", "Task", "build_dataset"]
