"""The rendered world: pictures depend on their key alone, and data sets are written whole or not at all."""

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from dassl.utils.errors import UserError
from datasets._render import suite
from datasets._render.sheet import contact_sheet, demo_rows
from tests.dassl.utils.test_owners import gone

RENDERED = [name for name in suite.MEMBERS if name != "DemoDigits"]
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets of two images a class."""
    monkeypatch.setattr(suite, "PER_CLASS", {"train": 1, "val": 0, "test": 1})


@pytest.mark.parametrize("name", suite.MEMBERS)
def test_an_image_depends_on_its_key_alone(name: str) -> None:
    first, last = suite.classnames(name)[0], suite.classnames(name)[-1]
    alone = suite.render(name, first, 3)
    suite.render(name, last, 0)
    np.random.default_rng().random()
    assert np.array_equal(suite.render(name, first, 3), alone)
    assert alone.shape == (64, 64, 3)
    assert alone.dtype == np.uint8
    for other in (suite.render(name, first, 4), suite.render(name, last, 3)):
        assert np.abs(other.astype(int) - alone).mean() > 3


def test_another_process_draws_the_same() -> None:
    """Neither hash randomisation nor an import order reaches the pixels."""
    program = (
        "import zlib; from datasets._render import pretrain, suite; "
        "print([zlib.crc32(suite.render(n, suite.classnames(n)[1], 5).tobytes()) for n in suite.MEMBERS], "
        "[zlib.crc32(pretrain.scene(1, k)[0].tobytes()) for k in range(10)])"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=CHECKOUT,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


def test_pictures_of_a_class_vary() -> None:
    for name in RENDERED:
        pictures = np.stack([suite.render(name, suite.classnames(name)[2], k) for k in range(6)]).astype(float)
        assert pictures.std(0).mean() > 10, name


def test_the_suite_has_six_tasks_of_four_to_twelve_classes_with_enough_images() -> None:
    for part, least in {"train": 20, "val": 6, "test": 30}.items():
        assert suite.PER_CLASS[part] >= least
    sizes = [len(set(suite.classnames(name))) for name in suite.MEMBERS]
    assert len(sizes) == 6
    assert all(4 <= size <= 12 for size in sizes)
    assert sum(sizes) == 48


@pytest.mark.parametrize("name", ["DemoDigits", "DemoLayouts"])
def test_a_data_set_on_disk(name: str, few: None, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "set"
    suite.write_demo(name, folder)
    content = json.loads((folder / f"split_zhou_{name}.json").read_text())
    names = suite.classnames(name)
    assert list(content) == ["train", "val", "test"]
    assert [item[1:] for item in content["test"]] == [[label, classname] for label, classname in enumerate(names)]
    files = {path for part in content.values() for path, _, _ in part}
    assert {path.relative_to(folder / "images").as_posix() for path in folder.rglob("*.png")} == files
    path, label, classname = content["test"][1]
    with Image.open(folder / "images" / path) as image:
        assert np.array_equal(np.asarray(image), suite.render(name, classname, 1))
    assert label == 1
    assert [child.name for child in folder.parent.iterdir()] == ["set"]


def test_parts_of_a_split_share_no_image() -> None:
    parts = suite.split("DemoDigits")
    items = [item for part in parts.values() for item in part]
    assert len({path for path, _, _ in items}) == len(items) == 10 * 64
    scans = {suite.scan_number(classname, int(Path(path).stem)) for path, _, classname in items}
    assert len(scans) == len(items)


def test_digits_are_the_real_scans() -> None:
    bunch = load_digits()
    for digit, name in enumerate(suite.classnames("DemoDigits")):
        number = suite.scan_number(name, 7)
        assert bunch.target[number] == digit
        picture = Image.fromarray(suite.render("DemoDigits", name, 7))
        small = np.asarray(picture.convert("L").resize((8, 8), Image.Resampling.BOX), float)
        ink = 255 - bunch.images[number] * 255 / 16
        assert np.corrcoef(small.ravel(), ink.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_writing_leaves_nothing(
    error: BaseException, few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = suite.render, []

    def render_then_stop(*key: object) -> np.ndarray:
        calls.append(key)
        if len(calls) == 4:
            raise error
        return real(*key)

    monkeypatch.setattr(suite, "render", render_then_stop)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt):
        suite.write_demo("DemoCounts", tmp_path / "counts")
    assert list(tmp_path.iterdir()) == []


def _write(folder: Path) -> None:
    suite.PER_CLASS = {"train": 1, "val": 0, "test": 1}
    suite.write_demo("DemoPatterns", folder)


def test_two_processes_at_once_do_not_clash(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path / "patterns",)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [child.name for child in tmp_path.iterdir()] == ["patterns"]
    assert len(list(tmp_path.rglob("*.png"))) == 16


def test_what_a_killed_process_drew_goes(few: None, tmp_path: Path) -> None:
    (tmp_path / f".colours.x1y2.{gone()}.tmp" / "images").mkdir(parents=True)
    suite.write_demo("DemoColours", tmp_path / "colours")
    assert [child.name for child in tmp_path.iterdir()] == ["colours"]


def test_a_foreign_folder_is_left_alone(few: None, tmp_path: Path) -> None:
    mine = tmp_path / "colours" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("keep")
    with pytest.raises(UserError, match="in the way"):
        suite.write_demo("DemoColours", mine.parent)
    assert [path.name for path in tmp_path.rglob("*")] == ["colours", "mine.txt"]


def test_contact_sheet_has_a_row_per_task() -> None:
    rows = demo_rows(3)
    assert len(rows) == len(suite.MEMBERS)
    sheet = np.asarray(contact_sheet(rows))
    assert sheet.shape == (6 * 68 + 4, 3 * 68 + 4, 3)
    assert np.array_equal(sheet[4:68, 4:68], suite.render("DemoDigits", "zero", 0))
