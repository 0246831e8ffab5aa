import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.report.labels import Box, line_boxes, name_box, places, side

AREA = Box(0, 0, 240, 160)
points = st.tuples(st.floats(0, 240), st.floats(0, 160))
labelled = st.lists(st.tuples(points, st.text("abc", min_size=1, max_size=14)), max_size=12)


@given(labelled)
def test_names_cover_neither_each_other_nor_points(entries):
    where, names = [point for point, _ in entries], [name for _, name in entries]
    found = places(where, names, AREA)
    placed = [(*each, offset) for *each, offset in zip(where, names, found, strict=True) if offset is not None]
    boxes = [name_box(point, offset, name) for point, name, offset in placed]
    assert all(AREA.holds(box) for box in boxes)
    assert not any(one.covers(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert not any(box.covers(Box(x, y, x, y)) for box in boxes for x, y in where)
    lines = [line_boxes(point, offset) for point, _, offset in placed]
    assert not any(piece.covers(box) for n, line in enumerate(lines) for piece in line for box in boxes[:n])


def test_a_lonely_point_has_its_name_at_its_right_and_one_at_the_edge_at_its_left():
    assert [side(offset) for offset in places([(20, 80), (235, 80)], ["CoOp", "PLOT"], AREA)] == ["left", "right"]


def test_points_on_one_another_all_have_names():
    found = places([(120, 80)] * 8, [f"method {number}" for number in range(8)], AREA)
    assert None not in found and len(set(found)) == 8


@pytest.mark.parametrize("name", ["x" * 200])
def test_a_name_without_room_is_left_out(name):
    assert places([(120, 80)], [name], AREA) == [None]
