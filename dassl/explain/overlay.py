"""A heat map of an image's places, drawn over the picture that they were computed from.

The model sees a picture after a resize and a centre crop. The map is drawn on the picture itself, so both are undone:
cell (0, 0) lies in the upper left corner of what the crop kept, not of the picture.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

LONGEST_SIDE = 768  # pixels of an overlay; larger pictures are made smaller
_FLAT = 1e-6  # cosines that differ less are drawn as equal
_STRENGTH = 0.5  # of the colours over the picture
_VEIL = 0.7  # of the white over what the model did not see
# From cold to hot; a print in grey has the same order.
_COLOURS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float64)

Box = tuple[float, float, float, float]


def heat_over(cells: np.ndarray, size: Sequence[int], box: Box) -> np.ndarray:
    """Interpolate a grid of places over a picture.

    Args:
        cells: (h, w) values.
        size: width and height of the picture.
        box: left, top, right and bottom of the part that the grid covers, in pixels of the picture.

    Returns:
        (height, width) float64: bilinear between the centres of the cells, NaN outside of the box.
    """
    rows = _weights(size[1], box[1], box[3], cells.shape[0])
    columns = _weights(size[0], box[0], box[2], cells.shape[1])
    return rows @ cells @ columns.T


def _weights(pixels: int, start: float, end: float, cells: int) -> np.ndarray:
    """(pixels, cells) shares of the cells in each pixel of one axis; NaN outside of start to end."""
    centre = np.arange(pixels) + 0.5
    place = ((centre - start) / (end - start) * cells - 0.5).clip(0, cells - 1)
    shares = (1 - np.abs(place[:, None] - np.arange(cells))).clip(min=0)
    shares[(centre < start) | (centre > end)] = np.nan
    return shares


def overlay(picture: Image.Image, cells: np.ndarray, box: Box) -> Image.Image:
    """The picture under a heat map of its places; what the model did not see lies under a white veil.

    Args:
        picture: RGB.
        cells: (h, w) values; the colours reach from the least to the largest of them.
        box: part of ``picture`` that the cells cover, in its pixels.
    """
    scale = min(1.0, LONGEST_SIDE / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    ratios = (size[0] / picture.width, size[1] / picture.height)
    heat = heat_over(
        _stretched(cells), size, (box[0] * ratios[0], box[1] * ratios[1], box[2] * ratios[0], box[3] * ratios[1])
    )
    small = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(small, np.float64)
    seen = ~np.isnan(heat)[..., None]
    colours = _coloured(np.nan_to_num(heat))
    covered = np.where(seen, (1 - _STRENGTH) * pixels + _STRENGTH * colours, (1 - _VEIL) * pixels + _VEIL * 255)
    return Image.fromarray(covered.round().astype(np.uint8))


def _stretched(cells: np.ndarray) -> np.ndarray:
    """Values from 0 to 1; all 0 where there is no difference to show."""
    least, largest = float(cells.min()), float(cells.max())
    return (cells - least) / (largest - least) if largest - least > _FLAT else np.zeros_like(cells)


def _coloured(heat: np.ndarray) -> np.ndarray:
    """(..., 3) colours of values from 0 to 1."""
    anchors = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(heat, anchors, channel) for channel in _COLOURS.T], axis=-1)
