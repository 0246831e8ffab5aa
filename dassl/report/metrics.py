"""The figures of ``--metrics``: accuracy, and the further figures of a result."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dassl.report.study import Grid, SeedFigure
from dassl.results.record import RunResult, TaskResult
from dassl.utils.errors import UserError
from dassl.utils.registry import nearest

_SHOWN = 4  # runs that are named; the others are counted


@dataclass(frozen=True)
class Metric:
    """A figure of a task.

    Attributes:
        key: its name on the command line.
        heading: its name in tables.
        field: its field or property of :class:`TaskResult`.
        digits: decimals that are printed.
        lower: whether the smallest value is the best.
        unit: the unit after it in lines.
    """

    key: str
    heading: str
    field: str
    digits: int = 2
    lower: bool = False
    unit: str = "%"

    def of_tasks(self, tasks: Iterable[TaskResult]) -> float | None:
        """Mean over the tasks that have images; None if one of them has no figure."""
        values = [getattr(task, self.field) for task in tasks if task.total]
        return sum(values) / len(values) if values and None not in values else None


ACCURACY = Metric("accuracy", "accuracy", "metric")
METRICS = {
    each.key: each
    for each in (
        ACCURACY,
        Metric("mean_acc", "mean accuracy", "mean_acc"),
        Metric("f1", "macro F1", "macro_f1"),
        Metric("micro_f1", "micro F1", "micro_f1"),
        Metric("nll", "NLL", "nll", digits=4, lower=True, unit=""),
        Metric("ece", "ECE", "ece", lower=True),
    )
}


def parse_metrics(text: str) -> tuple[Metric, ...]:
    """The figures of a comma-separated list, each once.

    Raises:
        UserError: one is unknown, or the list is empty.
    """
    names = dict.fromkeys(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if name not in METRICS:
            close = nearest(name, list(METRICS))
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise UserError(f"--metrics: unknown {name!r}; choose from {', '.join(METRICS)}{hint}")
    if not names:
        raise UserError(f"--metrics names no figure; choose from {', '.join(METRICS)}")
    return tuple(METRICS[name] for name in names)


def only_accuracy(metrics: Sequence[Metric]) -> bool:
    """Whether only the usual figure is requested."""
    return tuple(metrics) == (ACCURACY,)


def cell_values(
    grid: Grid, row: str, shots: int, metric: Metric, *, task: str | None = None
) -> tuple[dict[int, float], str]:
    """Like :meth:`Grid.values`, for any metric: of the same seeds, those that have the figure."""
    found, gap = grid.values(row, shots, task)
    if metric is ACCURACY:
        return found, gap
    seeds = grid.cell(row, shots)
    figures = {seed: _of_seed(seeds[seed], metric, task) for seed in found}
    return {seed: value for seed, value in figures.items() if value is not None}, gap


def _of_seed(figure: SeedFigure, metric: Metric, task: str | None) -> float | None:
    tasks = (each for record in figure.records for each in record.result.tasks)
    return metric.of_tasks(each for each in tasks if task in (None, each.name))


def lacking(runs: Iterable[tuple[str, RunResult | None]], metrics: Sequence[Metric]) -> Iterator[str]:
    """Lines that name the runs that lack the figures, with reason and remedy.

    Args:
        runs: name and result of each run; the result is None for a run read from a log.
    """
    names = ", ".join(each.heading for each in metrics if each is not ACCURACY)
    found = list(runs)
    older = [name for name, result in found if names and (result is None or _is_older(result))]
    if older:
        which = f"{len(older)} of {len(found)} runs {_named(older)}"
        yield f"no {names}: {which} were written without; run their commands again with --eval-only"
    for metric in metrics:
        none = [name for name, result in found if result and not _is_older(result) and _has_gap(result, metric)]
        if none and metric is not ACCURACY:
            yield f"no {metric.heading}: {len(none)} of {len(found)} runs {_named(none)}; their warnings say why"


def _is_older(result: RunResult) -> bool:
    """Whether it was written before figures besides accuracy existed, or from a split that has none."""
    return not any(task.per_class for task in result.tasks)


def _has_gap(result: RunResult, metric: Metric) -> bool:
    return metric.of_tasks(result.tasks) is None


def _named(names: Sequence[Any]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"({', '.join(names[:_SHOWN])}{more})"
