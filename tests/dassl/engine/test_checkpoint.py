import errno
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dassl.engine.checkpoint import (
    BEST,
    epoch_file,
    load_checkpoint,
    load_learned,
    load_optimizer_state,
    optimizer_state,
    save_checkpoint,
)
from dassl.engine.reporting import LOGGERS, RunInfo
from dassl.utils.errors import UserError


def content(epoch=1, **state):
    tensors = state or {"ctx": torch.arange(6.0).view(2, 3)}
    rest = {"optimizer": {}, "scheduler": {"steps": 1}, "scaler": {}, "best": {"epoch": None, "result": -float("inf")}}
    return {"state_dict": tensors, "epoch": epoch, **rest}


class Module(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.ctx = nn.Parameter(torch.zeros(*shape))


def test_what_is_saved_is_loaded(tmp_path):
    path = save_checkpoint(tmp_path / "part", content(7))
    assert path == tmp_path / "part" / "model.pth.tar-7"
    found = load_checkpoint(path)
    assert found["best"]["result"] == -float("inf")
    assert torch.equal(found["state_dict"].pop("ctx"), torch.arange(6.0).view(2, 3))
    assert (tmp_path / "part/checkpoint").read_text() == "model.pth.tar-7\n"


def test_the_best_copy_leaves_the_pointer_alone(tmp_path):
    save_checkpoint(tmp_path, content(1))
    save_checkpoint(tmp_path, content(2), best=True)
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", BEST, "model.pth.tar-1"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.integers(0, 5000), st.integers(0, 5000))
def test_damaged_bytes_are_one_line_that_names_the_file(tmp_path, noise, place, kept):
    path = save_checkpoint(tmp_path, content())
    good = path.read_bytes()
    place %= len(good)
    path.write_bytes((good[:place] + noise + good[place + len(noise) :])[: max(1, kept % len(good))])
    try:
        load_checkpoint(path)
    except UserError as error:
        assert str(error).startswith(f"checkpoint {path} ")
        assert "\n" not in str(error)


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_loading_executes_nothing(tmp_path):
    mark = tmp_path / "executed"
    for name, write in (
        ("plain", lambda p: p.write_bytes(pickle.dumps(Bomb(mark), protocol=2))),
        ("torch", lambda p: torch.save(Bomb(mark), p)),
    ):
        path = tmp_path / name
        write(path)
        with pytest.raises(UserError, match="damaged or not a checkpoint"):
            load_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "foreign",
    [
        [1, 2],
        {"state_dict": {}},
        {"epoch": 1},
        {"epoch": "last", "state_dict": {}},
        {"epoch": 1, "state_dict": [1]},
        {"epoch": 1, "state_dict": {"ctx": [1.0]}},
    ],
)
def test_foreign_content_is_refused(tmp_path, foreign):
    torch.save(foreign, tmp_path / "file")
    with pytest.raises(UserError, match="not written by this program"):
        load_checkpoint(tmp_path / "file")


def test_a_missing_epoch_names_those_that_exist(tmp_path):
    for epoch in (2, 10):
        save_checkpoint(tmp_path, content(epoch))
    with pytest.raises(UserError, match=r"does not exist; existing epochs: 2, 10$"):
        load_checkpoint(tmp_path / epoch_file(3))


def test_learned_tensors_must_fit():
    module = Module(2, 3)
    with pytest.raises(UserError) as caught:
        load_learned(module, {"ctx": torch.ones(4, 3), "extra": torch.ones(1)}, source=Path("place"))
    assert str(caught.value) == (
        "checkpoint place does not fit the config: extra is not part of the model; ctx is (4, 3) there, (2, 3) here"
    )
    with pytest.raises(UserError, match="ctx is missing"):
        load_learned(module, {}, source=Path("place"))
    assert not module.ctx.any()


def test_token_tables_of_the_original_are_ignored():
    module = Module(2, 3)
    tables = {name: torch.ones(5) for name in ("token_prefix", "0.token_suffix", "learners.0.token_prefix")}
    load_learned(module, {"ctx": torch.ones(2, 3), **tables}, source=Path("place"))
    assert module.ctx.all()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_the_optimisers_memory_is_kept_by_module(kind, tmp_path):
    def learn(optimizer, module, other, steps):
        for step in range(steps):
            module.ctx.grad, other.ctx.grad = torch.full((2, 3), step + 1.0), torch.ones(4)
            optimizer.step()

    def build():
        module, other = Module(2, 3), Module(4)
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return kind([*module.parameters(), *other.parameters()], lr=0.1, **options), module, other

    first = build()
    learn(*first, 3)
    torch.save([optimizer_state(first[0], part) for part in first[1:]], tmp_path / "state")
    second = build()
    for part, mine, state in zip(first[1:], second[1:], torch.load(tmp_path / "state", weights_only=True), strict=True):
        mine.load_state_dict(part.state_dict())
        load_optimizer_state(second[0], mine, state)
    learn(*first, 2)
    learn(*second, 2)
    assert torch.equal(first[1].ctx, second[1].ctx)
    assert torch.equal(first[2].ctx, second[2].ctx)


def test_a_full_disk_under_tensorboard_is_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    curves = LOGGERS.get("tensorboard")(RunInfo(tmp_path, "run", {}, {}))
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    with pytest.raises(UserError, match=r"^no space left while writing .*tensorboard; "):
        curves.add("train/loss", 1.0, 0)
    curves.close()
