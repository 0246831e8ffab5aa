"""Find mistakes that would make runs fail, once, before any run starts."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dassl.sweep.plan import Run

if TYPE_CHECKING:
    from yacs.config import CfgNode


def look(runs: Sequence[Run], *, here: bool, fetch: bool) -> list[str]:
    """Check the whole config of every run, and that its tasks, data folders and weights exist.

    Args:
        here: the runs use this machine; else data and weights are on other machines and are not checked.
        fetch: download missing weights; else a remark reports them.

    Returns:
        Remarks for the user before the runs start.

    Raises:
        UserError: the first mistake.
    """
    configs = [cfg for run in runs for cfg in run.configs()]
    for cfg in _different(configs, _method_part):
        _check_method(cfg)
    for cfg in _different(configs, _data_part):
        _check_data(cfg, here=here)
    remarks = [_check_model(cfg, fetch=fetch) for cfg in _different(configs, _model_part) if here]
    return [remark for remark in dict.fromkeys(remarks) if remark]


def _check_method(cfg: "CfgNode") -> None:
    from dassl.registries import LOGGERS, TRAINER_REGISTRY

    TRAINER_REGISTRY.get(cfg.TRAINER.NAME).check_unbuilt(cfg)
    for name in cfg.TRAIN.LOGGERS:
        LOGGERS.get(name)


def _check_data(cfg: "CfgNode", *, here: bool) -> None:
    from dassl.data.dataset import find_dataset
    from dassl.data.datum import Task
    from dassl.data.sampling import choose_tasks

    dataset = find_dataset(cfg)
    if here:
        dataset.check_data(cfg)
    if here or cfg.DATASET.SUBSAMPLE_TASKS != "all":
        tasks = [Task(str(number), ()) for number in range(dataset.count_tasks(cfg))]
        choose_tasks(tasks, cfg.DATASET.SUBSAMPLE_TASKS)


def _check_model(cfg: "CfgNode", *, fetch: bool) -> str:
    from dassl.registries import TRAINER_REGISTRY

    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME).check_model(cfg, fetch=fetch)


def _different(configs: "Sequence[CfgNode]", part: "Callable[[CfgNode], object]") -> "list[CfgNode]":
    """One config for each value of ``part``, so that each value is checked once."""
    return list({repr(part(cfg)): cfg for cfg in reversed(configs)}.values())[::-1]


def _method_part(cfg: "CfgNode") -> object:
    return cfg.TRAINER, cfg.MODEL, cfg.OPTIM, cfg.TRAIN, cfg.TEST, cfg.INPUT


def _data_part(cfg: "CfgNode") -> object:
    data = cfg.DATASET
    return data.NAME, data.ROOT, data.MEMBERS, data.TASKS, data.SUBSAMPLE_TASKS


def _model_part(cfg: "CfgNode") -> object:
    return cfg.MODEL.BACKBONE, cfg.INPUT.SIZE
