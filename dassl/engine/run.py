"""One run from a finished config to ``results.json``: folder, log, seed, train or evaluate."""

import contextlib
import datetime
import hashlib
import json
import logging
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from dassl.engine.build import build_trainer
from dassl.engine.checkpoint import holds_checkpoints, resume_folder
from dassl.engine.tasks import write_tasks
from dassl.engine.trainer import TrainerX
from dassl.engine.transfer import check_transfer, check_weights, number_values, refuse_other_config, stored_config
from dassl.registries import LOGGERS, TRAINER_REGISTRY
from dassl.results.record import (
    CONFIG_FILE,
    RESULTS_FILE,
    BackboneInfo,
    RunResult,
    SplitResult,
    TaskResult,
    read_results,
    write_results,
)
from dassl.utils.errors import PassingError, UserError, another_folder
from dassl.utils.files import write_error, write_json, write_text
from dassl.utils.locks import Owner, locked
from dassl.utils.logger import LOG_FILE, setup_logger
from dassl.utils.remarks import collect_warnings
from dassl.utils.tools import device_name, peak_memory, reset_peak_memory, set_random_seed, versions

_LOCK = ".lock"  # in a run folder, while the run is at work
EVALUATION = "-eval"  # in the file names of an evaluation in the folder of a training run
_log = logging.getLogger(__name__)


def run(
    cfg: CfgNode, *, eval_only: bool = False, model_dir: str = "", load_epoch: int | None = None, no_train: bool = False
) -> RunResult | None:
    """Train and test (or only evaluate) what ``cfg`` says; returns the result, None with ``no_train``.

    A run folder that is finished is left as it is; one that was cut off is gone on with.

    Raises:
        UserError: the user can mend it. Nothing was written if it was found before the work began.
    """
    started = time.monotonic()
    folder = Path(cfg.OUTPUT_DIR)
    cfg = _with_seed(cfg, stored_config(resume_folder(cfg)))
    if not eval_only and (folder / RESULTS_FILE).is_file():
        return _finished(folder, cfg)
    set_random_seed(cfg.SEED)
    reset_peak_memory()
    with ExitStack() as stack:
        remarks = stack.enter_context(collect_warnings())
        try:
            trainer = _prepare(cfg, _Evaluation(model_dir or folder, load_epoch) if eval_only else None, stack)
        except _FinishedMeanwhile:
            return _finished(folder, cfg)
        if no_train and not eval_only:
            return None
        stack.callback(trainer.close_loggers)
        try:
            trainer.test() if eval_only else trainer.train()
        except torch.OutOfMemoryError as error:
            raise _note_error(folder, _out_of_memory(error)) from error
        except UserError as error:
            raise _note_error(folder, error) from None
        result = _result(trainer, mode="eval" if eval_only or not trainer.trainable else "train", started=started)
        result = replace(result, warnings=tuple(dict.fromkeys((*remarks, *result.warnings))))
        if eval_only and trainer.trainable:
            result = replace(result, best_epoch=load_epoch)
        _log.info("Elapsed: %s", datetime.timedelta(seconds=round(result.seconds["total"])))
        _write(folder, trainer, result)
    return result


class _FinishedMeanwhile(Exception):
    """Another process has done this run while this one got ready for it."""


@dataclass(frozen=True)
class _Evaluation:
    """Which learned tensors are evaluated: of which run folder and, unless None, of which epoch."""

    model_dir: Path | str
    epoch: int | None


def _finished(folder: Path, cfg: CfgNode) -> RunResult:
    """The result of a run that need not be done again."""
    try:
        result = read_results(folder)
    except UserError as error:
        raise UserError(f"{error}; delete the file, and the same command makes it again") from error
    if result.mode == "eval" and TRAINER_REGISTRY.get(cfg.TRAINER.NAME).trainable:
        raise UserError(f"{folder} holds an evaluation; use {another_folder()} for the training")
    stored = stored_config(folder)
    if stored is None and result.config_digest not in ("", config_digest(cfg)):
        raise UserError(
            f"{folder} holds a run with another config, and its {CONFIG_FILE} is gone or damaged; use "
            f"{another_folder()}, or delete the folder"
        )
    refuse_other_config(folder, stored, cfg)
    _log.info("%s is finished; delete %s there to run it again", folder, RESULTS_FILE)
    return result


def _prepare(cfg: CfgNode, evaluation: _Evaluation | None, stack: ExitStack) -> TrainerX:
    """Build the trainer; the run folder is only touched once everything proved to be good."""
    folder = Path(cfg.OUTPUT_DIR)
    setup_logger(None)
    root = logging.getLogger()
    kept = MemoryHandler(capacity=100_000, flushLevel=logging.CRITICAL + 1)
    root.addHandler(kept)
    try:
        if evaluation is not None:
            check_transfer(cfg, evaluation.model_dir)
        for name in cfg.TRAIN.LOGGERS:
            LOGGERS.get(name)
        trainer = build_trainer(cfg)
        trainer.check_splits(training=evaluation is None)
        if evaluation is None:
            _check_resume(cfg, trainer)
        elif trainer.trainable:
            check_weights(trainer, evaluation.model_dir)
            trainer.load_model(evaluation.model_dir, epoch=evaluation.epoch)
    finally:
        root.removeHandler(kept)
    aside = evaluation is not None and _is_training(folder)
    if not aside:  # beside a training that goes on, its newest epoch may be looked at
        stack.enter_context(_only_run(folder))
        if evaluation is None:  # another process may have been at work here until a moment ago
            if (folder / RESULTS_FILE).is_file():
                raise _FinishedMeanwhile
            _check_resume(cfg, trainer)
    stack.enter_context(setup_logger(folder))
    _describe(cfg, trainer)
    _replay(kept)
    write_text(folder / (f"config{EVALUATION}.yaml" if aside else CONFIG_FILE), cfg.dump())
    if not aside:
        write_tasks(folder, trainer.dm.tasks)
    return trainer


