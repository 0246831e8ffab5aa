"""What is found before any run of a sweep starts."""

import pytest

import sweep
from clip import weights
from dassl.sweep.grid import read_sweep
from dassl.sweep.look import look
from dassl.sweep.plan import expand
from dassl.utils.errors import UserError

HERE = {"here": True, "fetch": True}


def runs(small, *pairs: str, **changes: object):
    return expand(read_sweep(str(small.write(**changes).file)), pairs=pairs)


def test_a_good_sweep_passes_and_nothing_is_written(small):
    assert look(runs(small), **HERE) == []
    assert not small.output.exists()
    assert not (small.root / "split_my_tasks").exists()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["MODEL.BACKBONE.NAME", "/nowhere/clip.pt"], "the weights file /nowhere/clip.pt of the backbone"),
        (["MODEL.BACKBONE.NAME", "RN51"], "unknown backbone 'RN51'; did you mean RN50"),
        (["MODEL.BACKBONE.NAME", "RN50", "MODEL.BACKBONE.WEIGHTS", "/nowhere/RN50.pt"], "/nowhere/RN50.pt is neither"),
        (["MODEL.BACKBONE.NAME", "demo", "MODEL.BACKBONE.WEIGHTS", "/nowhere/x.pt"], "/nowhere/x.pt is neither a file"),
        (["INPUT.SIZE", "7,7"], "INPUT.SIZE is (7, 7) but"),
        (["DATASET.ROOT", "/nowhere/data"], "data folder /nowhere/data does not exist"),
        (["DATASET.SUBSAMPLE_TASKS", "task2"], "there is no task2; the data set has 2 tasks"),
        (["TRAINER.MTCOOP.N_CTX", "0"], "TRAINER.MTCOOP.N_CTX is 0"),
        (["TRAIN.LOGGERS", "tensorbord"], "tensorboard"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_a_mistake_is_one_line_before_anything_starts(small, pairs, message, dry, capsys):
    assert sweep.main(small.write().command(*["--dry-run"] * dry, *pairs)) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ") and message in line
    assert ("4 runs: 0 done, 0 begun, 4 new" in captured.out) == dry
    assert not small.output.exists()


def test_every_run_is_looked_at_not_only_the_first(small):
    method = {"label": "soft", "trainer": "MTCoOp", "config": str(small.folder / "method.yaml")}
    twice = [{**method, "setting": "one"}, {**method, "label": "other", "setting": "two", "options": {}}]
    twice[1]["options"] = {"TRAINER.MTCOOP.PG_TYPE": "lincls", "TRAINER.MTCOOP.CSC": False}
    with pytest.raises(UserError, match="lincls"):
        look(runs(small, methods=twice), **HERE)
    with pytest.raises(UserError, match="N_CTX is 0"):
        look(runs(small, vary={"TRAINER.MTCOOP.N_CTX": [4, 0]}), **HERE)


def test_the_folder_of_an_own_task_and_damaged_weights_are_found(small):
    todo = runs(small)
    small.backbone.with_name("damaged.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(Exception, match=r"damaged\.pt"):
        look(runs(small, "MODEL.BACKBONE.NAME", str(small.backbone.with_name("damaged.pt"))), **HERE)
    (small.root / "tools").rename(small.root / "tolls")
    with pytest.raises(UserError, match="tools"):
        look(todo, **HERE)


def test_a_member_without_a_folder_is_named(small, tmp_path):
    (tmp_path / "oxford_flowers").mkdir()
    todo = runs(small, "DATASET.ROOT", str(tmp_path), suites=["plant6"])
    with pytest.raises(
        UserError, match=r"^data set (?!OxfordFlowers)\w+: folder .* does not exist; put the data there"
    ):
        look(todo, **HERE)


def test_published_weights_are_fetched_once_and_only_announced_by_a_dry_run(small, monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(weights, "_fetch", lambda named, folders: fetched.append(named.name) or small.backbone)
    monkeypatch.setattr("trainers.base.check_preprocessing", lambda said, backbone: None)
    todo = runs(small, "MODEL.BACKBONE.NAME", "RN50")
    (remark,) = look(todo, here=True, fetch=False)
    assert (remark.startswith("the weights of RN50 are not on this machine"), fetched) == (True, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.base.clip.load", lambda name, **options: [weights.locate(name, options["weights"])])
        assert look(todo, **HERE) == []
    assert fetched == ["RN50"]


def test_on_a_cluster_data_and_weights_are_where_the_workers_are(small):
    assert look(runs(small, "DATASET.ROOT", "/nowhere/data"), here=False, fetch=True) == []
    with pytest.raises(UserError, match="there is no task2"):
        look(runs(small, "DATASET.SUBSAMPLE_TASKS", "task2"), here=False, fetch=True)


def test_finished_runs_need_neither_data_nor_weights(small, worker_here, monkeypatch):
    from tests.dassl.sweep.small import Here

    monkeypatch.setattr("dassl.sweep.executor_config.Processes", lambda jobs, **options: Here(jobs))
    command = small.command("--shots", "1", "--seeds", "1")
    assert sweep.main(command) == 0
    small.root.rename(small.root.with_name("away"))
    assert sweep.main(command) == 0
