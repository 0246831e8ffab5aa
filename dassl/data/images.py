"""Read image files as a person sees them, or as the released code does."""

import math
import os
import re
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageColor
from yacs.config import CfgNode

from dassl.data.filekinds import kind_of_file
from dassl.utils.errors import UserError

# Formats that Pillow reads with a plugin.
with suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()
with suppress(ImportError):
    import pillow_jxl  # noqa: F401

AS_RELEASED = "original"
REDUCED = "reduced"
MAX_PIXELS = 500_000_000  # 2 GB while it is decoded
# Above this size Pillow suspects an attack. Smaller pictures are decoded whole, as always.
_LARGE = 2 * 89_478_485
_HEAVY = 50_000_000  # pixels, 200 MB
_SHORTEST_SIDE = 1024  # of a large picture after reduction
_STRIP = 64  # rows
# With INPUT.RESOLUTION reduced. docs/data.md has the figures behind these numbers.
_NARROW = 3 / 4  # the narrowest random crop, width to height; torchvision's default
_LEAST_MULTIPLE = 3  # of the input size
_MUCH_LARGER = 2  # times the shorter side of a reduced picture
_DRAFT_SPARE = 1.5  # the same for what a JPEG decoder reduces, which it does less well
_FULL_SIZE = "size before reduction"
_DEEP_WHITE = {"F": 1.0}  # and 65,535 for whole numbers
_MUCH = 0.25  # share of the pixels
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90)
_one_heavy = Lock()
# Larger pictures are refused by our own limit, and a damaged EXIF entry does not affect the pixels.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", "Corrupt EXIF data", module="PIL")


@dataclass(frozen=True)
class Reading:
    """How pictures are read.

    Attributes:
        background: colour behind transparent pictures; "original": transparency is dropped, which shows the colour
            that the file stores there, usually black.
        orientation: "upright": turned as the camera's EXIF entry says; "original": as stored.
        max_pixels: larger pictures are refused.
        shortest: pixels to which the shorter side of much larger pictures is reduced; 0: every pixel is kept.
    """

    background: str = "white"
    orientation: str = "upright"
    max_pixels: int = MAX_PIXELS
    shortest: int = 0

    @property
    def ground(self) -> tuple[int, ...] | None:
        """Red, green and blue of the background; None: transparency is dropped."""
        return None if self.background == AS_RELEASED else ImageColor.getrgb(self.background)[:3]

    @property
    def name(self) -> str:
        """A key of everything that the pixels depend on, independent of how the colour is written."""
        reduced = f" {REDUCED} {self.shortest}" if self.shortest else ""
        return f"{self.ground or AS_RELEASED} {self.orientation}{reduced}"


AS_SEEN = Reading()
ORIGINAL = Reading(AS_RELEASED, AS_RELEASED)


class Decoded(NamedTuple):
    """A picture, its mode in Pillow, and whether much of it was outside the range from black to white."""

    image: Image.Image
    mode: str
    clipped: bool


def reading_of(cfg: CfgNode, *, as_seen: bool) -> Reading:
    """How a run reads its pictures.

    INPUT must be settled (``transforms.settle_input``): without a size no picture is reduced.

    Args:
        as_seen: whether INPUT.BACKGROUND, INPUT.ORIENTATION and INPUT.RESOLUTION, where they are empty, are those of
            your own tasks.

    Raises:
        UserError: INPUT.RESOLUTION reduced with an interpolation that selects single pixels.
    """
    usual, options = AS_SEEN if as_seen else ORIGINAL, cfg.INPUT
    return Reading(
        options.BACKGROUND or usual.background,
        options.ORIENTATION or usual.orientation,
        options.MAX_PIXELS,
        _shortest(options, as_seen=as_seen),
    )


