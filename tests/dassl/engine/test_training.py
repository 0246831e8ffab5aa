"""What a training run does and leaves behind."""

import json
import re

import pytest
import torch
import yaml
from torch.optim.optimizer import register_optimizer_step_post_hook

import parse_test_res
import train
from dassl.config import get_cfg_default, merge_cfg
from dassl.engine import TrainerX
from dassl.optim import EpochSchedule
from dassl.results.record import TrainingLength, read_results
from tests.dassl.data.toy import write_image
from tests.lab import BATCHES, figures, same_tensors

EPOCHS = 3
CLASS_PROMPTS = {"TRAINER__MTCOOP__CSC": True}


@pytest.fixture
def steps(monkeypatch):
    """Counts the steps of every optimiser and every schedule."""
    counts = {"optimiser": 0, "schedule": 0}

    def count_optimiser(*_):
        counts["optimiser"] += 1

    advance = EpochSchedule.step

    def count_schedule(schedule):
        counts["schedule"] += 1
        advance(schedule)

    monkeypatch.setattr(EpochSchedule, "step", count_schedule)
    handle = register_optimizer_step_post_hook(count_optimiser)
    yield counts
    handle.remove()


@pytest.mark.parametrize(
    ("keys", "factor"),
    [
        ({}, 1),
        (CLASS_PROMPTS, 1),
        ({"trainer": "MTCoOpHard"}, 1),
        ({"TRAINER__MTCOOP__RECIPE": "released"}, 3),
        ({**CLASS_PROMPTS, "TRAINER__MTCOOP__RECIPE": "released"}, 4),
        ({**CLASS_PROMPTS, "TRAINER__MTCOOP__RECIPE": "released", "TRAINER__MTCOOP__FREEZE_CLS_PROMPT": True}, 3),
    ],
    ids=["corrected", "corrected with classes", "hard", "released", "released with classes", "released frozen"],
)
def test_the_optimiser_steps_once_a_batch_and_the_schedule_once_an_epoch(lab, steps, keys, factor):
    lab.run(**keys)
    assert steps == {"optimiser": factor * EPOCHS * BATCHES, "schedule": factor * EPOCHS}
    contents = lab.checkpoints().values()
    assert {content["scheduler"]["steps"] for content in contents} == {factor * EPOCHS}


@pytest.mark.parametrize(("least", "epochs"), [(0, 3), (9, 3), (10, 4), (17, 6)])
def test_a_training_has_the_least_number_of_steps(lab, steps, least, epochs):
    result = lab.run(OPTIM__MIN_STEPS=least)
    taken = epochs * BATCHES
    assert steps == {"optimiser": taken, "schedule": epochs}
    assert (result.epochs, result.length) == (epochs, TrainingLength(taken, BATCHES, least, EPOCHS, epochs))
    asked = f"OPTIM.MAX_EPOCH {EPOCHS}" + f", OPTIM.MIN_STEPS {least}" * (least > 0)
    assert f"Training: {taken} steps, {epochs} epochs of {BATCHES} x 5 images ({asked})" in lab.log()
    assert f"epoch [{epochs}/{epochs}][3/3]" in lab.log()
    assert {content["scheduler"]["steps"] for content in lab.checkpoints().values()} == {epochs}


def test_the_least_number_of_steps_changes_no_training_that_has_them(lab):
    lab.run()
    lab.run("least", OPTIM__MIN_STEPS=EPOCHS * BATCHES)
    assert same_tensors(lab.learned(), lab.learned("least"))


def test_a_longer_training_ends_with_the_rate_of_the_whole_schedule(lab):
    lab.run(OPTIM__MIN_STEPS=10 * BATCHES, trainer="MTCoOpHard")
    rates = [float(text) for text in re.findall(r"\[3/3\].*lr (\S+)$", lab.log(), re.MULTILINE)]
    assert rates[:4] == [1e-5] * 4  # a third of 10 epochs
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[4] > 0.04 and rates[-1] < 0.02


