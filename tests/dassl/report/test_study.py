import json
import shutil

import pytest

from dassl.report.study import PLAIN, Protocol, lost, suites
from dassl.report.tree import read_tree
from dassl.utils.results import BackboneInfo, SplitResult
from dassl.utils.tables import ANY_SHOTS
from tests.dassl.report.trees import TASKS, write_base_to_new, write_run


def study(top):
    """The only suite of a tree."""
    (suite,) = suites(read_tree(top))
    return suite


def test_methods_by_the_papers_names_and_order(tmp_path):
    for label in ("SoftCPT-NATA", "SoftCPT-NATS", "CoOp-MT", "ZS-CLIP", "Homemade"):
        write_run(tmp_path, label)
    assert study(tmp_path).plain.rows == ["ZS-CLIP", "CoOp-MT", "SoftCPT-NATS", "SoftCPT-NATA", "Homemade"]


def test_a_whole_run(tmp_path):
    write_run(tmp_path, "SoftCPT-NATA", shots=16, seed=3, metrics=(50.0, 60.0, 70.0))
    grid = study(tmp_path).plain
    (cell,) = grid.cell("SoftCPT-NATA", 16).values()
    assert cell.metric == 60.0 and dict(cell.tasks) == dict(zip(TASKS, (50.0, 60.0, 70.0), strict=True))
    assert (cell.parameters, cell.seconds, cell.missing) == (8192, 480.0, ())
    assert (grid.shots, grid.seeds, grid.tasks) == ([16], [3], list(TASKS))
    assert grid.values("SoftCPT-NATA", 16) == ({3: 60.0}, "")
    assert grid.values("SoftCPT-NATA", 16, "food") == ({3: 70.0}, "")


def one_by_one(top, label="CoOp-CA", seed=1, tasks=TASKS, **changes):
    for number, task in enumerate(tasks):
        if task:
            write_run(
                top, label, seed=seed, tasks=(task,), metrics=(50.0 + 10 * number,), choice=f"task{number}", **changes
            )


def test_runs_of_single_tasks_are_gathered(tmp_path):
    one_by_one(tmp_path)
    grid = study(tmp_path).plain
    (cell,) = grid.cell("CoOp-CA", 4).values()
    assert cell.metric == 60.0 and (cell.parameters, cell.seconds) == (3 * 8192, 3 * 120.0) and not cell.missing
    assert grid.tasks == list(TASKS)


def test_more_than_ten_tasks_stay_in_order(tmp_path):
    tasks = tuple(f"name{chr(120 - number)}" for number in range(12))
    one_by_one(tmp_path, tasks=tasks)
    assert study(tmp_path).plain.tasks == list(tasks)


def test_a_seed_with_a_missing_task_takes_no_part(tmp_path):
    one_by_one(tmp_path, seed=1)
    one_by_one(tmp_path, seed=2, tasks=("animals", None, "food"))
    grid = study(tmp_path).plain
    assert grid.cell("CoOp-CA", 4)[2].missing == ("textures",)
    assert grid.values("CoOp-CA", 4) == ({1: 60.0}, "") and grid.wanted("CoOp-CA") == 2


def test_without_a_whole_seed_the_mean_says_of_how_many_tasks_it_is(tmp_path):
    write_run(tmp_path, "SoftCPT-NATA", metrics=(40.0, 50.0, 60.0))
    one_by_one(tmp_path, tasks=("animals", None, "food"))
    grid = study(tmp_path).plain
    assert grid.values("CoOp-CA", 4) == ({1: 60.0}, "2/3 tasks")
    assert grid.values("CoOp-CA", 4, "textures") == ({}, "")


def test_a_whole_run_counts_before_runs_of_single_tasks(tmp_path):
    one_by_one(tmp_path, "ZS-CLIP")
    write_run(tmp_path, "ZS-CLIP", metrics=(1.0, 2.0, 3.0))
    assert study(tmp_path).plain.values("ZS-CLIP", 16) == ({1: 2.0}, "")


