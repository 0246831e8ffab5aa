import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dassl.config import get_cfg_default, merge_cfg
from dassl.optim import build_lr_scheduler, learning_rate


def optim_cfg(**changes):
    """The paper's schedule; ``changes`` are keys of the OPTIM node."""
    paper = {"LR": 0.002, "LR_SCHEDULER": "cosine", "MAX_EPOCH": 50, "WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant"}
    cfg = get_cfg_default()
    settings = {**paper, **changes}
    merge_cfg(cfg, pairs=[str(part) for key, value in settings.items() for part in (f"OPTIM.{key}", value)])
    return cfg.OPTIM


def rates(steps, **changes):
    cfg = optim_cfg(**changes)
    return [learning_rate(cfg, step) for step in steps]


# Rates by 1-based epoch as the original's schedule gives them, at 1, 3 and 4 schedule steps per epoch.
RELEASED = {
    1: {
        1: 1e-5,
        2: 2e-3,
        3: 1.998027e-3,
        13: 1.770513e-3,
        18: 1.535827e-3,
        35: 5.180e-4,
        49: 1.771275e-5,
        50: 7.885299e-6,
    },
    3: {1: 1e-5, 2: 1.992115e-3, 3: 1.951057e-3, 13: 4.122e-4, 18: 0, 35: 1.998e-3, 49: 9.517295e-5, 50: 3.141684e-5},
    4: {
        1: 1e-5,
        2: 1.982287e-3,
        3: 1.904827e-3,
        13: 1.771e-5,
        18: 5.182e-4,
        35: 4.122e-4,
        49: 1.844328e-3,
        50: 1.951057e-3,
    },
}


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 4])
def test_rates_of_the_papers_schedule(steps_per_epoch):
    for epoch, rate in RELEASED[steps_per_epoch].items():
        (found,) = rates([steps_per_epoch * (epoch - 1)])
        assert found == pytest.approx(rate, rel=5e-4, abs=1e-12)


@pytest.mark.parametrize(
    ("epochs", "before_last", "last"),
    [(10, 4.122147e-4, 1.909830e-4), (100, 4.438e-6, 1.973e-6), (200, 1.110e-6, 4.934e-7)],
)
def test_the_cosine_of_other_lengths_is_cut_off_above_zero(epochs, before_last, last):
    assert rates([epochs - 2, epochs - 1], MAX_EPOCH=epochs) == pytest.approx([before_last, last], rel=1e-3)


def test_linear_warm_up_starts_at_its_lowest_rate():
    found = rates(range(6), WARMUP_TYPE="linear", WARMUP_EPOCH=4, WARMUP_MIN_LR=1e-6)
    assert found[:5] == pytest.approx([1e-6, 0.0005, 0.001, 0.0015, 0.002])
    assert found[5] < found[4]


def test_constant_warm_up_has_its_own_rate():
    found = rates(range(3), WARMUP_EPOCH=2, WARMUP_CONS_LR=3e-4, WARMUP_MIN_LR=1e-6)
    assert found == [3e-4, 3e-4, 0.002]


@given(st.integers(2, 300), st.floats(1e-6, 10))
def test_the_cosine_is_torchs(epochs, rate):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for found in rates(range(epochs), LR=rate, MAX_EPOCH=epochs, WARMUP_EPOCH=-1):
        assert found == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6, abs=rate * 1e-9)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("changes", "build"),
    [
        ({"LR_SCHEDULER": "single_step", "STEPSIZE": 4}, lambda o: torch.optim.lr_scheduler.StepLR(o, 4)),
        ({"LR_SCHEDULER": "single_step"}, lambda o: torch.optim.lr_scheduler.StepLR(o, 10)),
        ({"LR_SCHEDULER": "multi_step", "STEPSIZE": "7,3"}, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 7])),
        ({"LR_SCHEDULER": "multi_step"}, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [-1])),
    ],
    ids=["single", "single at MAX_EPOCH", "multi", "multi without epochs"],
)
def test_step_schedules_are_torchs(changes, build):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.002)
    theirs = build(optimizer)
    for found in rates(range(25), MAX_EPOCH=10, WARMUP_EPOCH=0, **changes):
        assert found == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("kind", ["single_step", "multi_step"])
