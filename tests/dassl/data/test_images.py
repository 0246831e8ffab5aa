import numpy as np
import pytest
from PIL import Image

from dassl.data import images
from dassl.data.images import read_image
from dassl.utils.errors import UserError
from tests.dassl.data.toy import write_image

GREY = np.linspace(0, 255, 12 * 10).astype(np.uint8).reshape(12, 10)


def saved(path, picture, **options):
    picture.save(path, **options)
    return read_image(path)


def test_modes_become_rgb(tmp_path):
    grey = Image.fromarray(GREY)
    as_rgb = np.repeat(GREY[..., None], 3, -1)
    rgba = np.dstack([as_rgb, np.full_like(GREY, 7)])
    assert (np.asarray(saved(tmp_path / "g.png", grey)) == as_rgb).all()
    assert (np.asarray(saved(tmp_path / "a.png", Image.fromarray(rgba))) == as_rgb).all()
    assert (np.asarray(saved(tmp_path / "la.png", grey.convert("LA"))) == as_rgb).all()
    assert (np.asarray(saved(tmp_path / "p.png", grey.convert("P"))) == as_rgb).all()
    cmyk = saved(tmp_path / "c.jpg", grey.convert("CMYK"), quality=95)
    assert cmyk.mode == "RGB"
    assert np.abs(np.asarray(cmyk).astype(int) - as_rgb).max() < 12
    one_bit = np.asarray(saved(tmp_path / "1.png", Image.fromarray(GREY > 100)))
    assert (one_bit == np.where(as_rgb > 100, 255, 0)).all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_keep_their_picture(tmp_path, ending):
    deep = Image.fromarray(GREY.astype(np.uint16) * 256 + 99)
    assert deep.mode == "I;16"
    assert (np.asarray(saved(tmp_path / f"d.{ending}", deep))[..., 0] == GREY).all()


@pytest.mark.parametrize("kind", [">u2", "<u2", "int32", "float32"])
def test_deep_greys_of_tiff_files(tmp_path, kind):
    """Big-endian 16 bits, 32 bits that hold 16-bit values, and floats from 0 to 255."""
    scale = 1 if kind == "float32" else 256
    mode = {">u2": "I;16B", "<u2": "I;16", "int32": "I", "float32": "F"}[kind]
    pixels = (GREY.astype(np.float64) * scale).astype(kind)
    deep = Image.frombytes(mode, GREY.shape[::-1], pixels.tobytes())
    assert (np.asarray(saved(tmp_path / "d.tif", deep)) == GREY[..., None]).all()


def test_an_animation_gives_its_first_picture(tmp_path):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    got = saved(tmp_path / "a.gif", first, save_all=True, append_images=[second])
    assert (np.asarray(got)[..., 0] == GREY).all()


def test_transparent_palette_does_not_warn(tmp_path, recwarn):
    picture = Image.fromarray(GREY).convert("P")
    got = saved(tmp_path / "t.png", picture, transparency=bytes(range(256)))
    assert (np.asarray(got)[..., 1] == GREY).all()
    assert not recwarn.list


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert saved(tmp_path / "e.jpg", Image.fromarray(GREY), exif=exif).size == (10, 12)


def damaged(folder):
    """One good image and five that cannot be read."""
    good = write_image(folder / "good.png")
    whole = good.read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    jpeg = write_image(folder / "cut.jpg", size=(64, 64)).read_bytes()
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "text.png").write_text("hello")
    (folder / "empty.jpg").write_bytes(b"")
    return [str(folder / name) for name in ("good.png", "cut.png", "cut.jpg", "text.png", "empty.jpg", "absent.png")]


def test_unreadable_images_are_named(tmp_path):
    paths = damaged(tmp_path)
    for path in paths[1:]:
        with pytest.raises(UserError) as caught:
            read_image(path)
        assert path in str(caught.value)
        assert "\n" not in str(caught.value)
    assert check_images(["a\0.png"], tmp_path / "cache") == [("a\0.png", "embedded null byte")]
    bad = check_images(paths)
    assert [path for path, _ in bad] == paths[1:]
    reasons = dict(bad)
    assert reasons[paths[3]] == "not an image"
    assert reasons[paths[5]] == "No such file or directory"


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


@pytest.fixture
def decoded(monkeypatch):
    """Names of the images that are really decoded."""
    seen = []
    read = images.read_image
    monkeypatch.setattr(images, "read_image", lambda path: (seen.append(path), read(path))[1])
    return seen


def test_an_unchanged_list_is_not_decoded_again(tmp_path, decoded):
    paths = damaged(tmp_path / "images")
    first = check_images(paths, tmp_path / "cache")
    assert sorted(decoded) == sorted(paths)
    decoded.clear()
    assert check_images(paths, tmp_path / "cache") == first
    assert sorted(decoded) == sorted(paths[1:])
    write_image(tmp_path / "images" / "text.png", 3)
    assert [path for path, _ in check_images(paths, tmp_path / "cache")] == [p for p in paths[1:] if "text" not in p]


def test_a_damaged_record_is_ignored(tmp_path, decoded):
    paths = [str(write_image(tmp_path / "a.png"))]
    assert check_images(paths, tmp_path / "cache") == []
    (record,) = (tmp_path / "cache").rglob("*.json")
    for content in ("{", "[]", '{"unreadable": 3}'):
        record.write_text(content)
        decoded.clear()
        assert check_images(paths, tmp_path / "cache") == []
        assert decoded == paths


def test_fingerprint_sees_content_and_order_but_not_the_root(tmp_path):
    one = [str(write_image(tmp_path / "one" / name)) for name in "ab" for name in [f"{name}.png"]]
    two = [str(write_image(tmp_path / "two" / name)) for name in ("a.png", "b.png")]
    for path, other in zip(one, two, strict=True):
        stat = images.os.stat(path)
        images.os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    same = fingerprint(one, tmp_path / "one")
    assert fingerprint(two, tmp_path / "two") == same
    assert fingerprint(two, tmp_path) != same
    assert fingerprint(one[::-1], tmp_path / "one") != same
    write_image(tmp_path / "one" / "b.png", 5)
    assert fingerprint(one, tmp_path / "one") != same
