"""TEST.CALIBRATE: one temperature for each task, fitted on validation images."""

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dassl.data.completeness import shared
from dassl.data.datum import Task
from dassl.evaluation import ClassificationMT
from dassl.metrics.quality import expected_calibration_error, negative_log_likelihood
from dassl.metrics.temperature import fit_temperature
from dassl.results.record import Calibration, Reliability, TaskCalibration
from dassl.utils.errors import UserError

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX

_log = logging.getLogger(__name__)


def check_calibration(trainer: "TrainerX", *, training: bool) -> None:
    """Refuse TEST.CALIBRATE where nothing could be calibrated, or on the images that are reported.

    Raises:
        UserError: names the key that contradicts it.
    """
    cfg = trainer.cfg.TEST
    if not cfg.CALIBRATE:
        return
    if cfg.SPLIT == "val":
        raise UserError(
            "TEST.CALIBRATE True fits temperatures on the validation images, and TEST.SPLIT val reports figures of the "
            "same images; set TEST.SPLIT test"
        )
    if cfg.NO_TEST and training:
        raise UserError("TEST.CALIBRATE True belongs to the test, and TEST.NO_TEST True leaves it out; set one of them")


def learned_digest(modules: dict[str, nn.Module]) -> str:
    """SHA-256 of everything that was learned: a calibration belongs to these tensors and no others."""
    digest = sha256()
    for name, module in sorted(modules.items()):
        for key, value in sorted(module.state_dict().items()):
            digest.update(f"{name}.{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Scores:
    """Logits (n, C_t) float32 and labels (n,) of the validation images of a task, on the CPU."""

    logits: Tensor
    label: Tensor


def calibrate(trainer: "TrainerX") -> Calibration:
    """Fit the temperatures on the validation images, after ``before_test``; those that are test images are left out.

    The logits of the validation images are in memory until their task is fitted.
    """
    dropped = shared(trainer.dm.dataset.val, trainer.dm.dataset.test)
    found = _validation_scores(trainer, dropped)
    overlap = {task: sum(number == task for _, number in dropped) for task in range(len(trainer.dm.tasks))}
    tasks = tuple(
        _uncalibrated(number, task) if task.multi else _task_calibration(number, task.name, *pair)
        for number, task in enumerate(trainer.dm.tasks)
        for pair in [(found.pop(number, None), overlap[number])]
    )
    return Calibration(learned_digest(trainer.modules), tasks)


def _uncalibrated(number: int, task: Task) -> TaskCalibration:
    _log.warning(
        "task %d (%s) keeps its probabilities as they are: a temperature is for one label an image, and the task is "
        "multi-label",
        number,
        task.name,
    )
    return TaskCalibration(number, task.name, 1.0, False, 0)


def _validation_scores(trainer: "TrainerX", dropped: set[tuple[str, int]]) -> dict[int, _Scores]:
    parts: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    bounds = trainer.dm.offsets.tolist()
    for batch in tqdm(trainer.dm.val_loader or (), desc="calibration", disable=None, leave=False):
        logits = trainer.model_inference(batch).float().cpu()
        row, task, label = (batch[name].cpu() for name in ("row", "task", "label"))
        entries = zip(row.tolist(), task.tolist(), strict=True)
        kept = torch.tensor([(batch["impath"][r], t) not in dropped for r, t in entries], dtype=torch.bool)
        kept &= ~trainer.dm.multi[task]
        for number in task[kept].unique().tolist():
            own = kept & (task == number)
            parts[number].append((logits[row[own], bounds[number] : bounds[number + 1]], label[own]))
    return {number: _Scores(*map(torch.cat, zip(*each, strict=True))) for number, each in parts.items()}


def _task_calibration(number: int, name: str, scores: _Scores | None, overlap: int) -> TaskCalibration:
    images = 0 if scores is None else len(scores.label)
    reason, temperature = "", None
    if scores is None:
        but = f" that is not a test image, too ({overlap} are)" if overlap else ""
        reason = f"it has no validation image{but}; list some under val in its split file"
    elif not scores.logits.amax(dim=1).isfinite().all():
        reason = f"of its {images} validation images some have logits that are not finite; use PREC fp32"
    else:
        temperature = fit_temperature(scores.logits, scores.label)
        if temperature is None:
            kind = "classified correctly" if _all_right(scores) else "as good as guessed"
            reason = f"its {images} validation images are {kind}, so no temperature is the best; more images may help"
    if reason:
        _log.warning("task %d (%s) keeps its probabilities as they are: %s", number, name, reason)
    value = 1.0 if temperature is None else temperature
    val = None if scores is None else _reliability(scores, value)
    return TaskCalibration(number, name, value, temperature is not None, images, val=val)


def _all_right(scores: _Scores) -> bool:
    return bool((scores.logits.argmax(dim=1) == scores.label).all())


def _reliability(scores: _Scores, temperature: float) -> Reliability:
    before, after = (_figures(scores, each) for each in (1.0, temperature))
    return Reliability(*before, *after)


def _figures(scores: _Scores, temperature: float) -> tuple[float | None, float | None]:
    """ECE and NLL; none where logits are not finite."""
    if not scores.logits.amax(dim=1).isfinite().all():
        return None, None
    log = (scores.logits.double() / temperature).log_softmax(dim=1)
    predicted = scores.logits.argmax(dim=1)
    log_true, sure = (log.gather(1, each[:, None])[:, 0].numpy() for each in (scores.label, predicted))
    correct = (predicted == scores.label).numpy()
    return expected_calibration_error(np.exp(sure), correct), negative_log_likelihood(log_true)


def tested(calibration: Calibration, evaluator: ClassificationMT) -> Calibration:
    """The calibration with what it did to the test images, which is also logged."""
    qualities = ((score.uncalibrated, score.quality) for score in evaluator.scores)
    tasks = tuple(
        replace(task, test=Reliability(before.ece, before.nll, after.ece, after.nll))
        for task, (before, after) in zip(calibration.tasks, qualities, strict=True)
    )
    for line in _lines(tasks):
        _log.info("%s", line)
    return replace(calibration, tasks=tasks)


def _lines(tasks: tuple[TaskCalibration, ...]) -> Iterator[str]:
    for task in tasks:
        how = f"temperature {task.temperature:.4g} from {task.images} images"
        for split, found in (("val", task.val), ("test", task.test)):
            if task.fitted and found is not None:
                ece, nll = _change(found.ece_before, found.ece_after), _change(found.nll_before, found.nll_after)
                yield f"calibration of task {task.index} ({task.name}), {how}: on {split} ECE {ece} %, NLL {nll}"


def _change(before: float | None, after: float | None) -> str:
    return " -> ".join("nan" if each is None else f"{each:.4g}" for each in (before, after))
