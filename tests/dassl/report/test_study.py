import json
import shutil
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.config import all_keys
from dassl.report.settings import NEWER_KEYS
from dassl.report.study import PLAIN, Protocol, lost, suites
from dassl.report.tree import read_tree
from dassl.results.record import BackboneInfo, SplitResult
from dassl.results.tables import ANY_SHOTS
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


def rows(top):
    """The rows of the plain grid of the only suite, each with its seeds by shots."""
    grid = study(top).plain
    return {
        row: {shots: list(grid.cell(row, shots)) for shots in grid.shots if grid.cell(row, shots)} for row in grid.rows
    }


def test_other_seeds_of_another_setting_are_another_row(tmp_path):
    write_run(tmp_path, "SoftCPT-NATA", seed=1, config={"OPTIM.LR": 0.002}, place="a")
    for seed in (2, 3):
        write_run(tmp_path, "SoftCPT-NATA", seed=seed, config={"OPTIM.LR": 0.2}, place="b")
    assert rows(tmp_path) == {"SoftCPT-NATA [LR 0.002]": {4: [1]}, "SoftCPT-NATA [LR 0.2]": {4: [2, 3]}}


def test_one_setting_is_one_row_wherever_its_seeds_lie(tmp_path):
    for seed, place in ((1, "a"), (2, "b"), (3, "b/c")):
        write_run(tmp_path / place, "SoftCPT-NATA", seed=seed, place=place, config={"DATASET.ROOT": f"/data/{seed}"})
    assert rows(tmp_path) == {"SoftCPT-NATA": {4: [1, 2, 3]}}


def test_another_rate_at_another_number_of_shots_is_another_row(tmp_path):
    for shots, rate in ((1, 0.002), (16, 0.2)):
        write_run(tmp_path, "CoOp-MT", shots=shots, config={"OPTIM.LR": rate})
    assert rows(tmp_path) == {"CoOp-MT [LR 0.002]": {1: [1]}, "CoOp-MT [LR 0.2]": {16: [1]}}


def test_epochs_that_follow_the_shots_stay_one_row_beside_another_rate(tmp_path):
    for rate in (0.002, 0.2):
        for shots, epochs in ((1, 50), (4, 100), (16, 200)):
            config = {"OPTIM.LR": rate, "OPTIM.MAX_EPOCH": epochs}
            write_run(tmp_path, "CoOp-MT", shots=shots, config=config, place=str(rate))
    assert list(rows(tmp_path)) == ["CoOp-MT [LR 0.002]", "CoOp-MT [LR 0.2]"]


def test_two_schedules_at_one_number_of_shots_are_told_apart_everywhere(tmp_path):
    for shots, epochs, seed in ((1, 50, 1), (16, 200, 1), (16, 50, 2)):
        write_run(tmp_path, "CoOp-MT", shots=shots, seed=seed, config={"OPTIM.MAX_EPOCH": epochs}, place=str(epochs))
    assert rows(tmp_path) == {"CoOp-MT [MAX_EPOCH 200]": {16: [1]}, "CoOp-MT [MAX_EPOCH 50]": {1: [1], 16: [2]}}


def test_joint_and_task_by_task_are_two_rows(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path, "SoftCPT-NATA", seed=seed)
    one_by_one(tmp_path, "SoftCPT-NATA", seed=1)
    one_by_one(tmp_path, "SoftCPT-NATA", seed=3)
    assert rows(tmp_path) == {"SoftCPT-NATA": {4: [1, 2]}, "SoftCPT-NATA [task by task]": {4: [1, 3]}}
    assert not study(tmp_path).aside


def test_a_joint_run_of_a_method_that_goes_task_by_task_says_so(tmp_path):
    write_run(tmp_path, "CoOp-CA")
    assert list(rows(tmp_path)) == ["CoOp-CA [all tasks in one run]"]
    write_run(tmp_path / "single", "CoOp-CA", suite="Pets", tasks=("pets",), metrics=(50.0,))
    (suite,) = suites(read_tree(tmp_path / "single"))
    assert suite.plain.rows == ["CoOp-CA"]


@pytest.mark.parametrize("label", ["LP-CLIP", "ProtoNet"])
def test_fits_that_know_one_task_only_are_the_same_both_ways(tmp_path, label):
    write_run(tmp_path, label, seed=1)
    one_by_one(tmp_path, label, seed=2)
    assert rows(tmp_path) == {label: {4: [1, 2]}}


