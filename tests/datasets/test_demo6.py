"""Demo6 goes through the engine like any other suite."""

from pathlib import Path

import pytest
import yaml

from dassl.config import get_cfg_default
from dassl.data.dataset import DATASET_REGISTRY, build_dataset
from datasets._render import suite

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "datasets"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "PER_CLASS", {"train": 2, "val": 1, "test": 1})


def test_the_suite_is_made_on_first_use(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = get_cfg_default()
    cfg.merge_from_list(["DATASET.NAME", "Demo6", "DATASET.ROOT", str(tmp_path / "data"), "DATASET.NUM_SHOTS", 1])
    cfg.merge_from_list(["SEED", 1, "OUTPUT_DIR", str(tmp_path / "output")])
    dataset = build_dataset(cfg)
    assert [len(task.classnames) for task in dataset.tasks] == [10, 8, 8, 8, 6, 8]
    assert {task.metric for task in dataset.tasks} == {"overall_acc", "mean_acc"}
    assert len({task.name for task in dataset.tasks}) == 6
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (48, 48, 48)
    assert all(Path(item.impath).is_file() for item in dataset.train_x + dataset.test)

    monkeypatch.setattr(suite, "render", None)  # a second use draws nothing
    assert build_dataset(cfg).subset_digest == dataset.subset_digest


@pytest.mark.parametrize("name", ["Demo6", *suite.MEMBERS])
def test_every_data_set_has_a_config_file(name: str) -> None:
    stem = name.lower() if name == "Demo6" else name.lower().replace("demo", "demo_")
    assert yaml.safe_load((CONFIGS / f"{stem}.yaml").read_text()) == {"DATASET": {"NAME": name}}
    assert name in DATASET_REGISTRY


@pytest.mark.parametrize("name", suite.MEMBERS)
def test_each_task_has_its_own_words(name: str) -> None:
    member = DATASET_REGISTRY.get(name)
    assert member.template.count("{}") == 1
    assert member.task_name
    assert member.task_description.endswith(".")
