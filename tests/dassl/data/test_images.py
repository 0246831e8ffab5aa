import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dassl.data import images
from dassl.data.images import AS_SEEN, ORIGINAL, Reading, read_image, reading_of
from dassl.utils.errors import UserError
from tests.dassl.data.toy import write_image

GREY = np.linspace(0, 255, 12 * 10).astype(np.uint8).reshape(12, 10)
RGB = np.repeat(GREY[..., None], 3, -1)
# Left half: a grey that nobody sees, because it is transparent; right half: seen.
ALPHA = np.where(np.arange(10) < 5, 0, 255).astype(np.uint8)[None].repeat(12, 0)


def saved(path, picture, reading=AS_SEEN, **options):
    picture.save(path, **options)
    return read_image(path, reading)


# ---- modes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", [AS_SEEN, ORIGINAL])
def test_modes_become_rgb(tmp_path, reading):
    grey = Image.fromarray(GREY)
    opaque = Image.fromarray(np.dstack([RGB, np.full_like(GREY, 255)]))
    for name, picture in (("g", grey), ("a", opaque), ("la", grey.convert("LA")), ("p", grey.convert("P"))):
        assert (np.asarray(saved(tmp_path / f"{name}.png", picture, reading)) == RGB).all()
    one_bit = np.asarray(saved(tmp_path / "1.png", Image.fromarray(GREY > 100), reading))
    assert (one_bit == np.where(RGB > 100, 255, 0)).all()


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_four_colour_pictures_have_the_colours_that_were_printed(tmp_path, ending):
    colours = np.zeros((16, 48, 3), np.uint8) + np.array([[[200, 30, 30]]], np.uint8)
    colours[:, 16:32] = (20, 160, 60)
    colours[:, 32:] = (250, 250, 250)
    got = saved(tmp_path / f"c.{ending}", Image.fromarray(colours).convert("CMYK"))
    assert got.mode == "RGB"
    assert np.abs(np.asarray(got).astype(int) - colours)[:, 4:12].max() < 12


@pytest.mark.parametrize("ending", ["webp", "avif", "png", "tif", "bmp"])
def test_other_formats(tmp_path, ending):
    options = {"quality": 95} if ending in ("webp", "avif") else {}
    got = np.asarray(saved(tmp_path / f"p.{ending}", Image.fromarray(RGB), **options))
    assert np.abs(got.astype(int) - RGB).max() < (20 if options else 1)


def test_an_animation_gives_its_first_picture(tmp_path):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    for name in ("a.gif", "a.png", "a.tif"):
        got = saved(tmp_path / name, first, save_all=True, append_images=[second])
        assert (np.asarray(got)[..., 0] == GREY).all()


# ---- transparency -------------------------------------------------------------------------------------------------


def transparent(kind):
    """A picture whose left half is transparent, and the options to save it."""
    rgba = Image.fromarray(np.dstack([RGB, ALPHA]))
    hidden = np.where(ALPHA == 0, 77, GREY // 2 * 2)
    if kind == "RGBA":
        return rgba, {}
    if kind == "LA":
        return Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(ALPHA))), {}
    if kind == "P, a byte for each colour":
        # Each column has a colour of its own.
        columns = np.arange(10, dtype=np.uint8)[None].repeat(12, 0)
        picture = Image.fromarray(columns).convert("P")
        picture.putpalette([value for column in range(10) for value in (column * 20,) * 3])
        return picture, {"transparency": bytes([0] * 5 + [255] * 5)}
    if kind == "P, one colour":
        picture = Image.fromarray(hidden.astype(np.uint8)).convert("P")
        return picture, {"transparency": 77}
    if kind == "L, one grey":
        return Image.fromarray(hidden.astype(np.uint8)), {"transparency": 77}
    if kind == "I;16, one grey":
        return Image.fromarray(hidden.astype(np.uint16) * 257), {"transparency": 77 * 257}
    if kind == "1, one colour":
        return Image.fromarray(ALPHA > 0), {"transparency": 0}
    return Image.fromarray(np.where(ALPHA[..., None] == 0, (1, 2, 3), RGB | 1).astype(np.uint8)), {
        "transparency": (1, 2, 3)
    }