def test_the_label_of_a_sweep_is_that_of_the_row(tmp_path):
    cold = {"OPTIM.WARMUP_EPOCH": 0}
    write_run(tmp_path, "SoftCPT-NATA", config={"OPTIM.WARMUP_EPOCH": 1})
    write_run(tmp_path, "SoftCPT-NATA", config={**cold, "TRAINER.LABEL": "cold start"}, place="a")
    write_run(tmp_path, "SoftCPT-NATA", seed=2, config=cold, place="b")
    assert rows(tmp_path) == {"SoftCPT-NATA": {4: [1]}, "cold start": {4: [1, 2]}}


def test_one_label_for_two_settings_is_not_enough(tmp_path):
    for rate in (0.1, 0.2):
        write_run(tmp_path, "CoOp-MT", config={"OPTIM.LR": rate, "TRAINER.LABEL": "mine [x]"}, place=str(rate))
    assert list(rows(tmp_path)) == ["mine [x, LR 0.1]", "mine [x, LR 0.2]"]


def test_a_varied_key_that_changes_nothing_is_not_in_the_name(tmp_path):
    for rate in (0.1, 0.2):
        config = {"OPTIM.LR": rate, "TRAINER.LABEL": f"ZS-CLIP [LR {rate}]"}
        write_run(tmp_path, "ZS-CLIP", config=config, place=str(rate))
    assert list(rows(tmp_path)) == ["ZS-CLIP"]


def test_keys_that_cannot_change_the_figure_split_nothing(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path, "CoOp-MT", seed=seed, config={"TRAINER.LP.STEPS": seed, "TRAINER.MTCOOP.N_CTX": seed})
        start = {"MODEL.INIT_WEIGHTS": f"output/first/seed{seed}"}
        write_run(tmp_path, "CoOp-MT", seed=seed, config={**start, "OPTIM.LR": 1.0}, place="start")
        write_run(tmp_path, "ZS-CLIP", seed=seed, config={"OPTIM.MAX_EPOCH": seed})
    assert list(rows(tmp_path)) == [
        "ZS-CLIP", "CoOp-MT", "CoOp-MT [INIT_WEIGHTS output/first/seed*, LR 1.0]"
    ]  # fmt: skip


def test_runs_that_start_from_the_mean_of_others_are_a_row_over_shots_seeds_and_tasks(tmp_path):
    method, options = "MCoOp-adapted", {"TRAINER.MTCOOPH.UNION": True, "TRAINER.MTCOOPH.TOKEN_POSITION": "middle"}
    for shots, seed, task in product((1, 4), (1, 2), (0, 1)):
        start = ",".join(f"out/sources/without_task{task}/x_{shots}shots/seed{s}" for s in (1, 2, 3))
        config = {**options, "MODEL.INIT_WEIGHTS": start}
        one = {"tasks": (TASKS[task],), "metrics": (50.0,), "choice": f"task{task}"}
        write_run(tmp_path, method, shots=shots, seed=seed, config=config, **one)
    assert list(rows(tmp_path)) == [method]
    other = {**options, "MODEL.INIT_WEIGHTS": "out/sources/general10/x_4shots/seed1"}
    write_run(tmp_path, method, config=other, tasks=TASKS[:1], metrics=(50.0,), choice="task0", place="suite")
    assert list(rows(tmp_path)) == [
        f"{method} [INIT_WEIGHTS out/sources/general10/x/seed*]", f"{method} [INIT_WEIGHTS out/sources/x/seed*]"
    ]  # fmt: skip


def test_keys_with_the_same_last_part_are_shown_whole(tmp_path):
    for number in (1, 2):
        config = {"TRAINER.MTCOOPH.N": number, "INPUT.N": number}
        write_run(tmp_path, "CoOp-MT", config=config, place=str(number))
    assert "CoOp-MT [INPUT.N 1, TRAINER.MTCOOPH.N 1]" in rows(tmp_path)


def test_encoders_of_another_precision_are_another_row(tmp_path):
    for seed, precision in ((1, "fp16"), (2, "fp32")):
        write_run(tmp_path, "CoOp-MT", seed=seed, backbone=BackboneInfo("RN50", "0" * 64, precision))
    assert list(rows(tmp_path)) == ["CoOp-MT [precision fp16]", "CoOp-MT [precision fp32]"]


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2]), st.sampled_from([10, 20]), st.integers(1, 3), st.sampled_from([1, 4])),
        unique=True,
    )
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_cell_ever_holds_two_settings(tmp_path_factory, runs):
    top = tmp_path_factory.mktemp("tree")
    for rate, epochs, seed, shots in runs:
        config = {"OPTIM.LR": rate, "OPTIM.MAX_EPOCH": epochs}
        write_run(top, "CoOp-MT", seed=seed, shots=shots, config=config, place=f"{rate}-{epochs}")
    shown = 0
    for suite in suites(read_tree(top)):
        assert not suite.aside
        for cell in suite.plain.cells.values():
            found = [record.config for each in cell.values() for record in each.records]
            assert len({(config["OPTIM.LR"], config["OPTIM.MAX_EPOCH"]) for config in found}) == 1
            shown += len(found)
    assert shown == len(runs)