def test_zero_shot_stands_in_every_column(tmp_path):
    write_run(tmp_path, "ZS-CLIP", shots=1)
    for shots in (1, 16):
        write_run(tmp_path, "CoOp-MT", shots=shots, seed=7)
    grid = study(tmp_path).plain
    assert grid.flat == {"ZS-CLIP"} and grid.seeds == [7] and grid.wanted("ZS-CLIP") == 0
    assert grid.cell("ZS-CLIP", 16) is grid.cell("ZS-CLIP", 1) is grid.cells["ZS-CLIP", ANY_SHOTS]


def test_all_images_is_the_last_column(tmp_path):
    for shots in (-1, 16, 2):
        write_run(tmp_path, "CoOp-MT", shots=shots)
    assert study(tmp_path).plain.shots == [2, 16, -1]


def test_unfinished_seeds_are_wanted(tmp_path):
    write_run(tmp_path, "CoOp-MT", seed=1)
    write_run(tmp_path, "CoOp-MT", seed=2, finished=False)
    last = write_run(tmp_path, "CoOp-MT", seed=3)
    shutil.rmtree(last)
    last.mkdir()  # killed before the config was written
    suite = study(tmp_path)
    assert suite.plain.seeds == [1, 2, 3] and len(suite.broken) == 2
    assert [each.label for each in suite.broken] == ["CoOp-MT", "CoOp-MT"]