@pytest.mark.parametrize("keys", [{"trainer": "ProtoNet"}, {"trainer": "ZeroshotCLIP"}], ids=["fit", "no training"])
def test_a_method_without_steps_has_no_length(lab, keys):
    result = lab.run(OPTIM__MIN_STEPS=100, **keys)
    assert result.length is None and result.epochs < 2
    assert "Training:" not in lab.log()


@pytest.fixture
def own_tasks(tmp_path):
    """The arguments that name a task of five training and two test images."""
    for number, name in enumerate([*("train/bolt", "train/nut") * 2, "train/nut", "test/bolt", "test/nut"]):
        write_image(tmp_path / "pictures" / "parts" / name / f"{number}.png", number)
    file = tmp_path / "tasks.yaml"
    file.write_text("DATASET: {NAME: MyTasks, TASKS: [{name: part, folder: parts}]}")
    return ["--dataset-config-file", str(file), "--root", str(tmp_path / "pictures"), "--seed", "1"]


FEW = "the training has 30 steps (30 epochs of 1 x 5 images), and prompts are hardly trained after fewer than 200; set"


@pytest.mark.parametrize(
    ("keys", "told"), [({"OPTIM.MIN_STEPS": 0}, True), ({"OPTIM.MIN_STEPS": 31}, False)], ids=["not set", "set"]
)
def test_a_training_on_own_tasks_of_very_few_steps_is_told(own_tasks, tmp_path, tiny_clip, keys, told):
    keys = {**keys, "TRAINER.MTCOOPH.N_CTX": 2, "DATALOADER.FEATURES_DIR": str(tmp_path / "features")}
    pairs = [str(part) for pair in keys.items() for part in pair]
    names = ["--trainer", "CoOp-MT", "--config-file", "own", "--backbone", str(tiny_clip)]
    assert train.main([*own_tasks, *names, "--output-dir", str(tmp_path / "run"), *pairs]) == 0
    result = read_results(tmp_path / "run")
    assert [text.startswith(FEW) for text in result.warnings if "steps" in text] == [True] * told
    assert (result.length.steps, result.backbone.precision) == (30 + (not told), "fp32")


def test_the_least_steps_of_a_training_on_a_registered_data_set_are_its_papers(lab):
    assert not [text for text in lab.run().warnings if "steps" in text]


def test_log_lines_have_the_originals_form(lab):
    lab.run(TRAIN__PRINT_FREQ=5, DATALOADER__TRAIN_X__BATCH_SIZE=1, OPTIM__MAX_EPOCH=1)
    log = lab.log()
    number, count = r"\d+\.\d{4} \(\d+\.\d{4}\)", r"\d+\.\d{3} \(\d+\.\d{3}\)"
    start = rf"epoch \[1/1\]\[(\d+)/16\]\ttime {count}\tdata {count}\teta \d+:\d\d:\d\d"
    line = rf"{start}\tloss {number}\tmap {number}\tlr 1\.000000e-05"
    assert re.findall(f"^{line}$", log, re.MULTILINE) == ["5", "10", "15", "16"]
    saved = re.findall(r'^Checkpoint saved to "(.*)"$', log, re.MULTILINE)
    assert saved == [
        str(lab.folder("run") / name / "model.pth.tar-1") for name in ("task_prompt_learner", "prompt_gen")
    ]
    end = log[log.index("Finished training") :].splitlines()
    assert end[1:6] == ["Deploy the last-epoch model", "Do evaluation on test set", "=> result", "* total: 32", end[5]]
    assert re.fullmatch(r"\* overall_metric: \d+\.\d\d%", end[5])
    assert re.fullmatch(r"\* task: 0 \(pet_kind\)\ttotal: 12\tmetric: \d+\.\d\d%", end[6])
    assert re.fullmatch(r"\* task: 1 \(tool\)\ttotal: 20\tmetric: \d+\.\d\d%", end[7])
    assert end[8] == end[5].replace("overall_metric", "average")
    assert re.fullmatch(r"mean over tasks: macro F1 \d+\.\d\d%, NLL \d+\.\d{4}, ECE \d+\.\d\d%", end[9])
    assert re.fullmatch(r"Elapsed: \d+:\d\d:\d\d", end[10])


