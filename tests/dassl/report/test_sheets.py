import shutil

import pytest

from dassl.report import paper
from dassl.report.figures import BEST, Difference, Duration, Figure, Number
from dassl.report.sheets import (
    Options,
    base_to_new_sheets,
    check_comparison,
    comparison_sheets,
    main_sheets,
    new_task_sheets,
    task_sheets,
)
from dassl.report.study import suites
from dassl.report.tree import read_tree
from dassl.utils.errors import UserError
from tests.dassl.report.trees import TASKS, write_base_to_new, write_run, write_sweep


def suite_of(top):
    return suites(read_tree(top))[0]


def rows_of(sheet):
    """Rows by method, cells by heading."""
    return {row[0]: dict(zip(sheet.table.header, row, strict=True)) for row in sheet.table.rows}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    top = tmp_path_factory.mktemp("sweep")
    write_sweep(top, labels=("ZS-CLIP", "CoOp-CA", "SoftCPT-NATA"), shots=(1, 4))
    shutil.rmtree(top / "General10/MTCoOp/rn50_4shots/SoftCPT-NATA/seed2")
    return top


def test_main_table(sweep):
    (sheet,) = main_sheets(suite_of(sweep), Options())
    rows = rows_of(sheet)
    assert list(rows) == ["ZS-CLIP", "CoOp-CA", "SoftCPT-NATA"]
    assert list(sheet.table.header)[1:] == ["parameters", "training time", "1 shot", "4 shots", "average"]
    assert rows["ZS-CLIP"]["parameters"] is None and rows["ZS-CLIP"]["training time"] is None
    assert rows["CoOp-CA"]["parameters"] == Number(3 * 8192)
    assert rows["CoOp-CA"]["training time"] == Duration(3 * (48 + 20 * 3.6), "min")
    assert rows["ZS-CLIP"]["1 shot"].mean == rows["ZS-CLIP"]["average"].mean
    cells = rows["SoftCPT-NATA"]
    assert (cells["1 shot"].missing, cells["4 shots"].missing, cells["average"].missing) == ("", "2/3", "2/3")
    assert cells["average"].mean == pytest.approx((cells["1 shot"].mean + cells["4 shots"].mean) / 2)
    for name in ("1 shot", "4 shots", "average"):
        best = max(row[name].mean for row in rows.values())
        assert [row[name].mean for row in rows.values() if row[name].rank == BEST] == [best]
    assert "General10, RN50: mean over 3 tasks in %" in sheet.title and "seeds 1, 2, 3" in sheet.title


def test_per_task_tables_add_up_to_the_main_one(sweep):
    main, *each = main_sheets(suite_of(sweep), Options(per_task=True))
    assert [sheet.keys["task"] for sheet in each] == list(TASKS)
    for method, cells in rows_of(main).items():
        mean = sum(rows_of(sheet)[method]["4 shots"].mean for sheet in each) / 3
        assert cells["4 shots"].mean == pytest.approx(mean)


def test_tables_of_tasks_have_the_figures_of_the_tables_of_shots(sweep):
    main, *each = main_sheets(suite_of(sweep), Options(per_task=True))
    one, four = task_sheets(suite_of(sweep), Options())
    assert list(four.table.header) == ["method", *TASKS, "average"] and (one.keys["shots"], four.keys["shots"]) == (
        "1",
        "4",
    )
    for method, cells in rows_of(four).items():
        assert cells["average"].mean == rows_of(main)[method]["4 shots"].mean
        assert [cells[task].mean for task in TASKS] == [rows_of(sheet)[method]["4 shots"].mean for sheet in each]


