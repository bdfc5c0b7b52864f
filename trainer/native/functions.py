"""The kernels as autograd functions: float32, on the CPU, contiguous.

What lies between a block's input and its output is computed again in the backward pass: within the cache that
is cheaper than to write it down and read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.native.library import load_kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

RANDOM_LEVELS = 2**16
# A part of the work smaller than this is not worth a thread.
LEAST_BLOCKS = 2
_FLOAT_BYTES = 4
_SEED_BITS = 2**62 - 1


@dataclass
class Drops:
    """Dropout at one rate, a seed for every place it is used at; all of them of one draw."""

    threshold: int
    state: int = 0

    @classmethod
    def at(cls, rate: float) -> Drops:
        """`rate` is rounded to a 65,536th; 0 outside training. The draw is from torch's generator."""
        threshold = round(rate * RANDOM_LEVELS)
        return cls(threshold, int(torch.empty((), dtype=torch.int64).random_()) if threshold else 0)

    def next(self) -> tuple[int, int]:
        """Threshold and seed."""
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return self.threshold, (self.state ^ self.state >> 31) & _SEED_BITS


NO_DROPS = (0, 0)


def _places(tensors: Sequence[Tensor | None]) -> list[int]:
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def _forward(name: str, numbers: list[int], rows: int, places: list[int]) -> None:
    ranges = load_kernels().ranges(rows, LEAST_BLOCKS)
    load_kernels().run(f"{name}_forward", [[*numbers, *one, *places] for one in ranges])