def test_steps_multiply_by_gamma(kind):
    found = rates(range(5), LR_SCHEDULER=kind, STEPSIZE="2,4" if kind == "multi_step" else 2, GAMMA=0.3, WARMUP_EPOCH=0)
    assert found == pytest.approx([0.002, 0.002, 0.0006, 0.0006, 0.00018])


def test_with_recount_the_schedule_starts_after_the_warm_up():
    plain = rates(range(20), MAX_EPOCH=20, WARMUP_EPOCH=0)
    assert rates(range(3, 23), MAX_EPOCH=20, WARMUP_EPOCH=3) == plain
    assert rates(range(3), MAX_EPOCH=20, WARMUP_EPOCH=3) == [1e-5] * 3


@pytest.mark.parametrize("kind", ["cosine", "single_step", "multi_step"])
def test_without_recount_the_warm_up_counts_as_part_of_the_schedule(kind):
    changes = {"LR_SCHEDULER": kind, "STEPSIZE": "2,5" if kind == "multi_step" else 4, "MAX_EPOCH": 10}
    plain = rates(range(10), WARMUP_EPOCH=0, **changes)
    found = rates(range(10), WARMUP_EPOCH=3, WARMUP_RECOUNT=False, **changes)
    assert found[3] == pytest.approx(0.002)
    assert [rate / found[3] for rate in found[3:]] == pytest.approx([rate / plain[3] for rate in plain[3:]])
    if kind == "cosine":
        assert found[9] == pytest.approx(0.002 * (1 + math.cos(0.9 * math.pi)) / (1 + math.cos(0.3 * math.pi)))


def test_a_warm_up_as_long_as_the_cosine_leaves_nothing():
    assert rates([5, 6], MAX_EPOCH=5, WARMUP_EPOCH=5, WARMUP_RECOUNT=False) == [0.0, 0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"WARMUP_EPOCH": 3, "WARMUP_TYPE": "linear"},
        {"WARMUP_RECOUNT": False, "WARMUP_EPOCH": 2},
        {"LR_SCHEDULER": "multi_step", "STEPSIZE": "2,5"},
        {"LR_SCHEDULER": "single_step", "STEPSIZE": 4},
    ],
    ids=["cosine", "linear warm-up", "no recount", "multi", "single"],
)
def test_a_longer_training_passes_through_the_same_schedule_more_slowly(changes):
    cfg = optim_cfg(MAX_EPOCH=10, **changes)
    plain, slow = ([learning_rate(cfg, step, epochs=epochs) for step in range(epochs)] for epochs in (10, 70))
    assert plain == [learning_rate(cfg, step) for step in range(10)]
    assert slow[::7] == plain
    warm = cfg.WARMUP_EPOCH * 7
    assert len({rate for rate in slow[:warm] if cfg.WARMUP_TYPE == "constant"}) <= 1
    for rate, before, after in zip(slow[warm:-7], sorted(slow[warm:-7], reverse=True), slow[warm + 1 :], strict=False):
        assert rate == before >= after  # it only falls


def test_the_schedule_of_an_optimiser_takes_the_real_number_of_epochs():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.002}]
    schedule = build_lr_scheduler(torch.optim.SGD(groups), optim_cfg(MAX_EPOCH=10, WARMUP_EPOCH=0), epochs=40)
    for _ in range(20):
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.001])


def build(**changes):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.002, 0.0002)]
    optimizer = torch.optim.SGD(groups)
    return optimizer, build_lr_scheduler(optimizer, optim_cfg(**changes))


def test_the_schedule_sets_the_rate_of_every_group():
    optimizer, schedule = build(MAX_EPOCH=10)
    assert schedule.get_last_lr() == [1e-5, 1e-5]
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == schedule.get_last_lr() == [0.002, 0.0002]
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.002 * (1 + math.cos(math.pi / 10)) / 2, 0.0001951], rel=1e-3)


@given(st.integers(0, 60))
def test_the_state_is_restored_into_the_live_optimiser(steps):
    optimizer, schedule = build()
    for _ in range(steps):
        schedule.step()
    other, again = build()
    again.load_state_dict(schedule.state_dict())
    assert [group["lr"] for group in other.param_groups] == [group["lr"] for group in optimizer.param_groups]
    schedule.step()
    again.step()
    assert again.get_last_lr() == schedule.get_last_lr()
