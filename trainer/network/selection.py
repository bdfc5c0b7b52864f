"""Variable selection over real inputs, with everything that is affine in an input collapsed.

pytorch-forecasting scales each input, one number a step, up to a vector (`prescalers`), and feeds that to a
linear layer, to an interpolation and, all inputs concatenated, to the network that weighs them. All of these
are affine in the number itself. So the vectors are never made: products of the same parameters, small and
made once a step, are applied to the numbers. The skip path's layer normalization has a closed form likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it
from torch import Tensor

from trainer.network.fused import EPSILON, gated_sum
from trainer.network.gating import Groups, Tail, residual_groups, tail_groups
from trainer.network.resampling import resampling

if TYPE_CHECKING:
    from collections.abc import Sequence

TINY = 1e-12  # against 0 / 0 where a curve is level


@dataclass(frozen=True)
class Collapsed:
    """What V inputs, numbers x, are turned into: `hidden` and `skip` hold factors, (V, ·, ·)."""

    hidden: Tensor  # (V, 2, C), of x and 1: what goes into the ELU
    skip: Tensor  # (V, F, H), of `features`: what is added to the gated output
    curve: tuple[Tensor, Tensor, Tensor] | None  # (V, 1) each, see `features`; None without a norm

    def split(self, counts: list[int]) -> list[Collapsed]:
        """The same for consecutive groups of the inputs."""
        curves: Any = [None] * len(counts)
        if self.curve is not None:
            curves = zip(*(torch.split(part, counts) for part in self.curve), strict=True)
        parts = zip(torch.split(self.hidden, counts), torch.split(self.skip, counts), curves, strict=True)
        return [Collapsed(*part) for part in parts]

    def features(self, x: Tensor) -> Tensor:
        """(V, N, F) of x (V, N)."""
        ones = torch.ones_like(x)
        if self.curve is None:
            return torch.stack((x, ones), dim=2)
        shift, variance, least = self.curve
        from_least = x + shift
        inverse = torch.addcmul(least, variance * from_least, from_least).rsqrt()
        return torch.stack((from_least * inverse, inverse, ones), dim=2)


def input_groups(past: Any, ahead: Any) -> Groups:
    """The parameters that `collapsed` looks for: of two stock VariableSelectionNetworks, side by side."""
    own = [(network, name) for network in (past, ahead) for name in network.input_sizes]
    prescalers = [network.prescalers[name] for network, name in own]
    networks = [network.single_variable_grns[name] for network, name in own]
    groups = {
        "prescaler.weight": [layer.weight for layer in prescalers],
        "prescaler.bias": [layer.bias for layer in prescalers],
        "first.weight": [network.fc1.weight for network in networks],
        "first.bias": [network.fc1.bias for network in networks],
    }
    if hasattr(networks[0], "resample_norm"):
        groups |= norm_groups("skip", [network.resample_norm for network in networks])
    return groups


def variable_groups(past: Any, ahead: Any) -> Groups:
    """The parameters of two stock VariableSelectionNetworks, those of both side by side."""
    groups = input_groups(past, ahead)
    for name, network in (("past", past), ("ahead", ahead)):
        groups |= tail_groups(name, list(network.single_variable_grns.values()))
        if len(network.input_sizes) > 1:
            groups |= residual_groups(f"{name}.shares", [network.flattened_grn])
            groups[f"{name}.shares.context"] = [network.flattened_grn.context.weight]
            if hasattr(network.flattened_grn, "resample_norm"):
                groups |= norm_groups(f"{name}.shares.skip", [network.flattened_grn.resample_norm])
    return groups


def norm_groups(name: str, blocks: Sequence[Any]) -> Groups:
    """The parameters of stock ResampleNorms."""
    return {
        f"{name}.mask": [block.mask for block in blocks],
        f"{name}.norm.weight": [block.norm.weight for block in blocks],
        f"{name}.norm.bias": [block.norm.bias for block in blocks],
    }


def collapsed(parts: dict[str, Tensor]) -> Collapsed:
    """Of the inputs of both variable selection networks."""
    scaling = torch.cat((parts["prescaler.weight"].transpose(1, 2), parts["prescaler.bias"].unsqueeze(1)), 1)
    hidden = torch.bmm(scaling, parts["first.weight"].transpose(1, 2))
    hidden = hidden + F.pad(parts["first.bias"].unsqueeze(1), (0, 0, 1, 0))
    if "skip.mask" not in parts:  # of equal sizes: the scaled input itself
        return Collapsed(hidden, scaling, None)
    strength = parts["skip.mask"].sigmoid().unsqueeze(1)
    curve = 2.0 * (scaling @ resampling(scaling.shape[2], strength.shape[2], scaling.device)) * strength
    curve = curve - curve.mean(2, keepdim=True)
    slope, level = curve.unbind(1)
    # Written around the x of least variance, so that nothing cancels: slope * (x + shift) + rest.
    variance = slope.square().mean(1, keepdim=True)
    shift = (slope * level).mean(1, keepdim=True) / (variance + TINY)
    rest = torch.addcmul(level, shift, slope, value=-1.0)
    least = rest.square().mean(1, keepdim=True) + EPSILON
    scale = parts["skip.norm.weight"]
    skip = torch.stack((slope * scale, rest * scale, parts["skip.norm.bias"]), dim=1)
    return Collapsed(hidden, skip, (shift, variance, least))


def weighing(
    weight: Tensor, bias: Tensor, first: Tensor, first_bias: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the network that weighs V numbers makes of them first, affine in them: each a weight and a bias.

    What goes into its first ELU, (C, V) and (C), and its skip path before the norm, (V, V) and (V). Of the
    prescalers, (V, F) and (V * F), the first layer, (C, V * F) and (C), and the skip path's mask (V), None
    where the scaled numbers are one feature each.
    """
    into = (first.view(-1, *weight.shape) * weight).sum(2)
    start = torch.addmv(first_bias, first, bias)
    if mask is None:
        return into, start, torch.diag(weight.squeeze(1)), bias
    matrix = resampling(weight.numel(), len(weight), weight.device)
    strength = 2.0 * mask.sigmoid()
    skip = (matrix.view(*weight.shape, -1) * weight.unsqueeze(2)).sum(1) * strength
    return into, start, skip.t(), (bias @ matrix) * strength


