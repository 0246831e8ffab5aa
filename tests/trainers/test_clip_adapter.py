"""CLIP-Adapter's network and training, computed with modules of torch."""

import torch
from torch import nn
from torch.nn import functional

from tests.trainers.features import double, work
from trainers._descent import Room, shuffled
from trainers.clip_adapter import Objective, adapted

OPTIONS = {
    "trainer": "CLIPAdapter",
    "TRAINER__CLIPADAPTER__PREC": "fp32",
    "TRAINER__CLIPADAPTER__VIEWS": 2,
    "TRAINER__CLIPADAPTER__EPOCHS": 5,
    "TRAINER__CLIPADAPTER__BATCH": 8,
    "TRAINER__CLIPADAPTER__LR": 0.1,
}


def network(down, up):
    """The authors' module."""
    layers = nn.Linear(down.shape[1], len(down), bias=False), nn.Linear(len(down), down.shape[1], bias=False)
    for layer, weight in zip(layers, (down, up), strict=True):
        layer.weight.data.copy_(weight)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU())


def test_a_fit_is_that_of_a_module_with_coops_optimiser(lab):
    trainer = lab.trainer(**OPTIONS)
    task = work(width=24, train=21, views=2)
    first = [trainer._first(task, name, *shape) for name, shape in (("down", (6, 24)), ("up", (24, 6)))]
    assert 0.19 < first[0].abs().max() <= 24**-0.5 and first[1].abs().max() <= 6**-0.5
    module = network(*first)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    rates = [1e-5, *(0.05 * (1 + torch.tensor(torch.pi * e / 5).cos().item()) for e in range(4))]
    for epoch, order in zip(range(5), shuffled(21, seed=1, name="things"), strict=False):
        optimiser.param_groups[0]["lr"] = rates[epoch]
        for rows in (order[:8], order[8:16]):  # the last rows fill no batch
            x = task.views[epoch % 2, rows]
            logits = 5 * functional.cosine_similarity((0.2 * module(x) + 0.8 * x)[:, None], task.text[None], dim=-1)
            optimiser.zero_grad()
            functional.cross_entropy(logits, task.label[rows]).backward()
            optimiser.step()
    found = trainer.fit_task(task).tensors
    for name, layer in (("down", module[0]), ("up", module[2])):
        torch.testing.assert_close(found[name], layer.weight.detach(), rtol=1e-3, atol=1e-5)
        assert not torch.allclose(found[name], first[name == "up"], atol=1e-4)
    expected = 0.2 * module(task.val) + 0.8 * task.val
    torch.testing.assert_close(adapted(task.val, found["down"], found["up"], ratio=0.2), expected, rtol=1e-3, atol=1e-4)


def test_the_gradient_is_that_of_the_plain_formula():
    task = double(work(width=24, train=21, classes=5))
    draw = torch.Generator().manual_seed(1)
    down, up = (
        (0.4 * torch.randn(*shape, generator=draw, dtype=torch.float64)).requires_grad_()
        for shape in ((6, 24), (24, 6))
    )
    text, room = functional.normalize(task.text, dim=-1), Room(task.text)
    found = torch.empty_like(down), torch.empty_like(up)
    for rows in (slice(0, 13), slice(13, 21)):  # the second batch is smaller than the room
        x, label = task.views[0, rows], task.label[rows]
        seen = adapted(x, down, up, ratio=0.3)
        down.grad = up.grad = None
        functional.cross_entropy(5 * functional.normalize(seen, dim=-1) @ text.T, label).backward()
        Objective(text, 0.3, 5.0, room).gradient(x, label, down.detach(), up.detach(), out=found)
        for mine, plain in zip(found, (down.grad, up.grad), strict=True):
            torch.testing.assert_close(mine, plain, rtol=1e-10, atol=1e-12)


def test_a_run_counts_a_network_for_each_task(lab):
    assert lab.run(**OPTIONS).parameters == 2 * (2 * 24 * 6)
