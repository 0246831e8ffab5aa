"""Outlines of simple shapes and of eight objects: lists of ``Part`` in the unit square.

Every object can be drawn in two ways, so that the images of Demo6 (solid) are not those of pre-training (icon).
"""

from collections.abc import Callable

import numpy as np

from datasets._render.canvas import BODY, DETAIL, HOLE, Part

Outline = list[Part]
Rng = np.random.Generator


def poly(*points: tuple[float, float], layer: str = BODY) -> Part:
    """A filled polygon."""
    return Part(np.array(points, float), layer)


def box(x0: float, y0: float, x1: float, y1: float, layer: str = BODY) -> Part:
    """A filled rectangle."""
    return poly((x0, y0), (x1, y0), (x1, y1), (x0, y1), layer=layer)


def oval(x: float, y: float, rx: float, ry: float, layer: str = BODY) -> Part:
    """A filled ellipse."""
    return Part(_arc(x, y, rx, ry, 0, 360), layer)


def line(points: np.ndarray | list[tuple[float, float]], width: float, layer: str = BODY) -> Part:
    """A line of some width through ``points``."""
    return Part(np.array(points, float), layer, width)


def _arc(x: float, y: float, rx: float, ry: float, start: float, stop: float) -> np.ndarray:
    angle = np.deg2rad(np.linspace(start, stop, 33))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def _star(spikes: int, inner: float) -> Outline:
    angle = np.arange(2 * spikes) * np.pi / spikes - np.pi / 2
    radius = np.where(np.arange(2 * spikes) % 2, inner, 1.0)
    return [Part(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1))]