def _check_resume(cfg: CfgNode, trainer: TrainerX) -> None:
    """Refuse to resume a run that had another config or other data (raise UserError)."""
    folder = resume_folder(cfg)
    if holds_checkpoints(folder):
        refuse_other_config(folder, stored_config(folder), cfg)
    trainer.check_resume()


@contextlib.contextmanager
def _only_run(folder: Path) -> Iterator[None]:
    """Keep other runs out of ``folder``, whose files would then be partly theirs.

    Raises:
        UserError: another run is at work there, or the folder cannot be written.
    """

    def refuse(owner: Owner) -> None:
        what = f"another run is at work in {folder}"
        raise PassingError(owner.refusal(what, f"wait for it, or use {another_folder()}"))

    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / _LOCK, busy=refuse))
        except OSError as error:
            raise write_error(folder, error) from error
        yield


def _replay(kept: MemoryHandler) -> None:
    """Write the lines of the set-up to the log file (the console has shown them)."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            for record in kept.buffer:
                handler.handle(record)


def _is_training(folder: Path) -> bool:
    """Whether a training run lives in a folder, finished or cut off; an evaluation must leave its files alone."""
    return holds_checkpoints(folder) or ((folder / RESULTS_FILE).is_file() and read_results(folder).mode == "train")


def _write(folder: Path, trainer: TrainerX, result: RunResult) -> None:
    """Write ``results.json`` last, because its existence means that the run is finished."""
    aside = EVALUATION if result.mode == "eval" and _is_training(folder) else ""
    if trainer.cfg.TEST.COMPUTE_CMAT:
        matrices = {score.task.name: score.confusion.tolist() for score in trainer.evaluator.scores}
        write_json(folder / f"cmat{aside}.json", matrices, indent=None)
    if aside:
        write_json(folder / f"results{aside}.json", result.to_json())
    else:
        write_results(folder, result)


def _result(trainer: TrainerX, *, mode: str, started: float) -> RunResult:
    cfg, data = trainer.cfg, trainer.dm.dataset
    tested = trainer.evaluator.scores
    tasks = [
        TaskResult(s.index, s.task.name, s.metric, s.task.metric, s.total, len(s.task.classnames), s.absent)
        for s in tested
    ]
    val = None if trainer.best_epoch is None else SplitResult(trainer.best_result, ())
    total = trainer.seconds_before + time.monotonic() - started
    return RunResult(
        mode=mode,
        trainer=cfg.TRAINER.NAME,
        dataset=cfg.DATASET.NAME,
        backbone=BackboneInfo(*trainer.backbone_identity()),
        shots=cfg.DATASET.NUM_SHOTS,
        seed=cfg.SEED,
        split=cfg.TEST.SPLIT,
        metric=trainer.evaluator.overall,
        tasks=tuple(tasks),
        val=val,
        epochs=trainer.max_epoch if mode == "train" else 0,
        best_epoch=trainer.best_epoch,
        parameters=trainer.num_parameters,
        counts={"train": len(data.train_x), "val": len(data.val), "test": len(data.test)},
        classes=cfg.DATASET.SUBSAMPLE_CLASSES,
        task_choice=cfg.DATASET.SUBSAMPLE_TASKS,
        subset_digest=data.subset_digest,
        test_digest=data.test_digest,
        config_digest=config_digest(cfg),
        seconds={**trainer.seconds, "encode": trainer.dm.encode_seconds, "total": total},
        memory=peak_memory(trainer.device),
        versions=versions(),
        device=device_name(trainer.device),
        warnings=tuple(
            f"no image of {', '.join(t.absent_classes)} in task {t.name}" for t in tasks if t.absent_classes
        ),
    )


def config_digest(cfg: CfgNode) -> str:
    """SHA-256 over the keys that can change a figure."""
    return hashlib.sha256(json.dumps(number_values(cfg), sort_keys=True).encode()).hexdigest()


def _with_seed(cfg: CfgNode, stored: dict[str, Any] | None) -> CfgNode:
    """A negative seed means: draw one (or go on with the one that the folder's run drew)."""
    if cfg.SEED >= 0:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    kept = (stored or {}).get("SEED")
    cfg.SEED = kept if isinstance(kept, int) and kept >= 0 else random.SystemRandom().randrange(2**31)
    cfg.freeze()
    return cfg


def _describe(cfg: CfgNode, trainer: TrainerX) -> None:
    if cfg.VERBOSE:
        _log.info("************\n** Config **\n************\n%s", cfg.dump())
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    _log.info("Seed %d on %s; %s", cfg.SEED, device_name(trainer.device), packages)
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True


def _out_of_memory(error: torch.OutOfMemoryError) -> PassingError:
    reason = str(error).split(". ")[0]
    return PassingError(f"{reason}; use a lower precision or fewer classes, see docs/troubleshooting.md#out-of-memory")


def _note_error(folder: Path, error: UserError) -> UserError:
    """Leave the reason in the log (the console gets it from the command line) and return the error."""
    with contextlib.suppress(OSError), (folder / LOG_FILE).open("a", encoding="utf-8") as log:
        log.write(f"error: {error}\n")
    return error
