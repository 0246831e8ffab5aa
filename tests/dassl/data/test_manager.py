import json
import logging

import pytest
import torch
from PIL import Image

from dassl.data.datum import Datum
from dassl.data.images import ORIGINAL, Reading, read_image
from dassl.data.loaders import BatchPlan, describe
from dassl.data.manager import DataManager
from dassl.data.transforms import build_transform
from dassl.utils.errors import UserError
from tests.dassl.data.large import scene
from tests.dassl.data.toy import ToyPets, write_toy
from tests.folders import golden_folder


def batches(loader, epoch=0):
    loader.set_epoch(epoch)
    return list(loader)


def same(one, two):
    """Whether two lists of batches are equal bit by bit."""
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            if not (value == b[key] if key == "impath" else torch.equal(value, b[key])):
                return False
    return True


def test_batches_hold_what_the_contract_says(make_cfg):
    manager = DataManager(make_cfg("ToyBoth"))
    assert manager.num_classes == 8
    assert manager.offsets.tolist() == [0, 3, 8]
    assert manager.task_of_class.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    first, *_, last = batches(manager.test_loader)
    assert first["img"].shape == (5, 3, 16, 16) and first["img"].dtype == torch.float32
    assert last["img"].shape == (2, 3, 16, 16)
    assert sum(len(batch["index"]) for batch in manager.test_loader) == 32 == len(manager.dataset.test)
    for batch in manager.train_loader_x:
        items = [manager.dataset.train_x[i] for i in batch["index"]]
        assert batch["label"].tolist() == [item.label for item in items]
        assert batch["task"].tolist() == [item.task for item in items]
        assert batch["row"].tolist() == [0, 1, 2, 3]
        assert batch["impath"] == [item.impath for item in items]
        assert {batch[key].dtype for key in ("label", "task", "row", "index")} == {torch.int64}


def test_test_images_are_those_of_the_test_transform(make_cfg):
    cfg = make_cfg()
    manager = DataManager(cfg)
    (batch,) = [b for b in manager.val_loader if 7 in b["index"]]
    wanted = build_transform(cfg, False)(read_image(manager.dataset.val[7].impath, ORIGINAL))
    assert torch.equal(batch["img"][batch["index"] == 7][0], wanted)


@pytest.mark.parametrize("features", [False, True])
def test_plain_batches_have_the_order_of_the_split_and_the_views_that_are_asked_for(make_cfg, features):
    def encode(images):
        return images.flatten(1)

    manager = DataManager(make_cfg(DATALOADER__FEATURES=features))
    manager.attach_encoder(encode, "pixels")
    views = {}
    for name, augmented, epoch in (("test", False, 0), ("first", True, 0), ("second", True, 1)):
        loader = manager.plain_loader("train", augmented=augmented)
        loader.set_epoch(epoch)
        batches = list(loader)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(len(manager.dataset.train_x)))
        views[name] = torch.cat([batch["feat"] if features else encode(batch["img"]) for batch in batches])
    manager.train_loader_x.set_epoch(1)
    for batch in manager.train_loader_x:
        seen = batch["feat"] if features else encode(batch["img"])
        assert torch.equal(seen, views["second"][batch["index"]])
    assert not torch.equal(views["first"], views["second"])
    assert not torch.equal(views["test"], views["first"])


def test_images_of_two_tasks_have_two_entries(make_cfg):
    manager = DataManager(make_cfg("ToyShapes"))
    batch = next(iter(manager.test_loader))
    assert batch["index"].tolist() == [0, 1, 2, 3, 4]
    assert batch["row"].tolist() == [0, 0, 1, 1, 2, 3, 4, 4]
    assert batch["task"].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert batch["label"].tolist() == [0, 0, 1, 1, 0, 2, 0, 0]


