import threading

import numpy as np
import pytest
import torch
from torch import nn

from dassl.data import loaders
from dassl.data.features import FeatureStore
from dassl.data.loaders import ImageItems
from dassl.data.manager import DataManager
from dassl.data.transforms import build_transform
from dassl.utils.errors import UserError
from tests.dassl.data.toy import write_toy


@pytest.fixture(scope="module")
def encode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.GELU(), nn.Flatten(), nn.Linear(96, 7)).eval()
    return model.requires_grad_(False)


@pytest.fixture
def decoded(monkeypatch):
    """Paths of the images that are really decoded."""
    seen = []
    read = loaders.read_image
    monkeypatch.setattr(loaders, "read_image", lambda path: (seen.append(path), read(path))[1])
    return seen


def with_features(cfg, encode, encoder_id="random/0"):
    manager = DataManager(cfg)
    manager.attach_encoder(encode, encoder_id)
    return manager


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
        for plain, first, second in zip(*lists, strict=True):
            torch.testing.assert_close(first["feat"], encode(plain["img"]), rtol=0, atol=1e-5)
            assert torch.equal(first["feat"], second["feat"])
            assert first["feat"].dtype == torch.float32
            assert "img" not in first
            for key in ("label", "task", "row", "index"):
                assert torch.equal(plain[key], first[key])
            assert plain["impath"] == second["impath"]


def test_workers_encode_the_same(make_cfg, encode, tmp_path):
    folders = [str(tmp_path / name) for name in ("alone", "helped")]
    managers = [
        with_features(
            make_cfg(DATALOADER__FEATURES=True, DATALOADER__FEATURES_DIR=folder, DATALOADER__NUM_WORKERS=workers),
            encode,
        )
        for folder, workers in zip(folders, (0, 2), strict=True)
    ]
    one, two = (next(iter(manager.train_loader_x))["feat"] for manager in managers)
    assert torch.equal(one, two)


def test_test_features_are_shared_by_shots_and_seeds(make_cfg, encode, decoded):
    def run(**changes):
        decoded.clear()
        manager = with_features(make_cfg(DATALOADER__FEATURES=True, **changes), encode, changes.pop("id", "a"))
        return [batch["feat"] for batch in manager.test_loader], len(decoded)

    first, count = run()
    again, none = run(SEED=5, DATASET__NUM_SHOTS=1, DATALOADER__TEST__BATCH_SIZE=5)
    assert (count, none) == (12, 0)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert run(INPUT__INTERPOLATION="nearest")[1] == 12


def test_several_features_an_image_keep_their_shape(make_cfg, encode):
    def pairs(batch):
        return encode(batch).view(-1, 1, 7).expand(-1, 3, -1) * torch.arange(3.0)[:, None]

    cfg = make_cfg(DATALOADER__FEATURES=True)
    cold, warm = (list(with_features(cfg, pairs, "local").test_loader) for _ in range(2))
    plain = DataManager(make_cfg()).test_loader
    for first, second, batch in zip(cold, warm, plain, strict=True):
        torch.testing.assert_close(first["feat"], pairs(batch["img"]), rtol=0, atol=1e-5)
        assert torch.equal(first["feat"], second["feat"])


def store_and_images(make_cfg, folder, items, encoder_id="e"):
    images = ImageItems(items, build_transform(make_cfg(), False))
    return FeatureStore(folder, encoder_id=encoder_id, transform_id="t"), images


def test_other_encoders_and_changed_images_have_other_files(tmp_path, make_cfg):
    root = write_toy(tmp_path / "data")
    items = DataManager(make_cfg(root=root)).dataset.test
    store, images = store_and_images(make_cfg, tmp_path / "features", items)
    paths = {store.path(images, 0), store_and_images(make_cfg, tmp_path, items, "other")[0].path(images, 0)}
    images.seed = 1
    paths |= {store.path(images, 0), store.path(images, 1)}
    images.seed = 2
    paths.add(store.path(images, 0))
    file = root / "pets/images/test/kind0_0.png"
    file.write_bytes(file.read_bytes() + b" ")
    paths.add(store.path(images, 0))
    assert len(paths) == 6


@pytest.mark.parametrize("damage", ["cut", "rows", "text", "empty", "pickle"])
def test_a_damaged_file_is_made_again(tmp_path, make_cfg, encode, damage):
    items = DataManager(make_cfg()).dataset.test
    store, images = store_and_images(make_cfg, tmp_path / "features", items)
    wanted = np.array(store.get(images, 0, encode))
    path = store.path(images, 0)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "rows":
        with path.open("wb") as file:
            np.save(file, wanted[:-1])
    elif damage == "pickle":
        with path.open("wb") as file:
            np.save(file, np.array([{}] * len(items), dtype=object))
    else:
        path.write_bytes(b"" if damage == "empty" else b"something else")
    assert np.array_equal(store.get(images, 0, encode), wanted)
    assert np.array_equal(np.load(path), wanted)


def test_two_runs_may_start_at_once(tmp_path, make_cfg, encode):
    items = DataManager(make_cfg()).dataset.test
    barrier, results = threading.Barrier(2, timeout=60), []

    def together(batch):
        barrier.wait()
        return encode(batch)

    def run():
        store, images = store_and_images(make_cfg, tmp_path / "features", items)
        results.append(np.array(store.get(images, 0, together)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(*results)
    assert [path.suffix for path in (tmp_path / "features").rglob("*") if path.is_file()] == [".npy"]


def test_a_broken_image_leaves_no_file(tmp_path, make_cfg, encode):
    root = write_toy(tmp_path / "data")
    (root / "pets/images/test/kind0_3.png").write_bytes(b"x")
    cfg = make_cfg(root=root, DATASET__CHECK_IMAGES=False, DATALOADER__FEATURES=True)
    manager = with_features(cfg, encode)
    with pytest.raises(UserError, match=r"kind0_3\.png"):
        next(iter(manager.test_loader))
    assert not [path for path in (tmp_path / "output").rglob("*") if path.is_file()]
