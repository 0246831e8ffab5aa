import json
import re
import sys
from html import escape
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from dassl.report.mistakes_part import MOST_MISTAKES, MOST_SHOWN, Asked, mistakes_html
from dassl.report.page import page
from dassl.report.sheets import Options
from dassl.report.study import suites
from dassl.report.tree import read_tree
from dassl.results.predictions import PredictedImage
from dassl.results.record import Calibration, Reliability, TaskCalibration
from dassl.utils.errors import UserError
from dassl.utils.texts import printable
from tests.dassl.report.predicted import give_predictions, made_up, set_task_names
from tests.dassl.report.test_page import CHROMIUM, FRAMES, SPECIAL, Reader, names, seen
from tests.dassl.report.trees import write_run

SIZES = {"animals": 10, "flowers": 102, "things": 300}
CLASSES = {task: [f"{task[:-1]} {n}" for n in range(size)] for task, size in SIZES.items()}


def write(top, *, seed=1, images=400, suite="Toy3", **options):
    folder = write_run(top, "CoOp-MT", tasks=tuple(SIZES), metrics=(50.0,) * 3, seed=seed, suite=suite)
    rows = [
        row for n, task in enumerate(SIZES) for row in made_up(task, CLASSES[task], images, seed=seed + n, **options)
    ]
    give_predictions(folder, rows, CLASSES)
    return folder, rows


def part(top, *runs, root=None):
    tree = read_tree(top)
    return mistakes_html(tree, suites(tree), Asked(tuple(map(Path, runs)), root))


def whole_page(top, *runs, root=None):
    tree = read_tree(top)
    return page(tree, suites(tree), [], Options(), asked=Asked(tuple(map(Path, runs)), root))


def test_each_task_has_its_drawings_and_tables(tmp_path):
    write(tmp_path)
    html = part(tmp_path)
    reader = Reader(html)
    grids = [json.loads(value) for name, value in reader.attributes if name == "data-grid"]
    assert [grid["kind"] for grid in grids] == ["matrix", "bins"] * 3
    assert [len(grid["names"]) for grid in grids[::2]] == [10, 102, 100]
    assert html.count(">Confused most<") == 3 and html.count(">The surest mistakes: 12 of ") == 3
    assert "3 neighbouring classes in each row and column" in html
    assert "--root DATA" in html and "<img" not in html
    for task in read_tree(tmp_path).records[0].result.tasks:
        assert f"Reliability: ECE {task.ece:.2f} % over 15 bins" in reader.text