def test_recorded_label_vectors():
    """The entries of a batch say the same as the original's vector: -1 outside the image's tasks, 1 at its classes."""
    facts = json.loads((golden_folder("labels") / "labels.json").read_text())
    offsets = torch.tensor([0, *facts["num_classes"]]).cumsum(0)
    items = [
        Datum("x", e["label"][0], e["task"][0], tuple(zip(e["task"][1:], e["label"][1:], strict=True)))
        for e in facts["examples"]
    ]
    batch = describe(items, range(len(items)))
    vectors = torch.full((len(items), int(offsets[-1])), -1)
    for row, task, label in zip(batch["row"], batch["task"], batch["label"], strict=True):
        vectors[row, offsets[task] : offsets[task + 1]] = 0
        vectors[row, offsets[task] + label] = 1
    assert vectors.tolist() == [example["vector"] for example in facts["examples"]]


def test_workers_change_nothing_and_epochs_do(make_cfg):
    alone, helped = DataManager(make_cfg("ToyBoth")), DataManager(make_cfg("ToyBoth", DATALOADER__NUM_WORKERS=2))
    if not helped.train_loader_x.source.reader.workers:
        pytest.skip("one processor core")
    torch.manual_seed(123)
    epochs = [batches(alone.train_loader_x, epoch) for epoch in range(3)]
    state = torch.get_rng_state()
    # Out of order and after other draws: an epoch is what its number says.
    for epoch in (2, 0, 1, 2):
        torch.rand(5)
        assert same(batches(helped.train_loader_x, epoch), epochs[epoch])
    torch.manual_seed(123)
    assert torch.equal(state, torch.get_rng_state())
    assert same(batches(alone.test_loader), batches(helped.test_loader))
    assert not same(epochs[0], epochs[1])


def test_views_differ_between_epochs_and_seeds(make_cfg):
    def view_of_first(epoch, **changes):
        loader = DataManager(make_cfg(DATALOADER__TRAIN_X__SAMPLER="SequentialSampler", **changes)).train_loader_x
        return batches(loader, epoch)[0]["img"][0]

    views = [view_of_first(epoch) for epoch in range(3)] + [view_of_first(0, SEED=2)]
    assert all(not torch.equal(one, two) for i, one in enumerate(views) for two in views[:i])
    assert torch.equal(views[1], view_of_first(1))


def test_an_image_has_the_same_views_elsewhere_in_a_suite(make_cfg):
    def views(name, **changes):
        loader = DataManager(make_cfg(name, **changes)).train_loader_x
        loader.plan.drop_last = False
        return {
            path: img for batch in batches(loader, 1) for path, img in zip(batch["impath"], batch["img"], strict=True)
        }

    alone, suite = views("ToyPets"), views("ToyBoth", DATASET__MEMBERS=("ToyTools", "ToyPets"))
    assert len(alone) == 15
    assert all(torch.equal(img, suite[path]) for path, img in alone.items())


def test_order_of_an_epoch():
    def order(plan, epoch):
        plan.epoch = epoch
        return [index for keys in plan for _, index in keys]

    plan = BatchPlan(20, 6, seed=3, shuffle=True)
    epochs = [order(plan, epoch) for epoch in range(4)]
    assert all(sorted(each) == list(range(20)) for each in epochs)
    assert len({tuple(each) for each in epochs}) == 4
    assert order(plan, 1) == epochs[1] == order(BatchPlan(20, 4, seed=3, shuffle=True), 1)
    assert order(BatchPlan(20, 6, seed=4, shuffle=True), 0) not in epochs
    assert order(BatchPlan(20, 6), 5) == list(range(20))


def test_views_in_turn_and_orders_of_their_own():
    plan = BatchPlan(20, 6, seed=3, shuffle=True, views=3)
    free = BatchPlan(20, 6, seed=3, shuffle=True)
    for epoch in range(7):
        plan.epoch = free.epoch = epoch
        assert [[(epoch % 3, index) for _, index in keys] for keys in free] == list(plan)


