import os
import pickle
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import clip
from dassl.data import contents, reduced
from dassl.data.checking import look_at
from dassl.data.contents import file_key
from dassl.data.datum import Datum
from dassl.data.images import AS_SEEN, ORIGINAL, as_read, full_size, read_image, reading_of, small_size
from dassl.data.loaders import BatchPlan, ImageItems, ImageSource
from dassl.data.reduced import ReducedImages
from dassl.data.transforms import build_transform, keyed_transform, transform_id
from dassl.utils.errors import UserError
from tests.dassl.data.large import MODES, write_scene
from tests.dassl.data.toy import toy_cfg

SIDE = 16
SMALL = replace(AS_SEEN, shortest=66)  # the shortest side for an input of 16 pixels
KEYS = {"INPUT__SIZE": (SIDE, SIDE), "INPUT__INTERPOLATION": "bicubic", "INPUT__TRANSFORMS": ()}
CROP = {**KEYS, "INPUT__TRANSFORMS": ("random_resized_crop",), "INPUT__RRCROP_SCALE": (0.08, 0.08)}
# Levels of 255 by which a pixel, and the mean over a picture, may differ from the full decode. A JPEG file is reduced
# by its decoder; a picture of two colours has nothing but edges.
ROUGH = ("1", "JPEG", "grey JPEG", "CMYK JPEG")
BOUNDS = {("centre", False): (10, 0.6), ("centre", True): (32, 3), ("crop", False): (64, 5), ("crop", True): (64, 8)}


@pytest.fixture(autouse=True)
def _settled_at_once(monkeypatch):
    """Files count as settled as soon as they are written, and the disk has space."""
    monkeypatch.setattr(contents, "_UNSETTLED_NS", 0)
    monkeypatch.setattr(reduced, "_FREE", 0)


@pytest.fixture
def large(tmp_path):
    return str(write_scene(tmp_path, "JPEG", (330, 300)))


@pytest.fixture
def stored(tmp_path):
    return ReducedImages(tmp_path / "cache", 1)


def files(images):
    return sorted(images.folder.glob("*")) if images.folder.is_dir() else []


def same(one, other):
    return one.size == other.size and one.tobytes() == other.tobytes() and full_size(one) == full_size(other)


# ---- what it changes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@given(
    size=st.tuples(st.integers(40, 420), st.integers(40, 420)), seed=st.integers(0, 99), turn=st.sampled_from([1, 3, 6])
)
@settings(max_examples=8)
@example(size=(132, 420), seed=0, turn=6)
@example(size=(131, 420), seed=0, turn=1)
@example(size=(199, 420), seed=1, turn=1)
def test_the_input_differs_within_a_bound(tmp_path_factory, mode, size, seed, turn):
    # Pillow itself scrambles such TIFF files.
    path = write_scene(tmp_path_factory.mktemp("s"), mode, size, seed=seed, orientation=1 if mode == "CMYK" else turn)
    whole, small = read_image(path, AS_SEEN), read_image(path, SMALL)
    if min(size) < 2 * SMALL.shortest:
        assert same(whole, small)
        return
    assert full_size(small) == whole.size and min(small.size) == SMALL.shortest
    for kind, keys in (("centre", KEYS), ("crop", CROP)):
        transform = build_transform(toy_cfg("", "", "", **keys), kind == "crop")
        one, other = (keyed_transform(transform, picture, (seed, 1, "x")) for picture in (whole, small))
        off = (one - other).abs() * 255
        most, mean = BOUNDS[kind, mode in ROUGH]
        assert off.max() <= most and off.mean() <= mean


