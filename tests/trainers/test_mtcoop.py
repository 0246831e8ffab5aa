"""The meta network's two options: features of length 1, and a zero start on top of one shared context."""

import torch
from torch.nn import functional

from trainers.mtcoop import MetaNetwork

SIZES = {"n_ctx": 3, "seed": 1}


def network(**options):
    return MetaNetwork(8, 4, **{"kind": "lin", "with_classes": False, **SIZES, **options})


def test_a_normalised_feature_takes_steps_of_the_size_of_coops():
    # One step of SGD on a context c changes it by lr * g; through the matrix by lr * |x|^2 * g.
    feature, rate = 10 * torch.randn(1, 8, generator=torch.Generator().manual_seed(0)), 0.1
    for normalize, factor in ((False, feature.square().sum()), (True, torch.tensor(1.0))):
        net = network(normalize=normalize)
        before = net(feature)
        before.sum().backward()
        with torch.no_grad():
            net.proj -= rate * net.proj.grad
        assert torch.allclose(before - net(feature), (rate * factor).expand_as(before), rtol=1e-4)


def test_the_length_of_a_feature_does_not_matter_once_normalised():
    tasks, classes = torch.randn(5, 8), torch.randn(5, 8)
    for kind in ("lin", "linmean", "lincls"):
        net = network(kind=kind, with_classes=True, normalize=True)
        assert torch.allclose(net(tasks, classes), net(3 * tasks, 0.5 * classes), atol=1e-6)
        plain = network(kind=kind, with_classes=True)
        unit = [functional.normalize(each, dim=-1) for each in (tasks, classes)]
        assert torch.allclose(net(tasks, classes), plain(*unit), atol=1e-6)


def test_a_shared_context_starts_as_the_same_for_all():
    net = network(shared=True)
    made = net(torch.randn(5, 8))
    assert torch.equal(made, net.ctx.expand(5, 3, 4))
    made.square().sum().backward()
    assert net.proj.grad.abs().sum() > 0 and net.ctx.grad.abs().sum() > 0
    assert sum(p.numel() for p in net.parameters()) == 8 * 12 + 12


def test_the_options_change_no_other_start():
    assert torch.equal(network().proj, network(normalize=True).proj)