KINDS = [
    *("RGBA", "LA", "P, a byte for each colour", "P, one colour", "L, one grey", "I;16, one grey", "1, one colour"),
    "RGB, one colour",
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_transparent_shows_the_background(tmp_path, kind, recwarn):
    picture, options = transparent(kind)
    path = tmp_path / "t.png"
    picture.save(path, **options)
    dropped = np.asarray(read_image(path, ORIGINAL))
    for colour, value in (("white", (255, 255, 255)), ("#102030", (16, 32, 48))):
        got = np.asarray(read_image(path, Reading(colour)))
        assert (got[:, :5] == value).all()
        assert (got[:, 5:] == dropped[:, 5:]).all()
    if kind not in ("I;16, one grey",):
        with Image.open(path) as image:
            image = image.convert("RGBA") if image.mode == "P" else image
            assert (dropped == np.asarray(image.convert("RGB"))).all()
    assert not recwarn.list


@pytest.mark.parametrize("name", ["t.webp", "t.gif", "t.tif", "t.avif"])
def test_transparency_in_other_formats(tmp_path, name):
    picture = Image.fromarray(np.dstack([RGB, ALPHA])).resize((40, 48), Image.Resampling.NEAREST)
    options = {"lossless": True} if name.endswith("webp") else {}
    got = np.asarray(saved(tmp_path / name, picture, save_all=True, append_images=[picture.rotate(90)], **options))
    assert (got[:, :16] > 245).all()
    assert np.abs(got[:, 24:].astype(int) - np.asarray(picture)[:, 24:, :3]).max() < 40


def test_half_transparent_pixels_are_mixed_with_the_background(tmp_path):
    half = Image.new("RGBA", (4, 4), (200, 0, 0, 128))
    got = saved(tmp_path / "h.png", half).getpixel((0, 0))
    assert got == pytest.approx((227, 127, 127), abs=1)
    assert saved(tmp_path / "h.png", half, Reading("black")).getpixel((0, 0)) == pytest.approx((100, 0, 0), abs=1)


# ---- orientation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e.jpg", "e.png", "e.webp"])
@pytest.mark.parametrize("turn", range(10))
def test_pictures_are_turned_upright_as_the_camera_says(tmp_path, turn, name):
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = saved(tmp_path / name, Image.fromarray(GREY), exif=exif)
    with Image.open(tmp_path / name) as image:
        wanted = ImageOps.exif_transpose(image).convert("RGB")
        stored = np.asarray(image.convert("RGB"))
    assert (np.asarray(upright) == np.asarray(wanted)).all()
    assert upright.size == ((12, 10) if 5 <= turn <= 8 else (10, 12))
    assert (np.asarray(read_image(tmp_path / name, ORIGINAL)) == stored).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_orientation_is_none(tmp_path):
    for content in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"):
        got = saved(tmp_path / "e.jpg", Image.fromarray(GREY), exif=content)
        assert got.size == (10, 12)


# ---- deep greys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", [AS_SEEN, ORIGINAL])
@pytest.mark.parametrize("kind", [">u2", "<u2", "int32", "float32", "png"])
def test_deep_greys_have_one_scale(tmp_path, kind, reading):
    """Big- and little-endian 16 bits, 32 bits that hold 16-bit values, floats from 0 to 1."""
    mode = {">u2": "I;16B", "int32": "I", "float32": "F"}.get(kind, "I;16")
    scaled = GREY / np.float32(255) if mode == "F" else GREY.astype(np.uint16) * 257
    pixels = scaled.astype("<u2" if kind == "png" else kind)
    deep = Image.frombytes(mode, GREY.shape[::-1], pixels.tobytes())
    path = tmp_path / ("d.png" if kind == "png" else "d.tif")
    assert (np.asarray(saved(path, deep, reading)) == RGB).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("brightest", [0.004, 0.3, 0.99])
def test_exposures_that_differ_by_four_percent_do_so_when_they_are_read(tmp_path, dtype, brightest):
    scene = np.linspace(0, brightest, 64 * 64).reshape(64, 64)
    means = []
    for number, exposure in enumerate((scene, scene / 1.04)):
        pixels = exposure if dtype == np.float32 else (exposure * 65535).round()
        means.append(np.asarray(saved(tmp_path / f"{number}.tif", Image.fromarray(pixels.astype(dtype)))).mean())
    assert means[0] / means[1] == pytest.approx(1.04, abs=0.02 + 0.02 * (brightest < 0.1))


@given(value=st.integers(0, 65535), others=st.lists(st.integers(0, 65535), max_size=5))
def test_a_deep_pixel_does_not_depend_on_its_neighbours(value, others):
    def read(values):
        deep = Image.fromarray(np.array([values], np.uint16))
        return images._to_rgb(deep, AS_SEEN)[0].getpixel((0, 0))[0]

    assert read([value]) == read([value, *others]) == round(value / 257)


def test_floats_that_are_no_numbers_and_what_lies_outside_the_scale(tmp_path):
    pixels = np.array([[np.nan, -1, 0, 0.5], [np.inf, -np.inf, 1, 200]], np.float32)
    got = np.asarray(saved(tmp_path / "f.tif", Image.fromarray(pixels)))[..., 0]
    assert got.tolist() == [[0, 0, 0, 128], [255, 0, 255, 255]]


# ---- large pictures -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_bounds(monkeypatch):
    """What counts as large is scaled down by about a million."""
    monkeypatch.setattr(images, "_LARGE", 150)
    monkeypatch.setattr(images, "_SHORTEST_SIDE", 8)
    monkeypatch.setattr(images, "_STRIP", 3)


@pytest.mark.parametrize("kind", ["L", "RGB", "P", "1", "I;16", "RGBA", "LA", "F"])
def test_a_large_picture_is_read_smaller(tmp_path, small_bounds, kind):
    smooth = np.add.outer(np.arange(70), np.arange(50)).astype(np.uint8) * 2
    if kind in ("I;16", "F"):
        picture = Image.fromarray(smooth.astype(np.uint16) * 257 if kind == "I;16" else smooth.astype(np.float32) / 255)
    else:
        picture = Image.fromarray(smooth).convert("RGB").convert(kind)
    got = saved(tmp_path / "large.tif", picture)
    assert got.size == (13, 18) and got.mode == "RGB"  # a quarter, rounded up
    wanted = smooth[:68, :48].reshape(17, 4, 12, 4).mean((1, 3))
    # Pictures of few colours are dithered.
    assert np.abs(np.asarray(got)[:17, :12, 1] - wanted).max() < {"1": 90, "P": 16}.get(kind, 2)


def test_a_large_transparent_picture_lies_on_the_background(tmp_path, small_bounds):
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture.paste((200, 0, 0, 255), (0, 0, 20, 40))
    got = saved(tmp_path / "large.png", picture)
    assert got.size == (10, 10)
    assert got.getpixel((8, 5)) == (255, 255, 255) and got.getpixel((2, 5)) == (200, 0, 0)


def test_a_large_photograph_is_drafted_and_turned(tmp_path, small_bounds, monkeypatch):
    seen, to_rgb = [], images._to_rgb
    monkeypatch.setattr(images, "_to_rgb", lambda image, reading: (seen.append(image.size), to_rgb(image, reading))[1])
    exif = Image.Exif()
    exif[0x0112] = 6
    got = saved(tmp_path / "large.jpg", Image.new("RGB", (120, 64), "red"), exif=exif)
    assert seen == [(15, 8)] and got.size == (8, 15)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pillows_own_bound_is_not_ours(tmp_path, monkeypatch):
    path = write_image(tmp_path / "a.png", size=(20, 15))
    for bound in (299, 150, 1):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bound)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(path, Reading(max_pixels=300)).size == (20, 15)
        with pytest.raises(UserError) as caught:
            read_image(path, Reading(max_pixels=bound))
        message = str(caught.value)
        assert str(path) in message and "INPUT.MAX_PIXELS" in message and "300 pixels" in message
        assert "\n" not in message


