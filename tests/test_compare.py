"""scripts/compare.sh from end to end on drawn images: plan, runs, verdict, page; started again it repeats nothing."""

import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from dassl.results.record import read_results
from scripts import compare

COLOURS = {"red": "#cc0000", "blue": "#0000cc"}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two tasks of two classes with 12 images each; one red disc lies in the folder of the blue ones."""
    top = tmp_path_factory.mktemp("own")
    for task in ("discs", "squares"):
        for name in COLOURS:
            for number in range(12):
                wrong = (task, name, number) == ("discs", "blue", 3)
                image = Image.new("RGB", (64, 64), "white")
                shape = ImageDraw.Draw(image).ellipse if task == "discs" else ImageDraw.Draw(image).rectangle
                shape((8, 8, 24 + 2 * number, 24 + 2 * number), fill=COLOURS["red" if wrong else name])
                place = top / "pictures" / task / name / f"{number:02}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                image.save(place)
    lines = [f'    - {{name: "colour of {task}", folder: "{task}"}}' for task in ("discs", "squares")]
    (top / "mine.yaml").write_text('DATASET:\n  NAME: "MyTasks"\n  TASKS:\n' + "\n".join(lines) + "\n")
    return top / "mine.yaml"


@pytest.fixture(scope="module")
def command(tasks: Path) -> list[str]:
    """A comparison of a probe with prompts, short enough for a test."""
    top = tasks.parent
    methods = ["--methods", "ZS-CLIP,LP-CLIP,SoftCPT-NATA", "--shots", "1,2,64", "--seeds", "1"]
    places = ["--root", str(top / "pictures"), "--output-dir", str(top / "out"), "--backbone", "demo", "--no-open"]
    return [str(tasks), *places, *methods, "--jobs", "2", "OPTIM.MIN_STEPS", "2", "OPTIM.MAX_EPOCH", "1"]


@pytest.fixture(scope="module")
def finished(command: list[str]) -> Path:
    """The folder of the finished comparison."""
    assert compare.main(command) == 0
    return Path(command[4])


def test_it_runs_every_method_and_names_the_one_to_take(finished, command, capsys):
    runs = [read_results(path.parent) for path in finished.rglob("results.json")]
    # zero-shot once, the probe and SoftCPT at two numbers of shots, SoftCPT on each of two tasks at the larger one
    assert sorted(run.trainer for run in runs) == ["LinearProbe"] * 2 + ["MTCoOp"] * 4 + ["ZeroshotCLIP"]
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("results.json")}
    assert compare.main(command) == 0
    told = capsys.readouterr()
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("results.json")} == before
    assert "shots 64 left out: no class has more than 6 training images" in told.err
    assert "all tasks:\n  Take " in told.out
    assert "NOTE: The backbone is the small one" in told.out and "NOTE: With one seed" in told.out
    assert "Sharing between tasks" in told.out or "sharing between tasks" in told.out
    assert "python export.py " in told.out and f"page: {finished / 'page.html'}" in told.out
    assert "discs/blue/03.png: blue, or red" in told.out  # the planted label


def test_the_page_shows_the_same(finished):
    page = (finished / "page.html").read_text(encoding="utf-8")
    assert page.index('id="verdict"') < page.index('id="suspects"') < page.index('id="suite1"')
    assert "<strong>Take " in page and "discs/blue/03.png" in page
    assert page.count("data:image/jpeg;base64") >= 1


@pytest.mark.parametrize("change", ["another picture", "one less", "another label", "another metric"])
def test_other_data_are_refused_before_a_run_of_them_is_shown(finished, command, tasks, tmp_path, capsys, change):
    """Even where no config tells: the same names below another root."""
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    root, own = tmp_path / "pictures", tmp_path / "mine.yaml"
    shutil.copytree(tasks.parent / "pictures", root)
    own.write_text(tasks.read_text())
    if change == "another picture":
        Image.new("RGB", (64, 64), "green").save(root / "discs/red/00.png")
    elif change == "one less":
        (root / "squares/blue/11.png").unlink()
    elif change == "another label":
        (root / "discs/red/00.png").rename(root / "discs/blue/00b.png")
    else:
        own.write_text(tasks.read_text().replace('folder: "discs"', 'folder: "discs", metric: mean_acc'))
    changed = [str(own), "--root", str(root), *command[3:]]
    capsys.readouterr()
    assert compare.main(changed) == 2
    told = capsys.readouterr().err
    assert "holds a comparison of other data" in told and str(root) in told and "--output-dir" in told
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_runs_with_other_settings_get_no_verdict(finished, command, capsys):
    capsys.readouterr()
    assert compare.main([*command, "OPTIM.LR", "0.5"]) == 2
    told = capsys.readouterr()
    assert "with another config (OPTIM.LR" in told.err and "--output-dir" in told.err and "Take " not in told.out


def test_the_same_data_elsewhere_go_on(finished, command, tasks, tmp_path):
    shutil.copytree(tasks.parent / "pictures", tmp_path / "moved")
    assert compare.main([str(tasks), "--root", str(tmp_path / "moved"), *command[3:]]) == 0


def test_a_dry_run_starts_nothing(command, tasks, capsys):
    elsewhere = str(tasks.parent / "nowhere")
    changed = [*command[:4], elsewhere, *command[5:]]
    assert compare.main([changed[0], "--dry-run", *changed[1:]]) == 0
    out = capsys.readouterr().out
    assert "-- methods that take seconds" in out and "-- SoftCPT on each task alone" in out
    assert not Path(elsewhere).exists()


@pytest.mark.parametrize(("words", "said"), [
    (["nothing.yaml"], "there is no task file 'nothing.yaml'"),
    (["my_tasks", "--seeds", "0"], "--seeds 0: give the number of seeds, 1 or more"),
    (["my_tasks", "--shots", "2,0"], "--shots 0: give numbers of training images per class, 1 or more"),
    (["my_tasks", "--methods", "CoOp-MX"], "unknown method 'CoOp-MX'; did you mean CoOp-MT"),
])  # fmt: skip
def test_a_mistake_is_one_line(tmp_path, words, said, capsys):
    assert compare.main([*words, "--root", str(tmp_path), "--backbone", "demo"]) == 2
    assert said in capsys.readouterr().err


def test_the_methods_are_rows_of_the_tables():
    cheap, prompts = compare.chosen_methods(())
    assert {"ZS-CLIP", "ProtoNet", "LP-CLIP"} <= {each.label for each in cheap}
    assert [each.label for each in prompts] == list(compare.PROMPTS)


def test_the_default_backbone_is_the_best_one_with_weights(monkeypatch):
    monkeypatch.setattr(compare, "find", lambda name: Path(name) if name in ("RN50", "ViT-B/32") else None)
    assert compare.chosen_backbone("") == "ViT-B/32"
    assert compare.chosen_backbone("RN101") == "RN101"
    monkeypatch.setattr(compare, "find", lambda name: None)
    assert compare.chosen_backbone("") == "demo"


def test_methods_that_cannot_learn_several_labels_an_image_are_left_out(capsys):
    cheap, prompts = compare.chosen_methods(())
    kept = [each.label for each in compare.able([*cheap, *prompts], ["pet tags"])]
    assert "ProtoNet" not in kept and {"ZS-CLIP", "LP-CLIP", "CoOp-MT", "SoftCPT-NATA"} <= set(kept)
    assert "task 'pet tags' has several labels an image: ProtoNet" in capsys.readouterr().err
    assert compare.able(cheap, []) == cheap
