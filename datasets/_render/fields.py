"""Arrangements of several things, and surface patterns."""

from collections.abc import Callable

import numpy as np

from datasets._render.canvas import SIZE, clouds

Rng = np.random.Generator


def arrangement(kind: str, count: int, rng: Rng, jitter: float) -> np.ndarray:
    """Positions (count, 2) in the unit square of things arranged as ``kind``, each off by about ``jitter``."""
    points = _ARRANGEMENTS[kind](count, rng)
    return points + rng.normal(0, jitter, points.shape)


def _on_line(direction: tuple[float, float], count: int, rng: Rng) -> np.ndarray:
    reach = rng.uniform(0.6, 0.8)
    return np.linspace(-reach, reach, count)[:, None] * np.array(direction) + _offset(direction, rng)


def _offset(direction: tuple[float, float], rng: Rng) -> np.ndarray:
    return rng.uniform(-0.4, 0.4) * np.array([direction[1], -direction[0]]) * (0.3 if all(direction) else 1)


def _ring(count: int, rng: Rng) -> np.ndarray:
    angle = np.arange(count) * 2 * np.pi / count + rng.uniform(0, 6.3)
    return rng.uniform(0.55, 0.75) * np.stack([np.cos(angle), np.sin(angle)], 1)


def _cluster(count: int, rng: Rng) -> np.ndarray:
    centre = rng.uniform(-0.45, 0.45, 2)
    angle = np.arange(count) * 2.4 + rng.uniform(0, 6.3)
    return centre + 0.17 * np.sqrt(np.arange(count) + 0.3)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def _grid(count: int, rng: Rng) -> np.ndarray:
    side = int(np.ceil(np.sqrt(count)))
    reach = rng.uniform(0.5, 0.75)
    axis = np.linspace(-reach, reach, side)
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)[:count]


def _triangle(count: int, rng: Rng) -> np.ndarray:
    rows = int(np.ceil((np.sqrt(8 * count + 1) - 1) / 2))
    step = rng.uniform(1.1, 1.4) / max(rows - 1, 1)
    places = [((i - row / 2) * step, (row - (rows - 1) / 2) * step) for row in range(rows) for i in range(row + 1)]
    return np.array(places)[:count]


def scatter(count: int, rng: Rng, apart: float = 0.5, reach: float = 0.75) -> np.ndarray:
    """Positions (count, 2) anywhere within ``reach``, ``apart`` from each other while there is room."""
    points: list[np.ndarray] = []
    while len(points) < count:
        candidate = rng.uniform(-reach, reach, 2)
        if all(np.hypot(*(candidate - other)) > apart for other in points):
            points.append(candidate)
        apart *= 0.98
    return np.array(points)


_ARRANGEMENTS: dict[str, Callable[[int, Rng], np.ndarray]] = {
    "row": lambda count, rng: _on_line((1, 0), count, rng),
    "column": lambda count, rng: _on_line((0, 1), count, rng),
    "diagonal": lambda count, rng: _on_line((1, 1 if rng.random() < 0.5 else -1), count, rng),
    "ring": _ring,
    "cluster": _cluster,
    "grid": _grid,
    "triangle": _triangle,
    "scatter": lambda count, rng: scatter(count, rng),
}
ARRANGEMENTS = tuple(_ARRANGEMENTS)
# How many things each arrangement is made of, so that it can be told from the others.
ARRANGEMENT_COUNTS = {"grid": (4, 9), "triangle": (3, 6), "ring": (6, 7, 8), "cluster": (5, 6, 7), "scatter": (5, 6, 7)}


def pattern(kind: str, rng: Rng, period: float, angle: float) -> np.ndarray:
    """A surface pattern (64, 64) in 0..1: ``period`` in pixels, ``angle`` in degrees, position drawn from ``rng``."""
    turn = np.deg2rad(angle)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) - SIZE / 2
    u = (x * np.cos(turn) + y * np.sin(turn)) / period + rng.uniform()
    v = (y * np.cos(turn) - x * np.sin(turn)) / period + rng.uniform()
    return _PATTERNS[kind](u, v, rng).astype(np.float32)


def _edge(field: np.ndarray, sharpness: float = 5.0) -> np.ndarray:
    return np.clip(0.5 + sharpness * field, 0, 1)


def _triangle_wave(phase: np.ndarray) -> np.ndarray:
    return 4 * np.abs(phase - np.floor(phase + 0.5)) - 1


def _speckle(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return _edge(clouds(rng, int(rng.integers(14, 26)))[..., 0] - 0.62)


_PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, Rng], np.ndarray]] = {
    "plain": lambda u, v, rng: np.zeros_like(u),
    "striped": lambda u, v, rng: _edge(_triangle_wave(u)),
    "dotted": lambda u, v, rng: _edge(0.3 - np.hypot(u - np.round(u), v - np.round(v)), 9),
    "checked": lambda u, v, rng: _edge(_triangle_wave(u / 1.5) * _triangle_wave(v / 1.5), 8),
    "zigzag": lambda u, v, rng: _edge(_triangle_wave(u + 0.4 * _triangle_wave(v * 0.6))),
    "wavy": lambda u, v, rng: _edge(np.sin(2 * np.pi * (u + 0.3 * np.sin(2 * np.pi * v * 0.45))), 2),
    "gridded": lambda u, v, rng: _edge(0.14 - np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v))), 9),
    "speckled": _speckle,
}
PATTERNS = tuple(_PATTERNS)
