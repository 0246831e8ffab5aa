"""Runs in sibling folders: whether they may be averaged, and their own warnings."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dassl.report.settings import changing_values
from dassl.report.suitekeys import short_backbone
from dassl.report.tree import Record, read_config
from dassl.results.runs import KEYWORD, RunFigures

_SHOWN = 5  # differing keys that are named; the others are counted


def differing_settings(runs: Sequence[RunFigures], *, keyword: str = KEYWORD) -> str:
    """The differences, with all values, of runs that should be seeds of one setting; empty if there are none.

    Missing information counts as equal: a log has none, an old result has no digest of its test images.
    """
    facts = {run.source.parent.name: _facts(run, keyword) for run in runs if run.result}
    keys = dict.fromkeys(key for each in facts.values() for key in each)
    parts = []
    for key in keys:
        values: dict[str, list[str]] = defaultdict(list)
        for name, each in facts.items():
            if each.get(key):
                values[each[key]].append(name)
        if len(values) > 1:
            parts.append(f"{key} " + ", ".join(f"{value} ({', '.join(names)})" for value, names in values.items()))
    more = [f"and {len(parts) - _SHOWN} more keys"] if len(parts) > _SHOWN else []
    return "; ".join([*parts[:_SHOWN], *more])


def notes(runs: Iterable[RunFigures]) -> Iterator[str]:
    """The runs' own warnings; each text once, with the number of runs that have it."""
    texts = Counter(text for run in runs if run.result for text in run.result.warnings)
    for text, count in texts.items():
        yield f"note of a run: {text} ({count} run{'s' * (count > 1)})"


def _facts(run: RunFigures, keyword: str) -> Mapping[str, str]:
    """Everything except the seed that can change the figure of a run."""
    result = run.result
    assert result is not None
    record = Record(run.source.parent, result, read_config(run.source.parent))
    tasks = record.config.get("DATASET.TASKS")
    tested = {f"images of task {task.name}": str(task.total) for task in result.tasks}
    return {
        "TRAINER.NAME": result.trainer,
        "DATASET.NAME": result.dataset,
        "DATASET.TASKS": json.dumps(tasks, sort_keys=True, default=str) if tasks else "",
        "DATASET.NUM_SHOTS": str(result.shots) if record.learns else "",
        "DATASET.SUBSAMPLE_CLASSES": record.classes,
        "DATASET.SUBSAMPLE_TASKS": record.task_choice,
        "MODEL.BACKBONE.NAME": short_backbone(result.backbone.name),
        "TEST.SPLIT": result.split,
        **changing_values(record),
        "weights": result.backbone.digest[:8],
        "precision": result.backbone.precision,
        "evaluated epoch": str(result.best_epoch or "") if result.mode == "eval" else "",
        **({"test images": result.test_digest[:8], **tested} if (result.split, keyword) == ("test", KEYWORD) else {}),
    }
