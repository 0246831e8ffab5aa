"""A run is evaluated on another site's labelled pictures, of which none is for training."""

import shutil

import pytest
import yaml

import train
from dassl.results.record import read_results
from tests.dassl.data.toy import write_image
from tests.lab import SETTINGS

CLASSES = ("bolt", "nut", "washer")
FOLDER = {"name": "part", "folder": "parts"}
TABLE = {"name": "finish", "table": "finish.csv"}


class Sites:
    """A home with training and test images, and a site with test images alone; each task can be read of both."""

    def __init__(self, folder, backbone):
        self.folder, self.backbone = folder, backbone
        self.seeds = iter(range(1000))

    def draw(self):
        """The home's images."""
        for name in CLASSES:
            self.picture(
                f"home/parts/train/{name}/0.png", f"home/parts/train/{name}/1.png", f"home/parts/test/{name}/2.png"
            )
        self.table(
            "home", [("matt", "train"), ("matt", "test"), ("shiny", "train"), ("shiny", "test"), ("worn", "train")]
        )

    def picture(self, *names):
        for name in names:
            write_image(self.folder / name, next(self.seeds))

    def table(self, site, rows):
        lines = [f"{number}.png,{label},{split}" for number, (label, split) in enumerate(rows)]
        self.picture(*(f"{site}/{number}.png" for number in range(len(rows))))
        (self.folder / site / "finish.csv").write_text("\n".join(["image,label,split", *lines]))

    def command(self, run, site, *tasks, trainer="MTCoOp", flags=(), **keys):
        """The exit code of train.py on these tasks at a site."""
        file = self.folder / "tasks.yaml"
        file.write_text(yaml.safe_dump({"DATASET": {"NAME": "MyTasks", "TASKS": list(tasks)}}))
        settings = {**SETTINGS, "OPTIM.MAX_EPOCH": 1, "DATALOADER.TRAIN_X.BATCH_SIZE": 2, **keys}
        places = ["--root", str(self.folder / site), "--output-dir", str(self.folder / "runs" / run), "--seed", "1"]
        names = ["--trainer", trainer, "--backbone", str(self.backbone), "--dataset-config-file", str(file)]
        return train.main([*places, *names, *flags, *(str(part) for pair in settings.items() for part in pair)])

    def evaluate(self, site, *tasks, run="trained", **options):
        """The exit code of an evaluation of a run on these tasks at a site."""
        return self.command(
            "evaluated", site, *tasks, flags=["--eval-only", "--model-dir", str(self.folder / "runs" / run)], **options
        )

    def files(self, site):
        return sorted(path for path in (self.folder / site).rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_clip):
    """The home, with a run on both tasks."""
    sites = Sites(tmp_path_factory.mktemp("sites"), tiny_clip)
    sites.draw()
    assert sites.command("trained", "home", FOLDER, TABLE) == 0
    return sites.folder


@pytest.fixture
def sites(trained, tmp_path, tiny_clip):
    """A copy of the home, and the site."""
    sites = Sites(shutil.copytree(trained, tmp_path / "sites"), tiny_clip)
    sites.picture("site/parts/Test Set/nut/0.png", "site/parts/Test Set/nut/1.png", "site/parts/Test Set/washer/0.png")
    sites.table("site", [("worn", "test"), ("matt", "test")])
    return sites


def test_a_test_folder_alone_and_a_table_of_test_rows_are_evaluated_on_the_classes_of_the_run(sites):
    before = sites.files("site")
    assert sites.evaluate("site", FOLDER, TABLE) == 0
    result = read_results(sites.folder / "runs" / "evaluated")
    assert (result.mode, result.counts) == ("eval", {"train": 0, "val": 0, "test": 5})
    assert [(task.name, task.total, task.classes) for task in result.tasks] == [("part", 3, 3), ("finish", 2, 3)]
    said = "\n".join(result.warnings)
    assert "1 of the run's 3 classes have no image for testing: 'bolt'; the figure says nothing about them" in said
    assert "1 of the run's 3 classes have no image for testing: 'shiny'" in said
    assert "training" not in said
    assert sites.files("site") == before


def test_the_figure_is_that_of_the_same_test_images_beside_training_images(sites):
    shutil.copytree(sites.folder / "home" / "parts" / "test", sites.folder / "copy" / "parts" / "test")
    assert sites.evaluate("copy", FOLDER) == 0
    alone = read_results(sites.folder / "runs" / "evaluated")
    shutil.rmtree(sites.folder / "runs" / "evaluated")
    assert sites.evaluate("home", FOLDER) == 0
    assert alone.tasks == read_results(sites.folder / "runs" / "evaluated").tasks


