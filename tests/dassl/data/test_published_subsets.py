"""Few-shot subsets of CoOp's published splits, against published digests of the subsets that CoOp itself drew.

``published_pets.json`` beside this file is a sample for every machine: the number of images in each class of OxfordPets
and the images that CoOp drew, with their places in the class. Larger records are looked for in SOFTCPT_REFERENCE.
"""

import json
import os
import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from dassl.data import DATASET_REGISTRY, build_dataset
from dassl.data.datum import Datum, Task
from dassl.data.sampling import MAX_VAL_SHOTS, fewshot_split
from dassl.data.splits import read_split, subset_content
from dassl.utils.files import read_json
from tests.dassl.data.toy import toy_cfg

REFERENCE = Path(os.environ.get("SOFTCPT_REFERENCE", Path(__file__).resolve().parents[4] / "shared" / "reference"))
CHECKS = REFERENCE / "datasets_fewshot_checks.json"
# Registered data set of each record.
SETS = {
    "caltech101": "Caltech101",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "fgvc_aircraft": "FGVCAircraft",
    "food101": "Food101",
    "oxford_pets": "OxfordPets",
    "sun397": "SUN397",
    "ucf101": "UCF101",
}
RUNS = [(shots, seed) for shots in (1, 2, 4, 8, 16) for seed in (1, 2, 3)]


def recorded(name):
    if not CHECKS.is_file():
        pytest.skip(f"no recorded digests in {REFERENCE}")
    return json.loads(CHECKS.read_text(encoding="utf-8"))["checks"][name]


def test_the_embedded_sample():
    sample = json.loads(Path(__file__).with_name("published_pets.json").read_text(encoding="utf-8"))
    for key, parts in sample["subsets"].items():
        shots, seed = map(int, key.split(","))
        lists = [class_lists(sample["sizes"][part], parts[part]["images"], shots) for part in ("train", "val")]
        for part, chosen in zip(("train", "val"), fewshot_split(*lists, shots, seed), strict=True):
            names = [item.impath for item in chosen]
            assert sha256("\n".join(names).encode()).hexdigest() == parts[part]["sha256"], (key, part)


def class_lists(sizes, images, shots):
    """A list with classes of these sizes, in which only the drawn images have their real names."""
    items = [[Datum(f"{label}/{place}", label) for place in range(size)] for label, size in enumerate(sizes)]
    for number, (place, name) in enumerate(images):
        items[number // shots][place] = Datum(name, number // shots)
    return [item for group in items for item in group]


@pytest.mark.parametrize("name", SETS)
def test_published_digests(name):
    """All of a data set's 15 subsets, where its published split file is at hand."""
    checks = recorded(name)
    path = REFERENCE / "splits" / f"split_zhou_{SETS[name]}.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    split = read_split(path, Path("images"), Task("", ()))
    for shots, seed in RUNS:
        chosen = fewshot_split(split.train, split.val, shots, seed)
        same_as_published(subset_content(*chosen, Path("images")), checks, shots, seed)
        assert set(Counter(item.label for item in chosen[0]).values()) == {shots}


def same_as_published(record, checks, shots, seed):
    wanted = checks[f"shot_{shots}-seed_{seed}"]
    for key in ("train_sha256", "val_sha256"):
        assert record[key] == wanted[key], (key, shots, seed)


def test_members_of_a_suite_draw_the_published_subsets(tmp_path):
    """Through the declarations of the data sets, side by side in a suite, with CoOp's split files in their folders."""
    checks = {name: recorded(name) for name in SETS}
    found = {name: REFERENCE / "splits" / f"split_zhou_{SETS[name]}.json" for name in SETS}
    found = {name: path for name, path in found.items() if path.is_file()}
    if not found:
        pytest.skip(f"no split files in {REFERENCE}")
    folders = {name: tmp_path / DATASET_REGISTRY.get(SETS[name]).dataset_dir for name in found}
    for name, path in found.items():
        folders[name].mkdir()
        shutil.copy(path, folders[name])
    members = tuple(SETS[name] for name in found)
    shots, seed = 4, 2
    cfg = toy_cfg(
        tmp_path, tmp_path / "output", "General10", DATASET__MEMBERS=members, DATASET__NUM_SHOTS=shots, SEED=seed
    )
    build_dataset(cfg)
    for name, folder in folders.items():
        record = read_json(folder / "split_fewshot_mt" / f"shot_{shots}-seed_{seed}.json")
        same_as_published(record, checks[name], shots, seed)


@pytest.mark.parametrize("name", SETS)
def test_published_sizes(name):
    """Where only digests were published, at least the numbers of images must be those of our rule."""
    checks, classes = recorded(name), DATASET_REGISTRY.get(SETS[name]).num_classes
    assert set(checks) == {f"shot_{shots}-seed_{seed}" for shots, seed in RUNS}
    for shots, seed in RUNS:
        entry = checks[f"shot_{shots}-seed_{seed}"]
        assert (entry["n_train"], entry["n_val"]) == (shots * classes, min(shots, MAX_VAL_SHOTS) * classes)
