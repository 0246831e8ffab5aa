"""The list of phrases: how it is read, and where phrases are found."""

import pytest

from scripts.lint.words import LIST, find_phrases, read_list, texts

PHRASES = {"read are": "are read", "gone on with": "resumed"}


def found(text, phrases=PHRASES):
    return [(each.line, each.text) for each in find_phrases("x.md", text, phrases)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("it is gone on with later", 1),
        ("\nGone on with", 2),
        ("a run is gone\non with", 1),
        ("x\n# a run is gone on\n#   with it", 2),
        ("> gone\n> on with", 1),
    ],
)
def test_a_phrase_is_found_across_lines_and_marks(text, line):
    assert found(text) == [(line, '"gone on with": write "resumed"')]


@pytest.mark.parametrize("text", ["thread are", "read area", "gone, on with", "", "resumed"])
def test_other_words_are_left_alone(text):
    assert found(text) == []


def test_the_longer_of_two_phrases_is_named():
    assert found("files are had here", {"are had": "a", "files are had": "b"}) == [(1, '"files are had": write "b"')]


def test_no_phrases_find_nothing():
    assert found("anything", {}) == []


def test_a_list_has_comments_and_a_replacement_for_each_phrase():
    assert read_list("# head\n\nRead are => are read  # why\n") == {"read are": "are read"}


@pytest.mark.parametrize("text", ["read are", "read are =>", "=> are read", "a b => c\nA B => d"])
def test_a_bad_line_is_named(text):
    with pytest.raises(ValueError, match=rf"words.txt, line {text.count(chr(10)) + 1}: give PHRASE => REPLACEMENT"):
        read_list(text)


def test_the_worst_idioms_are_listed():
    phrases = read_list(LIST.read_text(encoding="utf-8"))
    for idiom in ("go on with", "gone on with", "read are", "who has which", "of which yaml keeps the last"):
        assert idiom in phrases


def test_all_kinds_of_texts_are_looked_through():
    names = [name for name, _ in texts()]
    assert {"README.md", "train.py", "docs/method.md", "scripts/setup.sh", "pyproject.toml"} <= {*names}
    assert not [name for name in names if name.startswith("scripts/lint/")]
