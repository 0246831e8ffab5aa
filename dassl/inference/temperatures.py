"""The temperatures of a finished run, from its test or from an evaluation in its folder."""

import logging
from pathlib import Path

from dassl.config import get_cfg_default
from dassl.config.comparing import differences, number_values
from dassl.engine.calibration import learned_digest
from dassl.engine.trainer import TrainerX
from dassl.results.record import CONFIG_FILE, RESULTS_FILE, Calibration, evaluation_file, read_results
from dassl.results.runs import EVALUATED
from dassl.results.stored import stored_config

_KEY = "TEST.CALIBRATE"
_AGAIN = "evaluate the run again with --eval-only TEST.CALIBRATE True"
_log = logging.getLogger(__name__)


def temperatures(folder: Path, trainer: TrainerX) -> list[float]:
    """The temperature of each task of a run; 1 if none was fitted.

    Temperatures in ``results.json`` count first, then those of an evaluation in the same folder
    (``results-eval.json``) whose config differs only in TEST.CALIBRATE. Both must be for the loaded tensors.

    Raises:
        UserError: one of the two files cannot be read.
    """
    none = [1.0] * len(trainer.dm.tasks)
    name = RESULTS_FILE
    found = read_results(folder).calibration
    if found is None and (folder / EVALUATED).is_file():
        name = EVALUATED
        found = read_results(folder, name=name).calibration
        if found is not None and not _same_config(folder):
            _log.info("%s has another config than the run; its temperatures are not used", folder / name)
            return none
    if found is None:
        return none
    if not _fits(found, trainer):
        _log.warning("the temperatures in %s are for other learned tensors and are not used; %s", folder / name, _AGAIN)
        return none
    return [task.temperature for task in found.tasks]


def _same_config(folder: Path) -> bool:
    """Whether the configs of a folder's run and evaluation differ only in the calibration."""
    mine, theirs = stored_config(folder), stored_config(folder, name=evaluation_file(CONFIG_FILE))
    if mine is None or theirs is None:
        return False
    usual = number_values(get_cfg_default())
    values, others = ({**usual, **number_values(each)} for each in (mine, theirs))
    return not differences({**values, _KEY: None}, {**others, _KEY: None})


def _fits(found: Calibration, trainer: TrainerX) -> bool:
    names = [task.name for task in found.tasks] == [task.name for task in trainer.dm.tasks]
    return names and found.learned == learned_digest(trainer.modules)
