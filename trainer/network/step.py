"""A training step of the network, its loss included, as one call of trainer/native for each thread.

A batch goes in, the loss and the gradient of all parameters come out, without a graph and without a tensor of
torch's between.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.native.arguments import MOST_OUTPUTS, MOST_TARGETS, Collapsing, StepArguments
from trainer.native.functions import Drops
from trainer.native.library import load_kernels
from trainer.network.resampling import resampling
from trainer.network.step_parameters import heads_of, kernel_parts

if TYPE_CHECKING:
    from trainer.flat_parameters import FlatParameters
    from trainer.windows import Batch

_FLOAT_BYTES = 4


def fits_step(network: Any, x: dict[str, Any]) -> bool:
    """Whether `TrainingStep` can take batches like `x`."""
    outputs = [head.out_features for head in heads_of(network)]
    few = len(outputs) <= MOST_TARGETS and sum(outputs) <= MOST_OUTPUTS
    return few and network.takes_kernels(x)


class TrainingStep:
    """Forward pass, quantile loss in scaled space and backward pass over a network's flat parameters.

    `flat` holds them `in_step_order` and does not move; `levels` (Q) are the quantiles.
    """

    def __init__(self, network: Any, flat: FlatParameters, levels: Tensor) -> None:
        self._network, self._flat = network, flat
        parts = kernel_parts(network)
        self._collapsed = torch.zeros(sum(part for part in parts if isinstance(part, int)))
        self._kept = [levels, *_places_of_variables(network.hparams)]  # what the arguments point at
        self._arguments = self._fixed_arguments()
        # The gradients of what is collapsed lie behind those of the parameters.
        self._length = flat.whole.numel() + len(self._collapsed)
        self._present = np.array([part is not None for part in parts])
        self._offsets = np.zeros(len(parts), dtype=np.int64)
        used = 0
        for index, part in enumerate(parts):
            if isinstance(part, int):
                self._offsets[index] = _FLOAT_BYTES * (flat.whole.numel() + used)
                self._arguments.parameters[index] = self._collapsed[used:].data_ptr()
                used += part
            elif part is not None:
                self._offsets[index] = _FLOAT_BYTES * flat.start_of(part)
                self._arguments.parameters[index] = part.data_ptr()

    def losses(self, batch: Batch, static: Tensor) -> tuple[Tensor, Tensor]:
        """The mean quantile loss over the observed steps; and that of a forecast of zero, without a gradient.

        `static` (B, H). The backward pass adds to the gradient of the flat parameters, and finds `static`'s.
        """
        both = _Losses.apply(self._flat.whole, static, self, batch)  # type: ignore[no-untyped-call]
        return both[0], both[1].detach()

    def run(self, batch: Batch, static: Tensor, d_static: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both losses, (2), and the gradient of the flat parameters; `d_static` is written, if given."""
        kernels, arguments = load_kernels(), self._arguments
        arguments.statics = static.data_ptr()
        arguments.d_statics = None if d_static is None else d_static.data_ptr()
        share = _point_at(arguments, batch, static.shape[0])
        drops = Drops.at(self._network.hparams.dropout if self._network.training else 0.0)
        arguments.threshold, arguments.seed = drops.next()
        ranges = kernels.ranges(static.shape[0], least_blocks=1)
        gradients = torch.zeros(len(ranges), self._length)
        losses = torch.zeros(len(ranges), 2, dtype=torch.float64)
        calls = []
        for (begin, end), gradient, loss in zip(ranges, gradients, losses, strict=True):
            own = StepArguments.from_buffer_copy(arguments)
            own.begin, own.end, own.losses = begin, end, loss.data_ptr()
            self._point_gradients(own, gradient)
            calls.append(own)
        kernels.call("network_collapse", [arguments])
        kernels.call("network_step", calls)
        gradient = gradients[0] if len(ranges) == 1 else gradients.sum(0)
        self._point_gradients(arguments, gradient)
        kernels.call("network_expand", [arguments])
        return (losses.sum(0) * share).float(), gradient[: self._flat.whole.numel()]

    def _point_gradients(self, arguments: StepArguments, gradient: Tensor) -> None:
        pointers = np.where(self._present, gradient.data_ptr() + self._offsets, 0)
        ctypes.memmove(arguments.gradients, pointers.ctypes.data, pointers.nbytes)

    def _fixed_arguments(self) -> StepArguments:
        """What is the same for all batches."""
        network, options = self._network, self._network.hparams
        levels, *places = self._kept
        past, ahead = network.encoder_variable_selection, network.decoder_variable_selection
        arguments = StepArguments(
            size=options.hidden_size,
            inner=next(iter(past.single_variable_grns.values())).fc2.out_features,
            past_variables=len(past.input_sizes),
            ahead_variables=len(ahead.input_sizes),
            past_weigh=_weigher_width(past),
            ahead_weigh=_weigher_width(ahead),
            heads=network.multihead_attn.n_head,
            width=network.multihead_attn.d_k,
            causal=int(options.causal_attention),
            targets=network.n_targets,
            quantiles=len(levels),
            levels=levels.data_ptr(),
        )
        arguments.places[:] = [own.data_ptr() for own in places]
        scalers = _scalers(past, ahead)
        for own, block, numbers in zip(arguments.collapsing, (past, ahead), scalers, strict=True):
            self._kept.append(numbers)
            self._describe(own, block, numbers)
        return arguments

    def _describe(self, collapsing: Collapsing, block: Any, scalers: Tensor) -> None:
        """How the variables of one selection are collapsed."""
        grn = next(iter(block.single_variable_grns.values()))
        variables, scaled = len(block.input_sizes), grn.fc1.in_features
        out = grn.gate_norm.add_norm.norm.weight.numel()
        collapsing.variables, collapsing.scaled, collapsing.out = variables, scaled, out
        collapsing.inner, collapsing.weigh = grn.fc2.out_features, _weigher_width(block)
        collapsing.scalers = scalers.data_ptr()
        if hasattr(grn, "resample_norm"):
            collapsing.stretch = self._interpolation(scaled, out)
        if collapsing.weigh and hasattr(block.flattened_grn, "resample_norm"):
            collapsing.to_shares = self._interpolation(variables * scaled, variables)

    def _interpolation(self, size: int, output_size: int) -> int:
        matrix = resampling(size, output_size, torch.device("cpu")).contiguous()
        self._kept.append(matrix)
        return matrix.data_ptr()


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _: Tensor, static: Tensor, step: TrainingStep, batch: Batch) -> Tensor:
        d_static = torch.empty_like(static) if static.requires_grad else None
        losses, gradient = step.run(batch, static.detach().contiguous(), d_static)
        ctx.found = gradient, d_static
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradient, d_static = ctx.found
        return gradient * scale[0], None if d_static is None else d_static * scale[0], None, None


