"""Figures beside accuracy, against computations that are as plain as their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss

from dassl.metrics.quality import (
    Quality,
    expected_calibration_error,
    macro_f1,
    mean_quality,
    negative_log_likelihood,
    quality,
)

predictions = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40)
pairs = st.integers(2, 5).flatmap(
    lambda size: st.tuples(st.just(size), st.lists(st.tuples(*[st.integers(0, size - 1)] * 2), min_size=1, max_size=40))
)


def plain_error(found, bins):
    """ECE bin by bin, an image at a time."""
    total = 0.0
    for b in range(bins):
        inside = [(p, hit) for p, hit in found if b / bins < p <= (b + 1) / bins or (b == 0 and p == 0)]
        if inside:
            accuracy = sum(hit for _, hit in inside) / len(inside)
            confidence = sum(p for p, _ in inside) / len(inside)
            total += len(inside) / len(found) * abs(accuracy - confidence)
    return 100 * total


@given(predictions, st.integers(1, 20))
def test_the_calibration_error_is_what_the_definition_says(found, bins):
    confidence, correct = np.array([p for p, _ in found]), np.array([hit for _, hit in found], bool)
    error = expected_calibration_error(confidence, correct, bins=bins)
    assert error == (pytest.approx(plain_error(found, bins), abs=1e-9) if found else None)


def test_the_usual_number_of_bins_is_fifteen():
    confidence, correct = np.array([0.61, 0.66]), np.array([True, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx(100 * abs(1 - 0.61 - 0.66) / 2)
    apart = np.array([0.59, 0.61])
    assert expected_calibration_error(apart, correct) == pytest.approx(100 * (0.41 + 0.61) / 2)


def test_sure_and_right_is_no_error_and_sure_and_wrong_is_the_largest():
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0
    assert expected_calibration_error(np.ones(3), np.zeros(3, bool)) == 100


@settings(max_examples=40)
@given(pairs)
def test_macro_f1_of_a_confusion_matrix_is_that_of_the_labels(case):
    size, found = case
    confusion = np.zeros((size, size), np.int64)
    np.add.at(confusion, tuple(np.array(found).T), 1)
    true, predicted = zip(*found, strict=True)
    expected = f1_score(true, predicted, labels=sorted(set(true)), average="macro", zero_division=0)
    assert macro_f1(confusion) == pytest.approx(100 * expected)


def test_macro_f1_leaves_classes_without_images_out():
    assert macro_f1(np.array([[2, 0, 0], [0, 0, 0], [0, 0, 3]])) == 100
    assert macro_f1(np.zeros((3, 3), np.int64)) is None


@given(st.lists(st.tuples(st.integers(0, 2), *[st.floats(0.01, 1)] * 3), min_size=1, max_size=20))
def test_the_likelihood_is_scikit_learns(images):
    label = np.array([each[0] for each in images])
    p = np.array([each[1:] for each in images])
    p /= p.sum(axis=1, keepdims=True)
    mine = negative_log_likelihood(np.log(p[np.arange(len(p)), label]))
    assert mine == pytest.approx(log_loss(label, p, labels=[0, 1, 2]), abs=1e-9)


def test_an_infinite_likelihood_is_none():
    assert negative_log_likelihood(np.array([-1.0, -math.inf])) is None
    assert negative_log_likelihood(np.zeros(0)) is None
    assert math.copysign(1, negative_log_likelihood(np.zeros(2))) == 1


def test_all_figures_of_a_task():
    confusion, sure = np.array([[1, 1], [0, 2]]), np.log(np.array([0.8, 0.7, 0.9, 0.6]))
    true, correct = np.log(np.array([0.8, 0.3, 0.9, 0.6])), np.array([True, False, True, True])
    found = quality(confusion, true, sure, correct)
    assert found.macro_f1 == pytest.approx(100 * (2 / 3 + 0.8) / 2)
    assert found.nll == pytest.approx(-true.mean())
    assert found.ece == pytest.approx(100 * (0.2 + 0.7 + 0.1 + 0.4) / 4)
    assert found.impossible == 0


def test_a_mean_needs_every_task():
    whole, partly = Quality(50.0, 1.0, 2.0), Quality(70.0, None, 4.0, impossible=2)
    assert mean_quality([whole, partly]) == Quality(60.0, None, 3.0, impossible=2)
    assert mean_quality([]) == Quality()
    assert str(partly) == "macro F1 70.00%, ECE 4.00%"
    assert str(Quality()) == "no macro F1, NLL or ECE"