def blob(rng: Rng, roughness: float = 0.2) -> Outline:
    """A round, irregular pebble."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    wave = sum(rng.normal(0, roughness / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4))
    radius = np.clip(0.85 + wave, 0.5, 1.1)
    return [Part(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1))]


SIMPLE: dict[str, Outline] = {
    "disc": [oval(0, 0, 0.9, 0.9)],
    "square": [box(-0.8, -0.8, 0.8, 0.8)],
    "triangle": [poly((0, -0.95), (0.95, 0.75), (-0.95, 0.75))],
    "diamond": [poly((0, -1), (0.75, 0), (0, 1), (-0.75, 0))],
    "star": _star(5, 0.45),
    "cross": [box(-0.3, -0.95, 0.3, 0.95), box(-0.95, -0.3, 0.95, 0.3)],
    "heart": [
        oval(-0.42, -0.3, 0.48, 0.48),
        oval(0.42, -0.3, 0.48, 0.48),
        poly((-0.86, -0.1), (0.86, -0.1), (0, 0.95)),
    ],
    "bar": [box(-1, -0.35, 1, 0.35)],
    "hoop": [oval(0, 0, 0.95, 0.95), oval(0, 0, 0.55, 0.55, HOLE)],
    "moon": [oval(0, 0, 0.95, 0.95), oval(0.45, -0.1, 0.75, 0.75, HOLE)],
    "hexagon": [Part(np.array([(np.cos(a), np.sin(a)) for a in np.arange(6) * np.pi / 3]))],
}


def _house(rng: Rng, solid: bool) -> Outline:
    if solid:
        wide, eaves = rng.uniform(0.6, 0.8), rng.uniform(-0.2, 0.05)
        roof = poly((-wide - 0.15, eaves), (0, -0.95), (wide + 0.15, eaves), layer=DETAIL)
        door = box(-0.15, 0.35, 0.2, 0.9, DETAIL)
        return [box(-wide, eaves, wide, 0.9), roof, door, box(-wide + 0.1, 0.15, -0.3, 0.45, DETAIL)]
    wide, top = rng.uniform(0.7, 0.95), rng.uniform(-0.35, -0.1)
    ridge = rng.uniform(0.0, 0.45)
    roof = poly((-wide, top), (-ridge, -0.85), (ridge, -0.85), (wide, top))
    windows = [box(x - 0.14, 0.0, x + 0.14, 0.3, HOLE) for x in (-0.42, 0.42)]
    return [
        box(-wide * 0.85, top, wide * 0.85, 0.8),
        roof,
        box(0.35, -1.0, 0.55, -0.5),
        *windows,
        box(-0.14, 0.3, 0.14, 0.8, HOLE),
    ]


def _tree(rng: Rng, solid: bool) -> Outline:
    trunk = box(-0.12, 0.2, 0.12, 0.98, DETAIL if solid else BODY)
    if solid:
        crown = [oval(x, y, r, r) for x, y, r in ((-0.38, -0.1, 0.42), (0.38, -0.1, 0.42), (0, -0.5, 0.48))]
        return [*crown, oval(0, -0.1, 0.45, 0.4), trunk]
    if rng.random() < 0.5:
        tiers = [(-1.0, -0.3, 0.45), (-0.6, 0.15, 0.6), (-0.2, 0.6, 0.75)]
        return [poly((0, top), (wide, foot), (-wide, foot)) for top, foot, wide in tiers] + [trunk]
    return [oval(0, -0.35, rng.uniform(0.5, 0.75), 0.62), trunk]


def _boat(rng: Rng, solid: bool) -> Outline:
    if solid:
        hull = poly((-0.95, 0.35), (0.95, 0.35), (0.6, 0.85), (-0.65, 0.85))
        mast = rng.uniform(-0.2, 0.1)
        sails = [
            poly((mast + 0.08, -0.9), (0.8, 0.2), (mast + 0.08, 0.2), layer=DETAIL),
            poly((mast - 0.08, -0.7), (mast - 0.08, 0.2), (-0.7, 0.2), layer=DETAIL),
        ]
        return [hull, line([(mast, -0.95), (mast, 0.4)], 0.09), *sails]
    hull = Part(np.concatenate([_arc(0, 0.25, 0.98, 0.6, 0, 180)]))
    if rng.random() < 0.5:
        return [hull, box(-0.45, -0.1, 0.5, 0.25), box(-0.1, -0.7, 0.2, -0.1)]
    return [hull, line([(0, -0.95), (0, 0.3)], 0.1), Part(_arc(0.0, -0.35, 0.65, 0.55, -90, 90))]


def _car(rng: Rng, solid: bool) -> Outline:
    if solid:
        nose = rng.uniform(0.85, 1.0)
        body = poly(
            (-0.95, 0.0),
            (-0.55, -0.08),
            (-0.3, -0.5),
            (0.35, -0.5),
            (0.6, -0.05),
            (nose, 0.05),
            (nose, 0.4),
            (-0.95, 0.4),
        )
        glass = poly((-0.38, -0.08), (-0.2, -0.4), (0.28, -0.4), (0.45, -0.08), layer=HOLE)
        return [body, glass, oval(-0.5, 0.42, 0.24, 0.24, DETAIL), oval(0.52, 0.42, 0.24, 0.24, DETAIL)]
    cabin = box(rng.uniform(-0.7, -0.4), -0.55, rng.uniform(0.3, 0.6), 0)
    wheels = [oval(x, 0.45, 0.28, 0.28) for x in (-0.52, 0.52)]
    hubs = [oval(x, 0.45, 0.1, 0.1, HOLE) for x in (-0.52, 0.52)]
    return [box(-0.98, -0.05, 0.98, 0.4), cabin, box(-0.3, -0.42, 0.2, -0.1, HOLE), *wheels, *hubs]


def _fish(rng: Rng, solid: bool) -> Outline:
    if solid:
        deep = rng.uniform(0.38, 0.55)
        tail = poly((0.45, 0), (0.98, -0.45), (0.85, 0), (0.98, 0.45))
        return [
            oval(-0.15, 0, 0.75, deep),
            tail,
            poly((-0.2, -deep + 0.1), (0.3, -deep - 0.25), (0.3, -deep + 0.15)),
            oval(-0.6, -0.1, 0.08, 0.08, DETAIL),
        ]
    x = np.linspace(-0.95, 0.55, 17)
    bulge = rng.uniform(0.4, 0.6) * np.sin((x + 0.95) / 1.5 * np.pi)
    body = Part(np.concatenate([np.stack([x, bulge], 1), np.stack([x[::-1], -bulge[::-1]], 1)]))
    return [body, poly((0.4, 0), (0.95, -0.5), (0.95, 0.5)), oval(-0.5, -0.08, 0.08, 0.08, HOLE)]


def _cup(rng: Rng, solid: bool) -> Outline:
    if solid:
        foot = rng.uniform(0.3, 0.45)
        body = poly((-0.65, -0.55), (0.5, -0.55), (foot, 0.75), (-foot - 0.15, 0.75))
        return [line(_arc(0.5, 0, 0.38, 0.36, -90, 90), 0.15), body, oval(-0.075, -0.55, 0.57, 0.14, DETAIL)]
    body = box(-0.6, -0.6, 0.4, 0.7)
    if rng.random() < 0.5:
        return [body, line([(0.35, -0.35), (0.85, -0.35), (0.85, 0.35), (0.35, 0.35)], 0.16)]
    bowl = Part(_arc(-0.1, -0.4, 0.65, 1.0, 0, 180))
    return [bowl, line(_arc(0.5, -0.1, 0.35, 0.3, -90, 90), 0.14), box(-0.75, 0.65, 0.55, 0.8)]


def _umbrella(rng: Rng, solid: bool) -> Outline:
    if solid:
        canopy = Part(_arc(0, 0, 0.95, 0.85, 180, 360))
        scallops = [oval(x, 0.02, 0.3, 0.16, HOLE) for x in (-0.63, 0, 0.63)]
        stick = [line([(0, -0.1), (0, 0.7)], 0.1), line(_arc(0.17, 0.7, 0.17, 0.2, 0, 180), 0.1)]
        return [canopy, *scallops, *stick, oval(0, -0.88, 0.07, 0.1)]
    peak, rim = rng.uniform(-0.95, -0.75), rng.uniform(-0.1, 0.1)
    canopy = poly((-0.95, rim), (-0.5, peak + 0.25), (0, peak), (0.5, peak + 0.25), (0.95, rim))
    return [canopy, line([(0, rim), (0, 0.95), (-0.25, 0.95), (-0.25, 0.75)], 0.11)]


def _key(rng: Rng, solid: bool) -> Outline:
    if solid:
        bow = [oval(-0.6, 0, 0.38, 0.38), oval(-0.6, 0, 0.2, 0.2, HOLE)]
        teeth = [box(x, 0, x + 0.13, rng.uniform(0.28, 0.42)) for x in (0.5, 0.78)]
        return [*bow, box(-0.3, -0.09, 0.95, 0.09), *teeth]
    bow = [box(-0.95, -0.35, -0.3, 0.35), box(-0.78, -0.15, -0.5, 0.15, HOLE)]
    return [*bow, box(-0.35, -0.11, 0.95, 0.11), *(box(x, 0, x + 0.12, 0.35) for x in (0.35, 0.58, 0.82))]


OBJECTS: dict[str, Callable[[Rng, bool], Outline]] = {
    "house": _house,
    "tree": _tree,
    "boat": _boat,
    "car": _car,
    "fish": _fish,
    "cup": _cup,
    "umbrella": _umbrella,
    "key": _key,
}
