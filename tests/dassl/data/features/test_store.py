import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dassl.data import loaders, workers
from dassl.data.datum import Datum
from dassl.data.features import files as featurefiles
from dassl.data.features import store as room
from dassl.data.features.files import as_shard, shard_files
from dassl.data.features.store import FeatureSource, FeatureStore, encode_fixed
from dassl.data.loaders import BatchPlan, Entries, ImageItems, on_host
from dassl.data.manager import DataManager
from dassl.utils import locks
from dassl.utils.errors import UserError
from tests.dassl.data.toy import write_image, write_toy

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.GELU(), nn.Flatten(), nn.Linear(96, 16)).eval()
    return model.requires_grad_(False)


@pytest.fixture
def decoded(monkeypatch):
    """Paths of the images that are really decoded."""
    seen = []
    read = loaders.read_image
    monkeypatch.setattr(loaders, "read_image", lambda path, reading: (seen.append(path), read(path, reading))[1])
    return seen


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return [Datum(str(write_image(folder / f"{number}.png", number)), 0) for number in range(12)]


def pixels(image):
    """In place of a transform."""
    return torch.from_numpy(np.asarray(image.resize((6, 6)), np.float32)).permute(2, 0, 1) / 255


def shifted(image):
    """A transform that draws."""
    return pixels(image) + torch.rand(1)


def flat(images):
    """In place of an encoder."""
    return images.flatten(1)[:, :16] * 1.5


def store_in(folder, encoder_id="e", **options):
    return FeatureStore(folder, encoder_id=encoder_id, transform_id="t", **options)


def direct(images, view, encode=flat):
    return encode_fixed(encode, torch.stack([images[view, index] for index in range(len(images))])).numpy()


def taken(rows):
    return rows.take(np.arange(len(rows)))


def stored_files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file() and path.name not in ("about.json", ".lock")]


def with_features(cfg, encode, encoder_id="random/0"):
    manager = DataManager(cfg)
    manager.attach_encoder(encode, encoder_id)
    return manager


# ---- what a run gets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ToyBoth", "ToyShapes"])
def test_stored_features_equal_the_online_path(make_cfg, encode, decoded, name):
    online = DataManager(make_cfg(name))
    online.attach_encoder(encode, "random/0")
    cfg = make_cfg(name, DATALOADER__FEATURES=True)
    cold, warm = with_features(cfg, encode), with_features(cfg, encode)
    for split, epoch in (("train_loader_x", 0), ("train_loader_x", 2), ("val_loader", 0), ("test_loader", 0)):
        lists = []
        for manager in (online, cold, warm):
            loader = getattr(manager, split)
            loader.set_epoch(epoch)
            decoded.clear()
            lists.append(list(loader))
            assert bool(decoded) == (manager is not warm)
            assert len(lists[-1]) == len(loader)
        for plain, first, second in zip(*lists, strict=True):
            assert torch.equal(first["feat"], encode_fixed(encode, plain["img"]))
            assert torch.equal(first["feat"], second["feat"])
            assert first["feat"].dtype == torch.float32
            assert "img" not in first
            assert first.keys() == second.keys() == (plain.keys() - {"img"}) | {"feat", "host"}
            for key in ("label", "task", "row", "index"):
                assert torch.equal(plain[key], first[key]) and first[key].dtype == torch.int64
            for key in ("label", "task", "row"):
                assert torch.equal(on_host(plain, key), plain[key]) and torch.equal(on_host(first, key), plain[key])
            assert plain["impath"] == second["impath"]


def test_training_from_a_warm_store_uses_no_data_loader(make_cfg, encode, monkeypatch):
    cfg = make_cfg("ToyBoth", DATALOADER__FEATURES=True)
    first = list(with_features(cfg, encode).train_loader_x)
    monkeypatch.setattr(workers, "DataLoader", None)
    again = list(with_features(cfg, encode).train_loader_x)
    assert all(torch.equal(a["feat"], b["feat"]) for a, b in zip(first, again, strict=True))
    # All batches are slices of the tensors of the epoch.
    for key in ("feat", "label", "task", "row", "index"):
        assert len({batch[key].untyped_storage().data_ptr() for batch in again}) == 1


