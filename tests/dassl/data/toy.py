"""Tiny data sets on disk: a few noise images a class, read through the same code as the real ones.

``ToyPets`` and ``ToyTools`` are single data sets, ``ToyBoth`` is their suite, and ``ToyShapes`` has two tasks whose
labels stand on the same images.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data.dataset import DATASET_REGISTRY, DatasetBase, Suite
from dassl.data.datum import Datum, Split, Task
from dassl.data.splits import split_content
from dassl.data.transforms import PLAIN
from dassl.utils.files import write_json

SIZE = 24
COUNTS = {"train": 5, "val": 3, "test": 4}  # images a class


@DATASET_REGISTRY.register()
class ToyPets(DatasetBase):
    dataset_dir = "pets"
    image_dir = "images"
    task_name = "pet_kind"
    metric = "mean_acc"
    template = "a photo of a {}, a type of pet."


@DATASET_REGISTRY.register()
class ToyTools(DatasetBase):
    dataset_dir = "tools"
    task_name = "tool"


@DATASET_REGISTRY.register()
class ToyShapes(DatasetBase):
    dataset_dir = "shapes"


@DATASET_REGISTRY.register()
class ToyBoth(Suite):
    members = ("ToyPets", "ToyTools")


CLASSES = {ToyPets: ("cat", "dog", "grey_parrot"), ToyTools: ("hammer", "saw", "drill", "file", "rasp")}


def write_toy(root: Path) -> Path:
    """Write the images and split files of all toy data sets below ``root``."""
    for dataset, names in CLASSES.items():
        folder = root / dataset.dataset_dir
        images = folder / dataset.image_dir
        lists = [_items(images, part, [[(0, label)] for label in range(len(names))]) for part in COUNTS]
        task = Task(dataset.task_name, names, dataset.metric, "toy", dataset.template)
        write_json(folder / dataset.split_names()[0], split_content(Split((task,), *lists), images))
    folder = root / ToyShapes.dataset_dir
    kinds = [[(0, 0), (1, 0)], [(0, 1), (1, 1)], [(0, 0)], [(1, 2)]]
    lists = [_items(folder, part, kinds) for part in COUNTS]
    tasks = (Task("colour", ("red", "blue")), Task("shape", ("disc", "box", "star"), "mean_acc"))
    write_json(folder / ToyShapes.split_names()[0], split_content(Split(tasks, *lists), folder))
    return root


def toy_cfg(root: Path, output: Path, name: str = "ToyPets", **changes):
    """A config for a toy data set; ``changes`` are keys with "__" for the dots, e.g. DATASET__NUM_SHOTS=2."""
    cfg = get_cfg_default()
    fixed = {
        "DATASET__ROOT": str(root),
        "DATASET__NAME": name,
        "OUTPUT_DIR": str(output),
        "SEED": 1,
        "INPUT__SIZE": (16, 16),
        "INPUT__INTERPOLATION": "bicubic",
        "INPUT__TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
        "INPUT__PIXEL_MEAN": PLAIN["PIXEL_MEAN"],
        "INPUT__PIXEL_STD": PLAIN["PIXEL_STD"],
        "DATALOADER__NUM_WORKERS": 0,
        "DATALOADER__TRAIN_X__BATCH_SIZE": 4,
        "DATALOADER__TEST__BATCH_SIZE": 5,
    }
    for key, value in {**fixed, **changes}.items():
        *parents, leaf = key.split("__")
        node = cfg
        for parent in parents:
            node = node[parent]
        assert leaf in node, key
        node[leaf] = value
    return cfg


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (SIZE, SIZE + 6)) -> Path:
    """A smooth colour picture with some noise; the format follows the file's ending."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (3, 4, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    noisy = np.asarray(picture) * 0.8 + rng.integers(0, 50, (size[1], size[0], 3))
    Image.fromarray(noisy.astype(np.uint8)).save(path)
    return path


def _items(folder: Path, part: str, kinds: list[list[tuple[int, int]]]) -> list[Datum]:
    items = []
    for number in range(COUNTS[part]):
        for kind, ((task, label), *also) in enumerate(kinds):
            path = write_image(folder / part / f"kind{kind}_{number}.png", seed=len(items) * 7 + len(part))
            items.append(Datum(str(path), label, task, tuple(also)))
    return items
