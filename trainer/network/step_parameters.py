"""Where the kernel of a training step finds a network's parameters, and in which order it wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from trainer.network.attention import attention_groups
from trainer.network.compiled import residual_weights
from trainer.network.gating import tail_groups
from trainer.network.selection import input_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.network.gating import Groups

# A parameter; so many numbers that are collapsed from some; or what is not there.
Part = nn.Parameter | int | None


def in_step_order(network: Any) -> list[nn.Parameter]:
    """All parameters, those side by side that the kernel wants so."""
    grouped = [parameter for members in step_groups(network).values() for parameter in members]
    return list(dict.fromkeys([*grouped, *network.parameters()]))


def step_groups(network: Any) -> Groups:
    past, ahead = network.encoder_variable_selection, network.decoder_variable_selection
    heads = heads_of(network)
    return (
        input_groups(past, ahead)
        | attention_groups(network.multihead_attn)
        | tail_groups("past", list(past.single_variable_grns.values()))
        | tail_groups("ahead", list(ahead.single_variable_grns.values()))
        | {"head.weight": [head.weight for head in heads], "head.bias": [head.bias for head in heads]}
    )


def heads_of(network: Any) -> list[Any]:
    return list(network.output_layer) if network.n_targets > 1 else [network.output_layer]


def kernel_parts(network: Any) -> list[Part]:
    """In the order of `parameters` of network.c; of those that lie side by side the first."""
    first = {name: members[0] for name, members in step_groups(network).items()}
    gate, attended = network.pre_output_gate_norm, network.post_attn_gate_norm
    parts: list[Any] = []
    for block in (
        network.static_context_variable_selection,
        network.static_context_initial_hidden_lstm,
        network.static_context_initial_cell_lstm,
        network.static_context_enrichment,
    ):
        parts += residual_weights(block)
    parts += _selection_parts(network.encoder_variable_selection, "past", first)
    parts += _selection_parts(network.decoder_variable_selection, "ahead", first)
    for lstm in (network.lstm_encoder, network.lstm_decoder):
        parts += [lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0]
    parts += _gate(network.post_lstm_gate_encoder, network.post_lstm_add_norm_encoder.norm)
    parts += [*residual_weights(network.static_enrichment), network.static_enrichment.context.weight]
    parts += [first[name] for name in ("query.weight", "query.bias", "key.weight", "key.bias")]
    parts += [network.multihead_attn.w_h.weight]
    parts += _gate(attended.glu, attended.add_norm.norm)
    parts += residual_weights(network.pos_wise_ff)
    parts += _gate(gate.glu, gate.add_norm.norm)
    parts += [first["head.weight"], first["head.bias"]]
    start = 0
    for block in (network.encoder_variable_selection, network.decoder_variable_selection):
        parts += _collapsible_parts(block, start, step_groups(network))
        start += len(block.input_sizes)
    return parts


def _selection_parts(block: Any, name: str, first: dict[str, nn.Parameter]) -> Iterator[Part]:
    """`selection_part` of network.c."""
    count, own = len(block.input_sizes), next(iter(block.single_variable_grns.values()))
    out, curved = own.gate_norm.add_norm.norm.weight.numel(), hasattr(own, "resample_norm")
    if count > 1:
        network = block.flattened_grn
        width, norm = network.fc1.out_features, getattr(network, "resample_norm", None)
        yield from (width * count, width, network.context.weight, *residual_weights(network)[2:])
        yield from (count * count, count)
        yield from (None, None) if norm is None else (norm.norm.weight, norm.norm.bias)
    else:
        yield from [None] * 13
    yield 2 * count * own.fc2.out_features
    yield from (3 * count * out, 3 * count) if curved else (2 * count * out, None)
    names = ("fc2.weight", "fc2.bias", "gate.weight", "gate.bias", "norm.weight", "norm.bias")
    yield from (first[f"{name}.{part}"] for part in names)


def _collapsible_parts(block: Any, start: int, groups: Groups) -> Iterator[Part]:
    """`collapsible_part` of collapse.h; the block's variables begin at `start` among those of both."""
    yield from (groups["prescaler.weight"][0], groups["prescaler.bias"][0])
    for name in ("first.weight", "first.bias", "skip.mask", "skip.norm.weight", "skip.norm.bias"):
        yield groups[name][start] if name in groups else None
    if len(block.input_sizes) > 1:
        network = block.flattened_grn
        norm = getattr(network, "resample_norm", None)
        yield from (network.fc1.weight, network.fc1.bias, None if norm is None else norm.mask)
    else:
        yield from [None] * 3


def _gate(unit: Any, norm: Any) -> list[Any]:
    return [unit.fc.weight, unit.fc.bias, norm.weight, norm.bias]
