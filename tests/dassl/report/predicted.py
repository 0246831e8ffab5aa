"""Run folders with predictions.csv, as a test leaves them, without any model."""

import json
import random
from collections import Counter
from dataclasses import replace

import numpy as np

from dassl.metrics.quality import expected_calibration_error
from dassl.results.predictions import PREDICTIONS_FILE, PredictedImage, write_predictions
from dassl.results.record import EVALUATION, ClassResult, read_results, write_results
from dassl.utils.files import write_json


def made_up(task, classes, images, *, seed=0, skill=0.7, lost=0, image=lambda number: f"set/{number:05}.jpg"):
    """Rows of a task: classes that follow each other are confused; the probabilities promise a little too much."""
    noise, rows = random.Random(seed), []
    for number in range(images):
        true = number % len(classes)
        wrong = noise.random() > skill
        shift = noise.choice((1, 1, 1, len(classes) // 2, 2)) if wrong else 0
        sure = round(min(1.0, noise.betavariate(5, 2) + 0.02), 6)
        other = (true + shift) % len(classes)
        low = sure if other == true else round((1 - sure) / 2, 6)
        gone = number < lost
        sureness = (None, None) if gone else (low, sure)
        rows.append(PredictedImage(image(number), task, classes[true], "" if gone else classes[other], *sureness))
    return rows


def give_predictions(folder, rows, classes, *, calibration=None, aside=False):
    """Write ``rows`` into a run folder and make its result fit; ``classes``: by task.

    Args:
        aside: as an evaluation in the folder of a training run.
    """
    end = EVALUATION if aside else ""
    said = write_predictions(folder / PREDICTIONS_FILE.replace(".", f"{end}."), rows)
    old = read_results(folder)
    by_task = {task.name: [row for row in rows if row.task == task.name] for task in old.tasks}
    tasks = tuple(_task(task, by_task[task.name], classes[task.name]) for task in old.tasks)
    known = [task.metric for task in tasks if task.metric is not None]
    metric = sum(known) / len(known) if known else old.metric
    result = replace(old, tasks=tasks, metric=metric, predictions=said, calibration=calibration)
    if aside:
        write_json(folder / f"results{end}.json", replace(result, mode="eval").to_json(), signed=True)
    else:
        write_results(folder, result)


def _task(task, rows, classes):
    correct = Counter(row.true_class for row in rows if row.true_class == row.predicted_class)
    totals = Counter(row.true_class for row in rows)
    per_class = tuple(ClassResult(name, correct[name], totals[name]) for name in classes)
    seen = [row for row in rows if row.predicted_probability is not None]
    sure = np.array([row.predicted_probability for row in seen])
    right = np.array([row.true_class == row.predicted_class for row in seen])
    metric = 100 * sum(correct.values()) / len(rows) if rows else None
    lost = len(seen) < len(rows)
    return replace(
        task,
        metric=None if lost else metric,
        total=len(rows),
        classes=len(classes),
        per_class=per_class,
        ece=None if lost else expected_calibration_error(sure, right),
    )


def set_task_names(folder, names):
    """Call the tasks of a result otherwise; names may be anything that JSON can hold."""
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    content.pop("blake2b", None)
    for task, name in zip(content["tasks"], names, strict=True):
        task["name"] = name
    (folder / "results.json").write_text(json.dumps(content), encoding="utf-8")