def test_features_differ_within_a_bound(tmp_path):
    backbone, _ = clip.load("demo")
    keys = {**CROP, "INPUT__SIZE": (64, 64), "INPUT__TRANSFORMS": ("random_resized_crop", "normalize")}
    cfg = toy_cfg("", "", "", **keys)
    reading = reading_of(cfg, as_seen=True)
    path = write_scene(tmp_path, "JPEG", (1200, 900))
    pair = read_image(path, AS_SEEN), read_image(path, reading)
    assert full_size(pair[1]) == (1200, 900) and min(pair[1].size) == 262
    for is_train, least in ((False, 0.9995), (True, 0.998)):
        transform = build_transform(cfg, is_train)
        views = [torch.stack([keyed_transform(transform, each, (1, v, "x")) for v in range(8)]) for each in pair]
        one, other = (backbone.encode_image(view).float() for view in views)
        assert torch.cosine_similarity(one, other).min() >= least


def test_the_smallest_crop_of_a_reduced_picture_has_the_pixels_of_the_input(make_cfg):
    for low, wanted in ((0.08, 66), (0.01, 185), (0.9, 48)):
        cfg = make_cfg(**{**CROP, "INPUT__RRCROP_SCALE": (low, 1.0)})
        assert reading_of(cfg, as_seen=True).shortest == wanted
        # the narrowest crop of the smallest area of a square
        assert wanted * (low * 3 / 4) ** 0.5 >= SIDE


def test_every_method_and_test_sees_the_same_pixels(make_cfg):
    readings = {
        reading_of(make_cfg(**keys), as_seen=True) for keys in (KEYS, {**CROP, "INPUT__RRCROP_SCALE": (0.08, 1.0)})
    }
    assert readings == {SMALL}


@pytest.mark.parametrize(("key", "as_seen", "shortest"), [
    ("", True, 66), ("", False, 0), ("original", True, 0), ("reduced", False, 66),
])  # fmt: skip
def test_the_key_or_the_data_set_decides(make_cfg, key, as_seen, shortest):
    assert reading_of(make_cfg(**KEYS, INPUT__RESOLUTION=key), as_seen=as_seen).shortest == shortest


def test_single_pixels_are_not_blended_in_silence(make_cfg):
    keys = {**KEYS, "INPUT__INTERPOLATION": "nearest"}
    assert reading_of(make_cfg(**keys), as_seen=True).shortest == 0
    with pytest.raises(UserError, match=r"INPUT\.RESOLUTION reduced .* INPUT\.INTERPOLATION nearest"):
        reading_of(make_cfg(**keys, INPUT__RESOLUTION="reduced"), as_seen=True)


def test_features_of_reduced_images_have_a_name_of_their_own(make_cfg):
    cfg = make_cfg(**KEYS)
    for is_train in (True, False):
        names = {
            transform_id(cfg, is_train, reading) for reading in (AS_SEEN, SMALL, replace(SMALL, shortest=67), ORIGINAL)
        }
        assert len(names) == 4
        # A key that changes no pixel changes no name, so stores from before it are still found.
        assert transform_id(make_cfg(**KEYS, INPUT__RESOLUTION="original"), is_train, AS_SEEN) in names


@given(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.integers(0, 1000))
def test_small_size(full, shortest):
    small = small_size(full, shortest)
    if not shortest or min(full) < 2 * shortest:
        assert small == full
    else:
        assert min(small) == shortest
        assert abs(small[0] * full[1] - small[1] * full[0]) <= max(full) / 2 + 1e-9


def test_an_open_picture_is_reduced_and_itself_left_alone(large):
    with Image.open(large) as picture:
        small = as_read(picture, SMALL)
        assert picture.size == (330, 300) == full_size(small) and small.size == (73, 66)
        # A part of a reduced picture is a picture of its own.
        part = small.crop((0, 0, 70, 60))
        assert full_size(part) == (70, 60)


def test_a_jpeg_file_is_reduced_while_it_is_decoded(large, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "dassl.data.images._to_rgb", lambda image, _: (sizes.append(image.size), (image.convert("RGB"), False))[1]
    )
    for shortest in (66, 100, 101):
        read_image(large, replace(AS_SEEN, shortest=shortest))
    assert sizes == [(165, 150), (165, 150), (330, 300)]


