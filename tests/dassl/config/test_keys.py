import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.config import Key, above, at_least, between
from dassl.config.keys import coerce, title

finite = st.floats(allow_nan=False, allow_infinity=False)
word = st.text("abcdefghijklmnopqrstuvwxyz_-/0123456789", min_size=1)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_whole_numbers_keep_every_digit(number):
    assert coerce(str(number), 0) == coerce(number, 0) == number
    assert type(coerce(str(number), 0)) is int


@given(finite)
def test_numbers_survive_being_written(number):
    assert coerce(repr(number), 0.5) == coerce(number, 0.5) == number
    assert type(coerce(repr(number), 0.5)) is float


@given(st.booleans())
def test_switches_survive_being_written(value):
    assert coerce(str(value), True) is coerce(value, False) is value


@given(st.lists(word, max_size=5))
def test_lists_of_texts_survive_being_written(words):
    expected = tuple(words)
    assert coerce(words, ()) == coerce(expected, ()) == expected
    assert coerce(",".join(words), ()) == coerce(str(expected), ()) == coerce(str(words), ()) == expected


@given(st.lists(finite, min_size=1, max_size=4))
def test_lists_of_numbers_survive_being_written(numbers):
    assert coerce(str(tuple(numbers)), (0.5,)) == coerce(numbers, (0.5,)) == tuple(numbers)


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Cn", "Zl", "Zp"))))
def test_texts_are_left_alone(text):
    assert coerce(text, "default") == text


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        (1, 0.5, 1.0),
        ("1", 0.5, 1.0),
        ("1e-5", 0.5, 1e-5),
        (4.0, 1, 4),
        ("4.0", 1, 4),
        ("16", 1, 16),
        (1, False, True),
        ("0", True, False),
        ("on", False, True),
        ("No", True, False),
        (None, "", ""),
        (None, (), ()),
        ("(224, 224)", (1, 1), (224, 224)),
        ("[224,224]", (1, 1), (224, 224)),
        ("30", (-1,), (30,)),
        (30, (-1,), (30,)),
        ([512, "a"], (), ("512", "a")),
        ('["random_flip", "normalize"]', (), ("random_flip", "normalize")),
    ],
)
def test_other_ways_to_write_a_value(value, default, expected):
    found = coerce(value, default)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "default", "reason"),
    [
        ("many", 1, "a whole number"),
        (1.5, 1, "a whole number"),
        (True, 1, "a whole number"),
        (None, 1, "a whole number"),
        ("1" * 5000, 1, "a whole number"),
        ("nan", 0.5, "a number"),
        (math.inf, 0.5, "a number"),
        (10**400, 0.5, "a number"),
        (False, 0.5, "a number"),
        ([1.0], 0.5, "a number"),
        (2, True, "True or False"),
        ("perhaps", True, "True or False"),
        (5, "", "a text"),
        (["a"], "", "a text"),
        ("a\0b", "", "a text in one line without control characters, in UTF-8"),
        ("a\nb", "", "a text in one line without control characters, in UTF-8"),
        (["a"], (1,), "a whole number"),
        ([["a"]], (), "a list of texts"),
    ],
)
def test_a_value_of_another_kind_is_refused(value, default, reason):
    with pytest.raises(TypeError, match=f"expected {reason}$"):
        coerce(value, default)


def test_checks_say_what_is_accepted():
    assert Key("A", 1, "", check=at_least(1)).problem(0) == "must be at least 1"
    assert Key("A", 1, "", check=at_least(1)).problem(1) == ""
    assert Key("A", 1, "", check=above(0)).problem(0) == "must be above 0"
    assert Key("A", 1, "", check=between(0, 1)).problem(1.5) == "must lie between 0 and 1"
    assert Key("A", "x", "", ("x", "y")).problem("z") == "choose one of 'x', 'y'"


@pytest.mark.parametrize("name", ["", "crockery", "My suite 2.1", "Gef\u00e4\u00dfe", "a-b_c+d"])
def test_names_of_suites(name):
    assert title(name) == ""


@pytest.mark.parametrize("name", [" x", "a/b", "..", "-x", "a  b", "a\nb", "x" * 61, "a:b", "\\"])
def test_names_that_are_no_names_of_folders(name):
    assert "letters, digits, blanks" in title(name)
