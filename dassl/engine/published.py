"""Settings that a method's authors used only for some numbers of shots or some data sets.

A trainer declares them as ``published``. A config file requests them with TRAINER.PUBLISHED_SETTINGS apply. They
replace its values, but not those set after the file by flags, KEY VALUE pairs or a sweep.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from yacs.config import CfgNode

from dassl.config import flatten, merge_cfg
from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.datum import Task
from dassl.data.sampling import choose_tasks
from dassl.registries import TRAINER_REGISTRY

SWITCH, KEPT = "TRAINER.PUBLISHED_SETTINGS", "TRAINER.PUBLISHED_KEYS"
# The keys that decide which settings apply; another value of these makes another run.
_DECIDES = {"DATASET.NUM_SHOTS", "DATASET.NAME", "DATASET.MEMBERS", "DATASET.TASKS", "DATASET.SUBSAMPLE_TASKS"}


@dataclass(frozen=True)
class Published:
    """One such setting.

    Attributes:
        values: config keys with their values.
        source: where the authors state it.
        shots: numbers of training images per class to which it applies; empty: all.
        datasets: registered names of the data sets to which it applies; empty: all. A run on tasks of several data
            sets uses it only if it applies to each of them.
        per_shot: config keys with values that are multiplied by the number of shots; a run on all images has none.
    """

    values: Mapping[str, Any]
    source: str
    shots: tuple[int, ...] = ()
    datasets: tuple[str, ...] = ()
    per_shot: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> set[str]:
        """The config keys that it may set."""
        return {*self.values, *self.per_shot}

    def at(self, shots: int) -> dict[str, Any]:
        """The values for a run with ``shots`` images per class."""
        return {**self.values, **{key: each * shots for key, each in self.per_shot.items() if shots > 0}}

    def fits(self, shots: int, datasets: Collection[str]) -> bool:
        """Whether it applies to a run with ``shots`` images per class of these data sets."""
        right_data = not self.datasets or (bool(datasets) and set(datasets) <= set(self.datasets))
        return right_data and (not self.shots or shots in self.shots)


def apply_published(cfg: CfgNode, named: Collection[str] = ()) -> dict[str, Any]:
    """Set the published settings that apply to the run, if the config requests them.

    Args:
        cfg: changed in place; the last of several settings for a key counts.
        named: keys that keep their values because the user has set them.

    Returns:
        The keys that were set, with their values.
    """
    if cfg.TRAINER.PUBLISHED_SETTINGS != "apply":
        _forget(cfg, set(named))
        return {}
    declared = TRAINER_REGISTRY.get(cfg.TRAINER.NAME).published
    datasets = task_datasets(cfg) if any(each.datasets for each in declared) else []
    chosen: dict[str, Any] = {}
    for each in declared:
        if each.fits(cfg.DATASET.NUM_SHOTS, datasets):
            chosen |= {key: value for key, value in each.at(cfg.DATASET.NUM_SHOTS).items() if key not in named}
    flat = flatten(cfg)
    decided = sorted({key for each in declared for key in each.keys if key not in named})
    kept = tuple(f"{key} {flat[key]}" for key in decided)
    merge_cfg(cfg, values={**chosen, SWITCH: "applied", KEPT: kept}, place=f"published settings of {cfg.TRAINER.NAME}")
    return chosen


def _forget(cfg: CfgNode, named: set[str]) -> None:
    """In the reused config of a run, keys that the user sets now are no longer the authors' choice."""
    known = cfg.TRAINER.PUBLISHED_KEYS
    applied = cfg.TRAINER.PUBLISHED_SETTINGS == "applied" and not named & _DECIDES
    left = tuple(each for each in known if applied and each.partition(" ")[0] not in named)
    if left != known:
        cfg.TRAINER.PUBLISHED_KEYS = left


def task_datasets(cfg: CfgNode) -> list[str]:
    """Registered name of the data set that each task of the run comes from; "" for an own one. Nothing is decoded."""
    names = DATASET_REGISTRY.get(cfg.DATASET.NAME).task_datasets(cfg)
    numbers = choose_tasks([Task(str(number), ()) for number in range(len(names))], cfg.DATASET.SUBSAMPLE_TASKS)
    return [names[number] for number in numbers]