def test_a_bomb_is_refused_by_what_its_header_says(tmp_path):
    path = write_image(tmp_path / "bomb.png")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"3,600,000,000 pixels, and INPUT\.MAX_PIXELS allows 500,000,000"):
        read_image(path)


# ---- which way ----------------------------------------------------------------------------------------------------


def test_the_data_set_says_how_unless_a_key_does(make_cfg):
    cfg = make_cfg()
    assert reading_of(cfg, as_seen=False) == ORIGINAL
    assert reading_of(cfg, as_seen=True) == Reading("white", "upright", shortest=66)
    cfg = make_cfg(INPUT__BACKGROUND="#123456", INPUT__MAX_PIXELS=5)
    assert reading_of(cfg, as_seen=False) == Reading("#123456", "original", 5)
    cfg = make_cfg(INPUT__BACKGROUND="original")
    assert reading_of(cfg, as_seen=True) == Reading("original", "upright", shortest=66)


# ---- what cannot be read ------------------------------------------------------------------------------------------


def test_unreadable_images_are_named(damaged):
    for path in damaged[1:]:
        with pytest.raises(UserError) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"cannot read image {path}: ")
        assert "\n" not in str(caught.value)


def test_a_file_that_pillow_would_run_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path, "EPS")
    with pytest.raises(UserError, match="a PostScript file; save it as PNG"):
        read_image(path)


def test_random_bytes_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(0)
    whole = write_image(tmp_path / "w.png").read_bytes(), write_image(tmp_path / "w.jpg").read_bytes()
    for trial in range(60):
        content = bytearray(whole[trial % 2])
        for place in rng.integers(0, len(content), 12):
            content[place] = rng.integers(256)
        path = tmp_path / "noise"
        path.write_bytes(content)
        try:
            assert read_image(path).mode == "RGB"
        except UserError as error:
            assert str(path) in str(error)
