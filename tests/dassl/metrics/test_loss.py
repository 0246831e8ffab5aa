import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from dassl.metrics import task_columns, task_cross_entropy


@st.composite
def problems(draw):
    """Task sizes and a batch: (sizes, logits (B, C), task (B,), label (B,))."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    count = draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    logits = draw(st.sampled_from([0.01, 1.0, 100.0])) * torch.randn(count, sum(sizes), generator=generator)
    task = torch.tensor(draw(st.lists(st.integers(0, len(sizes) - 1), min_size=count, max_size=count)))
    label = torch.tensor([draw(st.integers(0, sizes[t] - 1)) for t in task.tolist()])
    return sizes, logits, task, label


def owner_of(sizes):
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def first_of(sizes):
    return torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)


def loss_and_gradient(function, logits):
    logits = logits.clone().requires_grad_()
    loss = function(logits)
    loss.backward()
    return loss.item(), logits.grad


@given(problems())
def test_the_loss_is_the_sum_over_tasks_of_their_own_cross_entropy(problem):
    sizes, logits, task, label = problem
    column, columns = first_of(sizes)[task] + label, task_columns(task, owner_of(sizes))

    def by_tasks(logits):
        total = logits.new_zeros(())
        for t, part in enumerate(logits.split(sizes, dim=1)):
            mine = task == t
            total = total + functional.cross_entropy(part[mine], label[mine], reduction="sum")
        return total / len(logits)

    mine, gradient = loss_and_gradient(
        lambda logits: task_cross_entropy(logits, column, columns, images=len(logits)), logits
    )
    theirs, expected = loss_and_gradient(by_tasks, logits)
    assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(gradient, expected)


@given(problems())
def test_the_loss_is_the_mean_cross_entropy_with_other_columns_at_minus_infinity(problem):
    sizes, logits, task, label = problem
    column, owner = first_of(sizes)[task] + label, owner_of(sizes)
    masked = torch.where(owner[None] == task[:, None], logits, -math.inf)
    loss = task_cross_entropy(logits, column, task_columns(task, owner), images=len(logits))
    assert loss.item() == pytest.approx(functional.cross_entropy(masked, column).item(), rel=1e-5, abs=1e-6)


def test_an_image_with_two_tasks_counts_once_in_the_divisor():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    row, task, column = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), torch.tensor([1, 2, 4])
    columns = task_columns(task, owner_of([2, 3]))
    loss = task_cross_entropy(logits[row], column, columns, images=2)
    last = math.log(sum(math.exp(v) for v in (3, 4, 5))) - 5
    assert loss.item() == pytest.approx((math.log(2) + math.log(3) + last) / 2)


def test_half_precision_logits_are_scored_in_float32():
    logits = torch.tensor([[100.0, 0.0]], dtype=torch.float16)
    loss = task_cross_entropy(logits, torch.tensor([1]), torch.ones(1, 2, dtype=torch.bool), images=1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(100.0)


@given(problems())
def test_an_entry_counts_as_often_as_its_weight_says(problem):
    sizes, logits, task, label = problem
    column, columns = first_of(sizes)[task] + label, task_columns(task, owner_of(sizes))
    weight = 1 + label
    again = torch.repeat_interleave(torch.arange(len(label)), weight)
    mine, gradient = loss_and_gradient(
        lambda logits: task_cross_entropy(logits, column, columns, images=len(logits), weight=weight.float()), logits
    )
    theirs, expected = loss_and_gradient(
        lambda logits: task_cross_entropy(logits[again], column[again], columns[again], images=len(logits)), logits
    )
    assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