def test_costs_are_shown_as_asked(sweep):
    (bare,) = main_sheets(suite_of(sweep), Options(costs=False))
    assert list(bare.table.header) == ["method", "1 shot", "4 shots", "average"]
    assert not any("training time" in note for note in bare.notes)
    suite = suite_of(sweep)
    (full,) = main_sheets(suite, Options(memory=True))
    assert list(full.table.header)[1:4] == ["parameters", "training time", "peak MiB"]
    assert {cells["peak MiB"] for cells in rows_of(full).values()} == {None}
    for number, each in enumerate(suite.records):
        each.result.memory["host_mib"] = 100.4 + number
    suite.records[-1].result.memory["device_mib"] = 7.6
    (full,) = main_sheets(suite, Options(memory=True))
    most: dict[str, float] = {}
    for each in suite.records:
        if each.result.shots == 4 or not each.learns:
            memory = each.result.memory.get("device_mib") or each.result.memory["host_mib"]
            most[each.label] = max(most.get(each.label, 0), memory)
    assert {name: cells["peak MiB"].value for name, cells in rows_of(full).items()} == {
        name: round(memory) for name, memory in most.items()
    }


def test_a_single_number_of_shots_has_no_average(tmp_path):
    write_run(tmp_path, "CoOp-MT", shots=-1)
    (sheet,) = main_sheets(suite_of(tmp_path), Options())
    assert list(sheet.table.header)[3:] == ["all images"]


def test_only_zero_shot(tmp_path):
    write_run(tmp_path, "ZS-CLIP")
    (sheet,) = main_sheets(suite_of(tmp_path), Options())
    assert list(sheet.table.header)[3:] == ["no shots"] and rows_of(sheet)["ZS-CLIP"]["no shots"].mean == 70.0


def test_a_method_that_lacks_shots_is_not_compared_on_average(tmp_path):
    for shots in (1, 4):
        write_run(tmp_path, "CoOp-MT", shots=shots)
    write_run(tmp_path, "SoftCPT-NATA", shots=4, metrics=(99.0, 99.0, 99.0))
    cells = rows_of(next(main_sheets(suite_of(tmp_path), Options())))["SoftCPT-NATA"]
    assert cells["1 shot"] is None and cells["average"].missing == "1/2 shots" and cells["average"].rank == 0


# ---- base to new


def test_base_to_new(tmp_path):
    write_base_to_new(tmp_path)
    overall, *each = base_to_new_sheets(suite_of(tmp_path), Options())
    cells = rows_of(overall)["CoOp-MT"]
    base, new = [(80 + 60 + s + 70) / 3 for s in (1, 2)], [(60 + 50 + 40 + s) / 3 for s in (1, 2)]
    assert cells["base"].mean == pytest.approx(sum(base) / 2) and cells["new"].mean == pytest.approx(sum(new) / 2)
    h = [2 * b * n / (b + n) for b, n in zip(base, new, strict=True)]
    assert cells["H"].mean == pytest.approx(sum(h) / 2) and cells["H"].count == 2
    assert [sheet.keys["task"] for sheet in each] == list(TASKS)
    food = rows_of(each[2])["SoftCPT-NATA"]
    assert (food["base"].mean, food["new"].mean) == (70.0, 41.5)
    assert overall.keys["shots"] == "16"


def test_a_seed_without_its_other_half_has_no_harmonic_mean(tmp_path):
    write_base_to_new(tmp_path, labels=("CoOp-MT",))
    shutil.rmtree(tmp_path / "Toy3/MTCoOpHard/rn50_16shots/CoOp-MT/new/seed2")
    write_run(tmp_path, "ZS-CLIP", classes="base", metrics=(40.0, 40.0, 40.0))
    rows = rows_of(next(base_to_new_sheets(suite_of(tmp_path), Options())))
    assert [rows["CoOp-MT"][name].missing for name in ("base", "new", "H")] == ["", "1/2", "1/2"]
    assert rows["ZS-CLIP"]["base"].mean == 40.0 and rows["ZS-CLIP"]["new"] is rows["ZS-CLIP"]["H"] is None


def test_base_without_new(tmp_path):
    write_run(tmp_path, "CoOp-MT", classes="base")
    cells = rows_of(next(base_to_new_sheets(suite_of(tmp_path), Options())))["CoOp-MT"]
    assert cells["base"].mean == 70.0 and cells["new"] is None


