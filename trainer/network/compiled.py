"""The network by the kernels of trainer/native: same parameters, same outputs, on a CPU in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer.native.functions import NO_DROPS, Drops, attention, recurrent, residual, selection
from trainer.native.library import why_no_kernels
from trainer.network.attention import attention_groups
from trainer.network.gating import stacked, tail_groups
from trainer.network.selection import Collapsed, collapsed, input_groups, weighing

if TYPE_CHECKING:
    from trainer.network.gating import Groups

# Beyond these a kernel's tile leaves the nearest cache; MOST in tile.h.
WIDEST = 128
MOST_VARIABLES = 32


def fits_kernels(options: Any, x: Tensor) -> bool:
    """Whether a network of these hyperparameters can be computed by them, on inputs like `x`."""
    variables = max(len(options.time_varying_reals_encoder), len(options.time_varying_reals_decoder))
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and max(options.hidden_size, options.hidden_continuous_size) <= WIDEST
        and variables <= MOST_VARIABLES
        and options.lstm_layers == 1
        and why_no_kernels() is None
    )


def compiled_groups(network: Any) -> Groups:
    """The parameters that are wanted side by side."""
    past, ahead = network.encoder_variable_selection, network.decoder_variable_selection
    groups = input_groups(past, ahead) | attention_groups(network.multihead_attn)
    for name, block in (("past", past), ("ahead", ahead)):
        groups |= tail_groups(name, list(block.single_variable_grns.values()))
    return groups


def compiled_hidden(
    network: Any, x: dict[str, Tensor], static: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """As `FastTransformer._hidden`."""
    parts = stacked(network.kernel_groups())
    rate = network.hparams.dropout if network.training else 0.0
    drops = Drops.at(rate)
    past, size = x["encoder_cont"].shape[1], len(static)
    horizon = x["decoder_cont"].shape[1]
    choosing, hidden, cell, enriching = (
        residual(static, None, None, residual_weights(block), drops.next())
        for block in (
            network.static_context_variable_selection,
            network.static_context_initial_hidden_lstm,
            network.static_context_initial_cell_lstm,
            network.static_context_enrichment,
        )
    )
    selected, shares = _selected(network, parts, x, choosing, drops)
    first_ahead = past * size
    weights = [*_lstm_weights(network.lstm_encoder), *_lstm_weights(network.lstm_decoder)]
    local = recurrent(selected.view(past + horizon, size, -1), past, (hidden, cell), weights)
    local = residual(
        local.view(first_ahead + horizon * size, -1),
        None,
        selected,
        _gate_weights(network.post_lstm_gate_encoder, network.post_lstm_add_norm_encoder.norm),
        drops.next(),
    )
    context = network.static_enrichment.context(enriching)
    enriched = residual(local, context, None, residual_weights(network.static_enrichment), drops.next())

    memory = enriched.view(past + horizon, size, -1)
    attended, weights_seen = attention(
        memory,
        (past, network.multihead_attn.n_head, network.hparams.causal_attention),
        _attention_weights(network.multihead_attn, parts),
        drops.next(),
    )
    gate = network.post_attn_gate_norm
    output = residual(
        attended.view(horizon * size, -1),
        None,
        enriched[first_ahead:],
        _gate_weights(gate.glu, gate.add_norm.norm),
        drops.next(),
    )
    output = residual(output, None, None, residual_weights(network.pos_wise_ff), drops.next())
    gate = network.pre_output_gate_norm
    output = residual(
        output, None, local[first_ahead:], _gate_weights(gate.glu, gate.add_norm.norm), NO_DROPS
    )
    return output, weights_seen, shares


def _selected(
    network: Any, parts: dict[str, Tensor], x: dict[str, Tensor], context: Tensor, drops: Drops
) -> tuple[Tensor, list[Tensor]]:
    """The selected inputs of encoder and horizon, (T * B, H), and the shares, (B, T, 1, V) each."""
    size, options = len(context), network.hparams
    blocks = (network.encoder_variable_selection, network.decoder_variable_selection)
    names = (options.time_varying_reals_encoder, options.time_varying_reals_decoder)
    counts = [len(own) for own in names]
    places = (slice(0, counts[0]), slice(counts[0], None))
    own = collapsed(parts).split(counts)
    selected, all_shares = [], []
    for index, part in enumerate(("past", "ahead")):
        numbers = network.numbers_of(x["decoder_cont" if index else "encoder_cont"], names[index])
        tensors = [numbers, *_weigher(blocks[index], parts, places[index], context)]
        found, shares = selection([*tensors, *_own_weights(own[index], parts, part)], drops.next())
        selected.append(found)
        all_shares.append(shares.view(counts[index], -1, size).permute(2, 1, 0).unsqueeze(2))
    return torch.cat(selected), all_shares


def _own_weights(own: Collapsed, parts: dict[str, Tensor], name: str) -> list[Tensor | None]:
    """What the variables' own networks are in the kernel."""
    curve = None if own.curve is None else torch.cat([one.t() for one in own.curve])
    names = ("fc2.weight", "fc2.bias", "gate.weight", "gate.bias", "norm.weight", "norm.bias")
    return [own.hidden, own.skip, curve, *(parts[f"{name}.{one}"] for one in names)]


def _weigher(block: Any, parts: dict[str, Tensor], inputs: slice, context: Tensor) -> list[Tensor | None]:
    """What the network that weighs the variables is in the kernel."""
    if len(block.input_sizes) == 1:
        return [None] * 12
    network = block.flattened_grn
    norm = getattr(network, "resample_norm", None)
    into, start, skip, skip_bias = weighing(
        parts["prescaler.weight"][inputs].squeeze(2),
        parts["prescaler.bias"][inputs].flatten(),
        network.fc1.weight,
        network.fc1.bias,
        None if norm is None else norm.mask,
    )
    context = torch.addmm(start, context, network.context.weight.t())
    skip_norm = [None, None] if norm is None else [norm.norm.weight, norm.norm.bias]
    return [into, context, *residual_weights(network)[2:], skip, skip_bias, *skip_norm]


def residual_weights(network: Any) -> list[Tensor | None]:
    """Of a stock GatedResidualNetwork: both layers, gate and norm."""
    norm = network.gate_norm.add_norm.norm
    layers = (network.fc1, network.fc2, network.gate_norm.glu.fc, norm)
    return [part for layer in layers for part in (layer.weight, layer.bias)]


def _gate_weights(unit: Any, norm: Any) -> list[Tensor | None]:
    """Of a gated linear unit with a norm: no layers before it."""
    return [None] * 4 + [unit.fc.weight, unit.fc.bias, norm.weight, norm.bias]


def _attention_weights(module: Any, parts: dict[str, Tensor]) -> list[Tensor]:
    names = ("query.weight", "query.bias", "key.weight", "key.bias")
    return [*(parts[name].flatten(0, 1) for name in names), module.w_h.weight]


def _lstm_weights(lstm: Any) -> list[Tensor]:
    return [lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0]
