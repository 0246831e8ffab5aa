"""What runs report: the table of a sweep in TensorBoard, other loggers, and what they are told."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from dassl.engine.reporting import LOGGERS, RunLogger, describe_run, open_loggers
from trainers.base import PromptTuner


def choices(lab, run: str) -> dict[str, str | float]:
    """What TensorBoard's HParams page shows of a run."""
    events = EventAccumulator(str(lab.folder(run) / "tensorboard"))
    events.Reload()
    data = HParamsPluginData.FromString(events.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    table = data.session_start_info.hparams
    return {name: value.string_value or value.number_value for name, value in table.items()}


def scalar(lab, run: str, tag: str) -> float:
    events = EventAccumulator(str(lab.folder(run) / "tensorboard"))
    events.Reload()
    return events.Scalars(tag)[-1].value


def test_tensorboard_has_a_line_for_every_run(lab):
    trained = lab.run("trained", TRAINER__MTCOOP__N_CTX=4)
    assert choices(lab, "trained") == {
        "method": "MTCoOp N_CTX 4, TASK_N_CTX 2",
        "trainer": "MTCoOp",
        "suite": "ToyBoth",
        "tasks": "all",
        "classes": "all",
        "shots": 2.0,
        "seed": 1.0,
        "backbone": str(lab.backbone),
        "epochs": 3.0,
        "learning rate": 0.05,
    }
    assert scalar(lab, "trained", "final/metric") == pytest.approx(trained.metric)
    assert scalar(lab, "trained", "final/train seconds") > 0
    zero = lab.run("zero", trainer="ZeroshotCLIP")
    assert choices(lab, "zero")["method"] == "ZS-CLIP"
    assert scalar(lab, "zero", "final/metric") == pytest.approx(zero.metric)


def test_the_table_is_no_run_of_its_own(lab):
    lab.run()
    assert [path.parent.name for path in lab.folder("run").rglob("*tfevents*")] == ["tensorboard"]


def test_a_run_that_goes_on_is_one_line(lab, monkeypatch):
    """Cut off in the second epoch; the line is written at the end."""
    epoch = PromptTuner.after_epoch

    def cut(self) -> None:
        epoch(self)
        if self.epoch == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(PromptTuner, "after_epoch", cut)
    assert lab.main() == 130
    with pytest.raises(KeyError):
        choices(lab, "run")
    monkeypatch.undo()
    lab.run()
    assert choices(lab, "run")["seed"] == 1.0


def test_every_logger_is_closed_once_also_when_the_run_fails(lab, monkeypatch):
    calls = []

    class Recorder(RunLogger):
        def add(self, tag, value, step):
            calls.append(tag)

        def finish(self, figures):
            calls.append("finish")

        def close(self):
            calls.append("close")

    monkeypatch.setitem(LOGGERS._entries, "recorder", Recorder)
    lab.run("good", TRAIN__LOGGERS="recorder")
    assert (calls[-2:], calls.count("close"), calls.count("finish")) == (["finish", "close"], 1, 1)
    assert not (lab.folder("good") / "tensorboard").exists()
    calls.clear()
    assert lab.main("bad", TRAIN__LOGGERS="recorder", OPTIM__LR=1e30) == 2
    assert (calls[-1], calls.count("close"), "finish" in calls) == ("close", 1, False)
    calls.clear()
    lab.run("none", TRAIN__LOGGERS="()")
    assert calls == []


def test_an_unknown_logger_is_one_line(lab, capsys):
    assert lab.main(TRAIN__LOGGERS="tensorbord") == 2
    assert "unknown logger 'tensorbord'; did you mean tensorboard?" in capsys.readouterr().err
    assert lab.files() == []


def test_loggers_do_not_change_what_a_run_is(lab):
    digests = {lab.run(name, TRAIN__LOGGERS=value).config_digest for name, value in (("a", "()"), ("b", "tensorboard"))}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"DATASET__NUM_SHOTS": -1}, "ToyBoth/CoOp-MT/all images/seed1"),
        ({"DATASET__SUBSAMPLE_TASKS": "task1"}, "ToyBoth/CoOp-MT/2shots/task1/seed1"),
        ({"DATASET__SUBSAMPLE_CLASSES": "base"}, "ToyBoth/CoOp-MT/2shots/base/seed1"),
    ],
)
def test_the_name_of_a_run_says_what_it_is(lab, keys, name):
    cfg = lab.trainer(trainer="MTCoOpHard", TRAINER__MTCOOPH__N_CTX=16, **keys).cfg
    assert describe_run(cfg).name == name


def test_figures_that_could_not_be_computed_are_left_out(lab, monkeypatch):
    told = []
    recorder = type("Recorder", (RunLogger,), {"finish": lambda self, figures: told.append(figures)})
    monkeypatch.setitem(LOGGERS._entries, "recorder", recorder)
    loggers = open_loggers(lab.trainer(TRAIN__LOGGERS="recorder").cfg)
    loggers.finish({"metric": None, "train seconds": 1.0})
    loggers.close()
    loggers.close()
    assert told == [{"train seconds": 1.0}]