def test_pictures_that_came_later_make_another_table(tmp_path):
    for number, place in enumerate(("march", "april", "may")):
        changes = {"test_digest": str(number % 2) * 64, "place": place, "metrics": [50.0 + number] * 3}
        write_run(tmp_path, "LP-CLIP", seed=number // 2 + 1, **changes)
    first, second = suites(read_tree(tmp_path))
    assert {suite.title for suite in (first, second)} == {
        "Toy3, RN50, test images 00000000", "Toy3, RN50, test images 11111111"
    }  # fmt: skip
    assert not first.aside and not second.aside
    ((what, title, runs),) = [(each.what, each.title, each.runs) for each in (*first.partings, *second.partings)]
    assert (what, title, len(runs)) == ("test images", "Toy3, RN50", 2)


def test_an_old_result_without_the_digest_stays_beside_the_only_one_that_is_known(tmp_path):
    write_run(tmp_path, "LP-CLIP", test_digest="")
    write_run(tmp_path, "LP-CLIP", seed=2)
    assert rows(tmp_path) == {"LP-CLIP": {4: [1, 2]}}


@pytest.mark.parametrize(
    "places", [{"choice": "task0", "tasks": TASKS[:1], "metrics": (1.0,)}, {"shots": -1, "seed": 2}]
)
def test_runs_on_other_training_images_make_no_mean(tmp_path, places):
    label = "CoOp-CA" if "choice" in places else "CoOp-MT"
    if label == "CoOp-CA":
        one_by_one(tmp_path, label, tasks=(None, *TASKS[1:]))
    else:
        write_run(tmp_path, label, shots=-1)
    write_run(tmp_path, label, **places, subset_digest="other")
    grid = study(tmp_path).plain
    (mixture,) = grid.mixed.values()
    assert "learned from other images" in mixture.text and len(mixture.sides) == 2
    assert grid.values(label, places.get("shots", 4)) == ({}, "")


def test_two_suites_of_ones_own_have_two_tables(tmp_path):
    for name, folder in (("colour", "a"), ("colour", "b"), ("shape", "a")):
        tasks = [{"name": name, "folder": folder}]
        write_run(
            tmp_path, "LP-CLIP", suite="MyTasks", tasks=(name,), metrics=(50.0,), place=name + folder,
            config={"DATASET.TASKS": tasks},
        )  # fmt: skip
    assert sorted(suite.title for suite in suites(read_tree(tmp_path))) == [
        "MyTasks (colour), RN50, folder a", "MyTasks (colour), RN50, folder b", "MyTasks (shape), RN50"
    ]  # fmt: skip


def test_a_suite_with_a_name_of_its_own_is_called_by_it(tmp_path):
    tasks = [{"name": "colour", "folder": "col"}]
    for name in ("north", "south"):
        config = {"DATASET.TASKS": tasks, "DATASET.TITLE": name}
        write_run(tmp_path, "CoOp-MT", tasks=("colour",), metrics=(60.0,), suite="MyTasks", config=config, place=name)
    assert [suite.title for suite in suites(read_tree(tmp_path))] == ["north (colour), RN50", "south (colour), RN50"]


def test_a_task_without_a_figure_is_no_part_of_the_mean(tmp_path):
    write_run(tmp_path, "CoOp-MT", metrics=(50.0, None, 70.0))
    write_run(tmp_path, "CoOp-MT", seed=2, metrics=(50.0, 60.0, 70.0))
    grid = study(tmp_path).plain
    assert grid.cell("CoOp-MT", 4)[1].null == ("textures",) and grid.values("CoOp-MT", 4) == ({2: 60.0}, "")


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
    (aside,) = suite.aside
    assert (aside.kind, aside.instead.folder.parent.name) == ("same run twice", "CoOp-MT")
    assert aside.record.folder.parent.name == "copy"


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
    assert suite.plain.values("CoOp-MT", 4) == ({1: 50.0}, "")
    assert [(each.kind, each.record.folder.parent.name) for each in suite.aside] == [("left aside", "again")]


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
    assert grid.rows == ["SoftCPT-NATA", "SoftCPT-NATA [epoch 10]"] and not suite.aside
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


def published_run(top, task, shots, seed, **config):
    """A run of one task with the rate and the batch that its authors set by task and shots."""
    number, name = task
    whole = {
        "OPTIM.MAX_EPOCH": 50 * shots,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 32 if name == "food" else 128,
        "OPTIM.LR": 0.1,
    }
    kept = ["OPTIM.MAX_EPOCH 200", "DATALOADER.TRAIN_X.BATCH_SIZE 128"]
    whole |= {"TRAINER.PUBLISHED_SETTINGS": "applied", "TRAINER.PUBLISHED_KEYS": kept, **config}
    place = "-".join(map(str, config.values())) if config else ""
    common = {"tasks": (name,), "metrics": (60.0 + seed,), "choice": f"task{number}", "shots": shots, "seed": seed}
    write_run(top, "PLOT", config=whole, place=place, **common)


def test_settings_that_the_authors_set_by_data_set_and_shots_are_one(tmp_path):
    for task in enumerate(TASKS):
        for shots in (1, 4):
            for seed in (1, 2):
                published_run(tmp_path, task, shots, seed)
    grid = study(tmp_path).plain
    assert grid.rows == ["PLOT"] and not grid.mixed
    assert all(not figure.missing for shots in (1, 4) for figure in grid.cell("PLOT", shots).values())


def test_what_is_named_beside_published_settings_is_another_setting(tmp_path):
    for task in enumerate(TASKS):
        for seed in (1, 2):
            published_run(tmp_path, task, 4, seed)
            published_run(
                tmp_path, task, 4, seed, **{
                    "DATALOADER.TRAIN_X.BATCH_SIZE": 64, "TRAINER.PUBLISHED_KEYS": ["OPTIM.MAX_EPOCH 200"]
                }
            )  # fmt: skip
            published_run(tmp_path, task, 4, seed, **{"OPTIM.LR": 0.2})
    rows = study(tmp_path).plain.rows
    assert len(rows) == 3 and all("BATCH_SIZE" in row for row in rows)


def test_a_run_from_before_a_key_has_the_setting_of_one_that_leaves_it_alone(tmp_path):
    newer = {
        "DATASET.TEMPLATES": "own", "INPUT.MAX_PIXELS": 500_000_000, "MODEL.BACKBONE.HEAD_WIDTHS": [0, 0],
        "MODEL.BACKBONE.ACTIVATION": "", "INPUT.BACKGROUND": "", "TRAINER.PUBLISHED_SETTINGS": "",
        "TRAINER.PUBLISHED_KEYS": [], "OPTIM.NEW_LAYERS": [], "TRAIN.DETERMINISTIC": False,
    }  # fmt: skip
    write_run(tmp_path, "CoOp-MT", seed=1)
    write_run(tmp_path, "CoOp-MT", seed=2, config=newer)
    assert study(tmp_path).plain.rows == ["CoOp-MT"]
    write_run(tmp_path, "CoOp-MT", seed=3, config={**newer, "DATASET.TEMPLATES": "released"}, place="released")
    assert study(tmp_path).plain.rows == ["CoOp-MT", "CoOp-MT [TEMPLATES released]"]


def test_a_deterministic_run_is_of_another_setting_and_so_is_each_of_its_chunks(tmp_path):
    usual, fixed = {"MODEL.TEXT_CHUNK": 0}, {"TRAIN.DETERMINISTIC": True, "MODEL.TEXT_CHUNK": 0}
    write_run(tmp_path, "CoOp-MT", seed=1, config=usual)
    write_run(tmp_path, "CoOp-MT", seed=2, config={**usual, "MODEL.TEXT_CHUNK": 8})
    assert study(tmp_path).plain.rows == ["CoOp-MT"]
    write_run(tmp_path, "CoOp-MT", seed=1, config=fixed, place="fixed")
    write_run(tmp_path, "CoOp-MT", seed=2, config={**fixed, "MODEL.TEXT_CHUNK": 8}, place="chunk")
    assert len(study(tmp_path).plain.rows) == 3


def test_keys_that_older_configs_lack_are_known_with_their_defaults():
    defaults = {name: key.default for name, key in all_keys().items()}
    shown = {key: defaults[key] for key in NEWER_KEYS}
    assert {k: str(list(v) if isinstance(v, tuple) else v) for k, v in shown.items()} == NEWER_KEYS


def test_keys_of_the_optimiser_make_no_row_of_a_method_that_is_fitted(tmp_path):
    for label, rows in (("GDA", 1), ("CoOp-MT", 2)):
        write_run(tmp_path / label, label, seed=1)
        write_run(tmp_path / label, label, seed=2, config={"OPTIM.LR": 0.5, "DATALOADER.TRAIN_X.BATCH_SIZE": 7})
        (suite,) = suites(read_tree(tmp_path / label))
        assert len(suite.plain.rows) == rows
