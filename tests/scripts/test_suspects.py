"""Images with a wrong label are found; others are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.suspects import SURE, cross_validated, folds


def clouds(images, classes, *, seed=0, width=16):
    """Features of well separated classes, and their labels."""
    noise = np.random.default_rng(seed)
    centres = 6 * np.eye(classes, width)
    labels = np.arange(images) % classes
    return centres[labels] + noise.normal(size=(images, width)), labels


def test_a_planted_label_is_found_and_no_other():
    features, labels = clouds(60, 3)
    labels = labels.copy()
    labels[5] = (labels[5] + 1) % 3
    chances = cross_validated(features, labels, 3)
    assert np.allclose(chances.sum(1), 1)
    sure = np.flatnonzero((chances.argmax(1) != labels) & (chances.max(1) >= SURE))
    assert sure.tolist() == [5]


def test_without_a_fault_nothing_is_found():
    features, labels = clouds(60, 3, seed=1)
    assert (cross_validated(features, labels, 3).argmax(1) == labels).all()


def test_noise_makes_nobody_sure():
    noise = np.random.default_rng(2)
    chances = cross_validated(noise.normal(size=(80, 8)), noise.integers(0, 2, 80), 2)
    assert (chances.max(1) >= SURE).mean() < 0.1


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=4, max_size=40))
def test_equal_images_are_in_one_fold(pairs):
    features = np.array([[float(kind), 1.0] for kind, _ in pairs])
    labels = np.array([label for _, label in pairs])
    found = folds(features, labels)
    assert (found >= 0).all()
    for kind in {kind for kind, _ in pairs}:
        assert len({fold for fold, (other, _) in zip(found, pairs, strict=True) if other == kind}) == 1


def test_equal_images_with_two_labels_do_not_betray_each_other():
    features, labels = clouds(40, 2)
    features[1] = features[0]  # the same image under both labels
    chances = cross_validated(features, labels, 2)
    assert chances[0] == pytest.approx(chances[1])


def test_a_group_is_in_one_fold_also_through_an_equal_image():
    features, labels = clouds(20, 2)
    features[7] = features[3]
    groups = ["a" if number in (1, 2, 3) else "b" if number == 8 else "" for number in range(20)]
    groups[7] = "b"
    found = folds(features, labels, groups)
    assert len({*found[[1, 2, 3, 7, 8]]}) == 1
    assert len({*found}) == 5
