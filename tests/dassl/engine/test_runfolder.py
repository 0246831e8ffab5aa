"""Whose a run folder is, and what in it is read."""

from collections import Counter

import pytest

from dassl.engine import runfolder
from dassl.engine.checkpoint import epoch_file, load_checkpoint, save_checkpoint, saved_epochs
from dassl.engine.runfolder import RunFolder
from dassl.utils.errors import UserError
from tests.dassl.engine.cutting import cut_off
from tests.dassl.engine.test_checkpoint import content
from tests.lab import same_tensors


@pytest.fixture
def reads(monkeypatch):
    """How often each checkpoint is read to resume."""
    counts = Counter()

    def read(path):
        counts[path.relative_to(path.parents[1]).as_posix()] += 1
        return load_checkpoint(path)

    monkeypatch.setattr(runfolder, "load_checkpoint", read)
    return counts


def test_epochs_count_when_every_module_has_them(tmp_path):
    for name, epochs in {"a": (1, 2, 3, 10), "b": (2, 3, 11)}.items():
        for epoch in epochs:
            save_checkpoint(tmp_path / name, content(epoch))
    run = RunFolder(tmp_path)
    assert saved_epochs(tmp_path / "a") == {1, 2, 3, 10}
    assert saved_epochs(tmp_path / "none") == set()
    assert run.whole_epochs(["a", "b"]) == [3, 2]
    assert run.whole_epochs(["a", "b", "c"]) == run.whole_epochs([]) == []
    assert [each["epoch"] for each in run.newest(["a", "b"]).values()] == [3, 3]
    assert run.newest(["a", "c"]) is None


def test_whether_a_folder_holds_checkpoints(tmp_path):
    assert not RunFolder(tmp_path / "missing").holds_checkpoints()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".model.pth.tar-1.abc").touch()
    assert not RunFolder(tmp_path).holds_checkpoints()
    save_checkpoint(tmp_path / "a", content())
    assert RunFolder(tmp_path).holds_checkpoints()


def test_a_resume_reads_each_checkpoint_once(lab, reads):
    cut_off(lab, epoch=2, batch=0)
    (lab.folder("run") / "config.yaml").unlink()  # so that a checkpoint is asked for the config, too
    assert not reads
    lab.run()
    lab.run("whole")
    assert reads == {f"{name}/model.pth.tar-2": 1 for name in ("prompt_gen", "task_prompt_learner")}
    assert same_tensors(lab.learned(), lab.learned("whole"))


def test_a_damaged_checkpoint_is_read_and_named_once(lab, reads):
    cut_off(lab, epoch=2, batch=0)
    damaged = lab.folder("run") / "prompt_gen/model.pth.tar-2"
    damaged.write_bytes(b"")
    lab.run()
    assert reads["prompt_gen/model.pth.tar-2"] == 1
    assert lab.log().count(f"warning: checkpoint {damaged} is damaged") == 1


def test_a_checkpoint_is_read_again_after_it_was_replaced(tmp_path, reads):
    run, path = RunFolder(tmp_path), tmp_path / "a" / epoch_file(1)
    save_checkpoint(path.parent, {**content(1), "seconds": 1.0})
    assert [run.checkpoint(path)["seconds"] for _ in range(3)] == [1.0] * 3
    save_checkpoint(path.parent, {**content(1), "seconds": 2.0})
    assert run.checkpoint(path)["seconds"] == 2.0
    run.forget()
    assert run.newest(["a"])["a"]["seconds"] == 2.0
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        run.checkpoint(path)
    assert sum(reads.values()) == 4