def test_short_epochs_log_every_batch(lab):
    lab.run(TRAIN__PRINT_FREQ=BATCHES + 1, OPTIM__MAX_EPOCH=1)
    assert len(re.findall(r"^epoch ", lab.log(), re.MULTILINE)) == BATCHES


def test_log_and_results_are_parsed_to_the_same_figures(lab, capsys):
    for seed in (1, 2):
        lab.run(f"seed{seed}", seed=seed)
    capsys.readouterr()

    def parsed():
        assert parse_test_res.main([str(lab.output / "runs")]) == 0
        return capsys.readouterr().out

    from_results = parsed()
    for seed in (1, 2):
        (lab.folder(f"seed{seed}") / "results.json").unlink()
    from_logs = parsed().replace("log.txt", "results.json")
    figure = re.compile(r"\d+\.\d\d")
    assert figure.sub("", from_logs) == figure.sub("", from_results)
    # A log has two decimals, so what is made of it may differ in the last one.
    assert [float(each) for each in figure.findall(from_logs)] == pytest.approx(
        [float(each) for each in figure.findall(from_results)], abs=0.0101
    )
    assert from_results.count("results.json") == 2


def test_results_say_what_was_done(lab):
    result = lab.run()
    learned = lab.learned()
    sizes = {task.name: (task.total, task.classes, task.metric_name) for task in result.tasks}
    assert sizes == {"pet_kind": (12, 3, "mean_acc"), "tool": (20, 5, "overall_acc")}
    assert result.metric == pytest.approx(sum(task.metric for task in result.tasks) / 2)
    assert (result.mode, result.trainer, result.dataset, result.split) == ("train", "MTCoOp", "ToyBoth", "test")
    assert (result.shots, result.seed, result.epochs, result.best_epoch, result.val) == (2, 1, EPOCHS, None, None)
    assert result.parameters == sum(tensor.numel() for tensor in learned.values())
    assert result.counts == {"train": 16, "val": 16, "test": 32}
    assert result.backbone.name == str(lab.backbone)
    assert result.backbone.precision == "fp32"
    digests = (result.backbone.digest, result.subset_digest, result.test_digest, result.config_digest)
    assert [len(digest) for digest in digests] == [64] * 4
    assert result.seconds["total"] >= result.seconds["train"] + result.seconds["test"] > 0
    assert result.seconds["encode"] == 0
    assert result.versions["torch"] == torch.__version__.split("+")[0]
    assert result.device.startswith("cpu")
    assert result.warnings == ()
    assert set(json.loads((lab.folder("run") / "results.json").read_text())) >= {"format", "tasks", "seconds"}


def test_the_stored_config_is_the_whole_config(lab):
    lab.run()
    path = lab.folder("run") / "config.yaml"
    cfg = get_cfg_default()
    merge_cfg(cfg, files=[path])
    assert yaml.safe_load(cfg.dump()) == yaml.safe_load(path.read_text())
    assert ("MTCoOp", 0.05, str(lab.folder("run"))) == (cfg.TRAINER.NAME, cfg.OPTIM.LR, cfg.OUTPUT_DIR)


