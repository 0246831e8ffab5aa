"""Class sub-sampling: which classes take part in a step, and that the loss is the plain one over these."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from trainers.mtcoop import sample_columns

KEYS = {"TRAINER__MTCOOP__CSC": True, "TRAINER__MTCOOP__CLS_SAMPLE_RATE": 0.4, "DATALOADER__TRAIN_X__BATCH_SIZE": 3}


def draw(column, sizes, rate, seed=0):
    return sample_columns(torch.tensor(column, dtype=torch.int64), sizes, rate, torch.Generator().manual_seed(seed))


def test_a_tenth_of_the_absent_classes_of_a_large_task():
    kept = draw([3, 50, 50, 100, 101, 396], [397], 0.1)
    assert len(kept) == 5 + 40


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 1000), st.integers(0, 2**32), st.data())
def test_positives_and_a_share_of_the_others_are_kept(sizes, thousandths, seed, data):
    column = data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=8))
    rate = thousandths / 1000
    kept = draw(column, sizes, rate, seed).tolist()
    assert kept == sorted(set(kept))
    assert set(column) <= set(kept)
    first = 0
    for size in sizes:
        own = range(first, first + size)
        positive = len(set(own) & set(column))
        assert len(set(own) & set(kept)) == positive + math.ceil(thousandths * (size - positive) / 1000)
        first += size


def test_every_class_is_drawn_some_time():
    kept = torch.cat([draw([0], [20], 0.1, seed) for seed in range(200)])
    assert set(kept.tolist()) == set(range(20))


@pytest.mark.parametrize("change", ["seed", "epoch", "batch_index"])
def test_the_draw_depends_on_seed_epoch_and_batch_only(lab, change):
    column = torch.tensor([1, 4])

    def kept(**state):
        trainer = lab.trainer(**KEYS, seed=state.pop("seed", 1))
        torch.rand(state.pop("drawn", 1))
        for name, value in state.items():
            setattr(trainer, name, value)
        return [tuple(trainer.kept_columns(column).tolist()) for _ in range(2)]

    first, again = kept()
    assert first == again == kept(drawn=7)[0]
    assert len({kept(**{change: value})[0] for value in range(8)}) > 1


def test_loss_and_gradient_are_those_of_the_plain_loss_over_the_kept_classes(lab):
    trainer = lab.trainer(**KEYS)
    batch = next(iter(trainer.dm.train_loader_x))
    _, task, column = trainer.parse_batch_train(batch)
    kept = trainer.kept_columns(column)
    assert set(column.tolist()) <= set(kept.tolist()) < set(range(8))
    loss, _ = trainer.loss(batch)
    loss.backward()
    mine = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.model.zero_grad()

    # The original adds 1e-6 to the features of the kept classes.
    logits = trainer.logits(trainer.image_features(batch), trainer.model() + 1e-6)
    allowed = torch.zeros(8, dtype=torch.bool).index_fill(0, kept, True) & (trainer.task_of_class == task[:, None])
    plain = functional.cross_entropy(torch.where(allowed, logits, -math.inf), column)
    plain.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for name, parameter in trainer.model.named_parameters():
        # Rounding follows the size of the whole tensor, and differs from one kind of CPU to another.
        largest = parameter.grad.abs().max().item()
        torch.testing.assert_close(mine[name], parameter.grad, rtol=1e-3, atol=1e-5 * largest)


def test_all_classes_at_the_rate_of_one(lab):
    trainer = lab.trainer(**{**KEYS, "TRAINER__MTCOOP__CLS_SAMPLE_RATE": 1})
    assert trainer.kept_columns(torch.tensor([0])).tolist() == list(range(8))


def test_tests_see_all_classes(lab):
    trainer = lab.trainer(**KEYS)
    batch = next(iter(trainer.dm.test_loader))
    trainer.before_test()
    assert trainer.model_inference(batch).shape == (len(batch["index"]), 8)