@pytest.mark.parametrize("stored", [False, True], ids=["images", "features"])
def test_epochs_take_the_views_in_turn(tmp_path, make_cfg, stored):
    keys = {"INPUT__TRANSFORMS": ("random_resized_crop",), "INPUT__VIEWS": 2, "DATALOADER__FEATURES": stored}
    manager = DataManager(make_cfg(root=write_toy(tmp_path), **keys))
    if stored:
        manager.attach_encoder(lambda images: images.flatten(1)[:, :50], "flat")

    def seen(epoch):
        manager.train_loader_x.set_epoch(epoch)
        index = [(batch["index"], batch["feat" if stored else "img"]) for batch in manager.train_loader_x]
        return {int(i): image for numbers, images in index for i, image in zip(numbers, images, strict=True)}

    first, second, third = map(seen, range(3))
    both = first.keys() & third.keys()
    assert both and all(torch.equal(first[i], third[i]) for i in both)
    assert any(not torch.equal(first[i], second[i]) for i in first.keys() & second.keys())


@pytest.mark.parametrize(
    ("count", "drop", "sizes"),
    [(20, True, [6, 6, 6]), (20, False, [6, 6, 6, 2]), (5, True, [5]), (6, True, [6]), (0, True, [])],
)
def test_the_short_batch(count, drop, sizes):
    plan = BatchPlan(count, 6, drop_last=drop)
    assert [len(keys) for keys in plan] == sizes
    assert len(plan) == len(sizes)


def test_no_validation_images(tmp_path, make_cfg):
    root = write_toy(tmp_path)
    path = root / "pets" / "split_dk_ToyPets.json"
    split = json.loads(path.read_text())
    path.write_text(json.dumps({**split, "val": []}))
    manager = DataManager(make_cfg(root=root))
    assert manager.val_loader is None
    assert len(manager.train_loader_x) == 3


@pytest.fixture
def broken_root(tmp_path):
    root = write_toy(tmp_path / "data")
    for name in ("train/kind1_2.png", "test/kind0_0.png"):
        path = root / "pets/images" / name
        path.write_bytes(path.read_bytes()[:200])
    (root / "pets/images/val/kind2_1.png").unlink()
    return root


def test_unreadable_images_stop_the_run_before_it_starts(broken_root, make_cfg):
    with pytest.raises(UserError) as caught:
        DataManager(make_cfg(root=broken_root))
    message = str(caught.value)
    assert message.startswith("3 unreadable images: ")
    assert "train/kind1_2.png (" in message and "SKIP_UNREADABLE" in message and "\n" not in message


def test_unreadable_images_can_be_left_out(broken_root, make_cfg, caplog):
    with caplog.at_level(logging.WARNING):
        manager = DataManager(make_cfg(root=broken_root, DATASET__SKIP_UNREADABLE=True))
    (record,) = caplog.records
    assert record.getMessage().startswith("3 unreadable images: ")
    dataset = manager.dataset
    assert [len(dataset.train_x), len(dataset.val), len(dataset.test)] == [14, 8, 11]
    assert sum(len(batch["index"]) for batch in manager.test_loader) == 11


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_later_is_one_line(broken_root, make_cfg, workers):
    manager = DataManager(make_cfg(root=broken_root, DATASET__CHECK_IMAGES=False, DATALOADER__NUM_WORKERS=workers))
    with pytest.raises(UserError) as caught:
        list(manager.test_loader)
    assert "test/kind0_0.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_sampler(make_cfg):
    with pytest.raises(UserError, match="RandomSampler or SequentialSampler"):
        DataManager(make_cfg(DATALOADER__TRAIN_X__SAMPLER="Random"))


