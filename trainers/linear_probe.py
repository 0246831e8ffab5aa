"""Linear probe (LP-CLIP): a logistic regression per task on frozen image features.

Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, section 3.2; the
search for C is that of CoOp's and SoftCPT's code.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from tqdm import tqdm
from yacs.config import CfgNode

import clip
from dassl.config import PRECISIONS, Key, above, at_least
from dassl.data.columns import class_offsets
from dassl.data.datum import METRICS, Task
from dassl.data.own.description import multi_tasks
from dassl.data.threads import cpu_count
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.head import Head
from dassl.utils.errors import UserError
from trainers._fitted import FittedTrainer, SplitFeatures, hold_out
from trainers._label_probe import LabelProbe
from trainers._probe import GRID, MAX_ITER, Fit, TaskProbe

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def grid_peak(scores: Sequence[float]) -> float:
    """The C of ``GRID`` with the highest score; of equal ones the largest C."""
    return GRID[int(np.argmax(scores))]


def narrow(peak: float, score: Callable[[float], float], *, steps: int) -> float:
    """Search around the best C of the grid by halving the bracket [peak / 10, peak * 10] on a log scale.

    Each step compares both ends: the better one (of equal ones the left) stays, the other moves to the middle.

    Returns:
        The end that stays in the last step.
    """
    left, right = 0.1 * peak, 10 * peak
    best = left
    for _ in range(steps):
        middle = 10.0 ** (0.5 * (np.log10(left) + np.log10(right)))
        if score(left) < score(right):
            best, left = right, middle
        else:
            best, right = left, middle
    return best


class ProbeWeights(nn.Module):
    """The probes of all tasks: weights (C, F), biases (C,), and the chosen C of each task (T,)."""

    never = ("bias",)  # -inf for a class without a training image

    c: Tensor

    def __init__(self, tasks: Sequence[Task], width: int) -> None:
        super().__init__()
        self.offsets = class_offsets(tasks).tolist()
        self.weight = nn.Parameter(torch.zeros(self.offsets[-1], width))
        self.bias = nn.Parameter(torch.zeros(self.offsets[-1]))
        self.register_buffer("c", torch.zeros(len(tasks), dtype=torch.float64))

    @torch.no_grad()
    def put(self, task: int, fit: Fit, c: float) -> None:
        """Store the fit of a task."""
        own = slice(*self.offsets[task : task + 2])
        self.weight[own] = torch.from_numpy(fit.weight).to(self.weight)
        self.bias[own] = torch.from_numpy(fit.bias).to(self.bias)
        self.c[task] = c

    def forward(self, features: Tensor) -> Tensor:
        """Scores (B, C) of features (B, F)."""
        return features @ self.weight.T + self.bias


@TRAINER_REGISTRY.register()
class LinearProbe(FittedTrainer):
    """Logistic regression on the features of the few-shot images as they are (test transform, not normalised).

    C is chosen per task by the task's metric on the validation images: the best of seven powers of ten, then STEPS
    steps of halving around it. Fits run in parallel, each in one thread, so figures do not depend on the number of
    cores.
    """

    model: ProbeWeights
    section = "LP"
    no_context = "it learns weights on image features, without prompts"
    unweighted = ""
    multi_label = True
    biased = False  # every regression has a bias of its own
    test_rows = 0
    config_keys = (
        Key("TRAINER.LP.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        Key("TRAINER.LP.STEPS", 8, "steps of the search for C after the grid", check=at_least(1)),
        Key("TRAINER.LP.C", 0.316, "C of a task without validation images", check=above(0)),
        Key(
            "TRAINER.LP.METRICS",
            "corrected",
            "the task's metric, or as released: overall_acc and mean_acc swapped, and the solver's old stopping rule",
            ("corrected", "released"),
        ),
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse multi-label tasks with the released metrics."""
        super().check_cfg(cfg)
        if cfg.TRAINER.LP.METRICS == "released" and multi_tasks(cfg):
            raise UserError(
                f"TRAINER.LP.METRICS released is for tasks with one label an image, and {multi_tasks(cfg)[0]!r} has "
                "several; set it to corrected"
            )

    @property
    def scored_tasks(self) -> list[Task]:
        """The tasks; with METRICS released each has the other metric, for choosing C and in the results."""
        if self.options.METRICS == "corrected":
            return self.dm.tasks
        other = dict(zip(METRICS, reversed(METRICS), strict=True))
        return [replace(task, metric=other[task.metric]) for task in self.dm.tasks]

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> ProbeWeights:
        """The model: no prompts, but a linear map of image features."""
        return ProbeWeights(tasks, backbone.embed_dim)

    def learned_modules(self) -> dict[str, nn.Module]:
        """One folder for all tasks."""
        return {"linear_probe": self.model}

    def fit(self, train: SplitFeatures, val: SplitFeatures) -> None:
        """Search C and fit, task by task."""
        shared = self.dm.dataset.validated_on_test()
        parts = [(train.of_task(t), val.of_task(t)) for t in range(len(self.scored_tasks))]
        final = [self._probe(t, *part) for t, part in enumerate(parts)]
        search = [self._probe(t, *hold_out(parts[t][0])) if shared.get(t) else probe for t, probe in enumerate(final)]
        for t in shared:
            report_hold_out(search[t], len(parts[t][0][1]), shared[t])
        chosen = self._search([probe for probe in search if probe.searches])
        pairs = [(probe, chosen.get(probe.index, self.options.C)) for probe in final]
        fits = side_by_side(lambda pair: pair[0].fit(pair[1]), pairs, what="last fits")
        for (probe, c), fit in zip(pairs, fits, strict=True):
            self.model.put(probe.index, fit, c)
            report(probe, c, chosen_by=search[probe.index])

    def _probe(self, task: int, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> TaskProbe:
        its = self.scored_tasks[task]
        if its.multi:
            return LabelProbe(task, its, train=self._with_sets(task, train), val=self._with_sets(task, val))
        return TaskProbe(task, its, train=train, val=val, released=self.options.METRICS == "released")

    def _with_sets(self, task: int, images: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Features (n, F) and, in place of labels, the classes (n, C_t) bool of each image."""
        assert self.dm.label_sets is not None, "the task is multi-label"
        columns = slice(*self.dm.offsets[task : task + 2].tolist())
        return images[0], self.dm.label_sets.table[images[1], columns]

    def _search(self, probes: list[TaskProbe]) -> dict[int, float]:
        """The best C by task."""
        probes = sorted(probes, key=lambda probe: -probe.size)  # long ones first, so that no core idles at the end
        chains = [(probe, chain) for probe in probes for chain in probe.chains]
        found = side_by_side(lambda pair: [pair[0].score(c) for c in pair[1]], chains, what="grid of C")
        scores = {
            (probe.index, c): score
            for (probe, chain), each in zip(chains, found, strict=True)
            for c, score in zip(chain, each, strict=True)
        }
        peaks = [(probe, grid_peak([scores[probe.index, c] for c in GRID])) for probe in probes]
        steps = self.options.STEPS
        best = side_by_side(lambda pair: narrow(pair[1], pair[0].score, steps=steps), peaks, what="search for C")
        return {probe.index: c for probe, c in zip(probes, best, strict=True)}

    def head(self) -> Head:
        """Weights and biases."""
        return Head("linear", self.model.weight.detach().cpu().float(), bias=self.model.bias.detach().cpu().float())

    def before_test(self) -> None:
        """There are no class names to encode."""

    def model_inference(self, batch: dict[str, Any]) -> Tensor:
        """Scores (B, C) of a test batch."""
        return self.model(self.image_features(batch))


def report_hold_out(search: TaskProbe, images: int, shared: int) -> None:
    """Warn that the validation images of a task could not be used."""
    how = f"C is chosen on {search.val_size:,} of its {images:,} training images" if search.searches else "none is used"
    _log.warning(
        "task %d (%s): %s of its validation images are test images; %s instead",
        search.index,
        search.task.name,
        f"{shared:,}",
        how,
    )


def report(probe: TaskProbe, c: float, *, chosen_by: TaskProbe) -> None:
    """Log what was chosen for a task, and what was missing."""
    names = probe.task.classnames
    place = f"task {probe.index} ({probe.task.name})"
    unseen = [name for label, name in enumerate(names) if label not in probe.seen]
    if not probe.fits:
        known = f"of {', '.join(names[each] for each in probe.seen)} only" if len(probe.seen) else "of no class"
        _log.warning("%s has training images %s, so there is nothing to fit", place, known)
        return
    if unseen:
        _log.warning("%s has no training image of %s; never predicted", place, ", ".join(unseen))
    if chosen_by.searches:
        part = "val" if chosen_by is probe else "what was held out"
        _log.info("%s: C %.6g, %s %.2f%% on %s", place, c, probe.task.metric, chosen_by.score(c), part)
    else:
        _log.warning("%s has no validation image to choose C on; TRAINER.LP.C %g is used", place, c)
    if not probe.fit(c).converged:
        _log.warning("%s: the solver stopped after %d iterations with C %g", place, MAX_ITER, c)


def side_by_side(work: Callable[[_Item], _Made], items: Iterable[_Item], *, what: str) -> list[_Made]:
    """Apply ``work`` to each item, one per core at a time, with one thread of linear algebra each."""
    items = list(items)
    with (
        warnings.catch_warnings(),
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(cpu_count(), initializer=threadpool_limits, initargs=(1, "blas")) as pool,
    ):
        warnings.simplefilter("ignore", ConvergenceWarning)  # the log reports it for the chosen fit
        return list(tqdm(pool.map(work, items), total=len(items), desc=what, disable=None, leave=False))