def _shortest(options: CfgNode, *, as_seen: bool) -> int:
    """``Reading.shortest``: the smallest random crop of a reduced picture has at least the pixels of the input.

    It does not depend on the transforms that a method chooses, so that all methods see the same pixels.
    """
    if not options.SIZE or options.RESOLUTION == AS_RELEASED or not (as_seen or options.RESOLUTION):
        return 0
    if options.INTERPOLATION == "nearest":
        if options.RESOLUTION:
            raise UserError(
                "INPUT.RESOLUTION reduced blends pixels, INPUT.INTERPOLATION nearest selects single ones; change one"
            )
        return 0
    smallest = 1 / math.sqrt(options.RRCROP_SCALE[0] * _NARROW)
    return math.ceil(max(options.SIZE) * max(smallest, _LEAST_MULTIPLE))


def read_image(path: str | Path, reading: Reading = AS_SEEN) -> Image.Image:
    """Decode an image file to RGB, 8 bits a channel; the first frame of an animation.

    Deep greys of a mode share one scale: 0 to 65,535 (16 and 32 bits) or 0 to 1 (floating point) become 0 to 255. A
    picture with more pixels than Pillow accepts is reduced while it is decoded. A picture whose shorter side is at
    least twice ``reading.shortest`` is reduced to that; :func:`full_size` still tells its size.

    Raises:
        UserError: the file is missing, truncated, larger than ``reading.max_pixels`` or no image; the message names
            its kind and the remedy.
    """
    return decode(path, reading).image


def decode(path: str | Path, reading: Reading) -> Decoded:
    """As :func:`read_image`, with facts about the file."""
    # Pillow's own limit is global; a run has a single limit, so all threads write the same number.
    Image.MAX_IMAGE_PIXELS = reading.max_pixels
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):  # noqa: PTH110, PTH112, PTH113
            raise ValueError("a pipe or a device, which may never end")
        with Image.open(path) as image:
            if image.format == "EPS":  # Pillow would start an interpreter
                raise ValueError("a PostScript file; save it as PNG")
            pixels = image.width * image.height
            if pixels > reading.max_pixels:
                raise UserError(_too_large(path, pixels, reading))
            # One at a time, or every thread would need this much memory.
            with _one_heavy if pixels > _HEAVY else nullcontext():
                return _decoded(image, reading, _factor(image) if pixels > _LARGE else 1)
    except (MemoryError, UserError):
        raise
    except Image.DecompressionBombError as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise UserError(_too_large(path, pixels, reading)) from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise UserError(f"cannot read image {path}: {_reason(path, error)}") from error


def as_read(image: Image.Image, reading: Reading) -> Image.Image:
    """An open picture, converted as by :func:`read_image`."""
    image.load()  # or a JPEG file that the caller opened would be reduced itself
    return _decoded(image, reading).image


def full_size(image: Image.Image) -> tuple[int, int]:
    """Width and height that a picture has without ``Reading.shortest``; its own if it was not reduced by it."""
    size, full = image.info.get(_FULL_SIZE, (None, None))
    return full if size == image.size else image.size


def reduced_image(image: Image.Image, full: tuple[int, int]) -> Image.Image:
    """The same picture, marked as reduced from ``full`` (width, height)."""
    image.info[_FULL_SIZE] = (image.size, full)
    return image


def small_size(full: tuple[int, int], shortest: int) -> tuple[int, int]:
    """The size to which a picture of ``full`` is reduced; ``full`` unless it is much larger."""
    short = min(full)
    if not shortest or short < _MUCH_LARGER * shortest:
        return full
    width, height = (max(shortest, round(side * shortest / short)) for side in full)
    return width, height


def identity(path: str, root: Path | str) -> str:
    """The identity of an image, independent of the data folder: its path relative to ``root`` if it is below it."""
    return path.removeprefix(os.path.join(root, "")).replace(os.sep, "/")  # noqa: PTH118


