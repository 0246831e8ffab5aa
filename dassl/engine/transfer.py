"""Whether a run may be evaluated under a config: the method must agree, classes and tasks may differ."""

from typing import TYPE_CHECKING, Any

from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.config.comparing import differences, plain_values
from dassl.engine.runfolder import RunFolder
from dassl.registries import TRAINER_REGISTRY
from dassl.results.suites import LearnedOn, learned_on, without_places
from dassl.utils.errors import UserError

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX

_METHOD = ("TRAINER.NAME", "MODEL.BACKBONE.NAME")
_TASKS = ("DATASET.NAME", "DATASET.MEMBERS", "DATASET.TASKS", "DATASET.SUBSAMPLE_TASKS")
_CLASSES = (*_TASKS, "DATASET.SUBSAMPLE_CLASSES")


def check_transfer(cfg: CfgNode, run: RunFolder) -> None:
    """Refuse to evaluate a run whose learned tensors do not fit ``cfg``.

    Method and backbone must be those of the run; of the method's own keys only the precision may differ. Other
    classes or tasks need a method whose tensors are shared (:meth:`TrainerX.learned_for`). A folder without a config,
    such as one of the original code, is not checked here.

    Raises:
        UserError: it does not fit; the message names the differing keys, or the key that ties the run to its classes.
    """
    stored = run.config()
    name = cfg.TRAINER.NAME
    if stored is None or not name or not TRAINER_REGISTRY.get(name).trainable:
        return
    trainer = TRAINER_REGISTRY.get(name)
    # A key that is newer than the stored config had its default then.
    mine, theirs = plain_values(cfg), {**plain_values(get_cfg_default()), **plain_values(stored)}
    own = [key.name for key in trainer.config_keys if not key.name.endswith(".PREC")]
    wrong = differences(mine, theirs, _METHOD) or differences(mine, theirs, own)
    if wrong:
        raise UserError(
            f"the run in {run.path} does not fit the config: {'; '.join(wrong)}; give the options it was trained with"
        )
    mine, theirs = _without_places(mine), _without_places(theirs)
    moved = {"task": differences(mine, theirs, _TASKS), "class": differences(mine, theirs, _CLASSES)}
    for unit, cause in trainer.bound_units(cfg).items():
        if moved[unit]:
            raise UserError(
                f"{cause} learns something for each {unit}, so the run in {run.path} has nothing for a "
                f"{unit} that it was not trained on ({'; '.join(moved[unit])}); choose a method that shares it"
            )


def _without_places(values: dict[str, Any]) -> dict[str, Any]:
    """A config without the places of own pictures; that the names are the run's is checked when tensors are loaded."""
    return {**values, "DATASET.TASKS": without_places(values["DATASET.TASKS"])}


def other_suite(cfg: CfgNode, run: RunFolder) -> LearnedOn | None:
    """The suite that an evaluated run learned, if ``cfg`` is about another one; None also without a config."""
    stored = run.config()
    return None if stored is None else learned_on(plain_values(stored), plain_values(cfg))


def check_weights(trainer: "TrainerX", run: RunFolder) -> None:
    """Refuse a run that was trained with other weights of the frozen model than the loaded ones.

    Raises:
        UserError: the digests differ.
    """
    if not run.has_result():
        return
    name, digest, _ = trainer.backbone_identity()
    there = run.result().backbone.digest
    if digest != there:
        raise UserError(
            f"the run in {run.path} was trained with other weights of {name} "
            f"(digest {there[:12]} there, {digest[:12]} here); name them with MODEL.BACKBONE.WEIGHTS"
        )
