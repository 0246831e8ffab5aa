"""Drawing on a small square canvas: keyed randomness, masks of outlines, painting, camera effects.

An image under construction is a float32 array (64, 64, 3) with values in 0..1. Outlines live in a unit square,
x to the right and y down, about -1..1; ``Placement`` says where they go on the canvas, in pixels.
"""

import colorsys
import hashlib
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_Item = TypeVar("_Item")

SIZE = 64
_OVERSAMPLING = 3  # masks are drawn three times as large and averaged: smooth edges at a low price

BODY, HOLE, DETAIL = "body", "hole", "detail"


class Part(NamedTuple):
    """One piece of an outline: a filled polygon, or a line if ``width`` (in outline units) is positive."""

    points: np.ndarray  # (P, 2)
    layer: str = BODY
    width: float = 0.0


class Placement(NamedTuple):
    """Centre (x, y) and radius in pixels, rotation in degrees, mirrored left to right or not."""

    centre: tuple[float, float]
    radius: float
    angle: float = 0.0
    flip: bool = False


def keyed_rng(*key: object) -> np.random.Generator:
    """A generator that depends on ``key`` alone, the same on every machine and in every process."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def pick(rng: np.random.Generator, choices: Iterable[_Item]) -> _Item:
    """One of ``choices``, all equally likely."""
    found = list(choices)
    return found[int(rng.integers(len(found)))]


def draw(parts: Iterable[Part], placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Masks (64, 64) in 0..1 of an outline's body (without its holes) and of its details."""
    side = SIZE * _OVERSAMPLING
    images = {BODY: Image.new("L", (side, side)), DETAIL: Image.new("L", (side, side))}
    pens = {layer: ImageDraw.Draw(image) for layer, image in images.items()}
    turn, scale = rotation(placement.angle), placement.radius * _OVERSAMPLING
    if placement.flip:
        turn = np.diag([-1.0, 1.0]) @ turn
    shift = np.multiply(placement.centre, _OVERSAMPLING)
    for part in parts:
        points = [tuple(point) for point in (part.points @ turn * scale + shift).tolist()]
        pen, ink = pens[BODY if part.layer == HOLE else part.layer], 0 if part.layer == HOLE else 255
        if part.width:
            pen.line(points, fill=ink, width=max(1, round(part.width * scale)), joint="curve")
        else:
            pen.polygon(points, fill=ink)
    body, detail = (np.asarray(images[layer].reduce(_OVERSAMPLING), np.float32) / 255 for layer in (BODY, DETAIL))
    return body, detail


def rotation(angle: float) -> np.ndarray:
    """Matrix (2, 2) that turns points (P, 2) by ``points @ matrix``; ``angle`` in degrees."""
    turn = np.deg2rad(angle)
    return np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def paint(image: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """Lay ``colour``, (3,) or (64, 64, 3), over ``image`` where ``mask`` says so. Changes ``image``."""
    image += mask[..., None] * (colour - image)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """A colour (3,) from hue in degrees, saturation and value in 0..1."""
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value), np.float32)


def blurred(mask: np.ndarray, radius: float) -> np.ndarray:
    """Gaussian blur of a mask or an image in 0..1; the result has 8-bit steps."""
    image = Image.fromarray((np.clip(mask, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def clouds(rng: np.random.Generator, cells: int, channels: int = 1) -> np.ndarray:
    """Smooth noise (64, 64, channels) in 0..1 with about ``cells`` bumps along a side."""
    coarse = rng.integers(0, 256, (cells, cells, channels), np.uint8)
    planes = [Image.fromarray(coarse[..., c]).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(plane, np.float32) for plane in planes], -1) / 255


def ramp(angle: float) -> np.ndarray:
    """A linear slope (64, 64) from -1 to 1 across the canvas in the direction ``angle`` (degrees)."""
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    x, y = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.float32(x / (abs(x) + abs(y))) * axis[None, :] + np.float32(y / (abs(x) + abs(y))) * axis[:, None]


def to_bytes(image: np.ndarray, rng: np.random.Generator, noise: float, blur: float = 0.0) -> np.ndarray:
    """What the sensor records: (64, 64, 3) uint8 after blur (pixels) and Gaussian noise (in 0..1)."""
    if blur > 0:
        image = blurred(image, blur)
    if noise > 0:
        image = image + np.float32(noise) * rng.standard_normal(image.shape, np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
