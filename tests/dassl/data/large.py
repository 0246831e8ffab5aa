"""Large pictures with detail, edges and noise, in the modes that files have."""

from pathlib import Path

import numpy as np
from PIL import Image

MODES = {
    "RGB": "png",
    "L": "png",
    "1": "png",
    "LA": "png",
    "RGBA": "png",
    "P": "png",
    "I;16": "png",
    "JPEG": "jpg",
    "grey JPEG": "jpg",
    "CMYK JPEG": "jpg",
    "CMYK": "tif",
}


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture with detail of every size, like a photograph, hard edges and a little noise."""
    rng, total = np.random.default_rng(seed), np.zeros((height, width, 3))
    cells, weight = 2, 110.0
    while cells < max(width, height):
        coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        total += weight * (
            np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) / 127.5 - 1
        )
        cells, weight = cells * 2, weight / 2
    for _ in range(12):
        (x, y), colour = rng.integers(0, (width, height)), rng.integers(-128, 128, 3)
        total[y : y + height // 4, x : x + width // 5] = colour
    return Image.fromarray((total + 128 + rng.normal(0, 3, total.shape)).clip(0, 255).astype(np.uint8))


def write_scene(folder: Path, mode: str, size: tuple[int, int], *, seed: int = 0, orientation: int = 1) -> Path:
    """A scene in a file of some mode of ``MODES``; half of a transparent picture is clear."""
    path, picture, options = folder / f"scene.{MODES[mode]}", scene(*size, seed), {}
    kind = mode.replace(" JPEG", "").replace("JPEG", "RGB").replace("grey", "L")
    if kind in ("LA", "RGBA"):
        ramp = np.linspace(0, 255, size[0]).astype(np.uint8)[None].repeat(size[1], 0)
        picture.putalpha(Image.fromarray(ramp))
    if kind == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    else:
        picture = picture.convert(kind)
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    if path.suffix == ".jpg":
        options["quality"] = 92
    picture.save(path, **options)
    return path
