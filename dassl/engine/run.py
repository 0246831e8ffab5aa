"""One run from a finished config to ``results.json``: folder, log, seed, train or evaluate."""

import contextlib
import datetime
import logging
import random
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Literal

import torch
from yacs.config import CfgNode

from dassl.config.comparing import config_digest
from dassl.data.datum import Task
from dassl.data.manager import DataManager
from dassl.data.tested import only_tested
from dassl.engine.build import build_trainer
from dassl.engine.calibration import check_calibration
from dassl.engine.checks import check_splits
from dassl.engine.decisions import stored_decisions
from dassl.engine.determinism import arithmetic, lacks_explained
from dassl.engine.predictions import predicted_images, predicted_labels
from dassl.engine.runfolder import RunFolder
from dassl.engine.tasks import TASKS_FILE, read_tasks, write_tasks
from dassl.engine.trainer import TrainerX
from dassl.engine.transfer import check_transfer, check_weights, other_suite
from dassl.evaluation import TaskScore
from dassl.evaluation.multilabel import MultiLabelScore
from dassl.registries import LOGGERS, TRAINER_REGISTRY
from dassl.results.predictions import LABELS_FILE, PREDICTIONS_FILE, write_labels, write_predictions
from dassl.results.record import (
    CONFIG_FILE,
    RESULTS_FILE,
    BackboneInfo,
    ClassResult,
    Decision,
    PredictionsFile,
    Reduction,
    Rounding,
    RunResult,
    SplitResult,
    TaskResult,
    evaluation_file,
    write_results,
)
from dassl.utils.errors import UserError, memory_explained
from dassl.utils.files import write_json, write_text
from dassl.utils.logger import LOG_FILE, setup_logger
from dassl.utils.privacy import without_home, without_places
from dassl.utils.remarks import collect_warnings
from dassl.utils.tools import device_name, peak_memory, reset_peak_memory, set_random_seed, versions

_log = logging.getLogger(__name__)


def run(
    cfg: CfgNode, *, eval_only: bool = False, model_dir: str = "", load_epoch: int | None = None, no_train: bool = False
) -> RunResult | None:
    """Train and test, or only evaluate, as ``cfg`` says; returns the result, None with ``no_train``.

    A finished run folder is left as it is; an interrupted one is resumed.

    Raises:
        UserError: a mistake of the user. If it is found before the work begins, nothing is written.
    """
    started = time.monotonic()
    folder = RunFolder(cfg.OUTPUT_DIR)
    resumed = RunFolder.to_resume(cfg)
    cfg = _with_seed(cfg, resumed)
    if not eval_only and folder.has_result():
        return _finished(folder, cfg)
    with ExitStack() as stack:
        stack.enter_context(arithmetic(cfg))
        set_random_seed(cfg.SEED)
        reset_peak_memory()
        remarks = stack.enter_context(collect_warnings())
        try:
            evaluated = RunFolder(model_dir) if model_dir else folder
            trainer = _prepare(cfg, folder, _Evaluation(evaluated, load_epoch) if eval_only else resumed, stack)
        except _FinishedMeanwhile:
            return _finished(folder, cfg)
        trainer.remarks = remarks
        if no_train and not eval_only:
            return None
        stack.callback(lambda: trainer.loggers.close())
        try:
            with lacks_explained(), memory_explained():
                trainer.test() if eval_only else trainer.train()
        except UserError as error:
            raise _note_error(folder.path, error) from None
        result = _result(trainer, mode="eval" if eval_only or not trainer.trainable else "train", started=started)
        warnings = tuple(dict.fromkeys((*remarks, *result.warnings)))
        result = _impersonal(replace(result, warnings=warnings), cfg)
        if eval_only and trainer.trainable:
            result = replace(result, best_epoch=load_epoch, learned_on=other_suite(cfg, evaluated))
        _log.info("Elapsed: %s", datetime.timedelta(seconds=round(result.seconds["total"])))
        _write(folder, trainer, result)
    return result


def _finished(folder: RunFolder, cfg: CfgNode) -> RunResult:
    result = folder.finished(cfg)
    _log.info("%s is finished; delete %s there to run it again", folder.path, RESULTS_FILE)
    return result


class _FinishedMeanwhile(Exception):
    """Another process finished this run while this one prepared it."""


@dataclass(frozen=True)
class _Evaluation:
    """The learned tensors to evaluate: their run and, unless None, their epoch."""

    run: RunFolder
    epoch: int | None


