import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default, merge_cfg
from dassl.config.defaults import OPTIMIZERS
from dassl.optim import build_optimizer
from dassl.utils.errors import UserError


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3, bias=False)
        self.head = nn.Linear(3, 1, bias=False)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)

    def forward(self):
        return self.head(self.frozen(self.body(torch.ones(3)))).sum()


def build(model, **changes):
    cfg = get_cfg_default()
    merge_cfg(cfg, pairs=[str(part) for key, value in changes.items() for part in (f"OPTIM.{key}", value)])
    return build_optimizer(model, cfg.OPTIM)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_moves_what_is_learned_and_nothing_else(name):
    model = Model()
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = build(model, NAME=name, LR=0.1)
    model().backward()
    optimizer.step()
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {"body.weight", "head.weight"}


def test_sgd_follows_its_formula():
    weight = nn.Parameter(torch.tensor([1.0]))
    model = nn.Module()
    model.weight = weight
    optimizer = build(model, NAME="sgd", LR=0.1, MOMENTUM=0.5, WEIGHT_DECAY=0.1)
    moment, value = 0.0, 1.0
    for gradient in (2.0, 3.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        moment = 0.5 * moment + gradient + 0.1 * value
        value -= 0.1 * moment
    assert weight.item() == pytest.approx(value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"NAME": "adam", "ADAM_BETA1": 0.5, "WEIGHT_DECAY": 0.25}, {"betas": (0.5, 0.999), "weight_decay": 0.25}),
        ({"NAME": "adam"}, {"amsgrad": False}),
        ({"NAME": "amsgrad"}, {"amsgrad": True}),
        ({"NAME": "rmsprop", "RMSPROP_ALPHA": 0.5, "MOMENTUM": 0.25}, {"alpha": 0.5, "momentum": 0.25}),
        ({"NAME": "sgd", "SGD_NESTEROV": True}, {"nesterov": True, "momentum": 0.9}),
        ({"NAME": "sgd", "SGD_DAMPNING": 1}, {"dampening": 1.0}),
    ],
)
def test_settings_reach_the_optimiser(changes, expected):
    (group,) = build(Model(), **changes).param_groups
    assert {key: group[key] for key in expected} == expected


def test_staged_rates():
    model = Model()
    groups = build(model, STAGED_LR=True, NEW_LAYERS="head", LR=0.5, BASE_LR_MULT=0.25).param_groups
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert rate == {id(model.body.weight): 0.125, id(model.head.weight): 0.5}


def test_staged_rates_where_every_module_is_new():
    (group,) = build(Model(), STAGED_LR=True, NEW_LAYERS="head,body", LR=0.5).param_groups
    assert group["lr"] == 0.5
    assert len(group["params"]) == 2


@pytest.mark.parametrize(
    "changes",
    [{"NAME": "sgd", "SGD_NESTEROV": True, "MOMENTUM": 0}, {"NAME": "adam", "ADAM_BETA1": 1}],
)
def test_settings_that_contradict_each_other_are_one_line(changes):
    with pytest.raises(UserError) as caught:
        build(Model(), **changes)
    assert str(caught.value).startswith(f"OPTIM: {changes['NAME']} refuses these settings (")
    assert "\n" not in str(caught.value)
