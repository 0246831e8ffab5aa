import itertools
import logging
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dassl.config import get_cfg_default
from dassl.data.datum import Task
from dassl.evaluation import Classification, ClassificationMT, build_evaluator
from dassl.metrics.quality import Quality

SIZES = (3, 4, 2)
METRICS = ("overall_acc", "mean_acc", "mean_acc")
TASKS = [
    Task(f"task {t}", tuple(f"c{t}{c}" for c in range(size)), metric)
    for t, (size, metric) in enumerate(zip(SIZES, METRICS, strict=True))
]
OFFSETS = (0, 3, 7)


def entries(draw, count):
    task = [draw(st.integers(0, len(SIZES) - 1)) for _ in range(count)]
    label = [draw(st.integers(0, SIZES[t] - 1)) for t in task]
    return torch.tensor(task, dtype=torch.int64), torch.tensor(label, dtype=torch.int64)


@st.composite
def batches(draw):
    """logits (B, C), task, label and row (E,), some images with no entry and some with several."""
    images, count = draw(st.integers(1, 12)), draw(st.integers(0, 20))
    logits = torch.randn(images, sum(SIZES), generator=torch.Generator().manual_seed(draw(st.integers(0, 2**32))))
    task, label = entries(draw, count)
    row = torch.tensor([draw(st.integers(0, images - 1)) for _ in range(count)], dtype=torch.int64)
    return logits, task, label, row


def naive(logits, task, label, row):
    """Metric of each task, None without an image, by counting one entry at a time."""
    found = []
    for t, metric in enumerate(METRICS):
        hits = {}
        for r, k, y in zip(row.tolist(), task.tolist(), label.tolist(), strict=True):
            if k == t:
                own = logits[r, OFFSETS[t] : OFFSETS[t] + SIZES[t]]
                hits.setdefault(y, []).append(int(own.argmax()) == y)
        if metric == "mean_acc":
            parts = [sum(h) / len(h) for h in hits.values()]
        else:
            parts = [hit for h in hits.values() for hit in h]
        found.append(100 * sum(parts) / len(parts) if parts else None)
    return found


@given(batches())
def test_metrics_equal_a_plain_count(batch):
    logits, task, label, row = batch
    evaluator = ClassificationMT(TASKS)
    evaluator.process(logits, label, task, row=row)
    overall = evaluator.evaluate()["metric"]
    expected = naive(*(logits, task, label, row))
    assert [s.metric for s in evaluator.scores] == [e if e is None else pytest.approx(e) for e in expected]
    known = [value for value in expected if value is not None]
    assert overall == (pytest.approx(sum(known) / len(known)) if known else None)


@settings(max_examples=50)
@given(batches(), st.lists(st.integers(0, 12), max_size=4))
def test_the_split_into_batches_does_not_matter(batch, cuts):
    logits, task, label, row = batch
    whole, parts = ClassificationMT(TASKS), ClassificationMT(TASKS)
    whole.process(logits, label, task, row=row)
    borders = sorted({0, *(min(cut, len(logits)) for cut in cuts), len(logits)})
    for start, end in itertools.pairwise(borders):
        mine = (row >= start) & (row < end)
        parts.process(logits[start:end], label[mine], task[mine], row=row[mine] - start)
    assert parts.evaluate() == whole.evaluate()
    assert all((a.confusion == b.confusion).all() for a, b in zip(parts.scores, whole.scores, strict=True))


def scores(predictions, **options):
    """An evaluator of one task with two classes and its result; ``predictions`` are pairs (truth, prediction)."""
    evaluator = ClassificationMT([Task("pair", ("a", "b"), **options)])
    truth, predicted = torch.tensor(predictions).unbind(1)
    evaluator.process(torch.nn.functional.one_hot(predicted, 2).float(), truth, torch.zeros_like(truth))
    return evaluator, evaluator.evaluate()["metric"]


@pytest.mark.parametrize(("metric", "value"), [("overall_acc", 75.0), ("mean_acc", 50.0)])
def test_the_two_ways_to_count(metric, value):
    assert scores([(0, 0), (0, 0), (0, 0), (1, 0)], metric=metric)[1] == value