def test_a_run_that_says_nothing_belongs_to_no_suite(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    (tmp_path / "other" / "seed1").mkdir(parents=True)
    tree = read_tree(tmp_path)
    assert [each.folder.parent.name for each in lost(tree, suites(tree))] == ["other"]


def test_settings_are_never_averaged(tmp_path):
    for epochs in (10, 50):
        for seed in (1, 2):
            write_run(
                tmp_path,
                "CoOp-MT",
                seed=seed,
                metrics=(epochs,) * 3,
                config={"OPTIM.MAX_EPOCH": epochs},
                place=f"{epochs}",
            )
    write_run(tmp_path, "SoftCPT-NATA")
    grid = study(tmp_path).plain
    assert grid.rows == ["CoOp-MT [MAX_EPOCH 10]", "CoOp-MT [MAX_EPOCH 50]", "SoftCPT-NATA"]
    assert grid.values("CoOp-MT [MAX_EPOCH 50]", 4) == ({1: 50.0, 2: 50.0}, "")


def test_many_differing_keys_are_numbered(tmp_path):
    for number in (1, 2):
        config = {f"OPTIM.{key}": number for key in ("LR", "MOMENTUM", "GAMMA", "MAX_EPOCH")}
        write_run(tmp_path, "CoOp-MT", config=config, place=f"{number}")
    assert study(tmp_path).plain.rows == ["CoOp-MT [setting 1]", "CoOp-MT [setting 2]"]


def test_other_epochs_at_other_shots_are_one_row(tmp_path):
    for shots in (1, 16):
        write_run(tmp_path, "CoOp-MT", shots=shots, config={"OPTIM.MAX_EPOCH": 50 * shots})
    assert study(tmp_path).plain.rows == ["CoOp-MT"]


def test_places_make_no_setting_and_a_copy_counts_once(tmp_path):
    write_run(tmp_path, "CoOp-MT", metrics=(50.0, 50.0, 50.0))
    write_run(tmp_path, "CoOp-MT", metrics=(50.0, 50.0, 50.0), place="copy", config={"DATALOADER.NUM_WORKERS": 8})
    suite = study(tmp_path)
    assert suite.plain.rows == ["CoOp-MT"] and suite.plain.values("CoOp-MT", 4) == ({1: 50.0}, "")
    ((first, second),) = suite.doubles
    assert {first.folder.parent.name, second.folder.parent.name} == {"CoOp-MT", "copy"}


def test_backbones_and_splits_are_different_suites(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    folder = write_run(tmp_path, "CoOp-MT", seed=2, place="vit")
    content = json.loads((folder / "results.json").read_text())
    content["backbone"]["name"] = "/models/my_vit.safetensors"
    content["split"] = "val"
    (folder / "results.json").write_text(json.dumps(content))
    assert [suite.title for suite in suites(read_tree(tmp_path))] == ["Toy3, RN50", "Toy3, my_vit, val split"]


@pytest.mark.parametrize(
    ("name", "shown"), [("ViT-B/16", "ViT-B/16"), ("ViT-B/32", "ViT-B/32"), ("~/weights/ViT-B-16.pt", "ViT-B-16")]
)
def test_a_backbone_has_its_whole_name(tmp_path, name, shown):
    config = {"MODEL.BACKBONE.NAME": name}
    write_run(tmp_path, "CoOp-MT", config=config, backbone=BackboneInfo(name, "0" * 64, "fp16"))
    write_run(tmp_path, "CoOp-MT", seed=2, config=config, finished=False)
    (suite,) = suites(read_tree(tmp_path))
    assert suite.title == f"Toy3, {shown}" and len(suite.broken) == 1


def test_an_evaluation_does_not_replace_its_training(tmp_path):
    write_run(tmp_path, "CoOp-MT", metrics=(50.0, 50.0, 50.0))
    write_run(tmp_path, "CoOp-MT", metrics=(10.0, 10.0, 10.0), mode="eval", place="again")
    suite = study(tmp_path)
    assert suite.plain.values("CoOp-MT", 4) == ({1: 50.0}, "") and not suite.doubles


@pytest.mark.parametrize("old", [False, True])
def test_base_and_new_runs_are_told_by_results_or_config(tmp_path, old):
    write_base_to_new(tmp_path)
    for path in tmp_path.rglob("results.json") if old else ():
        content = json.loads(path.read_text())
        del content["classes"], content["task_choice"]
        path.write_text(json.dumps(content))
    suite = study(tmp_path)
    assert set(suite.grids) == {Protocol("base"), Protocol("new")} and suite.plain is None


def test_evaluation_on_one_new_task_is_no_part_of_the_suite(tmp_path):
    write_run(tmp_path, "SoftCPT-NATA", choice="task0,task1", tasks=TASKS[:2], metrics=(50.0, 60.0))
    write_run(tmp_path, "SoftCPT-NATA", choice="task2", tasks=TASKS[2:], metrics=(40.0,), mode="eval")
    assert set(study(tmp_path).grids) == {Protocol("all", "task0,task1", "seen"), Protocol("all", "task2", "unseen")}


def test_training_on_a_single_task_and_testing_on_all_others(tmp_path):
    write_run(tmp_path, "SoftCPT-NATA", choice="task2", tasks=TASKS[2:], metrics=(40.0,))
    write_run(tmp_path, "SoftCPT-NATA", choice="not:task2", tasks=TASKS[:2], metrics=(1.0, 2.0), mode="eval")
    one_by_one(tmp_path, "CoOp-CA")
    suite = study(tmp_path)
    assert suite.plain.rows == ["CoOp-CA"]
    assert set(suite.grids) == {PLAIN, Protocol("all", "task2", "seen"), Protocol("all", "not:task2", "unseen")}


@pytest.mark.parametrize("one_run", [True, False])
def test_zero_shot_on_the_whole_suite_stands_beside_new_tasks(tmp_path, one_run):
    write_run(tmp_path, "SoftCPT-NATA", choice="task1", tasks=TASKS[1:2], metrics=(40.0,))
    write_run(tmp_path, "SoftCPT-NATA", choice="not:task1", tasks=TASKS[::2], metrics=(1.0, 2.0), mode="eval")
    write_run(tmp_path, "ZS-CLIP", classes="base", metrics=(90.0, 90.0, 90.0))
    if one_run:
        write_run(tmp_path, "ZS-CLIP", metrics=(50.0, 60.0, 70.0))
    else:
        one_by_one(tmp_path, "ZS-CLIP")
    grids = study(tmp_path).grids
    seen, unseen = grids[Protocol("all", "task1", "seen")], grids[Protocol("all", "not:task1", "unseen")]
    assert seen.values("ZS-CLIP", 4) == ({1: 60.0}, "") and unseen.values("ZS-CLIP", 4) == ({1: 60.0}, "")
    assert unseen.values("ZS-CLIP", 4, "food") == ({1: 70.0}, "") and unseen.tasks == list(TASKS[::2])
    assert grids[PLAIN].rows == ["ZS-CLIP"] and grids[PLAIN].tasks == list(TASKS)


def test_a_zero_shot_run_of_the_same_tasks_counts_before_that_of_the_suite(tmp_path):
    write_run(tmp_path, "SoftCPT-NATA", choice="task0,task1", tasks=TASKS[:2], metrics=(40.0, 40.0))
    write_run(tmp_path, "ZS-CLIP", choice="task0,task1", tasks=TASKS[:2], metrics=(20.0, 30.0))
    write_run(tmp_path, "ZS-CLIP", metrics=(50.0, 60.0, 70.0))
    seen = study(tmp_path).grids[Protocol("all", "task0,task1", "seen")]
    assert seen.values("ZS-CLIP", 4) == ({1: 25.0}, "")


def test_an_epoch_that_was_asked_for_has_a_row_of_its_own(tmp_path):
    write_run(tmp_path, "SoftCPT-NATA", classes="base")
    for epoch, level in ((None, 50.0), (10, 40.0)):
        write_run(
            tmp_path,
            "SoftCPT-NATA",
            classes="new",
            metrics=[level] * 3,
            mode="eval",
            best_epoch=epoch,
            place=str(epoch),
        )
    suite = study(tmp_path)
    grid = suite.grids[Protocol("new")]
    assert grid.rows == ["SoftCPT-NATA", "SoftCPT-NATA [epoch 10]"] and not suite.doubles
    assert [grid.values(row, 4)[0] for row in grid.rows] == [{1: 50.0}, {1: 40.0}]


def test_without_a_config_the_trainer_is_the_method(tmp_path):
    (write_run(tmp_path, "SoftCPT-NATA") / "config.yaml").unlink()
    tree = read_tree(tmp_path)
    assert not tree.is_ours and suites(tree)[0].plain.rows == ["MTCoOp"]
    assert PLAIN in suites(tree)[0].grids


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\x00", "!!python/object/apply:os.system ['true']"])
def test_a_damaged_config_counts_as_none(tmp_path, text):
    (write_run(tmp_path, "SoftCPT-NATA") / "config.yaml").write_text(text)
    assert study(tmp_path).plain.rows == ["MTCoOp"]


def test_an_unfinished_zero_shot_run_asks_for_no_seed(tmp_path):
    write_run(tmp_path, "CoOp-MT", seed=2)
    write_run(tmp_path, "ZS-CLIP", seed=1, finished=False)
    assert study(tmp_path).plain.seeds == [2]


def test_runs_over_other_tasks_are_not_compared(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    write_run(tmp_path, "SoftCPT-NATA", tasks=TASKS[:2], metrics=(90.0, 90.0))
    assert study(tmp_path).plain.values("SoftCPT-NATA", 4) == ({1: 90.0}, "2/3 tasks")


def test_the_validation_split_of_runs_of_single_tasks(tmp_path):
    for number, task in enumerate(TASKS):
        write_run(
            tmp_path,
            "CoOp-CA",
            tasks=(task,),
            metrics=(1.0,),
            choice=f"task{number}",
            val=SplitResult(10.0 * number, ()),
        )
    write_run(tmp_path, "SoftCPT-NATA", val=SplitResult(55.0, ()))
    (suite,) = suites(read_tree(tmp_path, keyword="val"))
    assert suite.plain.values("CoOp-CA", 4) == ({1: 10.0}, "") and suite.plain.tasks == list(TASKS)
    assert suite.plain.values("SoftCPT-NATA", 4) == ({1: 55.0}, "")
    assert suite.plain.values("SoftCPT-NATA", 4, "food") == ({}, "")
