"""Place names beside the points of a figure, so that they cover neither each other nor the points."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# All lengths are in points (1/72 inch).
_SIZE, _LETTER = 6.0, 0.64  # font size, and the width of a letter as a fraction of it
_MARKER, _AIR = 4.5, 0.8  # half of the side of a marker, and the margin around a name
_RINGS = (6.5, 13.0, 21.0, 31.0, 43.0, 57.0, 73.0, 90.0)
_ANGLES = tuple(angle for steep in (0, 15, 30, 45, 60, 75, 90) for angle in (steep, -steep, 180 - steep, steep - 180))


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    low: float
    right: float
    high: float

    def covers(self, other: "Box") -> bool:
        """Whether the two overlap."""
        across = self.left < other.right and other.left < self.right
        return across and self.low < other.high and other.low < self.high

    def holds(self, other: "Box") -> bool:
        """Whether the other lies inside."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.low <= other.low and other.high <= self.high


def name_box(point: tuple[float, float], offset: tuple[float, float], name: str) -> Box:
    """The box of a name whose nearer end, or middle, is ``offset`` away from its point."""
    x, y = point[0] + offset[0], point[1] + offset[1]
    width, height = len(name) * _SIZE * _LETTER, 1.2 * _SIZE
    left = x - {"left": 0.0, "right": width, "center": width / 2}[side(offset)]
    return Box(left - _AIR, y - height / 2 - _AIR, left + width + _AIR, y + height / 2 + _AIR)


def side(offset: tuple[float, float]) -> str:
    """Which part of a name is nearest to its point: left, right or center."""
    steep = abs(offset[0]) < 0.3 * math.hypot(*offset)
    return "center" if steep else "left" if offset[0] > 0 else "right"


def places(points: Sequence[tuple[float, float]], names: Sequence[str], area: Box) -> list[tuple[float, float] | None]:
    """The offset of each name from its point, to the nearest free place inside ``area``; None if there is none.

    Names cover no point and no other name, and no line from a name to its point crosses another name.
    """
    taken = [Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for x, y in points]
    written: list[Box] = []
    found: list[tuple[float, float] | None] = [None] * len(points)
    for number in sorted(range(len(points)), key=lambda n: (-points[n][1], points[n][0])):
        for offset in _offsets():
            box, line = name_box(points[number], offset, names[number]), line_boxes(points[number], offset)
            free = area.holds(box) and not any(map(box.covers, taken))
            if free and not any(each.covers(other) for each in line for other in written):
                found[number] = offset
                written.append(box)
                taken += [box, *line]
                break
    return found


def line_boxes(point: tuple[float, float], offset: tuple[float, float]) -> list[Box]:
    """The boxes of the line between a name and its point; none if they are near."""
    if math.hypot(*offset) <= _RINGS[0]:
        return []
    steps = int(math.hypot(*offset))
    ways = [(point[0] + offset[0] * n / steps, point[1] + offset[1] * n / steps) for n in range(steps)]
    return [Box(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in ways]


def _offsets() -> Iterator[tuple[float, float]]:
    for radius in _RINGS:
        for angle in _ANGLES:
            yield radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))


def draw_labels(axes: "Axes", points: Mapping[str, tuple[float, float]], colours: Mapping[str, str]) -> None:
    """Write the name of each point beside it, and draw a line between them if they are not near.

    The axes must have their final position and limits.
    """
    scale = 72 / axes.figure.dpi
    names, window = list(points), axes.get_window_extent()
    shown = [tuple(scale * each for each in axes.transData.transform(points[name])) for name in names]
    area = Box(*(scale * each for each in (window.x0, window.y0, window.x1, window.y1)))
    for name, offset in zip(names, places(shown, names, area), strict=True):
        if offset is None:
            continue
        line = {"arrowstyle": "-", "linewidth": 0.4, "color": colours[name], "shrinkA": 0, "shrinkB": 2}
        note = axes.annotate(
            name, points[name], offset, textcoords="offset points", ha=side(offset), va="center",
            size=_SIZE, color=colours[name], arrowprops=line if line_boxes((0, 0), offset) else None,
        )  # fmt: skip
        note.set_parse_math(False)
        note.set_in_layout(False)
