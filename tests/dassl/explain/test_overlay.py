"""Heat maps lie on the right pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dassl.explain.overlay import LONGEST_SIDE, heat_over, overlay


@given(
    cells=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    hot=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    size=st.tuples(st.integers(30, 200), st.integers(30, 200)),
    corner=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    share=st.floats(0.5, 1),
)
def test_a_hot_cell_is_hot_where_it_lies_in_the_picture(cells, hot, size, corner, share):
    (height, width), (rows, columns) = size, cells
    left, top = corner[0] * width * (1 - share), corner[1] * height * (1 - share)
    box = (left, top, left + share * width, top + share * height)
    row, column = int(hot[0] * rows), int(hot[1] * columns)
    grid = np.zeros(cells)
    grid[row, column] = 1
    heat = heat_over(grid, (width, height), box)
    assert heat.shape == (height, width)
    y, x = np.mgrid[:height, :width] + 0.5
    inside = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
    assert np.array_equal(np.isnan(heat), ~inside)
    known = heat[inside]
    assert known.min() >= 0
    assert known.max() <= 1
    place_y, place_x = np.unravel_index(np.nanargmax(heat), heat.shape)
    cell = (share * width / columns, share * height / rows)
    assert box[0] + column * cell[0] - 1 <= place_x + 0.5 <= box[0] + (column + 1) * cell[0] + 1
    assert box[1] + row * cell[1] - 1 <= place_y + 0.5 <= box[1] + (row + 1) * cell[1] + 1


def test_between_two_cells_the_heat_is_between_theirs():
    heat = heat_over(np.array([[0.0, 1.0]]), (8, 1), (0, 0, 8, 1))
    assert heat[0].tolist() == pytest.approx([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])


def test_what_was_not_seen_lies_under_a_veil_and_the_rest_keeps_the_picture():
    picture = Image.effect_noise((90, 60), 80).convert("RGB")
    drawn = np.asarray(overlay(picture, np.array([[0.2, 0.2], [0.2, 0.9]]), (15, 0, 75, 60)), float)
    pixels = np.asarray(picture, float)
    outside = np.concatenate([drawn[:, :15], drawn[:, 75:]], axis=1)
    assert outside == pytest.approx(0.3 * np.concatenate([pixels[:, :15], pixels[:, 75:]], axis=1) + 0.7 * 255, abs=1)
    brightness = (drawn - 0.5 * pixels).mean(axis=2)[:, 15:75]
    assert np.unravel_index(brightness.argmax(), brightness.shape) >= (40, 0)
    assert brightness[45:, 45:].mean() > 3 * brightness[:30, :30].mean()


def test_equal_cells_make_no_hot_place():
    drawn = np.asarray(overlay(Image.new("RGB", (40, 40), "grey"), np.full((3, 3), 0.7), (0, 0, 40, 40)))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("size", [(3000, 40), (40, 3000), (1537, 1024), (1, 5000)])
def test_an_overlay_is_never_large_and_keeps_the_geometry(size):
    grid = np.zeros((2, 2))
    grid[1, 1] = 1
    drawn = overlay(Image.new("RGB", size, "black"), grid, (0, 0, *size))
    assert max(drawn.size) <= LONGEST_SIDE
    assert drawn.width / drawn.height == pytest.approx(size[0] / size[1], rel=0.1) or min(drawn.size) == 1
    brightness = np.asarray(drawn, float).sum(axis=2)
    y, x = np.unravel_index(brightness.argmax(), brightness.shape)
    assert x + 0.5 >= drawn.width / 2
    assert y + 0.5 >= drawn.height / 2
