"""From a sweep to its runs: folders, configs, what is done, estimates."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import train
from dassl.config.comparing import config_digest
from dassl.data.dataset import DATASET_REGISTRY
from dassl.results.methods import Method, find_method
from dassl.sweep.estimates import Estimate, Estimates, duration
from dassl.sweep.grid import make_sweep, read_sweep, with_changes
from dassl.sweep.overview import describe
from dassl.sweep.plan import expand
from dassl.utils.errors import UserError
from tests.dassl.data.toy import toy_cfg
from tests.lab import SETTINGS

DEMO = read_sweep("demo")
PER_TASK = Method("own", "MTCoOpHard", "demo", "default", per_task=True)
NUMBERS = st.lists(st.integers(1, 32), min_size=1, max_size=4, unique=True)


def demo(**changes):
    """Runs of the shipped demo sweep with some fields replaced."""
    return expand(replace(DEMO, **{"output": "out", **changes}))


@settings(max_examples=15, deadline=None)
@given(NUMBERS, st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True))
def test_the_grid_has_every_cell_once(shots, seeds):
    runs = demo(shots=tuple(shots), seeds=tuple(seeds))
    assert len({run.folder for run in runs}) == len(runs) == 1 + 4 * len(shots) * len(seeds)
    assert {(run.shots, run.seed) for run in runs if run.method.learns} == {(k, s) for k in shots for s in seeds}


def test_methods_that_learn_nothing_come_first_and_run_once():
    runs = demo(methods=tuple(reversed(DEMO.methods)))
    assert [run.method.learns for run in runs] == [False] + [True] * 36
    assert [run.shots for run in runs[1:10]] == [16] * 3 + [4] * 3 + [1] * 3


def test_folders_are_those_of_the_scripts():
    folders = [run.folder.relative_to(Path("out").absolute()).as_posix() for run in demo(shots=(4,), seeds=(2,))]
    assert folders == [
        "ZeroshotCLIP/demo/template/seed2",
        "MTCoOpHard/demo_4shots/shared/seed2",
        "MTCoOpHard/demo_4shots/per_task/seed2",
        "MTCoOp/demo_4shots/NATA/seed2",
        "MTCoOp/demo_4shots/NATS/seed2",
    ]
    several = demo(suites=("demo6", "demo_digits"), shots=(-1,), seeds=(2,))
    assert several[1].folder.relative_to(Path("out").absolute()).as_posix() == (
        "demo6/MTCoOpHard/demo_allshots/shared/seed2"
    )
    assert several[5].folder.parts[-5] == "demo_digits"


def test_a_method_that_is_trained_task_by_task_has_a_run_for_each_task():
    runs = demo(methods=(PER_TASK,), shots=(4,), seeds=(1, 2))
    assert len(runs) == 12
    assert [run.config().DATASET.SUBSAMPLE_TASKS for run in runs[:3]] == ["task0", "task1", "task2"]
    assert runs[7].folder.as_posix().endswith("MTCoOpHard/demo_4shots/default/task1/seed2")
    assert runs[7].kind == runs[0].kind
    assert runs[7].title == "own on demo6, 4 shots, seed 2, task 1"


def test_labels_and_variations_reach_config_title_and_command():
    nata, own = find_method("SoftCPT-NATA"), replace(find_method("SoftCPT-NATA"), label="hot", setting="hot")
    vary = {"OPTIM.LR": [0.1, 0.2]}
    runs = demo(methods=(nata, own), shots=(4,), seeds=(1,), vary=vary)
    labels = [f"{label} [LR {rate}]" for label in ("SoftCPT-NATA", "hot") for rate in (0.1, 0.2)]
    assert [run.config().TRAINER.LABEL for run in runs] == labels
    assert runs[3].title == "hot [LR 0.2] on demo6, 4 shots, seed 1"
    assert "'hot [LR 0.2]'" in runs[3].command()
    (plain,) = demo(methods=(nata,), shots=(4,), seeds=(1,))
    assert plain.config().TRAINER.LABEL == "" and "TRAINER.LABEL" not in plain.command()


def test_tasks_that_were_chosen_are_the_only_ones():
    options = {"DATASET.SUBSAMPLE_TASKS": "task4,task1"}
    runs = demo(methods=(PER_TASK,), shots=(4,), seeds=(1,), options=options)
    assert [run.task for run in runs] == [1, 4]
    few = demo(methods=(PER_TASK,), shots=(4,), seeds=(1,), options={"DATASET.MEMBERS": ["DemoDigits", "DemoCounts"]})
    assert [run.task for run in few] == [0, 1]


@pytest.mark.parametrize(("suite", "tasks"), [("general10", 10), ("plant6", 6), ("rs8", 8), ("fashion20", 20)])
def test_the_papers_suites_are_counted_without_their_data(suite, tasks):
    sweep = make_sweep("x", {"suites": [suite], "methods": ["CoOp-MT"], "shots": [1], "seeds": [1]}, place="")
    one = replace(PER_TASK, config="rn50_ep50")
    assert len(expand(replace(sweep, methods=(one,)))) == tasks


def test_tasks_are_counted_where_only_the_data_or_a_description_says_them(small, toy_root, tmp_path):
    assert DATASET_REGISTRY.get("ToyShapes").count_tasks(toy_cfg(toy_root, tmp_path, "ToyShapes")) == 2
    own = replace(read_sweep(str(small.file)).methods[0], per_task=True)
    runs = expand(with_changes(read_sweep(str(small.file)), methods=(own,), shots=(1,), seeds=(1,)))
    assert [run.folder.parent.name for run in runs] == ["task0", "task1"]


def test_options_of_the_sweep_count_more_than_those_of_a_method():
    vary = {"TRAINER.MTCOOP.N_CTX": [2]}
    nata = tuple(method for method in DEMO.methods if method.label == "SoftCPT-NATA")
    options = {"TRAINER.MTCOOP.N_CTX": 3, "TRAINER.MTCOOP.TASK_N_CTX": 5, "INPUT.SIZE": [32, 32]}
    (run,) = expand(replace(DEMO, methods=nata, shots=(1,), seeds=(1,), options=options, vary=vary))
    cfg = run.config()
    assert (cfg.TRAINER.MTCOOP.N_CTX, cfg.TRAINER.MTCOOP.TASK_N_CTX, cfg.INPUT.SIZE) == (2, 5, (32, 32))
    added = {"SoftCPT-NATA": {"TRAINER.MTCOOP.TASK_N_CTX": 6, "TRAINER.MTCOOP.N_CTX": 9}}
    (run,) = expand(
        replace(DEMO, methods=nata, shots=(1,), seeds=(1,), options=options, method_options=added, vary=vary)
    )
    assert (run.config().TRAINER.MTCOOP.N_CTX, run.config().TRAINER.MTCOOP.TASK_N_CTX) == (2, 6)
    (run,) = expand(replace(DEMO, methods=nata, shots=(1,), seeds=(1,)), pairs=["TRAINER.MTCOOP.N_CTX", "7"])
    assert run.config().TRAINER.MTCOOP.N_CTX == 7


@pytest.mark.parametrize(
    ("protocol", "key", "folders"),
    [
        ("base2new", "SUBSAMPLE_CLASSES", ("base2new/base", "base2new/new")),
        ("newtasks", "SUBSAMPLE_TASKS", ("newtasks/base/seen", "newtasks/base/unseen")),
    ],
)
def test_a_protocol_gives_each_run_an_evaluation_in_the_folder_of_the_scripts(protocol, key, folders):
    nata = tuple(method for method in DEMO.methods if method.label == "SoftCPT-NATA")
    (run,) = demo(methods=nata, shots=(4,), seeds=(1,), protocol=protocol)
    both = (run, *run.evaluations)
    assert [each.folder.relative_to(Path("out").absolute()).as_posix() for each in both] == [
        f"{folder}/MTCoOp/demo_4shots/NATA/seed1" for folder in folders
    ]
    assert [getattr(each.config().DATASET, key) for each in both] == ["base", "new"]
    assert run.job(7).evaluations == (run.evaluations[0].values(),)


def test_transfer_gives_each_run_an_evaluation_on_every_target():
    nata = tuple(method for method in DEMO.methods if method.label == "SoftCPT-NATA")
    targets = {"protocol": "transfer", "targets": ("demo_digits", "demo_counts")}
    (run,) = demo(methods=nata, shots=(4,), seeds=(1,), **targets)
    both = (run, *run.evaluations)
    assert [each.folder.relative_to(Path("out").absolute()).as_posix() for each in both] == [
        f"transfer/{name}/MTCoOp/demo_4shots/NATA/seed1" for name in ("source", "demo_digits", "demo_counts")
    ]
    assert [each.config().DATASET.NAME for each in both] == ["Demo6", "DemoDigits", "DemoCounts"]
    assert [each.config().TRAINER.MTCOOP.N_CTX for each in both] == [16] * 3


@pytest.mark.parametrize(("label", "said"), [
    ("CoOp-CA", "trained task by task, so it learns nothing that protocol transfer can test"),
    ("SoftCPT-NATS", "learns something for each task, so it has nothing for new tasks"),
])  # fmt: skip
def test_transfer_refuses_what_is_tied_to_its_tasks(label, said):
    with pytest.raises(UserError, match=said):
        demo(methods=(find_method(label),), shots=(4,), seeds=(1,), protocol="transfer", targets=("demo_digits",))


@pytest.mark.parametrize(
    ("label", "protocol", "message"),
    [
        ("SoftCPT-CSTA", "base2new", "cannot take part in protocol base2new: TRAINER.MTCOOP.CLASS_CSC True learns"),
        ("SoftCPT-NATS", "newtasks", "cannot take part in protocol newtasks: TRAINER.MTCOOP.TASK_CSC True learns"),
        ("CoOp-CA", "newtasks", "trained task by task, so it learns nothing that protocol newtasks can test"),
    ],
)
def test_a_method_that_learns_nothing_for_others_takes_no_part_in_a_protocol(label, protocol, message):
    with pytest.raises(UserError, match=message):
        demo(methods=(find_method(label),), protocol=protocol)


ADAPTED = {"label": "adapted", "like": "MCoOp-adapted"}


def two_stages(**changes):
    """Runs of a row that starts from others, on the demo suite."""
    fields = {"suites": ["demo6"], "methods": [ADAPTED], "shots": [4], "seeds": [1, 5], "config": "demo"}
    return expand(make_sweep("two", {**fields, "output": "out", **changes}, place="two.yaml"))


def test_a_second_stage_starts_from_the_mean_over_runs_that_come_before_it():
    runs = two_stages()
    sources, targets = [run for run in runs if not run.sources], [run for run in runs if run.sources]
    assert (len(sources), len(targets)) == (6 * 3, 6 * 2)
    top = Path("out").absolute()
    (run,) = [each for each in targets if (each.task, each.seed) == (2, 5)]
    folders = [top / f"sources/without_task2/MTCoOpHard/demo_4shots/mcoop/seed{seed}" for seed in (1, 2, 3)]
    assert run.folder == top / "MTCoOpHard/demo_4shots/adapted/task2/seed5"
    assert run.config().MODEL.INIT_WEIGHTS.split(",") == list(map(str, folders))
    assert [each.folder for each in run.sources] == folders
    assert all(runs.index(each) < runs.index(run) for each in run.sources)
    first = run.sources[0]
    assert first.config().DATASET.SUBSAMPLE_TASKS == "not:task2" and first.config().MODEL.INIT_WEIGHTS == ""
    assert first.config().TRAINER.MTCOOPH.UNION is True
    assert (first.title, first.tasks) == ("MCoOp on demo6, 4 shots, seed 1, task not 2", "not 2")
    text = describe(runs, ["new"] * len(runs), jobs=1)
    assert "adapted starts from the mean over seeds 1, 2, 3 of MCoOp, trained on the other tasks" in text
    assert text.count("new, waits") == 12
    waiting = describe(runs, ["new" if each.sources else "done" for each in runs], jobs=1)
    assert "waits " not in waiting.split("adapted starts")[0]


def test_a_second_stage_may_start_from_another_suite_or_its_own_seed():
    options = {"DATASET.SUBSAMPLE_TASKS": "task0,task4"}
    runs = two_stages(
        methods=[{**ADAPTED, "start": {"method": "MCoOp", "tasks": "others", "seeds": "own"}}], options=options
    )
    (run,) = [each for each in runs if (each.task, each.seed) == (4, 5)]
    assert [each.seed for each in run.sources] == [5]
    assert run.sources[0].config().DATASET.SUBSAMPLE_TASKS == "not:task1,task2,task3,task4,task5"
    other = {**ADAPTED, "start": {"method": "mine", "suite": "demo_digits", "seeds": [7]}}
    mine = {"label": "mine", "like": "MCoOp-masked", "options": {"OPTIM.LR": 0.5}}
    run = two_stages(methods=[mine, other])[-1]
    (source,) = run.sources
    assert source.folder == Path("out/sources/demo_digits/MTCoOpHard/demo_4shots/mine/seed7").absolute()
    assert (source.config().DATASET.NAME, source.config().OPTIM.LR) == ("DemoDigits", 0.5)


@pytest.mark.parametrize(("start", "changes", "said"), [
    ({"method": "MCoOp", "suite": "demo6"}, {}, "would start from runs that have learned the same tasks"),
    ({"method": "SoftCPT-NATA", "tasks": "others"}, {}, "its trainer, MTCoOp, learns other tensors than MTCoOpHard"),
    ({"method": "CoOp-CA-joint", "tasks": "others"}, {}, "TRAINER.MTCOOPH.TSC True learns something for each task"),
    ({"method": "MCoOp-adapted", "tasks": "others"}, {}, "which starts from others itself"),
    ({"method": "MCoOb", "tasks": "others"}, {}, "unknown method 'MCoOb'; did you mean MCoOp"),
    ({"method": "MCoOp"}, {}, "expected method: LABEL with tasks: others or suite: NAME"),
    ({"method": "MCoOp", "tasks": "others", "seeds": []}, {}, "expected method: LABEL"),
    ({"method": "MCoOp", "tasks": "others"}, {"suites": ["demo_digits"]}, "there are no other tasks to start from"),
    ({"method": "MCoOp", "tasks": "others"}, {"protocol": "base2new"}, "have seen what protocol base2new tests"),
    ({"method": "MCoOp", "tasks": "others"}, {"options": {"MODEL.INIT_WEIGHTS": "x"}}, "because its start: sets it"),
    ({"method": "MCoOp", "tasks": "others"}, {"output": "a,b"}, "has a comma, which separates runs"),
])  # fmt: skip
def test_a_start_that_cannot_be_is_refused(start, changes, said):
    with pytest.raises(UserError, match=said):
        two_stages(methods=[{**ADAPTED, "start": start}], **changes)


def test_a_start_from_the_other_tasks_needs_a_run_for_each_task():
    with pytest.raises(UserError, match="tasks: others needs per_task: true"):
        two_stages(methods=[{**ADAPTED, "per_task": False}])


def test_a_method_has_its_own_options_on_a_suite():
    cata = make_sweep("x", {"suites": ["general10", "plant6"], "methods": ["SoftCPT-CATA"]}, place="")
    rates = {run.suite: run.config().TRAINER.MTCOOP.CLS_SAMPLE_RATE for run in expand(cata)}
    assert rates == {"general10": 0.1, "plant6": 0.0}


@pytest.mark.parametrize("index", [0, 1, -1])
def test_the_command_of_a_run_gives_the_same_config(index):
    run = demo()[index]
    words = shlex.split(run.command())
    assert words[:2] == ["python", "train.py"]
    assert config_digest(train.setup_cfg(train.parse(words[2:]))) == config_digest(run.config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"OPTIM.LRR": 1}}, r"options of .*: unknown key 'OPTIM.LRR'; did you mean OPTIM.LR"),
        ({"options": {"OPTIM.LR": "fast"}}, "OPTIM.LR is 'fast': expected a number"),
        ({"suites": ("demo7",)}, r"there is no suite file 'demo7'; did you mean demo6"),
        ({"config": "demmo"}, r"there is no \w+ config file 'demmo'; did you mean demo"),
        (
            {"methods": (replace(PER_TASK, trainer="MTCoOpHart"),)},
            "unknown trainer 'MTCoOpHart'; did you mean MTCoOpHard",
        ),
    ],
)
def test_a_mistake_is_found_before_anything_runs(changes, message):
    with pytest.raises(UserError, match=message):
        demo(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"shots": (0, -1)},
        {"vary": {"OPTIM.LR": [0.1, 0.1]}},
        {"suites": ("demo6", "configs/datasets/demo6.yaml")},
        {"methods": (PER_TASK, replace(PER_TASK, label="twin"))},
    ],
)
def test_two_runs_never_share_a_folder(changes):
    with pytest.raises(UserError, match=r"^two runs would share the folder /.*/seed\d: .*; give suites, configs"):
        demo(**changes)


@pytest.mark.parametrize(
    ("changes", "pairs", "message"),
    [
        ({}, ["OPTIM.LR", "0.1", "SEED", "5"], r"^SEED has no effect .*, because seeds: \(--seeds\) sets it"),
        ({"options": {"DATASET.NUM_SHOTS": 8}}, [], "^DATASET.NUM_SHOTS has no effect"),
        ({"vary": {"OUTPUT_DIR": ["a", "b"]}}, [], "^OUTPUT_DIR has no effect"),
        ({"method_options": {"CoOp-MT": {"TRAINER.NAME": "CoOp"}}}, [], "^TRAINER.NAME has no effect"),
        ({"protocol": "base2new"}, ["DATASET.SUBSAMPLE_CLASSES", "all"], "because protocol: sets it; leave it out$"),
    ],
)
def test_a_key_that_the_sweep_itself_sets_is_refused_not_ignored(changes, pairs, message):
    with pytest.raises(UserError, match=message):
        expand(replace(DEMO, **changes), pairs=pairs)


def test_the_config_of_every_number_of_shots_is_checked_before_anything_runs(small):
    (small.folder / "typo.yaml").write_text("OPTIM: {MAX_EPOCHS: 2}\n")
    sweep = read_sweep(str(small.file))
    configs = {1: str(small.folder / "typo.yaml"), 2: str(small.folder / "method.yaml")}
    with pytest.raises(UserError, match=r"typo\.yaml: unknown key 'OPTIM\.MAX_EPOCHS'"):
        expand(replace(sweep, methods=(replace(sweep.methods[0], config=configs),)))


def test_what_a_folder_holds(lab, small):
    sweep = with_changes(read_sweep(str(small.file)), shots=(1,), seeds=(1,))
    (run,) = expand(sweep)
    assert run.found() == "new"
    run.folder.mkdir(parents=True)
    (run.folder / "log.txt").write_text("begun\n")
    assert run.found() == "begun"
    assert train.main(run.command().split()[2:]) == 0
    assert run.found() == "done"
    (other,) = expand(sweep, pairs=["OPTIM.MAX_EPOCH", "4"])
    assert other.found() == "other"
    assert other.conflicts() == ["OPTIM.MAX_EPOCH is 3 there, 4 here"]
    assert "1 other; the folders of those counted as other hold finished runs" in describe([other], ["other"], jobs=1)
    assert Estimates.of([run], ["done"]).one(run)
    assert Estimates.of([other], ["other"]).one(other) is None
    (run.folder / "results.json").write_text("{")
    assert run.found() == "begun"
    assert run.result() is None


def seconds(total: float, train: float = 0.0) -> dict[str, float]:
    return {"total": total, "train": train, "test": 1.0}


def test_estimates_come_from_runs_of_the_same_kind():
    runs = demo(shots=(1, 4), seeds=(1, 2, 3))
    estimates = Estimates()
    assert estimates.average() is None
    cell = [run for run in runs if run.kind == runs[1].kind]
    for run, total in zip(cell, (10.0, 30.0, 14.0), strict=True):
        estimates.add(run, seconds(total))
    estimates.add(runs[0], {})  # a result of another program says nothing
    assert estimates.one(cell[0]) == Estimate(14.0)
    assert estimates.one(runs[-1]) is None
    assert estimates.work([*cell, runs[0], runs[-1]]) == (42.0, 2)
    assert estimates.average() == 18.0


def by_shots(label: str, options: dict[str, object] | None = None):
    runs = demo(methods=(find_method(label),), shots=(1, 4, 16, -1), seeds=(1,), options=options or {})
    return {run.shots: run for run in runs}


def test_without_a_run_of_the_kind_training_time_is_scaled_by_shots_and_epochs():
    soft, other = by_shots("SoftCPT-NATA"), by_shots("CoOp-MT")
    estimates = Estimates()
    estimates.add(soft[1], seconds(total=13.0, train=3.0))
    assert estimates.one(soft[16]) == Estimate(10.0 + 16 * 3.0, scaled=True)
    estimates.add(soft[4], seconds(total=20.0, train=8.0))
    assert estimates.one(soft[16]) == Estimate(12.0 + 4 * 8.0, scaled=True)  # the nearest one counts
    assert estimates.one(soft[-1]) is None  # how many images these are is not known
    assert estimates.one(other[1]) is None
    longer = Estimates()
    longer.add(soft[1], seconds(total=13.0, train=3.0))
    assert longer.one(by_shots("SoftCPT-NATA", {"OPTIM.MAX_EPOCH": 60})[4]) == Estimate(10.0 + 8 * 3.0, scaled=True)


def test_the_list_names_the_settings_by_shots_and_data_set():
    sweep = replace(read_sweep("paper_general10"), methods=(find_method("PLOT"),), shots=(1, 16), seeds=(1, 2))
    runs = expand(sweep)
    text = describe(runs, ["new"] * len(runs), jobs=1)
    assert [line for line in text.splitlines() if line.startswith("published")] == [
        "published settings of PLOT, 16 shots, general10 tasks 3, 5, 7: DATALOADER.TRAIN_X.BATCH_SIZE 32",
        "published settings of PLOT, 1 shot, general10 tasks 0, 1, 2, 4, 6, 8, 9: OPTIM.MAX_EPOCH 50",
        "published settings of PLOT, 1 shot, general10 tasks 3, 5, 7: OPTIM.MAX_EPOCH 50, "
        "DATALOADER.TRAIN_X.BATCH_SIZE 32",
    ]


def test_the_list_says_what_is_known_and_what_is_not(small):
    runs = expand(with_changes(read_sweep(str(small.file)), seeds=(1, 2)))
    text = describe(runs, ["new"] * 4, jobs=2)
    assert "soft on suite  2      1     all   new    unknown" in text
    assert text.endswith(
        "4 runs: 0 done, 0 begun, 4 new\ntime needed: unknown, because no run of these methods is finished\n"
    )
    assert train.main(runs[0].command().split()[2:]) == 0
    text = describe(runs, ["done", "begun", "new", "new"], jobs=2)
    assert "4 runs: 1 done, 1 begun, 2 new" in text
    assert "soft on suite  1      1     all   new    ~" in text
    assert text.endswith(" with 2 at a time\n")
    assert describe(runs, ["done"] * 4, jobs=2).endswith("nothing to do\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5340, "89 min"),
        (5400, "1 h 30 min"),
        (11100, "3 h 05 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations_are_said_in_two_figures(seconds, text):
    assert duration(seconds) == text


def test_the_small_sweep_is_that_of_the_lab(small):
    cfg = expand(read_sweep(str(small.file)))[0].config()
    assert (SETTINGS["OPTIM.LR"], SETTINGS["TRAINER.MTCOOP.N_CTX"]) == (cfg.OPTIM.LR, cfg.TRAINER.MTCOOP.N_CTX)