def test_a_schedule_that_follows_the_shots_is_said(tmp_path):
    for shots, epochs in ((1, 50), (16, 200)):
        write_run(tmp_path, "CoOp-MT", shots=shots, config={"OPTIM.MAX_EPOCH": epochs})
    (sheet,) = main_sheets(suite_of(tmp_path), Options())
    assert "CoOp-MT: MAX_EPOCH 50 (1 shot), 200 (16 shots)" in sheet.notes


def test_runs_that_saw_other_images_have_a_dash(tmp_path):
    for seed, digest in enumerate("ab"):
        write_run(tmp_path, "CoOp-MT", shots=-1, seed=seed, subset_digest=digest)
    (sheet,) = main_sheets(suite_of(tmp_path), Options())
    assert rows_of(sheet)["CoOp-MT"]["all images"] is None and sheet.notes[0].startswith("no mean where runs")


# ---- new tasks


def test_new_tasks(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path, "SoftCPT-NATA", seed=seed, choice="base", tasks=TASKS[:2], metrics=(60.0, 70.0 + seed))
        write_run(
            tmp_path, "SoftCPT-NATA", seed=seed, choice="new", tasks=TASKS[2:], metrics=(40.0 + seed,), mode="eval"
        )
    write_run(tmp_path, "ZS-CLIP", choice="base", tasks=TASKS[:2], metrics=(50.0, 50.0))
    write_run(tmp_path, "ZS-CLIP", choice="new", tasks=TASKS[2:], metrics=(45.0,))
    overall, each = new_task_sheets(suite_of(tmp_path), Options())
    rows = rows_of(overall)
    assert rows["SoftCPT-NATA"]["seen tasks"].mean == pytest.approx(65.75)
    assert rows["SoftCPT-NATA"]["new tasks"].mean == 41.5 and rows["ZS-CLIP"]["new tasks"].rank == BEST
    assert rows["ZS-CLIP"]["H"].mean == pytest.approx(2 * 50 * 45 / 95)
    assert list(each.table.header) == ["method", "food"] and rows_of(each)["SoftCPT-NATA"]["food"].mean == 41.5


def test_lists_of_tasks_pair_with_what_they_leave_out(tmp_path):
    write_run(tmp_path, "SoftCPT-NATA", choice="task0,task2", tasks=("animals", "food"), metrics=(60.0, 70.0))
    write_run(tmp_path, "SoftCPT-NATA", choice="task1", tasks=("textures",), metrics=(30.0,), mode="eval")
    write_run(tmp_path, "SoftCPT-NATA", choice="task0,task1", tasks=TASKS[:2], metrics=(1.0, 1.0), mode="eval")
    overall, _ = new_task_sheets(suite_of(tmp_path), Options())
    assert overall.keys["trained on"] == "task0,task2" and overall.keys["evaluated on"] == "task1"


def test_both_directions_between_halves_are_kept_apart(tmp_path):
    for seen, unseen, level in (("base", "new", 60.0), ("new", "base", 80.0)):
        parts = {"base": TASKS[:2], "new": TASKS[2:]}
        for choice, mode, metric in ((seen, "train", level), (unseen, "eval", level - 20)):
            write_run(
                tmp_path, "SoftCPT-NATA", choice=choice, tasks=parts[choice], metrics=[metric] * len(parts[choice]),
                mode=mode, place=f"{seen}-{mode}",
            )  # fmt: skip
    overall = [sheet for sheet in new_task_sheets(suite_of(tmp_path), Options()) if "H" in sheet.table.header]
    shown = {(s.keys["trained on"], s.keys["evaluated on"]): rows_of(s)["SoftCPT-NATA"] for s in overall}
    assert {key: (row["seen tasks"].mean, row["new tasks"].mean) for key, row in shown.items()} == {
        ("base", "new"): (60.0, 40.0),
        ("new", "base"): (80.0, 60.0),
    }