@pytest.mark.parametrize("name", ["ToyShapes", "ToyBoth"])
def test_labels_are_known_without_asking_the_device(make_cfg, encode, name):
    items = with_features(make_cfg(name, DATALOADER__FEATURES=True), encode).dataset.train_x
    order = torch.arange(len(items)).flip(0)
    here, there = (list(Entries(items).batches(order, 5, torch.device(device))) for device in ("cpu", "meta"))
    assert len(here) == len(there) == -(-len(items) // 5)
    for mine, theirs in zip(here, there, strict=True):
        for key in ("label", "task", "row"):
            assert theirs[key].is_meta and torch.equal(on_host(theirs, key), mine[key])


def test_large_epochs_come_to_the_device_in_spans(make_cfg, encode, monkeypatch):
    cfg = make_cfg("ToyBoth", DATALOADER__FEATURES=True)
    whole = list(with_features(cfg, encode).train_loader_x)
    monkeypatch.setattr(room, "_SPAN_BYTES", 2 * 4 * 16 * 4)  # two batches
    spans = list(with_features(cfg, encode).train_loader_x)
    assert len(whole) > 2
    for one, two in zip(whole, spans, strict=True):
        assert torch.equal(one["feat"], two["feat"])
        assert torch.equal(one["label"], two["label"])
    assert len({batch["feat"].untyped_storage().data_ptr() for batch in spans}) > 1


def test_workers_encode_the_same(make_cfg, encode, tmp_path):
    folders = [str(tmp_path / name) for name in ("alone", "helped")]
    managers = [
        with_features(
            make_cfg(DATALOADER__FEATURES=True, DATALOADER__FEATURES_DIR=folder, DATALOADER__NUM_WORKERS=workers),
            encode,
        )
        for folder, workers in zip(folders, (0, 2), strict=True)
    ]
    for epoch in (0, 1):
        for manager in managers:
            manager.train_loader_x.set_epoch(epoch)
        one, two = (next(iter(manager.train_loader_x))["feat"] for manager in managers)
        assert torch.equal(one, two)


def test_test_features_are_shared_by_shots_and_seeds(make_cfg, encode, decoded):
    def run(**changes):
        decoded.clear()
        manager = with_features(make_cfg(DATALOADER__FEATURES=True, **changes), encode)
        return torch.cat([batch["feat"] for batch in manager.test_loader]), len(decoded)

    first, count = run()
    again, none = run(SEED=5, DATASET__NUM_SHOTS=1, DATALOADER__TEST__BATCH_SIZE=3)
    assert (count, none) == (12, 0)
    assert torch.equal(first, again)
    assert run(INPUT__INTERPOLATION="nearest")[1] == 12


def test_an_image_is_shared_by_suites_and_shots(make_cfg, encode, decoded):
    def run(name, shots):
        manager = with_features(make_cfg(name, DATALOADER__FEATURES=True, DATASET__NUM_SHOTS=shots), encode)
        decoded.clear()
        list(manager.train_loader_x), list(manager.test_loader)
        return set(manager.train_loader_x.source.images.items), set(decoded)

    few, _ = run("ToyBoth", 1)
    pets, encoded = run("ToyPets", 3)
    assert few & pets
    assert encoded == {item.impath for item in pets - few}  # no test image, no training image that was there


def test_test_batches_of_features_are_large(make_cfg, encode):
    manager = DataManager(make_cfg(DATALOADER__FEATURES=True))
    manager.attach_encoder(encode, "e", test_rows=100)
    (batch,) = manager.test_loader
    assert len(batch["index"]) == 12 and len(manager.test_loader) == 1
    assert len(next(iter(manager.train_loader_x))["index"]) == 4
    images = DataManager(make_cfg())
    images.attach_encoder(encode, "e", test_rows=100)
    assert len(next(iter(images.test_loader))["index"]) == 5


def test_plain_views_share_the_test_views_files(make_cfg, encode, decoded):
    manager = with_features(make_cfg(DATALOADER__FEATURES=True), encode)
    wanted = [batch["feat"] for batch in manager.test_loader]
    decoded.clear()
    assert all(torch.equal(a["feat"], b) for a, b in zip(manager.plain_loader("test"), wanted, strict=True))
    assert not decoded


# ---- the store ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16,), (3, 5), (1,)])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_features_of_any_shape(tmp_path, pictures, shape, dtype):
    def encode(images):
        return images.flatten(1)[:, : int(np.prod(shape))].unflatten(1, shape)

    store, images = store_in(tmp_path, dtype=dtype), ImageItems(pictures, pixels)
    rows = store.get(images, 0, encode)
    assert rows.shape == shape
    wanted = direct(images, 0, encode)
    assert np.array_equal(taken(rows), wanted.astype(np.float16) if dtype == "fp16" else wanted)
    (batch,) = FeatureSource(store, images, encode, device=CPU)(BatchPlan(12, 20))
    assert batch["feat"].dtype == torch.float32 and batch["feat"].shape == (12, *shape)


def test_what_belongs_together_and_what_does_not(tmp_path, pictures):
    images, seeded = ImageItems(pictures, pixels), ImageItems(pictures, pixels, seed=1)
    store = store_in(tmp_path)
    folders = [store.view_folder(images, 0), store.view_folder(seeded, 0), store.view_folder(seeded, 1)]
    folders += [
        ImageStore.view_folder(images, 0) for ImageStore in (store_in(tmp_path, "f"), store_in(tmp_path, dtype="fp16"))
    ]
    seeded.seed = 2
    folders.append(store.view_folder(seeded, 0))
    assert len(set(folders)) == len(folders)
    assert store.view_folder(images, 5) == folders[0] == store_in(tmp_path).view_folder(images, 0)


def test_a_replaced_image_is_encoded_anew(tmp_path, make_cfg, encode, decoded):
    root = write_toy(tmp_path / "data")
    cfg = make_cfg(root=root, DATALOADER__FEATURES=True, DATASET__CHECK_IMAGES=False)
    before = torch.cat([batch["feat"] for batch in with_features(cfg, encode).test_loader])
    file = root / "pets/images/test/kind0_0.png"
    write_image(file, 99)
    decoded.clear()
    after = torch.cat([batch["feat"] for batch in with_features(cfg, encode).test_loader])
    assert decoded == [str(file)]
    assert [i for i in range(12) if not torch.equal(before[i], after[i])] == [0]


def test_two_roots_of_the_same_layout_share_nothing_but_equal_pictures(tmp_path, make_cfg, encode, decoded):
    """Names, sizes and times may agree, as in unpacked archives; the content decides."""
    roots = [write_toy(tmp_path / name) for name in ("one", "two")]
    changed = "pets/images/test/kind0_0.bmp", "pets/images/test/kind0_1.bmp"
    for seed, root in enumerate(roots):
        split = root / "pets/split_dk_ToyPets.json"
        split.write_text(split.read_text().replace("kind0_0.png", "kind0_0.bmp").replace("kind0_1.png", "kind0_1.bmp"))
        for shard in ("train", "val", "test"):
            for number in (0, 1):
                write_image(
                    root / f"pets/images/{shard}/kind0_{number}.bmp", 50 + number + seed * 9 * (shard == "test")
                )
        for path in root.rglob("*.*"):
            os.utime(path, ns=(10**18, 10**18))
    assert len({(root / changed[0]).stat().st_size for root in roots}) == 1
    features = []
    for root in roots:
        decoded.clear()
        cfg = make_cfg(root=root, DATALOADER__FEATURES=True, DATASET__CHECK_IMAGES=False)
        features.append(torch.cat([batch["feat"] for batch in with_features(cfg, encode).test_loader]))
    assert decoded == [str(roots[1] / name) for name in changed]
    alone = make_cfg(root=roots[1], DATASET__CHECK_IMAGES=False)
    online = torch.cat([batch["img"] for batch in DataManager(alone).test_loader])
    assert torch.equal(features[1], encode_fixed(encode, online)) and not torch.equal(features[0], features[1])


def test_a_picture_that_is_overwritten_with_its_times_set_back_is_encoded_anew(tmp_path, make_cfg, encode):
    root = write_toy(tmp_path / "data")
    path = root / "pets/images/test/kind0_0.png"
    cfg = make_cfg(root=root, DATALOADER__FEATURES=True, DATASET__CHECK_IMAGES=False)
    first = torch.cat([batch["feat"] for batch in with_features(cfg, encode).test_loader])
    stat = path.stat()
    path.write_bytes((root / "pets/images/test/kind0_1.png").read_bytes())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = torch.cat([batch["feat"] for batch in with_features(cfg, encode).test_loader])
    assert not torch.equal(first[0], again[0]) and torch.equal(first[1:], again[1:])


def test_a_picture_that_changes_while_it_is_encoded_is_told_and_not_kept(tmp_path):
    items = [Datum(str(write_image(tmp_path / f"{number}.png", number)), 0) for number in range(3)]

    def slow(batch):
        write_image(tmp_path / "1.png", 77, (50, 40))
        return flat(batch)

    with pytest.raises(UserError, match=r"1\.png was changed while the run read it; start the same command again$"):
        store_in(tmp_path / "store").get(ImageItems(items, pixels), 0, slow)
    assert not stored_files(tmp_path / "store")
    images = ImageItems(items, pixels)
    assert np.array_equal(taken(store_in(tmp_path / "store").get(images, 0, flat)), direct(images, 0))


def test_another_mode_or_time_of_a_picture_is_no_change(tmp_path):
    items = [Datum(str(write_image(tmp_path / f"{number}.png", number)), 0) for number in range(3)]

    def touched(batch):
        os.utime(items[1].impath, (1, 1))
        os.chmod(items[2].impath, 0o600)  # noqa: PTH101
        return flat(batch)

    images = ImageItems(items, pixels)
    assert np.array_equal(taken(store_in(tmp_path / "store").get(images, 0, touched)), direct(images, 0))
    assert np.array_equal(
        taken(store_in(tmp_path / "store").get(ImageItems(items, pixels), 0, None)), direct(images, 0)
    )


def test_moved_data_is_found_again(tmp_path, pictures):
    old = Path(pictures[0].impath).parent
    store = store_in(tmp_path / "store")
    wanted = taken(store.get(ImageItems(pictures, pixels, root=old), 0, flat))
    new = tmp_path / "elsewhere"
    new.mkdir()
    items = []
    for item in pictures:
        path = new / Path(item.impath).name
        path.write_bytes(Path(item.impath).read_bytes())  # with other times
        items.append(Datum(str(path), 0))
    rows = store_in(tmp_path / "store").get(ImageItems(items, pixels, root=new), 0, None)
    assert np.array_equal(taken(rows), wanted)


@settings(max_examples=25, deadline=None)
@given(
    lists=st.lists(
        st.tuples(st.lists(st.integers(0, 11), min_size=1, max_size=14), st.sampled_from([None, 1, 2]), st.booleans()),
        min_size=1,
        max_size=6,
    )
)
def test_every_get_equals_direct_encoding(pictures, lists):
    known: dict[tuple, set[int]] = {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_PART_ROWS", 3)
        patch.setattr(featurefiles, "MOST_SHARDS", 2)
        encoded = []

        def counted(images):
            encoded.append(images)
            return flat(images)

        store = store_in(folder)
        for chosen, seed, fresh in lists:
            store = store_in(folder) if fresh else store
            images = ImageItems([pictures[i] for i in chosen], shifted if seed else pixels, seed=seed)
            encoded.clear()
            rows = store.get(images, 1, counted)
            have = known.setdefault((seed,), set())
            assert bool(encoded) == bool(set(chosen) - have)
            have |= set(chosen)
            assert np.array_equal(taken(rows), direct(images, 1))
        for path in Path(folder).rglob("seed*"):
            assert sum(len(np.load(shard)) for shard in shard_files(path)) == len(known[int(path.name[4]),])


DAMAGES = ["cut", "text", "empty", "pickle", "feature", "name", "gone", "other shape"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_made_again(tmp_path, pictures, damage):
    images = ImageItems(pictures, pixels)
    store_in(tmp_path).get(ImageItems(pictures[:7], pixels), 0, flat)
    wanted = taken(store_in(tmp_path).get(images, 0, flat)).copy()
    folder = store_in(tmp_path).view_folder(images, 0)
    path = shard_files(folder)[0]
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-20])
    elif damage in ("feature", "name"):
        row = np.load(path).dtype.itemsize
        content[len(content) - row + (30 if damage == "feature" else 3)] ^= 16
        path.write_bytes(content)
    elif damage == "pickle":
        np.save(path, np.array([{}] * 12, dtype=object), allow_pickle=True)
    elif damage == "other shape":
        np.save(path, as_shard(np.load(path)["image"], np.zeros((7, 2), np.float32)))
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else b"something else")
    counts = []
    rows = store_in(tmp_path).get(images, 0, lambda batch: (counts.append(1), flat(batch))[1])
    assert np.array_equal(taken(rows), wanted)
    assert counts == [1]
    again = store_in(tmp_path).get(images, 0, None)
    assert np.array_equal(taken(again), wanted)