def test_older_runs_are_told_in_one_line_with_the_remedy(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    html = part(tmp_path)
    assert html.count("<p") == 1 and "predictions.csv" in html and "--eval-only" in html


def test_a_damaged_file_is_told_in_place_unless_the_run_was_asked_for(tmp_path):
    folder, _ = write(tmp_path)
    (folder / "predictions.csv").write_text("x")
    assert "changed or damaged" in part(tmp_path)
    with pytest.raises(UserError, match="changed or damaged"):
        part(tmp_path, folder)


def test_figures_of_a_calibrated_run_say_before_and_after(tmp_path):
    folder, rows = write(tmp_path)
    tasks = [TaskCalibration(n, task, 1.5, True, 9, Reliability(9.25, 1.0, 3.0, 0.9)) for n, task in enumerate(SIZES)]
    give_predictions(folder, rows, CLASSES, calibration=Calibration("x", tuple(tasks)))
    html = part(tmp_path)
    assert "after calibration, temperature 1.5: ECE" in html and "before it the ECE was 9.25 %" in html
    assert "ECE before" in html and html.count("&quot;kind&quot;:&quot;bins&quot;") == 3
    give_predictions(folder, rows, CLASSES)
    half = [row._replace(predicted_probability=row.predicted_probability / 2) for row in rows]
    give_predictions(folder, half, CLASSES, calibration=Calibration("x", tuple(tasks)), aside=True)
    html = part(tmp_path)
    assert html.count(">Reliability, before calibration: ECE") == 3
    assert html.count(">Reliability, after calibration, temperature 1.5: ECE") == 3
    assert html.count("&quot;kind&quot;:&quot;bins&quot;") == 6


def test_images_without_a_prediction_are_told(tmp_path):
    write(tmp_path)
    folder = write_run(tmp_path / "lost", "CoOp-MT", tasks=("animals",), metrics=(50.0,))
    rows = made_up("animals", CLASSES["animals"], 50, lost=7)
    give_predictions(folder, rows, CLASSES)
    assert "of 50 images wrong, 7 without a prediction" in part(tmp_path, folder)


# ---- pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    top = tmp_path_factory.mktemp("pictures")
    root = top / "data"
    (root / "set").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(noise.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(root / f"set/{number}.png")
    (root / "set/8.png").write_text("no picture")
    folder = write_run(top / "runs", "CoOp-MT", tasks=("animals",), metrics=(50.0,))
    rows = [PredictedImage(f"set/{n}.png", "animals", "animal 0", "animal 1", 0.1, 0.9) for n in range(10)]
    rows.append(PredictedImage("../secret.png", "animals", "animal 0", "animal 2", 0.1, 0.9))
    give_predictions(folder, rows, CLASSES)
    return top / "runs", root


def test_thumbnails_are_in_the_page_and_gaps_are_named(pictures):
    html = part(pictures[0], root=pictures[1])
    reader = Reader(html)
    sources = [value for name, value in reader.attributes if name == "src"]
    assert len(sources) == 8 and all(re.fullmatch(r"data:image/jpeg;base64,[\w+/=]+", each) for each in sources)
    assert html.count("no picture</span>") == 3
    assert "not below the data root" in html and "no such file" in html
    assert str(pictures[1]) not in html


def test_a_root_that_is_no_folder_is_refused(pictures):
    with pytest.raises(UserError, match="does not exist"):
        part(pictures[0], root=pictures[1] / "gone")


# ---- bounds


def test_a_page_of_twenty_tasks_is_bounded(tmp_path):
    tasks = [f"task {n}" for n in range(20)]
    classes = {task: [f"a rather long name of class {n} of {task}" for n in range(130)] for task in tasks}
    folder = write_run(tmp_path, "CoOp-MT", tasks=tasks, metrics=[50.0] * 20)
    noise = np.random.default_rng(0)
    sure = noise.random((20, 2000))
    others = noise.integers(0, 130, (20, 2000))
    rows = [
        PredictedImage(f"{n}.jpg", task, classes[task][n % 130], classes[task][other], 0.01, round(float(p), 4))
        for t, task in enumerate(tasks)
        for n, (other, p) in enumerate(zip(others[t], sure[t], strict=True))
    ]
    give_predictions(folder, rows, classes)
    html = part(tmp_path)
    assert len(html) < 3e6
    assert html.count(">The surest mistakes: 12 of") == 20 and 20 * MOST_SHOWN == MOST_MISTAKES


# ---- names


encodable = names.filter(lambda name: not re.search("[\ud800-\udfff]", name))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(task=encodable, true=encodable, predicted=encodable, image=encodable)
def test_names_are_text_and_nothing_else(tmp_path, task, true, predicted, image):
    folder = write_run(tmp_path, "CoOp-MT", tasks=(task,), metrics=(50.0,))
    check(folder, tmp_path, task, true, predicted, image)


@pytest.mark.parametrize("name", [name for name in SPECIAL if "\ud800" not in name])
def test_special_names_are_text_too(tmp_path, name):
    folder = write_run(tmp_path, "CoOp-MT", tasks=(name,), metrics=(50.0,))
    check(folder, tmp_path, name, name, f"{name}2", name)


def check(folder, top, task, true, predicted, image):
    set_task_names(folder, [task])
    rows = [PredictedImage(image, task, true, predicted, 0.25, 0.75)]
    give_predictions(folder, rows, {task: list(dict.fromkeys([true, predicted]))})
    for root in (None, top):
        html = printable(part(top, root=root))
        html.encode("utf-8")
        reader = Reader(html)
        assert "<script" not in html and not reader.open
        assert {name for name, _ in reader.attributes} <= KNOWN
        (grid,) = [json.loads(value) for name, value in reader.attributes if name == "data-grid" and "matrix" in value]
        assert len(grid["names"]) == len({true, predicted})


KNOWN = {
    *("class", "data-run", "tabindex", "role", "aria-label", "scope", "data-value", "open", "viewbox", "style", "alt"),
    *("data-grid", "x", "y", "width", "height", "transform", "shape-rendering", "fill-opacity", "d", "src"),
}


# ---- in a browser

PROBE = """
<script>
addEventListener("securitypolicyviolation", () => document.documentElement.dataset.violation = "yes");
const now = () => runs.map((run) => run.hidden);
const noted = { hidden: now() };
const chooser = document.querySelector(".chooser select");
chooser.selectedIndex = 1;
chooser.dispatchEvent(new Event("change"));
noted.other = now();
noted.options = [...chooser.options].map((each) => each.text);
const shown = runs[1];
const key = (drawing, name) => drawing.dispatchEvent(new KeyboardEvent("keydown", { key: name }));
const output = (drawing) => drawing.closest(".drawing").querySelector("output").textContent;
const [first, bins] = shown.querySelectorAll("svg[data-grid]");
noted.hint = output(first);
first.focus();
noted.start = output(first);
key(first, "ArrowRight");
noted.right = output(first);
for (let n = 0; n < 99; n += 1) key(first, "ArrowDown");
noted.last = output(first);
const box = JSON.parse(first.dataset.grid).box;
const place = new DOMPoint(box[0] + 2.5 * box[2], box[1] + 1.5 * box[3]).matrixTransform(first.getScreenCTM());
first.dispatchEvent(new PointerEvent("pointermove", { clientX: place.x, clientY: place.y }));
noted.pointed = output(first);
bins.focus();
for (let n = 0; n < 99; n += 1) key(bins, "ArrowRight");
noted.bin = output(bins);
document.querySelectorAll("details").forEach((each) => { each.open = true; });
const many = shown.querySelectorAll("svg[data-grid]")[4];
many.focus();
noted.several = output(many);
const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
const weights = [0.2126, 0.7152, 0.0722];
const light = (colour) => colour.reduce((sum, v, n) => sum + linear(v / 255) * weights[n], 0);
const paper = rgb(getComputedStyle(document.body).backgroundColor);
const ink = light(rgb(getComputedStyle(first.querySelector("text.middle")).fill));
const contrast = (selector) => {
  const hue = rgb(getComputedStyle(document.querySelector(selector)).fill);
  const ground = light(hue.map((v, n) => 0.8 * v + 0.2 * paper[n]));
  return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
};
noted.contrast = [contrast("path.hit"), contrast("rect.miss")];
noted.wide = [innerWidth, document.documentElement.scrollWidth];
document.documentElement.dataset.seen = JSON.stringify(noted);
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_keys_pointer_and_selector(tmp_path, monkeypatch, scheme):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # the other drawings take most of the time
    first, _ = write(tmp_path / "runs")
    second, rows = write(tmp_path / "runs", seed=2)
    path = tmp_path / "report.html"
    path.write_text(whole_page(tmp_path / "runs", first, second).replace("</body>", PROBE), encoding="utf-8")
    noted = seen(path, tmp_path, scheme)
    assert (noted["hidden"], noted["other"]) == ([False, True], [True, False])
    assert len(noted["options"]) == 2 and "seed 2" in noted["options"][1]

    def told(true, predicted):
        mine = [row for row in rows if (row.task, row.true_class) == ("animals", f"animal {true}")]
        count = sum(row.predicted_class == f"animal {predicted}" for row in mine)
        share = f"{100 * count / len(mine):.1f}"
        plural = "" if count == 1 else "s"
        return f"true: animal {true}; predicted: animal {predicted}: {count} image{plural} of {len(mine)} ({share} %)"

    assert "arrow keys" in noted["hint"]
    assert noted["start"] == told(0, 0) and noted["right"] == told(0, 1)
    assert noted["last"] == told(9, 1) and noted["pointed"] == told(1, 2)
    assert noted["bin"].startswith("0.933 to 1.000: ")
    assert noted["several"].startswith("true: thing 0 … thing 2; ") and "of them right" in noted["several"]
    assert min(noted["contrast"]) > 4.5
    assert noted["wide"][1] <= noted["wide"][0]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_no_width_makes_the_page_scroll_sideways(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = whole_page(pictures[0], root=pictures[1])
    frames = "".join(f'<iframe width="{w}" height="700" srcdoc="{escape(text)}"></iframe>' for w in (320, 390, 1600))
    path = tmp_path / "frames.html"
    path.write_text(FRAMES.format(frames=frames), encoding="utf-8")
    for inside, needed in seen(path, tmp_path, 1):
        assert needed <= inside