def test_tests_on_all_other_tasks_belong_to_their_training_only(tmp_path):
    for choice, tasks in (("task0", TASKS[:1]), ("task0,task1", TASKS[:2])):
        rest = tuple(task for task in TASKS if task not in tasks)
        write_run(tmp_path, "SoftCPT-NATA", choice=choice, tasks=tasks, metrics=[70.0] * len(tasks))
        write_run(tmp_path, "SoftCPT-NATA", choice=f"not:{choice}", tasks=rest, metrics=[50.0] * len(rest), mode="eval")
    sheets = [*new_task_sheets(suite_of(tmp_path), Options())]
    pairs = {(sheet.keys["trained on"], sheet.keys["evaluated on"]) for sheet in sheets}
    assert pairs == {("task0", "not:task0"), ("task0,task1", "not:task0,task1")} and len(sheets) == 4


# ---- the paper


def test_published_figures_are_whole_and_their_averages_right():
    suites = paper.published()
    assert set(suites) == {"General10", "Plant6", "RS8", "Fashion20"}
    for rows in suites.values():
        assert len(rows) == 13
        for label, row in rows.items():
            assert sorted(row.figures) == ([] if label == "ZS-CLIP" else [1, 2, 4, 8, 16]), label
            if row.figures:
                found = paper.mean_over(row, row.figures)
                assert found.mean == pytest.approx(row.average.mean, abs=0.011), label
                assert found.spread == pytest.approx(row.average.spread, abs=0.011), label


def test_comparison(sweep):
    suite = suite_of(sweep)
    check_comparison([suite])
    (sheet,) = comparison_sheets(suite, Options())
    by_kind = {(row[0], row[1]): dict(zip(sheet.table.header, row, strict=True)) for row in sheet.table.rows[3:6]}
    ours, theirs, gap = by_kind.values()
    assert [kind for _, kind in by_kind] == ["ours", "published", "difference"]
    assert (theirs["4 shots"].mean, theirs["parameters"]) == (66.22, Number(81920))
    assert theirs["average"].mean == pytest.approx((59.51 + 66.22) / 2)  # over the shots that are there
    assert gap["4 shots"].points == pytest.approx(ours["4 shots"].mean - 66.22)
    error = (ours["4 shots"].error ** 2 + 0.58**2 / 2) ** 0.5
    assert gap["4 shots"].errors == pytest.approx(gap["4 shots"].points / error)
    (zero, *_) = sheet.data.rows
    assert zero[0] == "ZS-CLIP" and zero[2] == Figure(58.29, 0.0, 0.0, 3, 3)
    assert zero[3] == Difference(zero[1].mean - 58.29, None)


def test_averages_over_different_shots_are_not_compared(tmp_path):
    write_sweep(tmp_path, labels=("ZS-CLIP", "SoftCPT-NATA"), shots=(1, 32))  # the paper has no 32
    (sheet,) = comparison_sheets(suite_of(tmp_path), Options())
    assert sheet.table.rows[4][-1].missing == "1/2 shots"
    (_, _, gap) = sheet.table.rows[3:]
    assert gap[4] is not None and gap[5] is None and gap[6] is None


def test_comparison_needs_a_suite_of_the_paper(tmp_path):
    write_run(tmp_path, "CoOp-MT")
    suite = suite_of(tmp_path)
    with pytest.raises(UserError, match="no published figures for Toy3; the paper has General10, Plant6"):
        check_comparison([suite])
    assert list(comparison_sheets(suite, Options())) == []


def test_comparison_says_what_is_not_comparable(tmp_path):
    write_run(tmp_path, "TaskRes", suite="Plant6")
    write_run(tmp_path, "CoOp-MT", suite="Plant6")
    (sheet,) = comparison_sheets(suite_of(tmp_path), Options())
    assert any("not in the paper: TaskRes" in note for note in sheet.notes)