def test_stored_features_that_are_not_finite_are_made_again(tmp_path, pictures):
    images = ImageItems(pictures, pixels)
    wanted = taken(store_in(tmp_path).get(images, 0, flat)).copy()
    (path,) = shard_files(store_in(tmp_path).view_folder(images, 0))
    shard = np.load(path)
    shard["feature"][3, 2] = np.nan
    np.save(path, as_shard(shard["image"], shard["feature"]))  # the check is that of the bad values
    assert np.array_equal(taken(store_in(tmp_path).get(images, 0, flat)), wanted)


@pytest.mark.parametrize(
    ("value", "dtype", "remedy"),
    [(np.nan, "fp32", "PREC fp32"), (np.inf, "fp16", "PREC fp32"), (1e6, "fp16", "FEATURES_DTYPE fp32")],
)
def test_features_that_are_not_finite_are_never_stored(tmp_path, pictures, value, dtype, remedy):
    def encode(batch):
        features = flat(batch)
        features[2] = value
        return features

    store = store_in(tmp_path, dtype=dtype)
    with pytest.raises(UserError, match=f"features of 1 of 12 images are not finite .*2.png.*; .*{remedy}"):
        store.get(ImageItems(pictures, pixels), 0, encode)
    assert stored_files(tmp_path) == []


