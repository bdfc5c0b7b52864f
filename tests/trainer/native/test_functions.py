from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from trainer.native.functions import Drops, recurrent, residual

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, SIZE = 203, 9  # no multiple of anything


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def weights(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape).mul_(0.3).requires_grad_() for shape in shapes]


def network() -> list[Tensor]:
    square, row = (SIZE, SIZE), (SIZE,)
    return weights(square, row, square, row, (2 * SIZE, SIZE), (2 * SIZE,), row, row)


def gradients(drops: tuple[int, int]) -> list[Tensor]:
    parts, x = network(), torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    context = weights((7, SIZE))[0]
    output = residual(x, context, None, parts, drops)
    torch.autograd.backward((output * torch.linspace(-1.0, 1.0, output.numel()).view_as(output)).sum())
    return [output.detach(), *(part.grad for part in (x, context, *parts) if part.grad is not None)]


@pytest.mark.usefixtures("threads")
def test_threads_change_nothing_but_the_order_of_sums() -> None:
    drops = Drops(6554, 3).next()
    torch.set_num_threads(1)
    alone = gradients(drops)
    torch.set_num_threads(3)
    together, again = gradients(drops), gradients(drops)

    assert len(alone) == 11
    assert torch.equal(alone[0], together[0])
    for one, other, same in zip(alone, together, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert torch.equal(other, same)


def test_the_backward_pass_drops_what_the_forward_pass_dropped() -> None:
    """By finite differences, which hold only where both have the same mask."""
    parts, drops = network(), Drops(32768, 5).next()
    x = torch.randn(40, SIZE, generator=torch.Generator().manual_seed(2))
    way = torch.randn(40, SIZE, generator=torch.Generator().manual_seed(3))
    x.requires_grad_()
    torch.autograd.backward(residual(x, None, None, parts, drops).pow(2).mul(way).sum())
    assert x.grad is not None

    with torch.no_grad():
        step = 1e-2 * way

        def loss(at: Tensor) -> float:
            return float(residual(at, None, None, parts, drops).pow(2).mul(way).double().sum())

        difference = (loss(x + step) - loss(x - step)) / 2.0

    assert difference == pytest.approx(float((x.grad * step).sum()), rel=0.02)


@pytest.mark.parametrize("rate", [0.003, 0.1, 0.5, 0.9])
def test_elements_are_dropped_at_the_rate_independently(rate: float) -> None:
    torch.manual_seed(4)
    rows, size = 20_000, 8

    kept = kept_elements(rows, size, rate)
    error = (rate * (1.0 - rate) / kept.numel()) ** 0.5
    assert abs(float(1.0 - kept.mean()) - rate) < 5.0 * error + 1e-5
    together = torch.corrcoef(torch.cat((kept[:-1], kept[1:]), dim=1).t())
    assert float((together - torch.eye(2 * size)).abs().max()) < 0.04


def kept_elements(rows: int, size: int, rate: float) -> Tensor:
    """1 where an element passed, (rows, size): only there has the input a derivative."""
    x = torch.zeros(rows, size, requires_grad=True)
    skip = torch.randn(rows, size)
    gate = torch.cat((torch.eye(size), torch.zeros(size, size)))
    bias = torch.cat((torch.zeros(size), torch.full((size,), 50.0)))
    parts = [None, None, None, None, gate, bias, torch.ones(size), torch.zeros(size)]
    way = torch.randn(rows, size)
    output = residual(x, None, skip, parts, Drops.at(rate).next())
    torch.autograd.backward((output * way).sum())
    assert x.grad is not None
    return (x.grad != 0.0).float()


def test_the_recurrent_networks_are_torchs() -> None:
    torch.manual_seed(6)
    encoder, decoder = (torch.nn.LSTM(SIZE, SIZE) for _ in range(2))
    x = torch.randn(11, 37, SIZE, requires_grad=True)
    h, c = (torch.randn(37, SIZE, requires_grad=True) for _ in range(2))
    way = torch.randn(11, 37, SIZE)
    inputs = [x, h, c, *encoder.parameters(), *decoder.parameters()]

    first, state = encoder(x[:8], (h[None], c[None]))
    expected = torch.cat((first, decoder(x[8:], state)[0]))
    theirs = torch.autograd.grad((expected * way).sum(), inputs)
    found = recurrent(x, 8, (h, c), [*encoder.parameters(), *decoder.parameters()])
    ours = torch.autograd.grad((found * way).sum(), inputs)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