def test_a_class_without_images_is_left_out_and_reported(caplog):
    evaluator, metric = scores([(0, 0), (0, 1)], metric="mean_acc")
    assert metric == 50.0
    assert evaluator.scores[0].absent == ("b",)
    assert evaluator.scores[0].recalls == {"a": 50.0}
    assert "task 0 (pair) has no image of b; left out of the mean" in caplog.text


def test_a_task_without_images_is_left_out_and_reported(caplog):
    evaluator = ClassificationMT(TASKS[:2])
    evaluator.process(torch.eye(7)[:1], torch.tensor([0]), torch.tensor([0]))
    assert evaluator.evaluate()["metric"] == 100.0
    assert evaluator.scores[1].metric is None
    assert evaluator.scores[1].total == 0
    assert "task 1 (task 1) has no image at all" in caplog.text


def test_without_any_image_there_is_no_metric():
    assert ClassificationMT(TASKS).evaluate() == {"metric": None, "pertask_metric": None}


def test_reset_forgets():
    evaluator, _ = scores([(0, 0), (1, 0)])
    evaluator.reset()
    assert evaluator.evaluate()["metric"] is None


def lines(caplog, **options):
    caplog.set_level(logging.INFO, "dassl.evaluation")
    evaluator = ClassificationMT([Task("a_task", ("x", "y"), "mean_acc"), Task("b", ("z",))], **options)
    label, task = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    evaluator.process(logits, label, task)
    evaluator.evaluate()
    return [record.getMessage() for record in caplog.records]


def test_the_log_has_the_originals_form(caplog):
    assert lines(caplog) == [
        "=> result",
        "* total: 4",
        "* overall_metric: 87.50%",
        "* task: 0 (a_task)\ttotal: 3\tmetric: 75.00%",
        "* task: 1 (b)\ttotal: 1\tmetric: 100.00%",
        "* average: 87.50%",
    ]


def test_the_total_counts_an_image_in_each_of_its_tasks(caplog):
    """As in the original: the sum of the tasks' totals."""
    caplog.set_level(logging.INFO, "dassl.evaluation")
    evaluator = ClassificationMT([Task("a", ("x", "y")), Task("b", ("z", "w"))])
    evaluator.process(torch.eye(4)[:2], torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), row=torch.tensor([0, 0, 1]))
    evaluator.evaluate()
    assert "* total: 3" in caplog.text


def test_the_log_without_tasks_and_with_classes(caplog):
    found = lines(caplog, per_task=False, per_class=True)
    assert found[:3] == ["=> result", "* total: 4", "* overall_metric: 87.50%"]
    assert [re.sub(r"\s+", " ", line) for line in found[3:]] == [
        "* class: x (a_task) acc: 100.00%",
        "* class: y (a_task) acc: 50.00%",
        "* class: z (b) acc: 100.00%",
    ]


@pytest.mark.parametrize(("name", "kind"), [("ClassificationMT", ClassificationMT), ("Classification", Classification)])
def test_the_config_chooses_the_evaluator(name, kind):
    cfg = get_cfg_default()
    cfg.TEST.EVALUATOR = name
    evaluator = build_evaluator(cfg, TASKS)
    assert type(evaluator) is kind
    assert list(evaluator.evaluate()) == ["metric"]


@given(batches(), st.sampled_from([torch.nan, torch.inf]), st.data())
def test_logits_that_are_not_finite_make_no_figure(batch, value, data):
    logits, task, label, row = batch
    exact = naive(*batch)
    image, column = data.draw(st.integers(0, len(logits) - 1)), data.draw(st.integers(0, sum(SIZES) - 1))
    logits[image, column] = value
    owner = sum(column >= offset for offset in OFFSETS) - 1
    lost = int(((row == image) & (task == owner)).sum())
    evaluator = ClassificationMT(TASKS)
    evaluator.process(logits, label, task, row=row)
    found = evaluator.evaluate()["metric"]
    for t, score in enumerate(evaluator.scores):
        assert score.lost == (lost if t == owner else 0)
        assert score.total == int((task == t).sum())
        assert score.metric == (None if score.lost else exact[t] and pytest.approx(exact[t]))
    assert (found is None) == (lost > 0 or not len(task))