def _prepare(cfg: CfgNode, folder: RunFolder, work: _Evaluation | RunFolder, stack: ExitStack) -> TrainerX:
    """Build the trainer; the run folder is touched only after every check.

    Args:
        folder: of the run that begins.
        work: the tensors to evaluate, or the folder that a training resumes from.
    """
    evaluates = isinstance(work, _Evaluation)
    setup_logger(None)
    root = logging.getLogger()
    kept = MemoryHandler(capacity=100_000, flushLevel=logging.CRITICAL + 1)
    root.addHandler(kept)
    try:
        if isinstance(work, _Evaluation):
            check_transfer(cfg, work.run)
        for name in cfg.TRAIN.LOGGERS:
            LOGGERS.get(name)
        with only_tested(lambda: _known_tasks(cfg, work)) if isinstance(work, _Evaluation) else nullcontext():
            trainer = build_trainer(cfg)
        check_splits(trainer, training=not evaluates)
        check_calibration(trainer, training=not evaluates)
        if isinstance(work, RunFolder):
            trainer.checkpoints.check(work)
        elif trainer.trainable:
            check_weights(trainer, work.run)
            trainer.checkpoints.load(work.run.path, epoch=work.epoch)
            trainer.known_decisions = stored_decisions(work.run, trainer.dm.tasks)
    finally:
        root.removeHandler(kept)
    aside = evaluates and folder.holds_training()
    if not aside:  # while another process trains, its newest epoch may be looked at
        stack.enter_context(folder.exclusive())
        if isinstance(work, RunFolder):
            _check_again(cfg, trainer, folder, work)
    stack.enter_context(setup_logger(folder.path))
    _describe(cfg, trainer)
    _replay(kept)
    write_text(folder.path / (evaluation_file(CONFIG_FILE) if aside else CONFIG_FILE), cfg.dump())
    if not aside:
        write_tasks(folder.path, trainer.dm.tasks)
    return trainer


def _known_tasks(cfg: CfgNode, work: _Evaluation) -> list[Task]:
    """The tasks of the run that is evaluated; none of a method that learns nothing, and so has no run."""
    if cfg.DATASET.SUBSAMPLE_CLASSES != "all":
        raise UserError(
            f"DATASET.SUBSAMPLE_CLASSES is {cfg.DATASET.SUBSAMPLE_CLASSES!r}, and the data has test images only, which "
            "do not say what the halves are; set it to all"
        )
    learns = TRAINER_REGISTRY.get(cfg.TRAINER.NAME).trainable
    return read_tasks(work.run.path) if learns or (work.run.path / TASKS_FILE).is_file() else []


def _check_again(cfg: CfgNode, trainer: TrainerX, folder: RunFolder, checked: RunFolder) -> None:
    """Check again under the lock: another process may have worked here until a moment ago."""
    if folder.has_result():
        raise _FinishedMeanwhile
    now = RunFolder.to_resume(cfg)
    trainer.checkpoints.check(checked if now.path == checked.path else now)