def test_tensorboard_gets_the_curves(lab):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = lab.run(TEST__FINAL_MODEL="best_val")
    events = EventAccumulator(str(lab.folder("run") / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(EPOCHS * BATCHES))
    assert [event.value for event in events.Scalars("train/lr")][::BATCHES] == pytest.approx([1e-5, 0.05, 0.0375])
    assert [event.step for event in events.Scalars("val/metric")] == list(range(EPOCHS))
    (test,) = events.Scalars("test/metric")
    assert (test.step, test.value) == (EPOCHS - 1, pytest.approx(result.metric))


def test_checkpoints_hold_what_was_learned_and_nothing_else(lab):
    result = lab.run(**CLASS_PROMPTS)
    contents = lab.checkpoints()
    assert {name: sorted(content["state_dict"]) for name, content in contents.items()} == {
        f"class_prompt_learner/model.pth.tar-{EPOCHS}": ["ctx"],
        f"prompt_gen/model.pth.tar-{EPOCHS}": ["proj"],
        f"task_prompt_learner/model.pth.tar-{EPOCHS}": ["ctx"],
    }
    for content in contents.values():
        assert sorted(content) == [
            "best",
            "config",
            "contents",
            "epoch",
            "labels",
            "optimizer",
            "scaler",
            "scheduler",
            "seconds",
            "session",
            "state_dict",
            "subset",
        ]
        assert content["epoch"] == EPOCHS
        assert all(tensor.dtype == torch.float32 for tensor in content["state_dict"].values())
    size = sum((lab.folder("run") / name).stat().st_size for name in contents)
    assert size < 2 * 4 * result.parameters + 45_000  # the tensors, their momentum, the config, and little else
    assert (lab.folder("run") / "prompt_gen" / "checkpoint").read_text() == f"model.pth.tar-{EPOCHS}\n"


@pytest.mark.parametrize(("frequency", "kept"), [(0, [5]), (2, [2, 4, 5]), (1, [1, 2, 3, 4, 5]), (9, [5])])
def test_checkpoints_are_kept_as_often_as_asked_for(lab, frequency, kept):
    lab.run(OPTIM__MAX_EPOCH=5, TRAIN__CHECKPOINT_FREQ=frequency, TEST__NO_TEST=True)
    names = [f"{module}/model.pth.tar-{epoch}" for module in ("prompt_gen", "task_prompt_learner") for epoch in kept]
    assert list(lab.checkpoints()) == names


def test_without_a_test_there_is_no_figure(lab, capsys):
    result = lab.run(TEST__NO_TEST=True)
    assert (result.metric, result.tasks) == (None, ())
    assert "=> result" not in lab.log()
    assert parse_test_res.main([str(lab.output / "runs")]) == 1
    assert "left out: run" in capsys.readouterr().out


def test_the_best_epoch_on_val_is_tested(lab):
    keys = {"OPTIM__LR": 0.5, "OPTIM__MAX_EPOCH": 4, "TRAIN__CHECKPOINT_FREQ": 1}
    result = lab.run(TEST__FINAL_MODEL="best_val", **keys)
    best = {name: content for name, content in lab.checkpoints().items() if "best" in name}
    assert {content["epoch"] for content in best.values()} == {result.best_epoch}
    metrics = [float(value) for value in re.findall(r"overall_metric: (\S+)%", lab.log())]
    assert len(metrics) == 4 + 1
    assert result.best_epoch == metrics.index(max(metrics[:4])) + 1
    assert result.best_epoch < 4, "the last epoch is the best one, so the test shows nothing"
    assert result.val.metric == pytest.approx(max(metrics[:4]), abs=0.005)
    again = lab.main(
        "again", "--eval-only", "--model-dir", str(lab.folder("run")), "--load-epoch", str(result.best_epoch)
    )
    assert again == 0
    named = lab.result("again")
    assert (named.tasks, named.best_epoch, named.val) == (result.tasks, result.best_epoch, None)


def test_the_tested_split_can_be_val(lab):
    result = lab.run(TEST__SPLIT="val")
    assert result.split == "val"
    assert sum(task.total for task in result.tasks) == 16
    assert "Do evaluation on val set" in lab.log()


def test_confusion_matrices_are_written_on_demand(lab):
    result = lab.run(TEST__COMPUTE_CMAT=True, TEST__PER_CLASS_RESULT=True)
    matrices = json.loads((lab.folder("run") / "cmat.json").read_text())
    hits = {name: sum(row[i] for i, row in enumerate(matrix)) for name, matrix in matrices.items()}
    assert {task.name: round(task.metric * task.total / 100) for task in result.tasks} == hits
    assert len(re.findall(r"^\* class: ", lab.log(), re.MULTILINE)) == 8


def test_the_same_seed_gives_the_same_run_and_another_one_another(lab):
    first, again = lab.run("first", seed=0), lab.run("again", seed=0)
    lab.run("other", seed=1)
    assert first.seed == 0
    assert figures(again) == figures(first)
    assert same_tensors(lab.learned("again"), lab.learned("first"))
    assert not same_tensors(lab.learned("other"), lab.learned("first"))


def test_a_negative_seed_draws_one(lab):
    drawn = lab.run("drawn", seed=-1)
    assert drawn.seed >= 0
    assert f"Seed {drawn.seed} on" in lab.log("drawn")
    lab.run("again", seed=drawn.seed)
    assert same_tensors(lab.learned("drawn"), lab.learned("again"))


def test_features_do_not_change_what_is_learned(lab):
    lab.run("images")
    lab.run("features", DATALOADER__FEATURES="on")
    images, features = lab.learned("images"), lab.learned("features")
    assert images.keys() == features.keys()
    for key in images:
        torch.testing.assert_close(features[key], images[key], rtol=1e-4, atol=1e-5)
    assert list((lab.output / "features").rglob("*.npy"))


def test_a_loss_that_is_no_number_stops_the_run(lab, capsys):
    assert lab.main(OPTIM__LR=1e38, OPTIM__WARMUP_EPOCH=-1) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"error: the loss is nan at epoch 1, batch 2 \(tasks (pet_kind, )?tool; precision fp32\); "
        r"lower OPTIM.LR",
        line,
    )
    assert lab.files() == ["config.yaml", "log.txt", "tasks.json"]
    assert lab.log().splitlines()[-1] == line