def _decoded(image: Image.Image, reading: Reading, factor: int = 1) -> Decoded:
    spare = factor * _draft_factor([side // factor for side in image.size], reading.shortest)
    stored = image.size
    drafted = _drafted(image, spare)  # a JPEG file is reduced while it is decoded
    image.load()
    width, height = stored if drafted else image.size  # loading may turn a TIFF file, which changes its size
    full = (-(-width // factor), -(-height // factor))
    rgb, clipped = _shrunk(image, reading, factor) if factor > 1 and not drafted else _to_rgb(image, reading)
    small = small_size(full, reading.shortest)
    if small != full:
        rgb = reduced_image(rgb.resize(small, Image.Resampling.LANCZOS), full)
    turn = _TURNS.get(_orientation(image)) if reading.orientation != AS_RELEASED else None
    return Decoded(rgb if turn is None else _turned(rgb, turn), image.mode, clipped)


def _turned(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    turned, full = image.transpose(turn), full_size(image)
    return turned if full == image.size else reduced_image(turned, full[::-1] if turn in _LYING else full)


def _drafted(image: Image.Image, factor: int) -> bool:
    """Whether the decoder itself reduces the picture by ``factor``, as that of JPEG can by 2, 4 and 8."""
    return factor > 1 and image.draft(None, (image.width // factor, image.height // factor)) is not None


def _draft_factor(full: Sequence[int], shortest: int) -> int:
    """The factor by which a decoder may reduce a picture of this size for ``Reading.shortest``."""
    return next((factor for factor in (8, 4, 2) if min(full) >= factor * _DRAFT_SPARE * shortest > 0), 1)


def _factor(image: Image.Image) -> int:
    """Reduction factor of a large picture; 1 if its shorter side would become too small."""
    return next((factor for factor in (8, 4, 2) if min(image.size) >= factor * _SHORTEST_SIDE), 1)


def _shrunk(image: Image.Image, reading: Reading, factor: int) -> tuple[Image.Image, bool]:
    """A loaded picture reduced to RGB, strip by strip, because RGB may need four times the memory."""
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    clipped = False
    for top in range(0, small.height, _STRIP):
        rows = (top * factor, min((top + _STRIP) * factor, image.height))
        strip, outside = _to_rgb(image.crop((0, rows[0], image.width, rows[1])), reading)
        small.paste(strip.reduce(factor), (0, top))
        clipped |= outside
    return small, clipped


def _to_rgb(image: Image.Image, reading: Reading) -> tuple[Image.Image, bool]:
    """A loaded picture as RGB, and whether much of it was outside the range from black to white."""
    ground, clipped = reading.ground, False
    if image.mode.startswith("I") or image.mode == "F":
        image, clipped = _from_deep(image, transparent=ground is not None)
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # otherwise Pillow warns about each such image
    if ground is None or not image.has_transparency_data:
        return image.convert("RGB"), clipped
    seen = image.convert("RGBA")
    laid = Image.new("RGB", image.size, ground)
    laid.paste(seen, mask=seen.getchannel("A"))
    return laid, clipped


def _from_deep(image: Image.Image, *, transparent: bool) -> tuple[Image.Image, bool]:
    """A grey picture with more than 8 bits, reduced to 8 on a scale that does not depend on its content."""
    values, white = np.asarray(image), _DEEP_WHITE.get(image.mode, 65535.0)
    grey, outside = np.empty(values.shape, np.uint8), 0
    for top in range(0, len(values), _STRIP):  # intermediate numbers need much more memory than the picture
        strip = np.nan_to_num(values[top : top + _STRIP].astype(np.float64), posinf=np.inf, neginf=-np.inf)
        grey[top : top + _STRIP] = (strip.clip(0, white) * (255 / white)).round()
        outside += int(((strip < 0) | (strip > white)).sum())
    shallow, clear = Image.fromarray(grey), image.info.get("transparency")
    if transparent and isinstance(clear, int):
        shallow.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return shallow, outside > _MUCH * values.size


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # a damaged entry does not make a picture unreadable
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def is_turned(image: Image.Image) -> bool:
    """Whether the camera noted that an open picture is to be turned or mirrored."""
    return _orientation(image) in _TURNS


def _too_large(path: str | Path, pixels: int, reading: Reading) -> str:
    return (
        f"cannot read image {path}: it has {pixels:,} pixels, and INPUT.MAX_PIXELS allows {reading.max_pixels:,}; "
        "raise that (memory: up to 4 bytes a pixel) or make the picture smaller"
    )


def _reason(path: str | Path, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and Path(path).is_symlink():
        return "a link to a missing file; restore that file or remove the link"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}; replace or remove it"
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    if first.startswith("cannot identify image file"):
        return kind_of_file(path)
    return f"{first}; replace or remove it"
