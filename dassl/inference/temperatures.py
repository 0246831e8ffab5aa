"""The temperatures of a finished run: of its own test, or of an evaluation in its folder."""

import logging
from pathlib import Path

from dassl.config import get_cfg_default
from dassl.config.comparing import differences, number_values
from dassl.engine.calibration import learned_digest
from dassl.engine.trainer import TrainerX
from dassl.results.record import CONFIG_FILE, EVALUATION, RESULTS_FILE, Calibration, read_results
from dassl.results.stored import stored_config

_KEY = "TEST.CALIBRATE"
_AGAIN = "evaluate the run again with --eval-only TEST.CALIBRATE True"
_log = logging.getLogger(__name__)


def temperatures(folder: Path, trainer: TrainerX) -> list[float]:
    """The temperature of each task of a run, 1 where none was fitted.

    That of ``results.json`` counts, else that of the evaluation in the same folder (``results-eval.json``), if this
    had the run's config but for TEST.CALIBRATE. Both must be of the tensors that were loaded.

    Raises:
        UserError: one of the two files cannot be read.
    """
    none = [1.0] * len(trainer.dm.tasks)
    name = RESULTS_FILE
    found = read_results(folder).calibration
    if found is None and (folder / _evaluation(RESULTS_FILE)).is_file():
        name = _evaluation(RESULTS_FILE)
        found = read_results(folder, name=name).calibration
        if found is not None and not _same_config(folder):
            _log.info("%s is of another config than the run's; its temperatures are not used", folder / name)
            return none
    if found is None:
        return none
    if not _fits(found, trainer):
        _log.warning("the temperatures in %s are of other learned tensors and are not used; %s", folder / name, _AGAIN)
        return none
    return [task.temperature for task in found.tasks]


def _evaluation(name: str) -> str:
    path = Path(name)
    return f"{path.stem}{EVALUATION}{path.suffix}"


def _same_config(folder: Path) -> bool:
    """Whether the evaluation in a folder differs from the run in nothing but the calibration."""
    mine, theirs = stored_config(folder), stored_config(folder, name=_evaluation(CONFIG_FILE))
    if mine is None or theirs is None:
        return False
    usual = number_values(get_cfg_default())
    values, others = ({**usual, **number_values(each)} for each in (mine, theirs))
    return not differences({**values, _KEY: None}, {**others, _KEY: None})


def _fits(found: Calibration, trainer: TrainerX) -> bool:
    names = [task.name for task in found.tasks] == [task.name for task in trainer.dm.tasks]
    return names and found.learned == learned_digest(trainer.modules)
