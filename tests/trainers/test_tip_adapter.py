"""Tip-Adapter's scores and search, computed anew image by image."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dassl.data.datum import METRICS, Task
from dassl.evaluation.evaluator import score_task
from tests.trainers.features import work
from trainers._features import TaskWork
from trainers.tip_adapter import AUTHORS, ImageCache, class_sums, grid_values, right_between, search_cache

OPTIONS = {"trainer": "TipAdapter", "TRAINER__TIP__PREC": "fp32"}
SEVERAL = {**OPTIONS, "dataset": "ToyShapes"}  # images that belong to two tasks


def by_hand(task, image, keys, label, alpha, beta):
    """The logits of one image, class by class and key by key."""
    image = image / image.norm()
    logits = []
    for c, text in enumerate(task.text):
        near = sum(
            math.exp(-beta * (1 - float(image @ key))) for key, y in zip(keys, label.tolist(), strict=True) if y == c
        )
        logits.append(task.scale * float(image @ (text / text.norm())) + alpha * near)
    return torch.tensor(logits)


def test_the_check_values_of_the_reference():
    model = ImageCache([Task("t", ("a", "b"))], torch.eye(2), scale=100.0, counts=[2])
    keys, label = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([0, 1])
    model.put(0, {"keys": keys, "label": label, "alpha": torch.tensor(1.17), "beta": torch.tensor(1.0)})
    image = torch.tensor([[0.8, 0.6]])
    torch.testing.assert_close(image @ keys.T, torch.tensor([[0.8, 0.96]]))
    torch.testing.assert_close(model.score(image, 0), torch.tensor([[80.95792, 61.12413]]))


@pytest.mark.parametrize("metric", METRICS)
def test_the_search_finds_what_trying_every_pair_finds(metric):
    for seed in range(5):
        task = work(metric=metric, seed=seed)
        keys = functional.normalize(task.views[0], dim=-1)
        betas, alphas = grid_values(6.0, 7), grid_values(8.0, 5)
        best = (-1.0, 0.0, 0.0)
        for beta in betas.tolist():
            for alpha in alphas.tolist():
                confusion = torch.zeros(4, 4, dtype=torch.int64)
                for image, truth in zip(task.val, task.val_label.tolist(), strict=True):
                    confusion[truth, by_hand(task, image, keys, task.label, alpha, beta).argmax()] += 1
                rate = score_task(0, task.task, confusion.numpy()).metric
                if rate > best[0] + 1e-9:
                    best = (rate, alpha, beta)
        alpha, beta, rate = search_cache(task, keys, betas, alphas)
        assert (rate, alpha, beta) == pytest.approx(best)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_the_range_of_alpha_is_where_the_true_class_wins(seed, classes):
    draw = torch.Generator().manual_seed(seed)
    text, cache = (torch.randint(-3, 4, (7, classes), generator=draw).float() for _ in range(2))
    truth = torch.randint(classes, (7,), generator=draw)
    low, high = right_between(text, cache, truth)
    for alpha in (0.13, 0.71, 1.37, 3.11):
        scores = text + alpha * cache
        others = scores.scatter(1, truth[:, None], -torch.inf).amax(dim=1)
        wins = scores.gather(1, truth[:, None]).squeeze(1) > others
        assert torch.equal((low < alpha) & (alpha < high), wins)


def test_the_grid_is_the_authors():
    assert grid_values(7.0, 200)[:2].tolist() == pytest.approx([0.1, 0.1345])
    assert grid_values(7.0, 200)[-1] < 7
    assert len(AUTHORS) == 11


def test_sums_are_over_the_keys_of_a_class():
    affinity, label = torch.tensor([[0.5, 1.0, 0.0]]), torch.tensor([2, 0, 2])
    found = class_sums(affinity.T - 1, label, 4, beta=2.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, math.exp(-1) + math.exp(-2), 0.0]]))


@pytest.mark.parametrize("keys", [OPTIONS, SEVERAL], ids=["one task an image", "two tasks"])
def test_a_run_scores_as_by_hand(lab, keys):
    trainer = lab.trainer(**keys, TRAINER__TIP__VIEWS=2)
    trainer.train()
    data, views = trainer.dm, []
    for view in range(2):
        loader = data.plain_loader("train", augmented=True)
        loader.set_epoch(view)
        views.append(torch.cat([trainer.encode_images(batch["img"]) for batch in loader]))
    seen = functional.normalize((views[0] + views[1]) / 2, dim=-1)
    batch = next(iter(data.test_loader))
    found = trainer.model_inference(batch)
    features = trainer.encode_images(batch["img"])
    for row, number in zip(batch["row"].tolist(), batch["task"].tolist(), strict=True):
        own = [(i, y) for i, item in enumerate(data.dataset.train_x) for t, y in item.targets if t == number]
        rows, label = torch.tensor([i for i, _ in own]), torch.tensor([y for _, y in own])
        columns = trainer.model.columns(number)
        task = TaskWork(
            number, data.tasks[number], trainer.backbone.logit_scale, trainer.model.text[columns], *[seen] * 4
        )
        alpha, beta = float(trainer.model.alpha[number]), float(trainer.model.beta[number])
        expected = by_hand(task, features[row], seen[rows], label, alpha, beta)
        torch.testing.assert_close(found[row, columns], expected, rtol=1e-4, atol=1e-3)


def test_without_validation_images_the_given_values_are_used_and_said(lab, caplog):
    trainer = lab.trainer(**OPTIONS, TRAINER__TIP__ALPHA=2.5)
    trainer.dm.dataset.val[:] = []
    trainer.train()
    assert trainer.model.alpha.tolist() == [2.5, 2.5] and trainer.model.beta.tolist() == [1.0, 1.0]
    assert "no validation image to choose settings on; alpha 2.5, beta 1 is used" in caplog.text


def test_the_released_range_is_that_of_the_data_set(lab, monkeypatch):
    monkeypatch.setitem(AUTHORS, "ToyTools", (10.0, 50.0, 40.0))
    common = lab.trainer(**OPTIONS)
    released = lab.trainer("released", **OPTIONS, TRAINER__TIP__RECIPE="released", TRAINER__TIP__ALPHA=3)
    assert [common.search_range(task) for task in (0, 1)] == [(1.17, 12.0, 10.0)] * 2
    assert [released.search_range(task) for task in (0, 1)] == [(3.0, 12.0, 10.0), (10.0, 50.0, 40.0)]
    task = Task("t", ("a",), metric="mean_acc")
    assert (released.chosen_by(task), common.chosen_by(task)) == ("overall_acc", "mean_acc")


def test_nothing_is_counted_and_a_run_without_its_images_reads_the_cache(lab):
    result = lab.run(**OPTIONS)
    assert (result.parameters, result.epochs) == (0, 1)
    learned = lab.learned()
    assert learned["tip/model.pth.tar-1:keys"].shape == (16, 24)
    assert learned["tip/model.pth.tar-1:count"].tolist() == [6, 10]
