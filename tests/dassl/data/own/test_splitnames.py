import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.data.own.splitnames import nearest_split, slips, split_of

NAMES = {
    "train": "train|Training|seg_train|training_data|train_set|Train Set|trainset|train2017|trn",
    "test": "test|TESTING|seg_test|testing-data|Test Set|test_images|eval|holdout|hold-out|Test.1",
    "val": "val|valid|Validation|validate|dev|val_split|validation images",
    "": "|cat|tram|trains|tests|contest|data|set|1|test tube|dent",
}
SLIPS = {
    "train": "tarin|trian|trainning|Trainig Data",
    "test": "tset|tests|Tset Data|evaluatoin|holdut",
    "val": "vla|vaildation|validaton_set",
    "": "|cat|bus|chipped|red|1",
}
WORDS = st.text("abcdefghij", max_size=8)


def each(names):
    return [(split, name) for split, line in names.items() for name in line.split("|")]


@pytest.mark.parametrize(("split", "name"), each(NAMES))
def test_many_names(split, name):
    assert split_of(name) == split


@pytest.mark.parametrize(("split", "name"), each(SLIPS))
def test_slips_of_the_pen(split, name):
    assert nearest_split(name) == split


@given(WORDS, WORDS)
def test_slips_are_a_distance(one, other):
    assert slips(one, other) == slips(other, one) <= max(len(one), len(other))
    assert (slips(one, other) == 0) == (one == other)


@given(WORDS.filter(bool), st.data())
def test_each_slip_counts_once(word, data):
    place = data.draw(st.integers(0, len(word) - 1))
    assert slips(word, word[:place] + word[place + 1 :]) == 1
    assert slips(word, word[:place] + "z" + word[place:]) == 1
    assert slips(word, word[:place] + "z" + word[place + 1 :]) == 1
    swapped = word[:place] + word[place : place + 2][::-1] + word[place + 2 :]
    assert slips(word, swapped) == (swapped != word)