def select(own: Collapsed, network: Tail, x: Tensor, shares: Tensor) -> Tensor:
    """The sum over the variables' own networks, (N, H), of x and shares, (V, N) each."""
    numbers = torch.stack((x, torch.ones_like(x)), dim=2)
    inner = network.inner(torch.bmm(numbers, own.hidden))
    skip = own.features(x), own.skip
    return gated_sum(inner, network.gate.weight, network.gate.bias, skip, network.gate.norm, shares)


def variable_shares(
    parts: dict[str, Tensor], name: str, inputs: slice, x: Tensor, context: Tensor, rate: float
) -> Tensor:
    """The share of each variable, (V, N), of `x` (V, N), the inputs `inputs`, and `context` (B, H)."""
    if len(x) == 1:
        return torch.ones_like(x)
    into, start, into_skip, skip_bias = weighing(
        parts["prescaler.weight"][inputs].squeeze(2),
        parts["prescaler.bias"][inputs].flatten(),
        parts[f"{name}.shares.fc1.weight"][0],
        parts[f"{name}.shares.fc1.bias"][0],
        parts[f"{name}.shares.skip.mask"][0] if f"{name}.shares.skip.mask" in parts else None,
    )
    context = torch.addmm(start, context, parts[f"{name}.shares.context"][0].t())
    rows = x.t()
    hidden = ((rows @ into.t()).view(-1, *context.shape) + context).view(1, len(rows), -1)
    skip = torch.addmm(skip_bias, rows, into_skip.t())
    if f"{name}.shares.skip.mask" in parts:
        norm = parts[f"{name}.shares.skip.norm.weight"][0], parts[f"{name}.shares.skip.norm.bias"][0]
        skip = F.layer_norm(skip, (len(x),), *norm)
    return Tail.of(parts, f"{name}.shares", rate)(hidden, skip.unsqueeze(0))[0].softmax(-1).t()
