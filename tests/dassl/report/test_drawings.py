import json
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.report.drawings import COUNTED, LABELLED, legend, matrix, reliability, shorten, strength
from dassl.report.mistakes import BINS, Bin, Confusion
from tests.dassl.report.test_page import Reader


def square(size, *, names=None):
    cells = Counter({(n, n): 3 for n in range(size)}) + Counter({(n, (n + 1) % size): 1 for n in range(size)})
    return Confusion(names or [f"class {n}" for n in range(size)], cells, [4] * size, [3] * size)


def grid_of(drawing):
    return json.loads(dict(Reader(drawing).attributes)["data-grid"])


def drawn_cells(drawing):
    """The cells that the paths draw, as (row, column)."""
    moves = re.findall(r"M(\d+) (\d+)h1v1h-1z", drawing)
    assert len(moves) == len(set(moves))
    return {(int(y), int(x)) for x, y in moves}


@pytest.mark.parametrize("size", [1, 2, 10, LABELLED, LABELLED + 1, 100, 128])
def test_every_filled_cell_is_drawn_and_told(size):
    confusion = square(size)
    drawing = matrix(confusion, "a label")
    grid = grid_of(drawing)
    counts = dict(zip(grid["counts"][::2], grid["counts"][1::2], strict=True))
    assert drawn_cells(drawing) == set(confusion.cells)
    assert counts == {true * size + predicted: n for (true, predicted), n in confusion.cells.items()}
    shown = re.findall(r'<text class="middle" x="[^"]*" y="[^"]*">(\d+)</text>', drawing)
    names = [text for text in Reader(drawing).texts if text.startswith("class ")]
    assert len(names) == (2 * size if size <= LABELLED else 0)
    assert (len(shown) == len(confusion.cells)) == (size <= COUNTED)


def test_a_row_is_shaded_by_its_shares():
    drawing = matrix(square(4), "a label")
    fills = dict(re.findall(r'<path class="(hit|miss)" fill-opacity="([\d.]+)"', drawing))
    assert fills == {"hit": f"{strength(0.75):g}", "miss": f"{strength(0.25):g}"}


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_is_never_drawn_weaker(one, other):
    assert (strength(one) <= strength(other)) or one > other
    assert 0.1 < strength(one) <= 0.8


@given(st.lists(st.text(min_size=1, max_size=40), min_size=2, max_size=30))
def test_names_are_text(names):
    names = [name.replace("\r", " ") for name in names]
    drawing = matrix(square(len(names), names=names), names[0])
    assert grid_of(drawing)["names"] == [shorten(name, 60) for name in names]
    assert len(re.findall("<svg", drawing)) == 1 and "<script" not in drawing


def test_numbers_of_many_classes_do_not_crowd():
    for size in (26, 100, 128):
        whole = Confusion([f"c{n}" for n in range(size)], Counter({(0, 0): 1}), [1] * size, [0] * size, 10)
        texts = re.findall(r'<text class="end" x="[^"]*" y="[^"]*">(\d+)</text>', matrix(whole, "x"))
        assert 3 <= len(texts) <= 9 and texts[0] == "1"


def test_bins_are_told_and_empty_ones_are_not_drawn():
    bins = [Bin() for _ in range(BINS)]
    bins[9] = Bin(4, 1, 2.6)
    bins[14] = Bin(1200, 1200, 1180.0)
    drawing = reliability(bins, "a label")
    texts = grid_of(drawing)["texts"]
    assert len(texts) == BINS and texts[0] == "0.000 to 0.067: no image"
    assert texts[9] == "0.600 to 0.667: 4 images, 25.0 % right, mean probability 65.0 %"
    assert texts[14] == "0.933 to 1.000: 1,200 images, 100.0 % right, mean probability 98.3 %"
    assert len(re.findall('class="soft"', drawing)) == 2 and ">1.2k<" in drawing
    assert len(re.findall('class="miss"', drawing)) == 1  # less accurate than sure


def test_an_empty_diagram_and_the_legend_are_drawn():
    assert "no image" in reliability([Bin() for _ in range(BINS)], "x")
    assert legend().count("<rect") == 10


@pytest.mark.parametrize(("text", "most", "shown"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("学学学", 4, "学…")])
def test_shorten(text, most, shown):
    assert shorten(text, most) == shown
