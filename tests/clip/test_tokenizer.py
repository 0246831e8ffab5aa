import json

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import clip
from tests.clip.helpers import ordinary_text
from tests.folders import golden_folder

START, END = 49406, 49407


def test_known_ids():
    ids = [START, 320, 1125, 539, 320, 2368, 269, END]
    row = clip.tokenize("a photo of a cat.")[0]
    assert row.tolist() == ids + [0] * (77 - len(ids))
    assert row.dtype == torch.int64


@settings(deadline=None)
@given(st.lists(ordinary_text(30), min_size=1, max_size=4))
def test_agrees_with_open_clip(texts):
    assert torch.equal(clip.tokenize(texts, truncate=True), open_clip.tokenize(texts))


def test_special_tokens_are_spelt_as_by_openai():
    assert clip.tokenize("<|StartOfText|> hi <|endoftext|>")[0, :6].tolist() == [START, START, 1883, END, END, 0]
    assert clip.token_count("<start_of_text>") > 1


def test_too_long_is_refused_by_name_and_length():
    text = "long " * 100
    with pytest.raises(clip.BackboneError, match=r"'long long .*\.\.\.' has 102 tokens .* only 77 fit") as caught:
        clip.tokenize(["short", text])
    assert "\n" not in str(caught.value)


def test_truncation_puts_the_end_token_last():
    row = clip.tokenize("long " * 100, truncate=True)[0].tolist()
    assert row == [START] + [1538] * 75 + [END]
    assert clip.tokenize("a photo of a cat.", 5, truncate=True).tolist() == [[START, 320, 1125, 539, END]]


def test_text_that_just_fits():
    assert clip.tokenize("long " * 75)[0, -1] == END


def test_golden_texts():
    folder = golden_folder("tokenizer")
    expected = load_file(folder / "tokenizer.safetensors")["tokens"]
    record = json.loads((folder / "tokenizer.json").read_text())
    texts = [case["text"] for case in record["cases"]]
    assert torch.equal(clip.tokenize(texts).int(), expected)
    for case in record["cases"]:
        assert clip.token_count(case["text"]) == len(case["ids"])
    for case in record["too_long"]:
        with pytest.raises(clip.BackboneError):
            clip.tokenize(case["text"])
        assert clip.tokenize(case["text"], truncate=True)[0].tolist() == case["truncated_ids"]


# -- names that are one to the model ---------------------------------------------------------------------------

ALIKE = [
    ("Dog", "dog"),
    ("caf\u00e9", "cafe\u0301"),
    ("don't", "don\u2019t"),
    ("salt & pepper", "salt &amp; pepper"),
    ("\uff21\uff22\uff23", "abc"),
    ("sea  horse", "sea_horse"),
    ("a\u00a0b", "a b"),
    ("o\ufb03ce", "office"),
    ("x<|endoftext|>y", "x<|endoftext|>z"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_are_one_to_the_model(one, other):
    assert clip.same_tokens([one, "something else", other]) == [(other, one)]


def test_names_that_differ_or_hold_nothing():
    assert clip.same_tokens(["dog", "dogs", "hot dog", "dog.", "caf\u00e9", "cafe"]) == []
    assert clip.same_tokens(["dog", "&nbsp;"]) == [("&nbsp;", "")]


@settings(deadline=None)
@given(st.lists(ordinary_text(12) | st.sampled_from([name for pair in ALIKE[:-1] for name in pair]), max_size=6))
def test_all_other_names_have_prompts_of_their_own(names):
    """Of names that are not reported no two have the same prompt."""
    reported = {name for name, _ in clip.same_tokens(names)}
    rest = [name for name in dict.fromkeys(names) if name not in reported]
    prompts = [f"a photo of a {name.replace('_', ' ')}." for name in rest]
    assert len({tuple(row.tolist()) for row in clip.tokenize(prompts, truncate=True)}) == len(rest)
