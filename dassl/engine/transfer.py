"""Which run may be evaluated under which config: the method must agree, classes and tasks may be others."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from yacs.config import CfgNode

from dassl.config import flatten, get_cfg_default
from dassl.engine.checkpoint import checkpoint_config
from dassl.registries import TRAINER_REGISTRY
from dassl.results.record import CONFIG_FILE, PLACES, RESULTS_FILE, RETIRED_KEYS, read_results
from dassl.utils.errors import UserError, another_folder

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX

_LAST_KEY = "VERSION"
_METHOD = ("TRAINER.NAME", "MODEL.BACKBONE.NAME")
_TASKS = ("DATASET.NAME", "DATASET.MEMBERS", "DATASET.TASKS", "DATASET.SUBSAMPLE_TASKS")
_OTHER_EPOCHS = (
    "; it cannot go on for another number of epochs, for which its learning rates were not planned (a new run may "
    "start from what it learned, with MODEL.INIT_WEIGHTS {folder})"
)
_CLASSES = (*_TASKS, "DATASET.SUBSAMPLE_CLASSES")


def stored_config(folder: Path | str) -> dict[str, Any] | None:
    """The config of the run in ``folder`` as it was written; None where nothing can be read that says it.

    Where ``config.yaml`` is gone or damaged, a checkpoint has the keys that can change a figure.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        stored = None
    # Keys are written in the order of their names, so that one which was cut off lacks the last of them.
    whole = isinstance(stored, dict) and _LAST_KEY in stored
    return stored if whole else checkpoint_config(Path(folder))


def number_values(cfg: CfgNode | dict[str, Any]) -> dict[str, Any]:
    """{dotted key: value} of the keys that can change a figure."""
    return {key: value for key, value in plain_values(cfg).items() if key not in PLACES}


def config_conflicts(stored: dict[str, Any] | None, cfg: CfgNode) -> list[str]:
    """The keys that can change a figure and differ between a stored config and ``cfg``, with both values."""
    if stored is None:
        return []
    # A key that is newer than the stored config had its default then.
    return differences(number_values(cfg), {**number_values(get_cfg_default()), **number_values(stored)})


def refuse_other_config(folder: Path, stored: dict[str, Any] | None, cfg: CfgNode) -> None:
    """A folder belongs to one config: going on under another one would give figures that belong to neither.

    Raises:
        UserError: names the keys that differ.
    """
    wrong = config_conflicts(stored, cfg)
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        epochs = any(text.startswith("OPTIM.MAX_EPOCH ") for text in wrong)
        raise UserError(
            f"{folder} holds a run with another config ({shown}); use {another_folder()}, or delete the folder"
            + _OTHER_EPOCHS.format(folder=folder) * epochs
        )


def plain_values(cfg: CfgNode | dict[str, Any]) -> dict[str, Any]:
    """{dotted key: value} with lists for tuples, so that a config and what was read from its file compare equal."""
    plain = {key: _plain(value) for key, value in flatten(cfg).items()}
    return {key: value for key, value in plain.items() if key not in RETIRED_KEYS or value != _plain(RETIRED_KEYS[key])}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any], keys: Iterable[str] | None = None) -> list[str]:
    """What differs between the config here and that of a run there, a text for each key."""
    chosen = sorted({*mine, *theirs}) if keys is None else keys
    return [f"{k} is {theirs.get(k)!r} there, {mine.get(k)!r} here" for k in chosen if mine.get(k) != theirs.get(k)]


def check_transfer(cfg: CfgNode, model_dir: Path | str) -> None:
    """Refuse to evaluate a run whose learned tensors mean something else under ``cfg``.

    Method and backbone must be those of the run; of the method's own keys only the precision may differ. Other
    classes or tasks need a method that has learned nothing that belongs to single ones
    (:meth:`TrainerX.learned_for`). A folder without a config, such as one of the original code, is not judged here.

    Raises:
        UserError: it does not fit; the message names the differing keys, or the key that ties the run to its classes.
    """
    stored = stored_config(model_dir)
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
            f"the run in {model_dir} does not fit the config: {'; '.join(wrong)}; give the options it was trained with"
        )
    moved = {"task": differences(mine, theirs, _TASKS), "class": differences(mine, theirs, _CLASSES)}
    for unit, cause in trainer.learned_for(cfg).items():
        if moved[unit]:
            raise UserError(
                f"{cause} learns something of its own for each {unit}, so the run in {model_dir} has nothing for a "
                f"{unit} that it was not trained on ({'; '.join(moved[unit])}); choose a method that shares it"
            )


def check_weights(trainer: "TrainerX", model_dir: Path | str) -> None:
    """Refuse a run that was trained with other weights of the frozen model than those that were loaded.

    Raises:
        UserError: the digests differ.
    """
    if not (Path(model_dir) / RESULTS_FILE).is_file():
        return
    name, digest, _ = trainer.backbone_identity()
    there = read_results(model_dir).backbone.digest
    if digest != there:
        raise UserError(
            f"the run in {model_dir} was trained with other weights of {name} "
            f"(digest {there[:12]} there, {digest[:12]} here); name them with MODEL.BACKBONE.WEIGHTS"
        )
