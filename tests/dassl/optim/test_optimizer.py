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


def test_the_adam_family_divides_by_the_root_and_epsilon():
    for name in ("adam", "adamw"):
        weight = steps(name, [0.002], LR=0.1, WEIGHT_DECAY=0, ADAM_EPS=0.006)
        assert weight == pytest.approx(1 - 0.1 * 0.002 / (0.002 + 0.006))


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


def steps(name, gradients, **changes):
    """A weight that starts at 1 and gets these gradients one after another."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = build(model, NAME=name, **changes)
    for gradient in gradients:
        model.weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    return model.weight.item()


def adam(gradients, *, rate, decay, decoupled=False, amsgrad=False, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Adam by its published formula; the decay is part of the gradient, or taken off the weight (AdamW)."""
    value, first, second, largest = 1.0, 0.0, 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        if decoupled:
            value -= rate * decay * value
        else:
            gradient = gradient + decay * value
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        largest = max(largest, second)
        scale = (largest if amsgrad else second) / (1 - beta2**step)
        value -= rate * first / (1 - beta1**step) / (scale**0.5 + epsilon)
    return value


GRADIENTS = (2.0, -0.5, 0.1, 1e-4, -3.0)


def radam(gradients, *, rate, decay, beta1=0.9, beta2=0.999):
    """RAdam while its variance is not to be trusted, as in the first five steps: momentum without the scale."""
    value, first = 1.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        first = beta1 * first + (1 - beta1) * (gradient + decay * value)
        assert 2 / (1 - beta2) - 1 - 2 * step * beta2**step / (1 - beta2**step) <= 5
        value -= rate * first / (1 - beta1**step)
    return value


BY_FORMULA = {
    "radam": (radam, {}),
    "adam": (adam, {}),
    "amsgrad": (adam, {"amsgrad": True}),
    "adamw": (adam, {"decoupled": True}),
}


@pytest.mark.parametrize("name", BY_FORMULA)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_and_its_kin_follow_their_formulas(name, decay):
    formula, kind = BY_FORMULA[name]
    expected = formula(GRADIENTS, rate=0.1, decay=decay, **kind)
    assert steps(name, GRADIENTS, LR=0.1, WEIGHT_DECAY=decay) == pytest.approx(expected, rel=1e-9)


def test_the_decay_of_adam_is_part_of_the_gradient():
    """A first step is as long as the rate, whatever the gradient; AdamW takes rate * decay * weight beside it."""
    options = {"LR": 0.1, "WEIGHT_DECAY": 0.5}
    assert steps("adam", [0.0], **options) == pytest.approx(1 - 0.1)
    assert steps("adamw", [0.0], **options) == pytest.approx(1 - 0.1 * 0.5)
    assert steps("adamw", [3.0], **options) == pytest.approx(1 - 0.1 * 0.5 - 0.1)


def test_rmsprop_and_nesterov_follow_their_formulas():
    value, moment, square = 1.0, 0.0, 0.0
    for gradient in GRADIENTS:
        gradient = gradient + 0.1 * value
        square = 0.5 * square + 0.5 * gradient**2
        moment = 0.25 * moment + gradient / (square**0.5 + 1e-8)
        value -= 0.01 * moment
    options = {"LR": 0.01, "WEIGHT_DECAY": 0.1, "MOMENTUM": 0.25}
    assert steps("rmsprop", GRADIENTS, RMSPROP_ALPHA=0.5, **options) == pytest.approx(value, rel=1e-9)
    value, moment = 1.0, None
    for gradient in GRADIENTS:
        gradient = gradient + 0.1 * value
        moment = gradient if moment is None else 0.25 * moment + gradient
        value -= 0.01 * (gradient + 0.25 * moment)
    assert steps("sgd", GRADIENTS, SGD_NESTEROV=True, **options) == pytest.approx(value, rel=1e-9)


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


@pytest.mark.parametrize(
    "changes",
    [{"NAME": "sgd", "SGD_NESTEROV": True, "MOMENTUM": 0}, {"NAME": "adam", "ADAM_BETA1": 1}],
)
def test_settings_that_contradict_each_other_are_one_line(changes):
    with pytest.raises(UserError) as caught:
        build(Model(), **changes)
    assert str(caught.value).startswith(f"OPTIM: {changes['NAME']} refuses these settings (")
    assert "\n" not in str(caught.value)