@pytest.fixture
def clear_root(tmp_path):
    """Pictures whose left half is transparent, with a random picture under it."""
    root = write_toy(tmp_path / "data")
    for path in (root / "pets/images").rglob("*.png"):
        picture = Image.open(path).convert("RGBA")
        picture.putalpha(picture.getchannel("A").point(lambda _: 0))
        picture.paste((0, 90, 0, 255), (picture.width // 2, 0, picture.width, picture.height))
        picture.save(path)
    return root


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("as_seen", [False, True])
def test_the_data_set_and_the_keys_say_how_pictures_are_read(clear_root, make_cfg, monkeypatch, as_seen, features):
    monkeypatch.setattr(ToyPets, "as_seen", as_seen)
    usual, seen = "white" if as_seen else "original", []
    for key, background in (("", usual), ("white", "white"), ("original", "original"), ("#00f", "#00f")):
        cfg = make_cfg(root=clear_root, INPUT__BACKGROUND=key, DATALOADER__FEATURES=features)
        manager = DataManager(cfg)
        manager.attach_encoder(lambda images: images.flatten(1), "pixels")
        item = manager.dataset.test[0]
        wanted = build_transform(cfg, False)(read_image(item.impath, Reading(background)))
        batch = next(iter(manager.test_loader))
        seen.append(batch["feat" if features else "img"][0].flatten())
        assert torch.equal(seen[-1], wanted.flatten())
    assert len({tuple(pixels.tolist()) for pixels in seen}) == 3


@pytest.fixture
def large_root(tmp_path):
    """Three large pictures, one of them a test image, among small ones."""
    root = write_toy(tmp_path / "data")
    for number, name in enumerate(("train/kind0_0.png", "train/kind1_1.png", "test/kind0_0.png")):
        scene(300, 400, number).save(root / "pets/images" / name)
    return root


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("as_seen", [False, True])
def test_large_pictures_are_reduced_for_own_tasks_and_counted(
    large_root, make_cfg, monkeypatch, caplog, as_seen, features
):
    monkeypatch.setattr(ToyPets, "as_seen", as_seen)
    caplog.set_level(logging.INFO)
    found = {}
    for key in ("", "original", "reduced"):
        caplog.clear()
        cfg = make_cfg(root=large_root, INPUT__RESOLUTION=key, DATALOADER__FEATURES=features)
        manager, reduced = DataManager(cfg), key == "reduced" or (as_seen and not key)
        manager.attach_encoder(lambda images: images.flatten(1), "pixels")
        assert manager.reduced_count == (3 if reduced else 0)
        assert ("3 of" in caplog.text and "66 pixels" in caplog.text) == reduced
        where = next(n for n, item in enumerate(manager.dataset.test) if item.impath.endswith("test/kind0_0.png"))
        batches = [batch["feat" if features else "img"].flatten(1) for batch in manager.test_loader]
        found[key] = torch.cat(batches)[where]
        reading = Reading(
            *(("white", "upright") if as_seen else ("original", "original")), shortest=66 if reduced else 0
        )
        wanted = build_transform(cfg, False)(read_image(manager.dataset.test[where].impath, reading))
        assert torch.equal(found[key], wanted.flatten())
    assert not torch.equal(found["reduced"], found["original"])
    assert torch.equal(found[""], found["reduced" if as_seen else "original"])


def test_reduced_pictures_are_not_counted_without_the_check(large_root, make_cfg):
    assert DataManager(make_cfg(root=large_root, DATASET__CHECK_IMAGES=False)).reduced_count == 0
    cfg = make_cfg(root=large_root, DATASET__CHECK_IMAGES=False, INPUT__RESOLUTION="reduced")
    assert DataManager(cfg).reduced_count is None


def test_blank_pictures_are_told_once_and_with_numbers(tmp_path, make_cfg, caplog):
    root = write_toy(tmp_path / "data")
    with caplog.at_level(logging.WARNING):
        DataManager(make_cfg(root=root))
    assert not caplog.records
    for name in ("train/kind1_2.png", "test/kind0_0.png", "test/kind0_1.png"):
        Image.new("RGB", (20, 20), "black").save(root / "pets/images" / name)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            DataManager(make_cfg(root=root))
        (record,) = caplog.records
        message = record.getMessage()
        assert message.startswith("3 of 36 pictures (train 1, val 0, test 2) are blank: ")
        assert "train/kind1_2.png" in message and "\n" not in message
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        DataManager(make_cfg(root=root, DATASET__CHECK_IMAGES=False))
    assert not caplog.records
