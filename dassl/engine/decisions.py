"""From which probability a label of a multi-label task is predicted: chosen on validation images."""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dassl.data.completeness import shared
from dassl.data.datum import Task
from dassl.engine.runfolder import RunFolder
from dassl.metrics.multilabel import FIXED_THRESHOLD, best_threshold, probabilities
from dassl.results.record import Decision

if TYPE_CHECKING:
    from dassl.engine.trainer import TrainerX

_log = logging.getLogger(__name__)
_Pairs = dict[int, tuple[Tensor, Tensor]]  # logits (n, C_t) and truth (n, C_t) of each multi-label task


def decide(trainer: "TrainerX") -> dict[int, Decision]:
    """The threshold of each multi-label task, after ``before_test``.

    It has the highest micro F1 on the validation images of the task that are not test images. Without such images, or
    when they are what is reported (TEST.SPLIT val), it is 0.5. An evaluation keeps the thresholds of its run.
    """
    tasks = [number for number, task in enumerate(trainer.dm.tasks) if task.multi]
    if set(trainer.known_decisions) == set(tasks):
        _log.info("The thresholds of multi-label tasks are those of the run")
        return trainer.known_decisions
    found = _validation(trainer)
    biases = _fit_biases(trainer, found)
    decisions = {number: _decision(found.get(number), biases.get(number)) for number in tasks}
    for number in (number for number in tasks if not decisions[number].images):
        _log.warning(
            "task %d (%s) has no validation image to choose a threshold on, so labels with a probability of %g or "
            "more are predicted; list images with labels under val",
            number,
            trainer.dm.tasks[number].name,
            FIXED_THRESHOLD,
        )
    return decisions


def stored_decisions(folder: RunFolder, tasks: Sequence[Task]) -> dict[int, Decision]:
    """The decisions of a finished run, by the number that a task of this name has here; {} without a result."""
    if not folder.has_result():
        return {}
    known = {each.name: each.decision for each in folder.result().tasks}
    found = {number: known.get(task.name) for number, task in enumerate(tasks) if task.multi}
    return {number: decision for number, decision in found.items() if decision is not None}


def _decision(found: tuple[Tensor, Tensor] | None, bias: float | None) -> Decision:
    if found is None or torch.isnan(found[0]).any():
        return Decision(FIXED_THRESHOLD, 0, bias)
    threshold = best_threshold(probabilities(found[0]), found[1].numpy())
    return Decision(FIXED_THRESHOLD, 0, bias) if threshold is None else Decision(threshold, len(found[0]), bias)


def _fit_biases(trainer: "TrainerX", found: _Pairs) -> dict[int, float]:
    """Fit what a method that learns nothing subtracts from logits; ``found`` then has the new logits.

    Tasks without validation images are fitted on training images.
    """
    biases = trainer.label_biases()
    lacking = set(biases) - set(found)
    usable = dict(found)
    if lacking and len(trainer.dm.dataset.train_x):
        usable |= _gather(trainer, trainer.dm.plain_loader("train"), lacking)
    fitted = trainer.label_biases(usable)
    for number in fitted.keys() & found.keys():
        logits, truth = found[number]
        found[number] = (logits + biases[number] - fitted[number], truth)
    for number in lacking - set(usable):
        _log.warning(
            "task %d (%s) has no image to fit its bias to, so its probabilities and its F1 mean nothing (its mAP "
            "does); list images under val or train",
            number,
            trainer.dm.tasks[number].name,
        )
    return fitted


def _validation(trainer: "TrainerX") -> _Pairs:
    """The validation images of multi-label tasks, without those that are test images."""
    if trainer.cfg.TEST.SPLIT == "val" or trainer.dm.val_loader is None:
        return {}
    tasks, multi = trainer.dm.tasks, [number for number, task in enumerate(trainer.dm.tasks) if task.multi]
    dropped = shared(trainer.dm.dataset.val, trainer.dm.dataset.test)
    counts = Counter(task for _, task in dropped)
    for number in (number for number in multi if counts[number]):
        count, name = counts[number], tasks[number].name
        _log.warning("task %d (%s): %d validation images are test images; left out", number, name, count)
    return _gather(trainer, trainer.dm.val_loader, multi, dropped)


def _gather(
    trainer: "TrainerX",
    loader: Iterable[dict[str, Any]],
    tasks: Collection[int],
    dropped: Collection[tuple[str, int]] = (),
) -> _Pairs:
    """The scores of some tasks' images, except those that are ``dropped``."""
    parts: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    bounds = trainer.dm.offsets.tolist()
    for batch in loader:
        logits, truth = trainer.model_inference(batch).float().cpu(), trainer.dm.truth(batch)
        assert truth is not None
        row, task, truth = batch["row"].cpu(), batch["task"].cpu(), truth.cpu()
        entries = zip(row.tolist(), task.tolist(), strict=True)
        kept = torch.tensor([t in tasks and (batch["impath"][r], t) not in dropped for r, t in entries])
        for number in task[kept].unique().tolist():
            own, columns = kept & (task == number), slice(bounds[number], bounds[number + 1])
            parts[number].append((logits[row[own], columns], truth[own, columns]))
    return {n: (torch.cat([a for a, _ in each]), torch.cat([b for _, b in each])) for n, each in parts.items()}
