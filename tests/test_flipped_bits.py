"""A bit that flips in a file of ours is found: the file is named, or made anew; no number comes out otherwise."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import parse_test_res
from dassl.data.contents import DigestIndex
from dassl.data.copies import recorded_pictures
from dassl.data.datum import Datum, Split, Task
from dassl.data.features.files import shard_files
from dassl.data.loaders import ImageItems
from dassl.data.own.splitfile import SplitFile
from dassl.data.places import write_json_somewhere
from dassl.data.splits import read_split, split_content
from dassl.engine.checkpoint import load_checkpoint, save_checkpoint
from dassl.engine.tasks import read_tasks, write_tasks
from dassl.inference import load_classifier
from dassl.results.predictions import PREDICTIONS_FILE, PredictedImage, read_predictions, write_predictions
from dassl.results.record import read_results, write_results
from dassl.utils.errors import UserError
from datasets._fetch.download import keep, refuse_damaged
from tests.dassl.data.features.test_store import flat, pixels, store_in, taken
from tests.dassl.data.toy import write_image
from tests.dassl.engine.cutting import cut_off
from tests.dassl.engine.test_checkpoint import content
from tests.dassl.results.samples import make_result
from tests.lab import figures, same_tensors

TASK = Task("pets", ("cat", "dog"), "mean_acc", "kinds of pet", "a photo of a {}.")
# Bits that flip in one file, as places from 0 to 1.
FLIPS = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8, unique=True)
OFTEN = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Kind:
    """A kind of file: how one is written below a folder, and how a program reads it."""

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]


def checkpoint(folder: Path) -> Path:
    return save_checkpoint(folder / "part", {**content(3, ctx=torch.arange(48.0).view(6, 8)), "names": ["a", "b"]})


def loaded(path: Path) -> str:
    return repr(load_checkpoint(path))


def result(folder: Path) -> Path:
    return write_results(folder, make_result())


def tasks(folder: Path) -> Path:
    write_tasks(folder, [TASK])
    return folder / "tasks.json"


def split(folder: Path) -> Path:
    lists = [[Datum(str(folder / f"{part}{n}.png"), n % 2) for n in range(6)] for part in ("a", "b", "c")]
    value = split_content(Split((TASK,), *lists), folder)
    return write_json_somewhere((folder / "split.json", folder / "stand.json"), value, indent=None)


def parts(folder: Path) -> Path:
    value = {"ratios": {"mugs": [0.5, 0.2, 0.3]}, "train": ["0.png", "1.png"], "val": ["2.png"], "test": ["3.png"]}
    return write_json_somewhere((folder / "parts.json", folder / "stand.json"), value)


def archive(folder: Path) -> Path:
    (folder / "part").write_bytes(random.Random(0).randbytes(500))
    keep(folder / "part", folder / "archive.tar")
    return folder / "archive.tar"


def published(path: Path) -> None:
    refuse_damaged(path, [f"md5:{hashlib.md5(random.Random(0).randbytes(500)).hexdigest()}"])


def predictions(folder: Path) -> Path:
    rows = [PredictedImage(f"pets/{n}.png", "animal", "cat", "dog", 0.25, 0.5) for n in range(20)]
    said = write_predictions(folder / PREDICTIONS_FILE, rows)
    write_results(folder, make_result(predictions=said))
    return folder / PREDICTIONS_FILE


REFUSED = {
    "checkpoint": Kind(checkpoint, loaded),
    "results.json": Kind(result, lambda path: read_results(path.parent)),
    "predictions.csv": Kind(predictions, lambda path: read_predictions(path.parent)),
    "tasks.json": Kind(tasks, lambda path: read_tasks(path.parent)),
    "split file": Kind(split, lambda path: read_split(path, path.parent, TASK)),
    "split of own tasks": Kind(parts, lambda path: SplitFile((path, path.with_name("x")), path.parent)._read()),
    "archive": Kind(archive, lambda path: refuse_damaged(path, [])),
    "archive with a published digest": Kind(archive, published),
}


def flip(path: Path, whole: bytes, places: list[float]) -> None:
    """Write ``whole`` with flipped bits, each bit at most once."""
    damaged = bytearray(whole)
    for bit in {int(place * len(whole) * 8) for place in places}:
        damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)


@pytest.mark.parametrize("kind", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_made_anew_is_refused_by_name(kind, tmp_path):
    path = kind.write(tmp_path)
    whole, value = path.read_bytes(), kind.read(path)

    @OFTEN
    @given(FLIPS)
    def damage(places):
        flip(path, whole, places)
        try:
            found = kind.read(path)
        except UserError as error:
            assert path.name in str(error) and "\n" not in str(error)
        else:
            assert found == value and path.suffix == ".json", "only where a line ends may another character stand"

    damage()


@pytest.mark.parametrize("kind", REFUSED.values(), ids=REFUSED)
def test_every_single_bit_counts(kind, tmp_path):
    """One flip in each of the bytes that hold the digest, and in many others."""
    path = kind.write(tmp_path)
    whole = path.read_bytes()
    kind.read(path)
    for byte in {*range(0, len(whole), 1 + len(whole) // 200), *range(max(0, len(whole) - 100), len(whole))}:
        flip(path, whole, [(byte + 0.3) / len(whole)])
        with pytest.raises(UserError):
            kind.read(path)


@settings(OFTEN, max_examples=60)
@given(FLIPS)
def test_stored_features_are_made_again(tmp_path_factory, places):
    folder = tmp_path_factory.mktemp("store")
    images = ImageItems(stored_pictures(tmp_path_factory), pixels)
    wanted = taken(store_in(folder).get(images, 0, flat)).copy()
    (path,) = shard_files(store_in(folder).view_folder(images, 0))
    flip(path, path.read_bytes(), places)
    found = taken(store_in(folder).get(images, 0, flat))
    assert found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes()
    shutil.rmtree(folder)


def stored_pictures(factory: pytest.TempPathFactory) -> list[Datum]:
    """Five small pictures, written once in a session."""
    folder = factory.getbasetemp() / "flipped-bits-pictures"
    names = [folder / f"{number}.png" for number in range(5)]
    return [Datum(str(name if name.is_file() else write_image(name, number)), 0) for number, name in enumerate(names)]


@pytest.mark.parametrize("byte", [b"<f4", b"<f2"])
@pytest.mark.parametrize("other", [b">f4", b"<i4", b"<u4", b"|b4"])
def test_a_header_of_another_type_is_no_header(tmp_path, tmp_path_factory, byte, other, caplog):
    """The checks of the records would still hold."""
    images = ImageItems(stored_pictures(tmp_path_factory), pixels)
    options = {"dtype": "fp16"} if byte == b"<f2" else {}
    other = other.replace(b"4", byte[2:])
    wanted = taken(store_in(tmp_path, **options).get(images, 0, flat)).copy()
    (path,) = shard_files(store_in(tmp_path, **options).view_folder(images, 0))
    path.write_bytes(path.read_bytes().replace(byte, other))
    assert taken(store_in(tmp_path, **options).get(images, 0, flat)).tobytes() == wanted.tobytes()
    assert f"{path} is damaged; its features are made again" in caplog.text


def test_a_damaged_feature_is_named(tmp_path, tmp_path_factory, caplog):
    images = ImageItems(stored_pictures(tmp_path_factory), pixels)
    store_in(tmp_path).get(images, 0, flat)
    (path,) = shard_files(store_in(tmp_path).view_folder(images, 0))
    flip(path, path.read_bytes(), [0.99])
    store_in(tmp_path).get(images, 0, flat)
    assert caplog.text.count(f"1 stored features in {path.parent} were damaged after they were written") == 1


@OFTEN
@given(FLIPS)
def test_the_table_of_contents_forgets_all(tmp_path, places):
    path, keys = tmp_path / "table", [bytes([n]) * 16 for n in range(5)]
    index = DigestIndex(path)
    for key in keys:
        index.put(key, key * 2)
    index.save()
    flip(path, path.read_bytes(), places)
    assert all(value in (None, key * 2) for key, value in zip(keys, DigestIndex(path).find(keys), strict=True))
    path.unlink()


@settings(OFTEN, max_examples=50)
@given(FLIPS)
def test_the_record_of_equal_pictures_is_made_again(tmp_path, tmp_path_factory, places):
    paths = [item.impath for item in stored_pictures(tmp_path_factory)]
    shutil.copy(paths[0], tmp_path / "copy.png")
    paths.append(str(tmp_path / "copy.png"))
    for path in paths:  # a file of just now may still change, and nothing is recorded of it
        os.utime(path, (1e9, 1e9))
    wanted = recorded_pictures(paths, tmp_path, 1e9)
    for record in (tmp_path / "copies").glob("*.json"):
        flip(record, record.read_bytes(), places)
    assert recorded_pictures(paths, tmp_path, 1e9) == wanted


# ---- whole runs -----------------------------------------------------------------------------------------------------


def test_a_few_shot_file_is_named_and_written_again(lab, tmp_path):
    shutil.copytree(lab.root, tmp_path / "data")
    own = type(lab)(tmp_path / "data", lab.backbone, lab.output)
    first = own.run("first")
    (path, *_) = sorted(own.root.rglob("shot_2-seed_1.json"))
    whole = path.read_bytes()
    flip(path, whole, [0.5])
    assert figures(own.run("second")) == figures(first)
    assert path.read_bytes() == whole
    (named,) = [warning for warning in own.result("second").warnings if "its digest does not match" in warning]
    assert f"DATASET.ROOT/{path.relative_to(own.root).as_posix()}" in named and "it is written again" in named


def test_a_run_that_finds_a_damaged_checkpoint_takes_an_earlier_one(lab):
    keys = {"OPTIM__MAX_EPOCH": 4, "TRAIN__CHECKPOINT_FREQ": 1}
    cut_off(lab, epoch=3, batch=0, **keys)
    path = lab.folder("run") / "prompt_gen/model.pth.tar-3"
    flip(path, path.read_bytes(), [0.5])
    mine = lab.run(**keys)
    place = "OUTPUT_DIR/prompt_gen/model.pth.tar-3"
    assert f"checkpoint {place} was changed or damaged after it was written" in " ".join(mine.warnings)
    assert "after epoch 2\n" in lab.log()
    assert figures(mine) == figures(lab.run("whole", **keys))
    assert same_tensors(lab.learned(), lab.learned("whole"))


def test_a_damaged_checkpoint_is_refused_by_every_other_door(lab, capsys):
    lab.run("trained")
    path = lab.folder("trained") / "prompt_gen/model.pth.tar-3"
    flip(path, path.read_bytes(), [0.5])
    doors = [("run", "--eval-only", "--model-dir", str(lab.folder("trained"))), ("run",)]
    for flags, keys in zip(doors, ({}, {"MODEL__INIT_WEIGHTS": lab.folder("trained")}), strict=True):
        capsys.readouterr()
        assert lab.main(*flags, **keys) == 2
        assert f"error: checkpoint {path} was changed or damaged after it was written" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"prompt_gen/model\.pth\.tar-3 was changed or damaged"):
        load_classifier(lab.folder("trained"))


def test_checkpoints_and_results_of_earlier_versions_have_no_digest_and_are_read(lab):
    first = lab.run()
    for path in lab.folder("run").glob("*/model.pth.tar-*"):
        torch.save(torch.load(path, weights_only=True), path)
    path = lab.folder("run") / "results.json"
    value = json.loads(path.read_text())
    assert list(value)[-1] == "blake2b"
    del value["blake2b"]
    path.write_text(json.dumps(value))
    assert lab.result() == first
    assert lab.run("again", "--eval-only", "--model-dir", str(lab.folder("run"))).tasks == first.tasks


def test_a_result_that_somebody_has_changed_is_in_no_table_and_is_said_there(lab, capsys):
    lab.run()
    path = lab.folder("run") / "results.json"
    path.write_text(path.read_text().replace('"metric": ', '"metric": 9', 1))
    capsys.readouterr()
    assert lab.main() == 2
    told = capsys.readouterr().err
    assert told == (
        f"error: {path} was changed or damaged after it was written: its digest does not match; put it back from a "
        "copy, or delete it and start the run's command again\n"
    )
    assert parse_test_res.main([str(lab.output / "runs")]) == 1
    assert "left out: run (" in (shown := capsys.readouterr().out) and "changed or damaged after it was" in shown


def test_a_config_that_somebody_has_changed_gives_no_predictions(lab):
    lab.run()
    path = lab.folder("run") / "config.yaml"
    path.write_text(path.read_text().replace("TOKEN_POSITION: end", "TOKEN_POSITION: front"))
    with pytest.raises(UserError, match=r"config.yaml was changed or damaged .*TOKEN_POSITION is 'front' there, 'end'"):
        load_classifier(lab.folder("run"))


def test_a_config_without_checkpoints_to_compare_with_is_warned_of(lab, caplog):
    lab.run(trainer="ZeroshotCLIP")
    path = lab.folder("run") / "config.yaml"
    load_classifier(lab.folder("run"))
    assert "is not the config of" not in caplog.text
    path.write_text(path.read_text().replace("NUM_SHOTS: 2", "NUM_SHOTS: 3"))
    load_classifier(lab.folder("run"))
    assert f"{path} is not the config of the run's results.json" in caplog.text