def test_a_loss_that_is_no_number_advises_fp32_where_that_is_another_precision(lab, capsys):
    assert lab.main(OPTIM__LR=1e38, OPTIM__WARMUP_EPOCH=-1, TRAINER__MTCOOP__PREC="bf16") == 2
    assert capsys.readouterr().err.endswith("precision bf16); lower OPTIM.LR or use PREC fp32\n")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"OPTIM__MAX_EPOCH": 1}, "1 and OPTIM.MAX_EPOCH 1: the schedule never leaves its warm-up"),
        ({"OPTIM__WARMUP_EPOCH": 3}, "3 and OPTIM.MAX_EPOCH 3: the schedule never leaves its warm-up"),
        ({"OPTIM__WARMUP_EPOCH": 9, "OPTIM__WARMUP_TYPE": "linear"}, "9 and OPTIM.MAX_EPOCH 3: the schedule never"),
    ],
)
def test_a_schedule_that_never_leaves_its_warm_up_is_said(lab, keys, words):
    (text,) = [each for each in lab.run(trainer="MTCoOpHard", **keys).warnings if "WARMUP" in each]
    assert words in text and "OPTIM.LR is 0.05" in text and "set OPTIM.WARMUP_EPOCH 0" in text


def test_the_highest_rate_of_a_warm_up_is_said(lab):
    constant, linear = (
        lab.run(kind, trainer="MTCoOpHard", OPTIM__WARMUP_EPOCH=3, OPTIM__WARMUP_TYPE=kind).warnings
        for kind in ("constant", "linear")
    )
    assert "the highest learning rate is 1e-05," in constant[0]
    assert "the highest learning rate is 0.0333333," in linear[0]


