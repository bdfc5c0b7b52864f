"""One tensor of all weights: the same training as with a tensor for each, and no trace of it outside."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from trainer.flat_parameters import FlatParameters


class Network(nn.Module):
    """Two layers in use, one that never takes part."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.second = nn.Linear(5, 2)
        self.idle = nn.Linear(4, 4)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.second(torch.tanh(self.first(values)))
        return found


@pytest.fixture
def networks() -> tuple[Network, Network]:
    torch.manual_seed(3)
    network = Network()
    return network, copy.deepcopy(network)


def gradient_of(flat: FlatParameters, parameter: Any) -> torch.Tensor:
    start = flat.start_of(parameter)
    return flat.gradient[start : start + parameter.numel()].view_as(parameter)


@pytest.mark.parametrize("clip", [None, 1e-3, 1e3])
def test_steps_equal_those_of_one_tensor_for_each_parameter(
    networks: tuple[Network, Network], clip: float | None
) -> None:
    plain, flattened = networks
    flat = FlatParameters(flattened.parameters())
    usual = torch.optim.Adam(plain.parameters(), lr=0.01)
    optimizer = torch.optim.Adam([flat.whole], lr=0.01, fused=True)
    values, wanted = torch.randn(40, 7, 3), torch.randn(40, 7, 2)
    for batch, actual in zip(values, wanted, strict=True):
        usual.zero_grad()
        (plain(batch) - actual).square().mean().backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        usual.step()

        flat.drop_gradients()
        (flattened(batch) - actual).square().mean().backward()
        flat.gather_gradients()
        if clip is not None:
            nn.utils.clip_grad_norm_([flat.whole], clip)
        optimizer.step()
    for (name, expected), found in zip(plain.named_parameters(), flattened.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7), name


def test_accumulated_gradients_are_gathered_whole(networks: tuple[Network, Network]) -> None:
    network, _ = networks
    flat = FlatParameters(network.parameters())
    for _ in range(2):
        network(torch.ones(4, 3)).sum().backward()
        flat.gather_gradients()

    assert torch.equal(gradient_of(flat, network.second.bias), torch.full((2,), 8.0))
    assert not gradient_of(flat, network.idle.weight).any()
    assert all(part.grad is None for part in flat.parts)


def test_gradients_that_are_there_already_are_added_to(networks: tuple[Network, Network]) -> None:
    network, _ = networks
    flat = FlatParameters(network.parameters())
    flat.gradient.fill_(1.0)
    network.second.bias.grad = torch.tensor([2.0, 3.0])

    flat.gather_gradients()

    assert torch.equal(gradient_of(flat, network.second.bias), torch.tensor([3.0, 4.0]))
    assert torch.equal(gradient_of(flat, network.first.bias), torch.ones(5))
    flat.drop_gradients()
    assert not flat.gradient.any()


def test_weights_can_be_loaded_and_are_then_those_that_are_stepped(
    networks: tuple[Network, Network],
) -> None:
    network, other = networks
    flat = FlatParameters(network.parameters())
    with torch.no_grad():
        other.first.bias.fill_(7.0)
    network.load_state_dict(other.state_dict())
    assert torch.equal(flat.whole[15:20], torch.full((5,), 7.0))
    with torch.no_grad():
        flat.whole.zero_()
    assert not any(weight.any() for weight in network.state_dict().values())


def test_frozen_parameters_stay_out(networks: tuple[Network, Network]) -> None:
    network, _ = networks
    network.first.weight.requires_grad = False
    assert len(FlatParameters(network.parameters()).parts) == 5
