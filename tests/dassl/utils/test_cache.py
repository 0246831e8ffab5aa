"""What a worker keeps between runs."""

import logging
from itertools import count

import pytest

from dassl.utils.cache import cached, use_cache
from dassl.utils.remarks import collect_warnings


@pytest.fixture(autouse=True)
def forget():
    yield
    use_cache(False)


def test_nothing_is_kept_unless_asked():
    numbers = count()
    assert [cached("thing", "a", lambda: next(numbers), limit=2) for _ in range(3)] == [0, 1, 2]


def test_the_last_things_of_each_kind_are_kept():
    use_cache()
    made = []

    def get(kind: str, key: str) -> str:
        return cached(kind, key, lambda: made.append((kind, key)) or key, limit=2)

    for key in "abab":
        assert get("letter", key) == key
    get("other", "x")
    assert made == [("letter", "a"), ("letter", "b"), ("other", "x")]
    get("letter", "a")  # used last, so "b" has to go
    get("letter", "c")
    get("letter", "a")
    assert made[3:] == [("letter", "c")]
    get("letter", "b")
    assert made[4:] == [("letter", "b")]


def test_there_is_room_before_a_new_thing_is_made():
    """Two models need not fit into memory side by side."""
    use_cache()
    alive = set()

    class Model:
        def __init__(self) -> None:
            assert not alive
            alive.add(id(self))

        def __del__(self) -> None:
            alive.discard(id(self))

    for key in "ab":
        cached("model", key, Model, limit=1)
    assert len(alive) == 1


def test_a_changed_thing_is_made_again():
    use_cache()
    first = cached("list", "k", lambda: [1], limit=1, unchanged=lambda thing: thing == [1])
    assert cached("list", "k", lambda: [1], limit=1, unchanged=lambda thing: thing == [1]) is first
    first.append(2)
    assert cached("list", "k", lambda: [1], limit=1, unchanged=lambda thing: thing == [1]) == [1]


def test_a_thing_that_cannot_be_made_is_not_kept():
    use_cache()
    with pytest.raises(ZeroDivisionError):
        cached("number", "k", lambda: 1 // 0, limit=1)
    assert cached("number", "k", lambda: 7, limit=1) == 7


def test_warnings_of_a_kept_thing_are_logged_for_each_run_that_takes_it():
    use_cache()

    def make() -> int:
        logging.getLogger("dassl.data").warning("2 of %d classes are missing", 4)
        return 1

    said = []
    for _ in range(3):
        with collect_warnings() as warnings:
            cached("list", "k", make, limit=1)
        said.append(list(warnings))
    assert said == [["2 of 4 classes are missing"]] * 3