# ---- stored images ------------------------------------------------------------------------------------------------


def test_a_large_image_is_decoded_once(large, stored, monkeypatch):
    fresh = stored.read(large, SMALL)
    assert len(files(stored)) == 1
    monkeypatch.setattr(reduced, "decode", lambda *_: pytest.fail("decoded again"))
    for images in (stored, ReducedImages(stored.folder.parent, 1)):
        assert same(images.read(large, SMALL), fresh)


def test_small_images_and_full_readings_are_not_stored(tmp_path, large, stored):
    small = str(write_scene(tmp_path, "RGB", (131, 400)))
    assert same(stored.read(small, SMALL), read_image(small))
    assert same(stored.read(large, AS_SEEN), read_image(large))
    assert not files(stored)


def test_the_check_of_the_images_stores_them(large, stored, monkeypatch):
    assert look_at([large], None, SMALL, stored)[large].reduced
    assert not look_at([large], None, AS_SEEN, stored)[large].reduced
    monkeypatch.setattr(reduced, "decode", lambda *_: pytest.fail("decoded again"))
    assert stored.read(large, SMALL).size == (73, 66)


def test_the_check_remembers_which_images_were_reduced(tmp_path, large):
    for _ in range(2):
        assert look_at([large], tmp_path / "cache", SMALL)[large].reduced
        assert not look_at([large], tmp_path / "cache", AS_SEEN)[large].reduced


def test_readings_do_not_share_stored_images(large, stored):
    readings = (
        SMALL,
        replace(SMALL, shortest=70),
        replace(SMALL, background="black"),
        replace(SMALL, orientation="original"),
    )
    for reading in readings:
        assert same(stored.read(large, reading), read_image(large, reading))
    assert len(files(stored)) == 4
    with pytest.raises(UserError, match=r"INPUT\.MAX_PIXELS"):
        stored.read(large, replace(SMALL, max_pixels=100))


def test_a_changed_file_is_decoded_again(tmp_path, large, stored):
    before = stored.read(large, SMALL)
    times = Path(large).stat()
    write_scene(tmp_path, "JPEG", (330, 300), seed=1)
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = stored.read(large, SMALL)
    assert same(after, read_image(large, SMALL)) and not same(after, before)


def test_a_file_that_changes_while_it_is_read_is_not_stored(tmp_path, large, stored, monkeypatch):
    decode = reduced.decode

    def slow(path, reading):
        found = decode(path, reading)
        write_scene(tmp_path, "JPEG", (330, 300), seed=1)
        return found

    monkeypatch.setattr(reduced, "decode", slow)
    stored.read(large, SMALL)
    assert not files(stored)
    monkeypatch.setattr(contents, "_UNSETTLED_NS", 10**12)  # one that has just been written may change again
    stored.read(large, SMALL)
    assert not files(stored)


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "header", "magic", "huge"])
def test_a_damaged_image_is_made_again(large, stored, damage):
    wanted = stored.read(large, SMALL)
    (file,) = files(stored)
    whole = bytearray(file.read_bytes())
    content = {
        "empty": b"",
        "cut": whole[:-1],
        "magic": b"x" + whole[1:],
        "huge": whole[:8] + b"\xff" * 20 + whole[28:],
    }
    whole[{"bit": 1000, "header": 9}.get(damage, 0)] ^= 1
    file.write_bytes(content.get(damage, whole))
    assert same(stored.read(large, SMALL), wanted)
    assert same(ReducedImages(stored.folder.parent, 1).read(large, SMALL), wanted)
    assert [len(each.read_bytes()) for each in files(stored)] == [28 + 3 * 73 * 66]