@pytest.mark.parametrize("trainer", ["MTCoOp", "LinearProbe"])
def test_ratios_say_that_all_images_of_folders_and_tables_are_for_testing(sites, trainer):
    assert sites.command("own", "home", FOLDER, TABLE, trainer=trainer) == 0
    sites.picture("site/here/nut/0.png", "site/here/nut/1.png", "site/here/bolt/0.png")
    (sites.folder / "site" / "rows.csv").write_text("file,label\n0.png,worn\n1.png,matt")
    tasks = {**FOLDER, "folder": "here"}, {**TABLE, "table": "rows.csv", "image": "file"}
    assert sites.evaluate("site", *({**task, "ratios": {"test": 1}} for task in tasks), trainer=trainer, run="own") == 0
    assert [task.total for task in read_results(sites.folder / "runs" / "evaluated").tasks] == [3, 2]
    assert not (sites.folder / "site" / "split_my_tasks").exists()
    assert sites.command("other", "site", *({**task, "ratios": {"test": 1}} for task in tasks)) == 2


def test_what_belongs_to_classes_has_nothing_for_other_ones_elsewhere(sites, capsys):
    assert sites.command("own", "home", FOLDER, trainer="LinearProbe") == 0
    for name in ("screw", "rivet", "pin"):
        sites.picture(*(f"site/here/{name}/{number}.png" for number in range(4)))
    line = refusal(sites, capsys, {**FOLDER, "folder": "here"}, trainer="LinearProbe", run="own")
    assert "holds something for each of the 3 names that it was trained on and nothing for" in line


@pytest.mark.parametrize("trainer", ["LinearProbe", "ZeroshotCLIP"])
def test_what_belongs_to_classes_and_what_learns_nothing_are_evaluated_too(sites, trainer):
    assert sites.command("own", "home", FOLDER, trainer=trainer) == 0
    assert sites.evaluate("site", FOLDER, trainer=trainer, run="own") == 0
    assert read_results(sites.folder / "runs" / "evaluated").tasks[0].classes == 3


def refusal(sites, capsys, *tasks, **options):
    capsys.readouterr()
    assert sites.evaluate("site", *tasks, **options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (sites.folder / "runs" / "evaluated" / "log.txt").exists()
    return line


def test_a_folder_that_is_no_class_of_the_run_is_refused_with_the_names(sites, capsys):
    sites.picture("site/parts/Test Set/nutt/0.png", "site/parts/Test Set/screw/0.png")
    line = refusal(sites, capsys, FOLDER)
    assert (
        "'nutt', 'screw' is no class of the run, which has 'bolt', 'nut', 'washer'; is 'nutt' meant to be 'nut'?"
        in line
    )
    assert sites.evaluate("site", {**FOLDER, "classes": {"nutt": "nut", "screw": "bolt"}}) == 0


def test_a_label_that_is_no_class_of_the_run_is_refused_with_the_names(sites, capsys):
    sites.table("site", [("worn", "test"), ("dull", "test")])
    assert "'dull' is no class of the run, which has 'matt', 'shiny', 'worn'" in refusal(sites, capsys, TABLE)


def test_halves_of_classes_are_not_known_of_test_images_alone(sites, capsys):
    assert "set it to all" in refusal(sites, capsys, FOLDER, **{"DATASET.SUBSAMPLE_CLASSES": "new"})


def test_a_task_that_the_run_does_not_have_is_told(sites):
    assert sites.evaluate("site", {**FOLDER, "name": "piece"}) == 0
    (warning, *_) = read_results(sites.folder / "runs" / "evaluated").warnings
    assert warning.startswith("task 'piece' is none of the run's ('part', 'finish'): its classes are those that have")


@pytest.mark.parametrize("task", [FOLDER, TABLE])
def test_to_train_there_training_images_are_needed_as_before(sites, capsys, task):
    capsys.readouterr()
    assert sites.command("other", "site", task) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ("has only the class 'Test Set'" if task is FOLDER else "has no image for train") in line


def test_a_run_without_a_list_of_its_tasks_says_what_to_do(sites, capsys):
    (sites.folder / "runs" / "trained" / "tasks.json").unlink()
    assert "has no tasks.json" in refusal(sites, capsys, FOLDER)
