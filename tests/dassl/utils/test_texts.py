import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.utils.cli import shortened
from dassl.utils.texts import is_one_line, printable, spreadsheet_cell, visible, visible_json, visible_line

any_text = st.text(st.characters(), max_size=30)


@given(any_text)
def test_what_is_hidden_is_shown_as_an_escape_and_the_rest_stays(text):
    for shown in (visible(text), printable(text), visible_line(text)):
        bad = [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\t\n"]
        assert not bad
    assert is_one_line(visible_line(text))
    if is_one_line(text):
        assert visible(text) == printable(text) == visible_line(text) == text


@pytest.mark.parametrize("text", ["می‌خواهم", "👩‍🔬", "naïve", "a\u00a0b", "\u0600"])
def test_names_of_any_script_are_lines(text):
    assert is_one_line(text)


@pytest.mark.parametrize("text", ["\x1b", "\x9b", "\u202e", "\u200b", "\ufeff", "\xad", "\n", "\t", "\r", "\ud800"])
def test_hidden_characters(text):
    assert not is_one_line(f"a{text}b")


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_printed_json_keeps_its_values(text):
    assert json.loads(visible_json(json.dumps([text], ensure_ascii=False))) == [text]


@pytest.mark.parametrize(
    ("text", "cell"),
    [("=1", "'=1"), ("@x", "'@x"), ("-a", "'-a"), ("\tx", "'\tx"), ("-1.5e3", "-1.5e3"), ("+2", "+2"), ("a=1", "a=1")],
)
def test_cells_of_a_spreadsheet(text, cell):
    assert spreadsheet_cell(text) == cell


def test_a_long_message_keeps_its_beginning_and_its_end():
    text = "value " * 1000 + "; remedy"
    assert len(shortened(text)) < 1600 and shortened(text).startswith("value") and shortened(text).endswith("; remedy")
    assert shortened("short") == "short"