def test_a_killed_run_keeps_its_first_shards(tmp_path, monkeypatch, pictures):
    monkeypatch.setattr(room, "ENCODE_BATCH", 4)
    monkeypatch.setattr(room, "_PART_ROWS", 4)
    images, counts = ImageItems(pictures, pixels), []

    def dying(batch):
        if len(counts) == 2:
            raise KeyboardInterrupt
        counts.append(1)
        return flat(batch)

    store = store_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        store.get(images, 0, dying)
    counts.clear()
    assert np.array_equal(taken(store_in(tmp_path).get(images, 0, dying)), direct(images, 0))
    assert counts == [1]


def test_many_shards_become_few_and_lose_nothing(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(featurefiles, "MOST_SHARDS", 3)
    store = store_in(tmp_path)
    for count in range(1, 13):
        store.get(ImageItems(pictures[:count], pixels), 0, flat)
        assert len(shard_files(store.view_folder(ImageItems(pictures, pixels), 0))) <= 3
    images = ImageItems(pictures, pixels)
    assert np.array_equal(taken(store_in(tmp_path).get(images, 0, None)), direct(images, 0))


def test_a_merge_that_fails_loses_nothing(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(featurefiles, "MOST_SHARDS", 1)
    store, images = store_in(tmp_path), ImageItems(pictures, pixels)
    store.get(ImageItems(pictures[:6], pixels), 0, flat)
    write, calls = featurefiles.ViewFiles._write, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # the first call writes the new shard
            raise UserError("no space left")
        write(*arguments)

    monkeypatch.setattr(featurefiles.ViewFiles, "_write", full)
    rows = store.get(images, 0, flat)
    assert len(calls) == 2
    assert np.array_equal(taken(rows), direct(images, 0))


def test_a_broken_image_leaves_no_file(tmp_path, make_cfg, encode):
    root = write_toy(tmp_path / "data")
    (root / "pets/images/test/kind0_3.png").write_bytes(b"x")
    cfg = make_cfg(root=root, DATASET__CHECK_IMAGES=False, DATALOADER__FEATURES=True)
    manager = with_features(cfg, encode)
    with pytest.raises(UserError, match=r"kind0_3\.png"):
        next(iter(manager.test_loader))
    assert not stored_files(tmp_path / "output")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, pictures, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    store, images = store_in(tmp_path), ImageItems(pictures, pixels)
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", full)
        with pytest.raises(UserError, match=r"^no space left while writing [^\n]*; free some space [^\n]*$"):
            store.get(images, 0, flat)
    assert not stored_files(tmp_path)
    assert np.array_equal(taken(store.get(images, 0, flat)), direct(images, 0))


def test_a_disk_that_forgets_is_told(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(featurefiles.ViewFiles, "_write", lambda *arguments: None)
    with pytest.raises(UserError, match=r"does not return what was just written; check the disk$"):
        store_in(tmp_path).get(ImageItems(pictures, pixels), 0, flat)


def test_a_read_only_store(tmp_path, pictures, monkeypatch, caplog):
    some, images = ImageItems(pictures[:5], pixels), ImageItems(pictures, pixels)
    store_in(tmp_path).get(some, 0, flat)
    before = sorted(tmp_path.rglob("*"))

    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(locks, "_create", refuse)
    store, counts = store_in(tmp_path), []
    assert np.array_equal(taken(store.get(some, 0, None)), direct(some, 0))
    for _ in range(2):
        rows = store.get(images, 0, lambda batch: (counts.append(1), flat(batch))[1])
        assert np.array_equal(taken(rows), direct(images, 0))
    assert counts == [1]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"{store.folder} is read-only: new features are not stored"
    ]
    assert sorted(tmp_path.rglob("*")) == before


# ---- several runs at once -----------------------------------------------------------------------------------------

FORK = multiprocessing.get_context("fork")


def start(action, *arguments):
    """A process of its own that computes in one thread."""

    def body():
        torch.set_num_threads(1)
        action(*arguments)

    process = FORK.Process(target=body)
    process.start()
    return process


def encode_slowly(folder, pictures, inside, go_on):
    def slow(batch):
        inside.set()
        go_on.wait(60)
        return flat(batch)

    store_in(folder).get(ImageItems(pictures, pixels), 0, slow)


def encode_counted(folder, pictures, ready, count):
    def counted(batch):
        count.value += 1
        return flat(batch)

    ready.set()
    store_in(folder).get(ImageItems(pictures, pixels), 0, counted)


def test_the_second_process_waits_and_encodes_nothing(tmp_path, pictures):
    inside, go_on, ready, count = FORK.Event(), FORK.Event(), FORK.Event(), FORK.Value("i", 0)
    first = start(encode_slowly, tmp_path, pictures, inside, go_on)
    assert inside.wait(60)
    second = start(encode_counted, tmp_path, pictures, ready, count)
    assert ready.wait(60)
    second.join(0.3)
    assert second.is_alive()
    go_on.set()
    for process in (first, second):
        process.join(60)
        assert process.exitcode == 0
    assert count.value == 0
    images = ImageItems(pictures, pixels)
    assert np.array_equal(taken(store_in(tmp_path).get(images, 0, None)), direct(images, 0))
    assert len(stored_files(tmp_path)) == 1


def test_a_killed_writer_stops_nobody(tmp_path, pictures):
    inside = FORK.Event()
    writer = start(encode_slowly, tmp_path, pictures, inside, FORK.Event())
    assert inside.wait(60)
    images = ImageItems(pictures, pixels)
    folder = store_in(tmp_path).view_folder(images, 0)
    (folder / ".000001.npy.left").write_bytes(b"half")
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert np.array_equal(taken(store_in(tmp_path).get(images, 0, flat)), direct(images, 0))
    assert [path.name for path in stored_files(tmp_path)] == ["000001.npy"]


def test_a_forked_worker_does_not_hold_the_lock(tmp_path):
    files, end = featurefiles.ViewFiles(tmp_path, np.dtype("<f4"), {}), FORK.Event()
    with files.exclusive():
        worker = start(end.wait, 30)
    with files.exclusive():
        assert worker.is_alive(), "the lock was free before the worker's end"
    end.set()
    worker.join()


def test_a_store_that_is_deleted_while_one_waits(tmp_path, pictures):
    folder = store_in(tmp_path).view_folder(ImageItems(pictures, pixels), 0)
    done = []

    def wait():
        with featurefiles.ViewFiles(folder, np.dtype("<f4"), {}).exclusive():
            done.append(folder.is_dir())

    thread = threading.Thread(target=wait)
    with featurefiles.ViewFiles(folder, np.dtype("<f4"), {}).exclusive():
        thread.start()
        time.sleep(0.1)
        shutil.rmtree(folder)
    thread.join(60)
    assert done == [True]