def _replay(kept: MemoryHandler) -> None:
    """Write the lines of the set-up to the log file (the console has shown them)."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            for record in kept.buffer:
                handler.handle(record)


def _write(folder: RunFolder, trainer: TrainerX, result: RunResult) -> None:
    """Write ``results.json`` last, because its existence means that the run is finished."""
    named = evaluation_file if result.mode == "eval" and folder.holds_training() else str
    result = replace(result, predictions=_write_predictions(folder.path / named(PREDICTIONS_FILE), trainer))
    if any(score.task.multi for score in trainer.evaluator.scores):
        labels = write_labels(folder.path / named(LABELS_FILE), predicted_labels(trainer))
        result = replace(result, predicted_labels=labels)
    if trainer.cfg.TEST.COMPUTE_CMAT:
        scores = [score for score in trainer.evaluator.scores if not score.task.multi]
        matrices = {score.task.name: score.confusion.tolist() for score in scores}
        write_json(folder.path / named("cmat.json"), matrices, indent=None)
    write_results(folder.path, result, named(RESULTS_FILE))


def _write_predictions(path: Path, trainer: TrainerX) -> PredictionsFile | None:
    """Write the predictions of the test; None without a test."""
    if not trainer.evaluator.scores:
        return None
    return write_predictions(path, predicted_images(trainer))


def _task_result(score: TaskScore, decision: Decision | None) -> TaskResult:
    task, quality = score.task, score.quality
    several = score if isinstance(score, MultiLabelScore) else None
    precisions = several.precisions if several and several.precisions else [None] * len(task.classnames)
    counts = zip(task.classnames, score.correct.tolist(), score.class_totals.tolist(), precisions, strict=True)
    return TaskResult(
        index=score.index,
        name=task.name,
        metric=score.metric,
        metric_name=task.metric,
        total=score.total,
        classes=len(task.classnames),
        absent_classes=score.absent,
        per_class=tuple(ClassResult(*each) for each in counts),
        macro_f1=quality.macro_f1,
        nll=quality.nll,
        ece=quality.ece,
        micro_f1=several.micro_f1 if several else None,
        decision=decision,
    )


def _result(trainer: TrainerX, *, mode: Literal["train", "eval"], started: float) -> RunResult:
    cfg, data = trainer.cfg, trainer.dm.dataset
    tasks = [_task_result(score, trainer.decisions.get(score.index)) for score in trainer.evaluator.scores]
    quality = trainer.evaluator.overall_quality
    val = None if trainer.choice.epoch is None else SplitResult(trainer.choice.metric, ())
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
        epochs=trainer.epoch + 1 if mode == "train" else 0,
        best_epoch=trainer.choice.epoch,
        parameters=trainer.num_parameters,
        counts={"train": len(data.train_x), "val": len(data.val), "test": len(data.test)},
        classes=cfg.DATASET.SUBSAMPLE_CLASSES,
        task_choice=cfg.DATASET.SUBSAMPLE_TASKS,
        subset_digest=data.subset_digest,
        test_digest=data.test_digest,
        config_digest=config_digest(cfg),
        text_digest=trainer.text_digest,
        seconds={**trainer.seconds, "encode": trainer.dm.encode_seconds, "total": total},
        memory=peak_memory(trainer.device),
        versions=versions(),
        device=device_name(trainer.device),
        reduction=_reduction(trainer.dm),
        rounding=Rounding(cfg.TRAIN.DETERMINISTIC, torch.get_num_threads(), trainer.smallest_chunk),
        warnings=tuple(
            f"no image of {', '.join(t.absent_classes)} in task {t.name}" for t in tasks if t.absent_classes
        ),
        macro_f1=quality.macro_f1,
        nll=quality.nll,
        ece=quality.ece,
        calibration=trainer.calibration,
        length=trainer.length if mode == "train" else None,
        choice=trainer.choice.model if mode == "train" else None,
    )


def _reduction(data: DataManager) -> Reduction | None:
    return Reduction(data.reading.shortest, data.reduced_count) if data.reading.shortest else None


def _impersonal(result: RunResult, cfg: CfgNode) -> RunResult:
    """A result that can be published: places in it are named by their config key, home folders by "~"."""
    keys = {"OUTPUT_DIR": cfg.OUTPUT_DIR, "DATASET.ROOT": cfg.DATASET.ROOT}
    places = {key: Path(value).expanduser().absolute() for key, value in keys.items() if value}
    backbone = replace(result.backbone, name=without_home(result.backbone.name))
    return replace(result, backbone=backbone, warnings=tuple(without_places(text, places) for text in result.warnings))


def _with_seed(cfg: CfgNode, resumed: RunFolder) -> CfgNode:
    """Replace a negative seed by a drawn one, or by that of the resumed run."""
    if cfg.SEED >= 0:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    kept = (resumed.config() or {}).get("SEED")
    cfg.SEED = kept if isinstance(kept, int) and kept >= 0 else random.SystemRandom().randrange(2**31)
    cfg.freeze()
    return cfg


def _describe(cfg: CfgNode, trainer: TrainerX) -> None:
    if cfg.VERBOSE:
        _log.info("************\n** Config **\n************\n%s", cfg.dump())
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    _log.info("Seed %d on %s; %s", cfg.SEED, device_name(trainer.device), packages)
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = not cfg.TRAIN.DETERMINISTIC


def _note_error(folder: Path, error: UserError) -> UserError:
    """Leave the reason in the log (the console gets it from the command line) and return the error."""
    with contextlib.suppress(OSError), (folder / LOG_FILE).open("a", encoding="utf-8") as log:
        log.write(f"error: {error}\n")
    return error