def test_several_schedule_steps_an_epoch_may_leave_a_long_warm_up(lab):
    (text,) = lab.run(OPTIM__WARMUP_EPOCH=3, TRAINER__MTCOOP__RECIPE="released").warnings
    assert "OPTIM.WARMUP_EPOCH is 3 and OPTIM.MAX_EPOCH 3: 2 epochs come after the warm-up" in text


@pytest.mark.parametrize(
    ("trainer", "keys"), [("MTCoOpHard", {"OPTIM__WARMUP_EPOCH": 2}), ("ProtoNet", {"OPTIM__MAX_EPOCH": 1})]
)
def test_a_schedule_that_leaves_its_warm_up_or_is_none_says_nothing(lab, trainer, keys):
    assert not [each for each in lab.run(trainer=trainer, **keys).warnings if "WARMUP" in each]


def test_a_loss_that_is_no_number_is_seen_between_log_lines(lab, capsys):
    assert lab.main(OPTIM__LR=1e38, OPTIM__WARMUP_EPOCH=-1, TRAIN__PRINT_FREQ=3) == 2
    assert "at epoch 1, batch 2 (" in capsys.readouterr().err


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_last_step_that_leaves_no_numbers_stops_the_run(lab, capsys, monkeypatch, value):
    after = TrainerX.after_epoch

    def break_and_end(trainer):
        if trainer.epoch == 1:
            next(trainer.model.parameters()).data.view(-1)[:2] = value
        after(trainer)

    monkeypatch.setattr(TrainerX, "after_epoch", break_and_end)
    assert lab.main(trainer="MTCoOpHard") == 2
    (line,) = capsys.readouterr().err.splitlines()
    told = r"after epoch 2 the learned tensors of prompt_learner are not finite in ctx \(2 of 256 values\) "
    assert re.search(told + r"\(precision fp32\); lower OPTIM.LR$", line)
    assert "prompt_learner/model.pth.tar-1" in lab.files() and "results.json" not in lab.files()


def test_a_checkpoint_that_is_not_finite_is_refused_by_every_door(lab, capsys):
    lab.run()
    path = min(lab.folder("run").glob("*/model.pth.tar-3"))
    content = torch.load(path, weights_only=True)
    name, tensor = next(iter(content["state_dict"].items()))
    tensor.view(-1)[0] = torch.nan
    torch.save(content, path)
    told = f"checkpoint {path} has values that are not finite in {name} (1 of {tensor.numel():,} values)"
    doors = {
        "evaluated": (["--eval-only", "--model-dir", str(lab.folder("run"))], {}),
        "started": ([], {"MODEL__INIT_WEIGHTS": lab.folder("run")}),
        "resumed": (["--resume", str(lab.folder("run"))], {"OPTIM__MAX_EPOCH": 3}),
    }
    for run, (flags, keys) in doors.items():
        assert lab.main(run, *flags, **keys) == 2, run
        assert told in capsys.readouterr().err
        assert "results.json" not in lab.files(run)


def test_learned_tensors_of_another_run_can_be_the_start(lab):
    lab.run("first")
    lab.run("second", MODEL__INIT_WEIGHTS=lab.folder("first"), OPTIM__LR=0, OPTIM__WARMUP_EPOCH=0)
    lab.run("third", MODEL__INIT_WEIGHTS=lab.folder("first"), OPTIM__LR=0.01)
    assert same_tensors(lab.learned("second"), lab.learned("first"))
    assert not same_tensors(lab.learned("third"), lab.learned("first"))


def test_images_with_several_tasks(lab):
    result = lab.run(dataset="ToyShapes", DATALOADER__TRAIN_X__BATCH_SIZE=3)
    assert {task.name: task.total for task in result.tasks} == {"colour": 12, "shape": 12}
    losses = [float(value) for value in re.findall(r"\tloss (\S+) ", lab.log())]
    assert losses
    assert all(0 < loss < 20 for loss in losses)
