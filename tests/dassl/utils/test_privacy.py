import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.utils.privacy import without_home, without_places


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/x.pt", "~/x.pt"),
        ("delete '/home/ann'", "delete '~'"),
        ("/Users/ann/a b: damaged", "~/a b: damaged"),
        (r"C:\Users\ann\x", r"~\x"),
        ("file:///home/ann/x", "file://~/x"),
        ("/data/home/ann/x", "/data/home/ann/x"),
        ("/homework/ann", "/homework/ann"),
        ("a ratio of 3/home", "a ratio of 3/home"),
    ],
)
def test_homes_become_a_tilde(text, shown):
    assert without_home(text) == shown


def test_the_own_home_may_be_anywhere(monkeypatch):
    monkeypatch.setenv("HOME", "/srv/people/ann")
    assert without_home("/srv/people/ann/x and /srv/people/anna/x") == "~/x and /srv/people/anna/x"


def test_a_home_that_is_the_root_is_left_alone(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert without_home("/data/x") == "/data/x"


def test_places_are_named_from_the_inside_out(monkeypatch):
    monkeypatch.setenv("HOME", "/srv/ann")
    places = {"DATA": Path("/srv/ann"), "RUN": Path("/srv/ann/out"), "ROOT": Path("/")}
    assert without_places("/srv/ann/out/x, /srv/ann/y.jpg, /srv/ann/output", places) == "RUN/x, DATA/y.jpg, DATA/output"


@given(st.text(alphabet="/homeann ab.:~'\\", max_size=60))
def test_nothing_of_a_home_is_left_and_it_is_done_once(text):
    shown = without_home(text)
    assert without_home(shown) == shown
    assert not re.search(r"(?:^|[ '])/home/[ab]+(?:$|[/ '])", shown)