def _backward(
    name: str,
    numbers: list[int],
    rows: int,
    places: list[int],
    shared: Sequence[Tensor | None],
    summed: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Run it, and return the gradients of `summed`, sums over all rows; to `shared` it writes row by row."""
    ranges = load_kernels().ranges(rows, LEAST_BLOCKS)
    sizes = [0 if tensor is None else tensor.numel() for tensor in summed]
    sums = torch.zeros(len(ranges), sum(sizes))
    base, width = sums.data_ptr(), sums.shape[1]
    calls = []
    for index, one in enumerate(ranges):
        offset, own = index * width, []
        for size in sizes:
            own.append(base + _FLOAT_BYTES * offset if size else 0)
            offset += size
        calls.append([*numbers, *one, *places, *_places(shared), *own])
    load_kernels().run(f"{name}_backward", calls)
    whole = sums[0] if len(ranges) == 1 else sums.sum(0)
    parts = torch.split(whole, sizes)
    return [None if like is None else part.view(like.shape) for like, part in zip(summed, parts, strict=True)]


class _Residual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drops: tuple[int, int], *tensors: Tensor | None) -> Tensor:
        x, context, gate = cast("Tensor", tensors[0]), tensors[1], cast("Tensor", tensors[7])
        rows, inner, out = x.shape[0], gate.shape[1], gate.shape[0] // 2
        cycle = rows if context is None else context.shape[0]
        numbers = [rows, cycle, x.shape[1], inner, out, *drops]
        y = x.new_empty(rows, out)
        _forward("residual", numbers, rows, [*_places(tensors), y.data_ptr()])
        ctx.numbers = numbers
        ctx.save_for_backward(*tensors)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        x, context, skip, *weights = tensors
        gradient = gradient.contiguous()
        dx, d_skip = torch.empty_like(x), None if skip is None else torch.empty_like(skip)
        places = [*_places(tensors), 0, gradient.data_ptr()]
        found = _backward("residual", ctx.numbers, len(x), places, [dx, d_skip], [context, *weights])
        return None, dx, found[0], d_skip, *found[1:]


class _Recurrent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, past: int, train: bool, *tensors: Tensor) -> Tensor:
        x = tensors[0]
        steps, windows, size = x.shape
        kernels = load_kernels()
        blocks = math.ceil(windows / kernels.rows)
        kept = x.new_empty(blocks * steps * 5 * size * kernels.rows + 16) if train else None
        y = torch.empty_like(x)
        numbers = [windows, steps, past, size]
        _forward("recurrent", numbers, windows, [*_places(tensors), y.data_ptr(), _aligned(kept)])
        ctx.numbers = numbers
        ctx.save_for_backward(*tensors, y, kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, y, kept = ctx.saved_tensors
        x, h, c, *weights = tensors
        gradient = gradient.contiguous()
        d = [torch.empty_like(part) for part in (x, h, c)]
        places = [*_places([*tensors, y]), _aligned(kept), gradient.data_ptr()]
        summed = [*weights[:3], *weights[4:7]]  # both biases of a part have the same
        found = _backward("recurrent", ctx.numbers, x.shape[1], places, d, summed)
        return None, None, *d, *found[:3], found[2], *found[3:], found[5]


def _aligned(kept: Tensor | None) -> int:
    """The first place on a border of 64 bytes, where the widest vectors may lie."""
    return 0 if kept is None else -(-kept.data_ptr() // 64) * 64


class _Selection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drops: tuple[int, int], *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        x, context = cast("Tensor", tensors[0]), tensors[2]
        second, gate = cast("Tensor", tensors[16]), cast("Tensor", tensors[18])
        variables, rows = x.shape
        cycle, weigh = (rows, 0) if context is None else context.shape
        numbers = [rows, cycle, variables, second.shape[2], gate.shape[1] // 2, weigh, *drops]
        y, shares = x.new_empty(rows, gate.shape[1] // 2), torch.empty_like(x)
        _forward("selection", numbers, rows, [*_places(tensors), y.data_ptr(), shares.data_ptr()])
        ctx.numbers = numbers
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(shares)
        return y, shares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        gradient = gradient.contiguous()
        places = [*_places(tensors), 0, 0, gradient.data_ptr()]
        found = _backward("selection", ctx.numbers, tensors[0].shape[1], places, [], tensors[1:])
        return None, None, *found


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shape: tuple[int, int, bool], drops: tuple[int, int], *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        past, heads, causal = shape
        x, *_, join = tensors
        steps, windows, size = x.shape
        numbers = [windows, steps, past, size, heads, join.shape[1], int(causal), *drops]
        y, weights = (
            x.new_empty(steps - past, windows, size),
            x.new_empty(windows, steps - past, heads, steps),
        )
        _forward("attention", numbers, windows, [*_places(tensors), y.data_ptr(), weights.data_ptr()])
        ctx.numbers = numbers
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(weights)
        return y, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        x, gradient = tensors[0], gradient.contiguous()
        dx = torch.empty_like(x)
        places = [*_places(tensors), 0, 0, gradient.data_ptr()]
        found = _backward("attention", ctx.numbers, x.shape[1], places, [dx], tensors[1:])
        return None, None, dx, *found


def residual(
    x: Tensor,
    context: Tensor | None,
    skip: Tensor | None,
    weights: Sequence[Tensor | None],
    drops: tuple[int, int] = NO_DROPS,
) -> Tensor:
    """A stock gated residual network, or a GateAddNorm where the first four of `weights` are None: (N, O).

    x (N, I); context (B, C) joins row n of the first layer at n % B; skip (N, O), None where it is x itself.
    `weights`: both layers' (C, I), (C), (C, C), (C), the gate's (2 O, C), (2 O), the norm's (O), (O).
    """
    return _Residual.apply(drops, *_contiguous((x, context, skip, *weights)))  # type: ignore[no-any-return, no-untyped-call]


def recurrent(x: Tensor, past: int, state: tuple[Tensor, Tensor], weights: Sequence[Tensor]) -> Tensor:
    """(T, B, H): an LSTM over the first `past` steps of x (T, B, H), another from there on.

    `state`: hidden and cell (B, H) at the start. `weights`: torch's four of each of the two LSTMs.
    """
    train = torch.is_grad_enabled()
    return _Recurrent.apply(past, train, *_contiguous((x, *state, *weights)))  # type: ignore[no-any-return, no-untyped-call]


def selection(tensors: Sequence[Tensor | None], drops: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The selected inputs (N, O) and the shares (V, N); `tensors`: `selection.c`'s pointers up to `g`.

    No gradient flows through the shares that are returned.
    """
    return _Selection.apply(drops, *_contiguous(tensors))  # type: ignore[no-any-return, no-untyped-call]


def attention(
    x: Tensor, shape: tuple[int, int, bool], weights: Sequence[Tensor], drops: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Stock interpretable attention: the output (D, B, H), and (B, D, heads, T), which carries no gradient.

    x (T, B, H); `shape`: the steps before the horizon, heads, whether a step sees only those before it.
    `weights`: of the queries, of the keys with the value behind them, each with its bias; of the output.
    """
    return _Attention.apply(shape, drops, *_contiguous((x, *weights)))  # type: ignore[no-any-return, no-untyped-call]


def _contiguous(tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    return tuple(None if tensor is None else tensor.contiguous() for tensor in tensors)
