"""Gated residual networks of one shape, several at once, on the stock modules' parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from trainer.network.fused import gated_norm, inner_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

Groups = dict[str, "list[nn.Parameter]"]


def stacked(groups: Groups) -> dict[str, Tensor]:
    """Each group's parameters side by side, (V, …); gradients flow back to the parameters."""
    return {
        name: torch.stack(tuple(members)) if len(members) > 1 else members[0].unsqueeze(0)
        for name, members in groups.items()
    }


@dataclass(frozen=True)
class GatedNorm:
    """Stock GateAddNorms: weights (V, 2H, C), biases (V, 2H), scale and shift of the norm (V, H)."""

    weight: Tensor
    bias: Tensor
    norm: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, parts: dict[str, Tensor], name: str) -> GatedNorm:
        norm = parts[f"{name}.norm.weight"], parts[f"{name}.norm.bias"]
        return cls(parts[f"{name}.gate.weight"], parts[f"{name}.gate.bias"], norm)

    def __call__(self, x: Tensor, skip: Tensor) -> Tensor:
        """Of x (V, N, C) and skip (V, N, H)."""
        return gated_norm(x, self.weight, self.bias, skip, self.norm)


@dataclass(frozen=True)
class Tail:
    """Stock GatedResidualNetworks from their first ELU on: the second layer (V, C, C), and the gated norm."""

    weight: Tensor
    bias: Tensor
    gate: GatedNorm
    rate: float

    @classmethod
    def of(cls, parts: dict[str, Tensor], name: str, rate: float) -> Tail:
        return cls(parts[f"{name}.fc2.weight"], parts[f"{name}.fc2.bias"], GatedNorm.of(parts, name), rate)

    def inner(self, hidden: Tensor) -> Tensor:
        """What goes into the gate, of what goes into the ELU; (V, N, C) both."""
        return inner_layer(hidden, self.weight, self.bias, self.rate)

    def __call__(self, hidden: Tensor, skip: Tensor) -> Tensor:
        """Of what goes into the ELU (V, N, C) and skip (V, N, H)."""
        return self.gate(self.inner(hidden), skip)


def residual(
    parts: dict[str, Tensor], name: str, rate: float, x: Tensor, context: Tensor | None = None
) -> Tensor:
    """Stock GatedResidualNetworks of x (V, N, H); context (V, N or a divisor, C) joins the first layer."""
    bias = parts[f"{name}.fc1.bias"].unsqueeze(1)
    hidden = torch.baddbmm(bias, x, parts[f"{name}.fc1.weight"].transpose(1, 2))
    if context is not None:
        by_step = hidden.view(len(x), -1, *context.shape[1:]) + context.unsqueeze(1)
        hidden = by_step.view(hidden.shape)
    return Tail.of(parts, name, rate)(hidden, x)


def residual_groups(name: str, networks: Sequence[Any]) -> Groups:
    """The parameters that `residual` looks for."""
    return {
        f"{name}.fc1.weight": [network.fc1.weight for network in networks],
        f"{name}.fc1.bias": [network.fc1.bias for network in networks],
        **tail_groups(name, networks),
    }


def tail_groups(name: str, networks: Sequence[Any]) -> Groups:
    """The parameters that `Tail.of` looks for."""
    return {
        f"{name}.fc2.weight": [network.fc2.weight for network in networks],
        f"{name}.fc2.bias": [network.fc2.bias for network in networks],
        **gate_groups(
            name,
            [network.gate_norm.glu for network in networks],
            [network.gate_norm.add_norm.norm for network in networks],
        ),
    }


def gate_groups(name: str, units: Sequence[Any], norms: Sequence[Any]) -> Groups:
    """The parameters that `GatedNorm.of` looks for."""
    return {
        f"{name}.gate.weight": [unit.fc.weight for unit in units],
        f"{name}.gate.bias": [unit.fc.bias for unit in units],
        f"{name}.norm.weight": [norm.weight for norm in norms],
        f"{name}.norm.bias": [norm.bias for norm in norms],
    }