def _point_at(arguments: StepArguments, batch: Batch, windows: int) -> float:
    """Returns the share of an observed step in the mean."""
    x, (actual, weights) = batch
    past, ahead = x["encoder_cont"], x["decoder_cont"]
    if past.stride(2) != 1 or ahead.stride(2) != 1:
        raise ValueError("the inputs of a step have to lie side by side")
    arguments.windows, arguments.past, arguments.horizon = windows, past.shape[1], ahead.shape[1]
    arguments.numbers[0].point_at(past)
    arguments.numbers[1].point_at(ahead)
    targets = _listed(actual)
    for index, (values, scale) in enumerate(zip(targets, _listed(x["target_scale"]), strict=True)):
        arguments.actual[index].point_at(values)
        arguments.scale[index].point_at(scale)
    count = float(windows * ahead.shape[1] * len(targets))
    if weights is None:
        for own in arguments.observed:
            own.at = None
    else:
        observed = _listed(weights)
        for index, own in enumerate(observed):
            arguments.observed[index].point_at(own)
        count = max(1.0, float(torch.stack([own.sum() for own in observed]).sum()))
    arguments.share = 1.0 / count
    return 1.0 / count


def _listed(parts: Any) -> list[Tensor]:
    return parts if isinstance(parts, list) else [parts]


def _places_of_variables(options: Any) -> list[Tensor]:
    """Which of all the inputs the variables of the encoder and of the horizon are."""
    parts = (options.time_varying_reals_encoder, options.time_varying_reals_decoder)
    return [torch.tensor([options.x_reals.index(name) for name in names]) for names in parts]


def _scalers(past: Any, ahead: Any) -> list[Tensor]:
    """By which of all the prescalers each variable is scaled up: encoder and horizon share some."""
    scalers = [[block.prescalers[name].weight for name in block.input_sizes] for block in (past, ahead)]
    numbers = {weight: number for number, weight in enumerate(dict.fromkeys([*scalers[0], *scalers[1]]))}
    return [torch.tensor([numbers[weight] for weight in own]) for own in scalers]


def _weigher_width(block: Any) -> int:
    return block.flattened_grn.fc1.out_features if len(block.input_sizes) > 1 else 0
