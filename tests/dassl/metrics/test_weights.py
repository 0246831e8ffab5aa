import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from dassl.data.datum import Datum, Task
from dassl.metrics.weights import balanced_weights, class_weights


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any))
def test_classes_share_the_loss_and_the_mean_weight_of_images_is_one(count):
    weight = balanced_weights(torch.tensor(count)).tolist()
    shares = [w * n for w, n in zip(weight, count, strict=True) if n]
    assert all(math.isclose(share, sum(count) / len(shares)) for share in shares)
    assert math.isclose(sum(shares) / sum(count), 1)
    assert all(w == 0 for w, n in zip(weight, count, strict=True) if not n)


def test_only_tasks_that_ask_for_weights_get_some():
    tasks = [Task("a", ("x", "y")), Task("b", ("u", "v"), weight="balanced")]
    train = [Datum("1", 0, 0, ((1, 0),)), Datum("2", 0, 1), Datum("3", 0, 1), Datum("4", 1, 1)]
    assert class_weights(tasks, train).tolist() == [1, 1, torch.tensor(4 / 6).item(), 2]
    assert class_weights(tasks[:1], train[:0]) is None