def test_lost_images_are_said_and_their_classes_are_not_absent(caplog):
    evaluator = ClassificationMT(TASKS[:1], per_class=True)
    logits = torch.tensor([[1.0, 0, 0], [torch.nan, 0, 0], [0, 0, 1.0]])
    evaluator.process(logits, torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.int64))
    with caplog.at_level(logging.WARNING):
        assert evaluator.evaluate() == {"metric": None, "pertask_metric": None}
    (message,) = caplog.messages
    assert message.startswith("task 0 (task 0): 1 of 3 images have logits that are not finite")
    assert evaluator.scores[0].absent == ()


def test_a_class_that_is_never_predicted_is_no_fault():
    evaluator = ClassificationMT(TASKS[:1])
    evaluator.process(torch.tensor([[1.0, -torch.inf, 0]]), torch.tensor([0]), torch.tensor([0]))
    assert evaluator.evaluate()["metric"] == 100
    evaluator.process(torch.full((1, 3), -torch.inf), torch.tensor([0]), torch.tensor([0]))
    assert evaluator.evaluate()["metric"] is None


def probabilities(logits, task, label, row):
    """Of each entry the probability of the true class and of the predicted one, by an independent softmax."""
    for r, k, y in zip(row.tolist(), task.tolist(), label.tolist(), strict=True):
        own = np.exp(logits[r, OFFSETS[k] : OFFSETS[k] + SIZES[k]].double().numpy())
        yield own[y] / own.sum(), own.max() / own.sum()


@given(batches())
def test_an_entry_has_the_probabilities_of_its_own_task(batch):
    logits, task, label, row = batch
    evaluator = ClassificationMT(TASKS)
    evaluator.process(logits, label, task, row=row, index=torch.arange(len(logits)) + 100)
    evaluator.evaluate()
    found = evaluator.entries
    expected = np.array(list(probabilities(logits, task, label, row))).reshape(-1, 2)
    np.testing.assert_allclose(np.exp(found.log_true), expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.log_predicted), expected[:, 1], rtol=1e-5)
    assert found.image.tolist() == (row + 100).tolist()
    assert (found.task.tolist(), found.label.tolist()) == (task.tolist(), label.tolist())
    for score in evaluator.scores:
        own = found.take(found.task == score.index)
        if score.total:
            assert score.quality.nll == pytest.approx(-np.log(expected[found.task == score.index, 0]).mean(), rel=1e-4)
            assert 100 * (own.predicted == own.label).mean() == pytest.approx(overall_acc(score))


def overall_acc(score):
    return 100 * score.confusion.diagonal().sum() / score.total


def test_an_image_whose_scores_are_no_numbers_has_no_probability():
    evaluator = ClassificationMT(TASKS[:1])
    evaluator.process(torch.tensor([[torch.nan, 0, 1], [0, 0, 1]]), torch.tensor([0, 2]), torch.tensor([0, 0]))
    evaluator.evaluate()
    (score,) = evaluator.scores
    assert (score.metric, score.quality, evaluator.overall_quality.nll) == (None, Quality(), None)
    assert evaluator.entries.predicted.tolist() == [-1, 2]
    assert score.class_totals.tolist() == [1, 0, 1]


def test_a_class_that_is_never_predicted_leaves_no_likelihood(caplog):
    evaluator = ClassificationMT(TASKS[:1])
    evaluator.process(torch.tensor([[-torch.inf, 0, 1], [0, 0, 1]]), torch.tensor([0, 2]), torch.tensor([0, 0]))
    evaluator.evaluate()
    quality = evaluator.scores[0].quality
    assert (quality.nll, quality.impossible) == (None, 1)
    assert quality.macro_f1 == pytest.approx(100 * (0 + 2 / 3) / 2)
    assert "1 of 2 images are of a class that is never predicted, so there is no NLL" in caplog.text


def test_a_task_without_images_is_left_out_of_every_mean():
    evaluator = ClassificationMT(TASKS[:2])
    evaluator.process(torch.eye(7)[:2], torch.tensor([0, 1]), torch.tensor([0, 0]))
    evaluator.evaluate()
    assert evaluator.overall_quality == evaluator.scores[0].quality
