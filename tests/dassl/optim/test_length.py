import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.optim import planned_epochs
from tests.dassl.optim.test_lr_scheduler import optim_cfg


@pytest.mark.parametrize(
    ("least", "batches", "epochs"), [(0, 1, 50), (50, 1, 50), (51, 1, 51), (400, 3, 134), (400, 8, 50), (400, 0, 50)]
)
def test_the_least_number_of_steps_lengthens_a_training(least, batches, epochs):
    assert planned_epochs(optim_cfg(MIN_STEPS=least), batches) == epochs


@given(st.integers(0, 10**6), st.integers(1, 10**4), st.integers(1, 200))
def test_no_epoch_is_more_than_the_steps_need(least, batches, asked):
    epochs = planned_epochs(optim_cfg(MIN_STEPS=least, MAX_EPOCH=asked), batches)
    assert epochs >= asked and epochs * batches >= least
    assert epochs == asked or (epochs - 1) * batches < least
