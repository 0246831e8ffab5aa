import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from dassl.metrics import micro_average_precision, task_columns, task_probabilities


def columns_of(task, sizes):
    return task_columns(task, torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)))


@given(st.integers(0, 2**32))
def test_it_is_the_precision_over_the_flattened_columns_of_the_images_tasks(seed):
    generator = torch.Generator().manual_seed(seed)
    sizes, offsets = [3, 4], [0, 3]
    logits = torch.randn(8, 7, generator=generator)
    task = torch.randint(2, (8,), generator=generator)
    column = torch.tensor([offsets[t] + int(torch.randint(sizes[t], (1,), generator=generator)) for t in task.tolist()])
    scores, truth = [], []
    for row, t, true in zip(logits, task.tolist(), column.tolist(), strict=True):
        scores += row[offsets[t] : offsets[t] + sizes[t]].softmax(0).tolist()
        truth += [c == true for c in range(offsets[t], offsets[t] + sizes[t])]
    expected = 100 * average_precision_score(truth, scores)
    assert micro_average_precision(logits, column, columns_of(task, sizes)) == pytest.approx(expected, abs=1e-4)


def test_perfect_and_useless_scores():
    column, columns = torch.arange(4), torch.ones(4, 4, dtype=torch.bool)
    assert micro_average_precision(9.0 * torch.eye(4), column, columns) == pytest.approx(100.0)
    assert micro_average_precision(torch.zeros(4, 4), column, columns) == pytest.approx(25.0)


def test_probabilities_sum_to_one_inside_the_task():
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]).expand(2, 5)
    found = task_probabilities(logits, columns_of(torch.tensor([0, 1]), [2, 3]))
    assert found[0, 2:].tolist() == [0.0] * 3
    assert found[1, :2].tolist() == [0.0] * 2
    torch.testing.assert_close(found[1, 2:], torch.tensor([3.0, 4.0, 5.0]).softmax(0))
    torch.testing.assert_close(found.sum(1), torch.ones(2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_have_no_precision(bad):
    logits = torch.zeros(2, 2)
    logits[0, 0] = bad
    found = micro_average_precision(logits, torch.tensor([0, 1]), torch.ones(2, 2, dtype=torch.bool))
    assert math.isnan(found)
