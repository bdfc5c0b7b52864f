"""The network's element-wise parts and what lies between them, with the least passes over memory.

At small hidden sizes these, not the matrix products, are what a step costs. Derivatives are written out:
autograd's own keep and read more than they need, and each node of its graph has a price.
V networks of one shape run side by side on N rows: activations are (V, N, ·), weights (V, out, in), biases
(V, out).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-5  # of torch's LayerNorm
RANDOM_LEVELS = 2**16


class _Inner(torch.autograd.Function):
    """ELU, linear layer, dropout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        slope = x.clamp_max(0.0).exp_()
        active = torch.maximum(slope - 1.0, x)
        ctx.save_for_backward(slope, active, weight, mask)
        output = torch.baddbmm(bias.unsqueeze(1), active, weight.transpose(1, 2))
        return output if mask is None else output.mul_(mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        slope, active, weight, mask = ctx.saved_tensors
        if mask is not None:
            gradient = gradient * mask
        d_weight = torch.bmm(gradient.transpose(1, 2), active)
        return torch.bmm(gradient, weight).mul_(slope), d_weight, gradient.sum(1), None


class _GatedNorm(torch.autograd.Function):
    """Gated linear unit, plus the skip, layer normalized."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, skip: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        openness, gated = _gate(x, weight, bias)
        unit, inverse = _standardized(gated + skip)
        ctx.save_for_backward(x, weight, openness, gated, unit, inverse, scale)
        return torch.addcmul(shift.unsqueeze(1), unit, scale.unsqueeze(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        x, weight, openness, gated, unit, inverse, scale = ctx.saved_tensors
        product = gradient * unit
        d_scale, d_shift = product.sum(1), gradient.sum(1)
        slope = gradient * scale.unsqueeze(1)
        along = product.mul_(scale.unsqueeze(1)).mean(-1, keepdim=True)
        slope.sub_(slope.mean(-1, keepdim=True)).addcmul_(unit, along, value=-1.0).mul_(inverse)
        return *_gate_gradients(slope, x, weight, openness, gated), slope, d_scale, d_shift


class _GatedSum(torch.autograd.Function):
    """As `_GatedNorm`, the skip a matrix product, and at the end the weighted sum over the V networks."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        features: Tensor,
        skip: Tensor,
        scale: Tensor,
        shift: Tensor,
        shares: Tensor,
    ) -> Tensor:
        openness, gated = _gate(x, weight, bias)
        unit, inverse = _standardized(torch.baddbmm(gated.to(skip.dtype), features, skip))
        ctx.save_for_backward(x, weight, openness, gated, unit, inverse, features, skip, scale, shift, shares)
        weighted = (unit * shares.unsqueeze(-1)).mul_(scale.unsqueeze(1))
        return torch.addmm(weighted.sum(0), shares.t(), shift)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        x, weight, openness, gated, unit, inverse, features, skip, scale, shift, shares = ctx.saved_tensors
        product = unit * gradient
        d_scale = torch.bmm(shares.unsqueeze(1), product).squeeze(1)
        along = product.mul_(scale.unsqueeze(1)).sum(-1)
        d_shares = torch.addmm(along, shift, gradient.t())
        slope = torch.mul(gradient, scale.unsqueeze(1), out=product)
        mean = (scale @ gradient.t()).div_(scale.shape[1]).unsqueeze(-1)
        slope.sub_(mean).addcmul_(unit, along.unsqueeze(-1), value=-1.0 / scale.shape[1])
        slope.mul_(inverse * shares.unsqueeze(-1))
        return (
            *_gate_gradients(slope, x, weight, openness, gated),
            torch.bmm(slope, skip.transpose(1, 2)),
            torch.bmm(features.transpose(1, 2), slope),
            d_scale,
            shares @ gradient,
            d_shares,
        )


def _gate(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """How open the gate is, and what comes through it."""
    value, openness = weight.transpose(1, 2).chunk(2, dim=2)
    value_bias, openness_bias = bias.unsqueeze(1).chunk(2, dim=2)
    opened = torch.baddbmm(openness_bias, x, openness).sigmoid_()
    return opened, torch.baddbmm(value_bias, x, value).mul_(opened)


def _gate_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, openness: Tensor, gated: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """By x, weight and bias."""
    gradient = gradient.to(x.dtype)
    value_weight, openness_weight = weight.chunk(2, dim=1)
    through = gradient * gated
    d_openness = torch.addcmul(through, through, openness, value=-1.0)
    d_value = torch.mul(gradient, openness, out=through)
    d_x = torch.bmm(d_value, value_weight).baddbmm_(d_openness, openness_weight)
    d_weight = torch.cat(
        (torch.bmm(d_value.transpose(1, 2), x), torch.bmm(d_openness.transpose(1, 2), x)), dim=1
    )
    return d_x, d_weight, torch.cat((d_value.sum(1), d_openness.sum(1)), dim=1)


def _standardized(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` less its mean over its deviation, in its own memory, and one over the deviation."""
    x.sub_(x.mean(-1, keepdim=True))
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse = length.square_().mul_(1.0 / x.shape[-1]).add_(EPSILON).rsqrt_()
    return x.mul_(inverse), inverse


def inner_layer(x: Tensor, weight: Tensor, bias: Tensor, rate: float) -> Tensor:
    """Dropout of a linear layer of the ELU of x."""
    mask = keep_mask(x, weight.shape[1], rate)
    return _run(_Inner, (x, weight, bias, mask))


def gated_norm(x: Tensor, weight: Tensor, bias: Tensor, skip: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
    """Layer norm, scale and shift (V, H), of the gated linear unit of x plus the skip: (V, N, H), float32."""
    return _run(_GatedNorm, (x, weight, bias), (skip, *norm))


def gated_sum(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    skip: tuple[Tensor, Tensor],
    norm: tuple[Tensor, Tensor],
    shares: Tensor,
) -> Tensor:
    """`gated_norm` with a skip of (V, N, F) times (V, F, H), summed by the shares (V, N): (N, H), float32."""
    return _run(_GatedSum, (x, weight, bias), (*skip, *norm, shares))


def _run(function: Any, products: tuple[Tensor | None, ...], rest: tuple[Tensor, ...] = ()) -> Tensor:
    """Under autocast, matrix products in its type and all the rest in float32, as stock has it."""
    device = rest[0].device.type if rest else products[0].device.type  # type: ignore[union-attr]
    if not torch.is_autocast_enabled(device):
        return function.apply(*products, *rest)  # type: ignore[no-any-return]
    kind = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        cast = (part if part is None else part.to(kind) for part in products)
        return function.apply(*cast, *(part.float() for part in rest))  # type: ignore[no-any-return]


def dropped(x: Tensor, rate: float) -> Tensor:
    """Dropout of x at this rate, 0 outside training."""
    mask = keep_mask(x, x.shape[-1], rate)
    return x if mask is None else x * mask.to(x.dtype)


def keep_mask(x: Tensor, width: int, rate: float) -> Tensor | None:
    """A dropout mask of the shape of x but for its last axis: 0, or what keeps the mean at 1.

    Its randomness is 16 bits an element, as torch's own draws are most of a step's time on a CPU: the rate is
    rounded to a 65,536th, and the scale is that of the rounded rate.
    """
    threshold = round(rate * RANDOM_LEVELS)
    if threshold == 0:
        return None
    shape = (*x.shape[:-1], width)
    count = torch.Size(shape).numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    mask = words.view(torch.int16)[:count].view(shape).to(torch.float32)
    return mask.ge_(threshold - RANDOM_LEVELS // 2).mul_(RANDOM_LEVELS / (RANDOM_LEVELS - threshold))
