"""The tasks on which recipes are chosen."""

import csv
import hashlib

import numpy as np
import pytest

from datasets._render import study
from datasets._render.suite import PER_CLASS, classnames, scan_number


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "images"
    study.write_study(folder)
    return folder


def rows(folder, suite):
    with (folder / suite / f"{suite}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suite", study.SUITES)
def test_every_class_is_in_every_split_and_every_row_has_its_image(written, suite):
    table = rows(written, suite)
    assert len(table) == 400 and all((written / suite / row["image"]).is_file() for row in table)
    for column in study.SUITES[suite]:
        found = {split: {row[column] for row in table if row["split"] == split} for split in ("train", "val", "test")}
        assert found["train"] == found["val"] == found["test"] and len(found["train"]) > 1


def test_images_are_the_same_each_time_and_stay(written, tmp_path):
    study.write_study(tmp_path / "again")
    pictures = [path.relative_to(written) for path in written.rglob("*.png")]
    assert len({hashlib.sha256((written / path).read_bytes()).digest() for path in pictures}) == len(pictures)
    assert all((written / path).read_bytes() == (tmp_path / "again" / path).read_bytes() for path in pictures[::40])
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    study.write_study(written)
    assert before == {path: path.stat().st_mtime_ns for path in written.rglob("*")}


def test_no_scan_is_one_of_the_demo_suite():
    shown = sum(PER_CLASS.values())
    for name in classnames("DemoDigits"):
        mine = {scan_number(name, shown + number) for number in range(40)}
        assert not mine & {scan_number(name, number) for number in range(shown)}


def test_the_labels_are_those_of_the_picture():
    tones = {"dark": [], "bright": []}
    for _, (pixels, labels) in zip(range(60), study._pictures("surfaces"), strict=False):
        if labels["contrast"] == "faint":
            tones[labels["tone"]].append(pixels.max(axis=2).mean())
    assert min(map(len, tones.values())) > 5
    assert np.median(tones["bright"]) > np.median(tones["dark"]) + 30
