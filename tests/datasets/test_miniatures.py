"""Every data set and suite is read from the raw layout of its miniature and trained on for an epoch."""

import errno
import json
import math
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import save_file

from dassl.data import places
from dassl.data.dataset import DATASET_REGISTRY, DatasetBase, Suite, build_dataset
from dassl.engine.run import run
from dassl.utils.errors import UserError
from dassl.utils.files import write_json
from datasets._fetch.sources import SOURCES
from tests.clip.helpers import openai_state, random_model
from tests.dassl.data.toy import toy_cfg
from tests.datasets import expected
from tests.miniature import MINIATURES, SUITES, write_miniature, write_suite
from tests.miniature.write import MARK

PER_CLASS, FEW_CLASSES = 5, 6
SUITE_NAMES = ("General10", "Plant6", "RS8")
NOT_IN_SPLIT = ("101_ObjectCategories/BACKGROUND_Google/", "101_ObjectCategories/Faces_easy/")
SMALL_PROMPTS = {
    **dict.fromkeys(("TRAINER__MTCOOP__PREC", "TRAINER__MTCOOPH__PREC"), "fp32"),
    **dict.fromkeys(("TRAINER__MTCOOP__TASK_N_CTX", "TRAINER__MTCOOP__N_CTX", "TRAINER__MTCOOPH__N_CTX"), 2),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data root with all miniatures; whole ones, but few classes of ImageNet have images."""
    root = tmp_path_factory.mktemp("miniatures")
    for name in MINIATURES:
        classes = FEW_CLASSES if name in SUITES["ImageNetFamily"] else None
        write_miniature(name, root, per_class=PER_CLASS, classes=classes)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A small random backbone for pictures of 32 pixels."""
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(openai_state(random_model("vit")), path)
    return path


@pytest.fixture
def load(data, tmp_path):
    """Build a data set from its miniature."""

    def build(name: str, *, root: Path = data, **changes) -> DatasetBase:
        return build_dataset(toy_cfg(root, tmp_path / "output/run", name, **changes))

    return build


def own_classes() -> dict[str, type[DatasetBase]]:
    """The registered data sets whose files lie in ``datasets/`` and that need data from outside."""
    names = [name for name in DATASET_REGISTRY.names() if DATASET_REGISTRY.get(name).__module__.startswith("datasets.")]
    return {name: DATASET_REGISTRY.get(name) for name in names}


def lists_of(dataset) -> tuple[list, list, list]:
    return dataset.train_x, dataset.val, dataset.test


def with_images(name: str, sizes: list[int]) -> list[int]:
    """How many classes of each task have images."""
    return [min(size, FEW_CLASSES) if name in SUITES["ImageNetFamily"] else size for size in sizes]


# -- reading ---------------------------------------------------------------------------------------------------


def test_every_published_data_set_and_suite_has_a_miniature():
    single, suites = set(), {}
    for name, dataset in own_classes().items():
        if issubclass(dataset, Suite):
            suites[name] = dataset.members
        elif dataset.dataset_dir and not dataset.embedded:
            single.add(name)
    assert single & set(SOURCES) <= set(MINIATURES) <= single
    assert {name: suites[name] for name in SUITE_NAMES} == {name: SUITES[name] for name in SUITE_NAMES}


@pytest.mark.parametrize("name", MINIATURES)
def test_the_raw_layout_is_read(name, data, load):
    dataset = load(name)
    truth = json.loads((data / MINIATURES[name].folder / MARK).read_text())
    tasks = [_present_only(name, classes, truth) for classes in expected.classes_of(name)]
    assert [len(task.classnames) for task in dataset.tasks] == [len(classes) for classes in tasks]
    for task, classes in zip(dataset.tasks, tasks, strict=True):
        spelt = _folded if DATASET_REGISTRY.get(name).__module__ == "datasets.remote_sensing" else str
        assert list(map(spelt, task.classnames)) == [spelt(label) for _, label in classes]
        assert task.metric == expected.metric(name)
    for items in lists_of(dataset):
        for item in items:
            path = Path(item.impath).relative_to(data / MINIATURES[name].folder).as_posix()
            assert truth[path] == tasks[item.task][item.label][0]
    _check_counts(name, dataset)
    used = {item.impath for items in lists_of(dataset) for item in items}
    assert len(used) == sum(not path.startswith(NOT_IN_SPLIT) for path in truth)


def _present_only(name: str, classes: list[tuple[str, str]], truth: dict[str, str]) -> list[tuple[str, str]]:
    """ImageNet's folders say which classes there are, but the folders of its version 2 are numbers from a list."""
    if name not in SUITES["ImageNetFamily"] or name == "ImageNetV2":
        return classes
    shown = set(truth.values())
    return [pair for pair in classes if pair[0] in shown]


def _folded(classname: str) -> str:
    """Only the letters: how remote-sensing sets space and capitalise their names is no fact."""
    return "".join(letter for letter in classname.lower() if letter.isalnum())


def _check_counts(name: str, dataset: DatasetBase) -> None:
    found = with_images(name, [len(task.classnames) for task in dataset.tasks])
    wanted = expected.task_parts(name, PER_CLASS, found)
    counts = [Counter(item.task for item in items) for items in lists_of(dataset)]
    assert [tuple(count[task] for count in counts) for task in range(len(found))] == wanted
    if name != "Fashion20":
        for part, items in enumerate(lists_of(dataset)):
            classes = Counter(item.label for item in items)
            assert set(classes.values()) <= {expected.class_parts(name, PER_CLASS)[part]}
            assert len(classes) == (found[0] if items else 0)


@pytest.mark.parametrize("name", MINIATURES)
def test_the_remarks_on_a_split_of_all_that_is_there(name, load, caplog):
    """The numbers are not the published ones, and that is all there is to say."""
    load(name)
    caplog.clear()
    load(name)
    whole = name in ("PlantSeedlingV1", "Fashion20", "RSICB128", "RSICB256", "RSD46WHU", "MLRSNet", "RSC11")
    assert [f"data set {name} has " in message for message in caplog.messages] == ([] if whole else [True])


LATE = {
    "ImageNet": "images/train/n01440764/late.JPEG",
    "ImageNetA": "imagenet-a/n01498041/late.jpg",
    "Fashion20": "images/3/0/late.jpg",
    "KaggleVegetable": "images/test/Bean/late.jpg",
    "NaSCTG2": "beach/late.jpg",
}


@pytest.mark.parametrize("name", LATE)
def test_an_image_that_came_later_is_counted(name, tmp_path, load, caplog):
    folder = write_miniature(name, tmp_path, per_class=4, classes=2)
    load(name, root=tmp_path)
    (folder / LATE[name]).parent.mkdir(exist_ok=True)
    (folder / LATE[name]).touch()
    (folder / LATE[name]).with_suffix(".txt").touch()
    if name == "NaSCTG2":  # beside its images lie multi-spectral ones
        (folder / LATE[name]).with_suffix(".tif").touch()
    caplog.clear()
    load(name, root=tmp_path)
    assert f"data set {name}: 1 images in 1 class folders ({Path(LATE[name]).parent.name}) are not in" in caplog.text


@pytest.mark.parametrize("name", ["Caltech101", "KaggleVegetable", "Fashion20", "SIRIWHU", "ImageNet"])
def test_the_stored_split_is_the_same(name, data, tmp_path, load):
    """The second reading is from the JSON that the first one wrote, and another folder gives the same split."""
    first, second = load(name), load(name)
    assert list(data.joinpath(MINIATURES[name].folder).glob("split_dk_*.json"))
    assert (first.tasks, *lists_of(first)) == (second.tasks, *lists_of(second))
    classes = FEW_CLASSES if name == "ImageNet" else None
    write_miniature(name, tmp_path / "copy", per_class=PER_CLASS, classes=classes)
    assert load(name, root=tmp_path / "copy").subset_digest == first.subset_digest


# -- suites ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_suites_are_their_members_end_to_end(suite, load):
    changes = {"DATASET__NUM_SHOTS": 2, "SEED": 3}
    whole, alone = load(suite, **changes), [load(name, **changes) for name in SUITES[suite]]
    assert whole.tasks == [task for member in alone for task in member.tasks]
    for part, items in enumerate(lists_of(whole)):
        members = [(number, item.label, item.impath) for number, m in enumerate(alone) for item in lists_of(m)[part]]
        assert [(item.task, item.label, item.impath) for item in items] == members
    assert len(whole.train_x) == 2 * DATASET_REGISTRY.get(suite).num_classes


BASE_NEW = {"General10": (598, 593), "Plant6": (60, 56)}


@pytest.mark.parametrize("suite", BASE_NEW)
def test_base_and_new_classes_of_suites(suite, load):
    whole = load(suite)
    halves = [load(suite, DATASET__SUBSAMPLE_CLASSES=part) for part in ("base", "new")]
    assert tuple(sum(len(task.classnames) for task in half.tasks) for half in halves) == BASE_NEW[suite]
    for task, base, new in zip(whole.tasks, *(half.tasks for half in halves), strict=True):
        assert base.classnames + new.classnames == task.classnames
    for items, base, new in zip(lists_of(whole), *map(lists_of, halves), strict=True):
        assert sorted(item.impath for item in items) == sorted(item.impath for item in base + new)


def test_tasks_and_classes_of_fashion20_can_be_chosen(load):
    """Both crashed in the original."""
    whole = load("Fashion20")
    chosen = load("Fashion20", DATASET__SUBSAMPLE_TASKS="task3,task18")
    assert chosen.tasks == [whole.tasks[3], whole.tasks[18]]
    for items, all_items in zip(lists_of(chosen), lists_of(whole), strict=True):
        kept = [((3, 18).index(item.task), item.label, item.impath) for item in all_items if item.task in (3, 18)]
        assert [(item.task, item.label, item.impath) for item in items] == kept
    base = load("Fashion20", DATASET__SUBSAMPLE_CLASSES="base")
    assert [len(task.classnames) for task in base.tasks] == [math.ceil(len(t.classnames) / 2) for t in whole.tasks]


@pytest.mark.parametrize(("part", "members"), [("base", slice(0, 5)), ("new", slice(5, 10)), ("task7", slice(7, 8))])
def test_tasks_of_a_suite_can_be_chosen(part, members, load):
    chosen = load("General10", DATASET__SUBSAMPLE_TASKS=part)
    alone = [load(name) for name in SUITES["General10"][members]]
    assert chosen.tasks == [dataset.tasks[0] for dataset in alone]
    assert [item.impath for item in chosen.test] == [item.impath for dataset in alone for item in dataset.test]


@pytest.mark.parametrize("suite", ["Plant6", "Fashion20"])
def test_a_read_only_data_folder_will_do(suite, tmp_path, load, monkeypatch):
    root = tmp_path / "data"
    write_suite(suite, root, per_class=4, classes=2)
    before = sorted(root.rglob("*"))

    def refuse(path, value, **options):
        if path.is_relative_to(root):
            raise UserError(f"cannot write {path}") from OSError(errno.EROFS, "Read-only file system")
        write_json(path, value, **options)

    monkeypatch.setattr(places, "write_json", refuse)
    changes = {"root": root, "DATASET__NUM_SHOTS": 1, "DATASET__CACHE_DIR": str(tmp_path / "cache")}
    first, second = (load(suite, **changes) for _ in range(2))
    assert first.subset_digest == second.subset_digest
    assert sorted(root.rglob("*")) == before
    stored = sorted(path.name for path in (tmp_path / "cache").rglob("*.json"))
    members = len(expected.members(suite))
    assert stored == ["shot_1-seed_1.json"] * members + stored[members:]
    assert len(stored) == 2 * members


# -- training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MINIATURES, *SUITE_NAMES])
def test_one_epoch(name, data, weights, tmp_path):
    single = name not in SUITE_NAMES and name != "Fashion20"
    result = run(
        toy_cfg(
            data,
            tmp_path / "output/run",
            name,
            TRAINER__NAME="MTCoOpHard" if single else "MTCoOp",
            MODEL__BACKBONE__NAME=str(weights),
            INPUT__SIZE=(32, 32),
            INPUT__TRANSFORMS=("normalize",),
            DATASET__NUM_SHOTS=1,
            DATALOADER__TRAIN_X__BATCH_SIZE=600,
            DATALOADER__TEST__BATCH_SIZE=600,
            OPTIM__MAX_EPOCH=1,
            VERBOSE=False,
            **SMALL_PROMPTS,
        )
    )
    dataset = DATASET_REGISTRY.get(name)
    assert result.epochs == 1 and result.parameters > 0
    assert 0 <= result.metric <= 100
    assert len(result.tasks) == (1 if single else len(dataset.members) if issubclass(dataset, Suite) else 20)
    assert sum(task.total for task in result.tasks) == result.counts["test"] > 0
    # Fashion20 splits tasks and not classes, and the class list of ImageNetV2 does not depend on its folders.
    assert name in ("Fashion20", "ImageNetV2") or not any(task.absent_classes for task in result.tasks)