def test_what_cannot_be_stored_is_decoded_to_the_same_pixels(tmp_path, large, caplog):
    caplog.set_level("INFO")
    wanted = read_image(large, SMALL)
    (tmp_path / "file").write_text("no folder")
    for images in (
        ReducedImages(tmp_path / "file", 1),
        ReducedImages(tmp_path / "none", 0),
        ReducedImages(tmp_path / "few", 1e-6),
    ):
        assert all(same(images.read(large, SMALL), wanted) for _ in range(2))
        assert not files(images)
    said = [record.message for record in caplog.records]
    assert len(said) == 2 and "file" in said[0] and "DATASET.REDUCED_GIB" in said[1]


def test_a_full_disk_keeps_nothing_half_written(large, stored, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(reduced, "_FREE", 1 << 60)
    stored.read(large, SMALL)
    assert not files(stored) and "GiB free" in caplog.text
    monkeypatch.setattr(reduced, "_FREE", 0)

    def no_space(self, _):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", no_space)
    images = ReducedImages(stored.folder.parent, 1)
    assert same(images.read(large, SMALL), read_image(large, SMALL))
    assert not files(images) and "no space left" in caplog.text


def test_the_bound_counts_what_others_have_stored(tmp_path, stored):
    one, other = (str(write_scene(tmp_path, mode, (330, 300))) for mode in ("RGB", "JPEG"))
    stored.read(one, SMALL)
    (file,) = files(stored)
    tight = ReducedImages(stored.folder.parent, 1.5 * file.stat().st_size / 2**30)
    tight.read(other, SMALL)
    assert files(stored) == [file]


def test_what_no_run_has_read_for_two_weeks_is_deleted(tmp_path, stored):
    one, other, third = (str(write_scene(tmp_path, mode, (330, 300))) for mode in ("RGB", "JPEG", "CMYK"))
    stored.read(one, SMALL)
    (used,) = files(stored)
    stored.read(other, SMALL)
    (unused,) = set(files(stored)) - {used}
    ago = time.time() - 15 * 24 * 3600
    for file in (used, unused):
        os.utime(file, (ago, ago))
    stored.read(one, SMALL)  # now in use
    ReducedImages(stored.folder.parent, 1).read(third, SMALL)
    assert used in files(stored) and unused not in files(stored) and len(files(stored)) == 2


def test_nothing_but_a_picture_is_taken_from_a_file(large, stored):
    stored.read(large, SMALL)
    (file,) = files(stored)
    file.write_bytes(pickle.dumps(print))
    assert same(stored.read(large, SMALL), read_image(large, SMALL))


def test_put_leaves_a_stored_image_alone(large, stored):
    image = stored.read(large, SMALL)
    (file,) = files(stored)
    before = file.stat().st_mtime_ns
    stored.put(file_key(large), SMALL, image)
    assert file.stat().st_mtime_ns == before


# ---- loading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_with_and_without_stored_images(make_cfg, tmp_path, stored, workers):
    folders = [tmp_path / str(number) for number in range(3)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        write_scene(folder, "JPEG", (330, 300), seed=number)
    items = [Datum(str(folder / "scene.jpg"), 0) for folder in folders]
    transform = build_transform(make_cfg(**CROP), True)
    batches = []
    for store, count in ((None, 0), (stored, workers), (stored, 0)):
        images = ImageItems(items, transform, seed=1, reading=SMALL, reduced=store)
        (batch,) = ImageSource(images, count)(BatchPlan(3, 3))
        batches.append(batch["img"])
    assert len(files(stored)) == 3
    assert torch.equal(batches[0], batches[1]) and torch.equal(batches[0], batches[2])


def test_views_of_small_images_are_those_of_torchvision(make_cfg, tmp_path):
    from torchvision.transforms import InterpolationMode, v2

    picture = read_image(write_scene(tmp_path, "RGB", (131, 90)))
    theirs = v2.RandomResizedCrop((SIDE, SIDE), (0.08, 0.08), interpolation=InterpolationMode.BICUBIC)
    ours = build_transform(make_cfg(**CROP), True)[0]
    for transform in (theirs, ours):
        torch.manual_seed(3)
        transform.found = np.asarray(transform(picture))
    assert (theirs.found == ours.found).all()
