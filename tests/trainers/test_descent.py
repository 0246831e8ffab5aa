"""What the methods that learn by steps share."""

import torch
from torch.nn import functional

from trainers._descent import Room, descend, descend_along, entropy_slope


def test_entropy_slope_is_the_gradient_of_the_mean_cross_entropy():
    draw = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(7, 5, generator=draw, dtype=torch.float64)).requires_grad_()
    truth = torch.randint(5, (7,), generator=draw)
    functional.cross_entropy(logits, truth).backward()
    torch.testing.assert_close(entropy_slope(logits.detach(), truth), logits.grad, rtol=1e-12, atol=1e-15)
    room = torch.empty(7, 5, dtype=torch.float64)
    assert entropy_slope(logits.detach(), truth, out=room) is room
    torch.testing.assert_close(room, logits.grad, rtol=1e-12, atol=1e-15)


def test_gradients_by_hand_take_the_same_steps():
    target = torch.tensor([1.0, -2.0, 3.0])
    rates, batches = [0.5, 0.1, 0.2, 0.0], [1.0, 2.0, 0.5, 3.0]
    by_torch = torch.zeros(3, requires_grad=True)
    by_hand = torch.zeros(3)

    def put(batch):
        by_hand.grad = 2 * batch * (by_hand - target)

    ways = (
        descend(
            torch.optim.SGD([by_torch], momentum=0.9), rates, batches, lambda b: b * (by_torch - target).square().sum()
        ),
        descend_along(torch.optim.SGD([by_hand], momentum=0.9), rates, batches, put),
    )
    seen = []
    for first, second in zip(*ways, strict=True):
        assert first == second
        torch.testing.assert_close(by_hand, by_torch.detach())
        seen.append(by_hand.clone())
    assert len(seen) == 4
    assert not torch.equal(seen[0], seen[1])


def test_room_is_used_again_and_grows():
    room = Room(torch.zeros(1, dtype=torch.float64))
    first = room.take("a", 3, 4)
    assert first.shape == (3, 4) and first.dtype == torch.float64
    assert room.take("a", 5, 2).data_ptr() == first.data_ptr()
    assert room.take("b", 3, 4).data_ptr() != first.data_ptr()
    assert room.take("a", 6, 4).shape == (6, 4)
