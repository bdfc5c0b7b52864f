"""The stock network with a forward pass of our own, for windows of full length."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_forecasting import TemporalFusionTransformer
from torch import Tensor

from trainer.network.attention import attend, attention_groups
from trainer.network.compiled import compiled_groups, compiled_hidden, fits_kernels
from trainer.network.fused import dropped
from trainer.network.gating import GatedNorm, Groups, Tail, gate_groups, residual, residual_groups, stacked
from trainer.network.selection import collapsed, select, variable_groups, variable_shares

Parts = dict[str, Tensor]
Hidden = tuple[Tensor, Tensor, list[Tensor]]


class FastTransformer(TemporalFusionTransformer):  # type: ignore[misc] # untyped library
    """pytorch-forecasting's TFT: its parameters, its `state_dict`, its outputs, in a fraction of the time.

    The fast path takes batches in which every window has the full encoder length and the full horizon, and
    reals as the only inputs that vary in time. Anything else goes through the stock forward pass.
    """

    # Set by a caller whose batches are of full length always: then nothing is read back to the host.
    full_windows: bool = False
    kernels: bool = True  # use those of trainer/native where they can be had
    _groups: Groups | None = None  # looked up once: their places, never their values
    _kernel_groups: Groups | None = None

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._has_fast_path() and (self.full_windows or _full_length(x)):
            return self._fast_forward(x)
        return super().forward(x)  # type: ignore[no-any-return]

    def takes_kernels(self, x: dict[str, Tensor]) -> bool:
        """Whether windows of full length like `x` go through trainer/native."""
        return self.kernels and self._has_fast_path() and fits_kernels(self.hparams, x["encoder_cont"])

    def _has_fast_path(self) -> bool:
        options = self.hparams
        return bool(options.time_varying_reals_encoder and options.time_varying_reals_decoder) and not (
            options.time_varying_categoricals_encoder
            or options.time_varying_categoricals_decoder
            or options.hidden_continuous_sizes
            or options.share_single_variable_networks
        )

    def _fast_forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        past, horizon = x["encoder_cont"].shape[1], x["decoder_cont"].shape[1]
        static, static_shares = self._static_embedding(x)
        if self.takes_kernels(x):
            output, attention, shares = compiled_hidden(self, x, static)
        else:
            output, attention, shares = self._hidden(x, static)
        heads = self._heads(output.view(horizon, len(static), -1).transpose(0, 1))
        return self.to_network_output(  # type: ignore[no-any-return]
            prediction=self.transform_output(heads, target_scale=x["target_scale"]),
            encoder_attention=attention[..., :past],
            decoder_attention=attention[..., past:],
            static_variables=static_shares,
            encoder_variables=shares[0],
            decoder_variables=shares[1],
            decoder_lengths=x["decoder_lengths"],
            encoder_lengths=x["encoder_lengths"],
        )

    def _hidden(self, x: dict[str, Tensor], static: Tensor) -> Hidden:
        """What the heads are put on, (horizon * B, H), attention and shares; `static` (B, H).

        Inside, time comes first: (T, B, ·), or its rows (T * B, ·).
        """
        parts = self._parts()
        rate = self.hparams.dropout if self.training else 0.0
        past, horizon = x["encoder_cont"].shape[1], x["decoder_cont"].shape[1]
        contexts = residual(parts, "static", rate, static.expand(4, -1, -1))
        choosing, hidden, cell, enriching = contexts.unbind(0)
        selected, shares = self._selected(parts, x, choosing, rate)

        first_ahead = past * len(static)
        local = self._recurrent(selected[:first_ahead], selected[first_ahead:], hidden, cell)
        local = dropped(local, rate).view(1, *selected.shape)
        local = GatedNorm.of(parts, "local")(local, selected.unsqueeze(0))
        context = self.static_enrichment.context(enriching).unsqueeze(0)
        enriched = residual(parts, "enrichment", rate, local, context)

        memory = enriched.view(past + horizon, len(static), -1)
        mask = self.attention_mask(past, horizon, memory.device)
        attended, attention = attend(self.multihead_attn, parts, memory, mask, rate)
        attended = dropped(attended, rate).reshape(1, -1, attended.shape[-1])
        output = GatedNorm.of(parts, "attended")(attended, enriched[:, first_ahead:])
        output = residual(parts, "feed", rate, output)
        output = GatedNorm.of(parts, "output")(output, local[:, first_ahead:])
        return output[0], attention, shares

    def _parts(self) -> Parts:
        if self._groups is None:
            self._groups = (
                variable_groups(self.encoder_variable_selection, self.decoder_variable_selection)
                | residual_groups(
                    "static",
                    [
                        self.static_context_variable_selection,
                        self.static_context_initial_hidden_lstm,
                        self.static_context_initial_cell_lstm,
                        self.static_context_enrichment,
                    ],
                )
                | gate_groups("local", [self.post_lstm_gate_encoder], [self.post_lstm_add_norm_encoder.norm])
                | residual_groups("enrichment", [self.static_enrichment])
                | attention_groups(self.multihead_attn)
                | gate_groups(
                    "attended", [self.post_attn_gate_norm.glu], [self.post_attn_gate_norm.add_norm.norm]
                )
                | residual_groups("feed", [self.pos_wise_ff])
                | gate_groups(
                    "output", [self.pre_output_gate_norm.glu], [self.pre_output_gate_norm.add_norm.norm]
                )
            )
        return stacked(self._groups)

    def kernel_groups(self) -> Groups:
        if self._kernel_groups is None:
            self._kernel_groups = compiled_groups(self)
        return self._kernel_groups

    def _static_embedding(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(B, H), and the shares of the static variables; both as stock computes them, for one step only."""
        if not self.static_variables:
            size = len(x["encoder_cont"])
            nothing = x["encoder_cont"].new_zeros
            return nothing(size, self.hparams.hidden_size), nothing(size, 0)
        inputs = self.input_embeddings(x["encoder_cat"][:, 0])
        for name in self.hparams.static_reals:
            inputs[name] = x["encoder_cont"][:, 0, self.hparams.x_reals.index(name)].unsqueeze(-1)
        return self.static_variable_selection(inputs)  # type: ignore[no-any-return]

    def _selected(
        self, parts: Parts, x: dict[str, Tensor], context: Tensor, rate: float
    ) -> tuple[Tensor, list[Tensor]]:
        """The selected inputs of encoder and horizon, (T * B, H), and the shares, (B, T, 1, V) each."""
        size = len(context)
        names = (self.hparams.time_varying_reals_encoder, self.hparams.time_varying_reals_decoder)
        counts = [len(own) for own in names]
        places = (slice(0, counts[0]), slice(counts[0], None))
        own = collapsed(parts).split(counts)
        selected, all_shares = [], []
        for index, part in enumerate(("past", "ahead")):
            numbers = self.numbers_of(x["decoder_cont" if index else "encoder_cont"], names[index])
            shares = variable_shares(parts, part, places[index], numbers, context, rate)
            network = Tail.of(parts, part, rate)
            selected.append(select(own[index], network, numbers, shares))
            all_shares.append(shares.view(counts[index], -1, size).permute(2, 1, 0).unsqueeze(2))
        return torch.cat(selected), all_shares

    def numbers_of(self, cont: Tensor, names: list[str]) -> Tensor:
        """The named inputs out of (B, T, ·), as (V, T * B)."""
        places = [self.hparams.x_reals.index(name) for name in names]
        return torch.stack([cont[..., place].t() for place in places]).flatten(1)

    def _recurrent(self, past: Tensor, ahead: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        """The recurrent networks over the rows of encoder and horizon, (T, B, H)."""
        size, layers = len(hidden), self.hparams.lstm_layers
        state = (hidden.expand(layers, -1, -1).contiguous(), cell.expand(layers, -1, -1).contiguous())
        past_output, state = _recur(self.lstm_encoder, past.view(-1, size, past.shape[1]), state)
        ahead_output, _ = _recur(self.lstm_decoder, ahead.view(-1, size, ahead.shape[1]), state)
        return torch.cat((past_output, ahead_output))

    def attention_mask(self, past: int, horizon: int, device: torch.device) -> Tensor:
        """(D, T): 0, or, if causal, the bias against looking at the own step of the horizon or after."""
        mask = torch.zeros(horizon, past + horizon, device=device)
        if not self.hparams.causal_attention:
            return mask
        steps = torch.arange(-past, horizon, device=device)
        return mask.masked_fill_(steps >= steps[past:, None], self.multihead_attn.mask_bias)

    def _heads(self, output: Tensor) -> Any:
        if self.n_targets > 1:
            return [head(output) for head in self.output_layer]
        return self.output_layer(output)


def _full_length(x: dict[str, Tensor]) -> bool:
    return all(
        bool((x[f"{part}_lengths"] == x[f"{part}_cont"].shape[1]).all()) for part in ("encoder", "decoder")
    )


def _recur(lstm: Any, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A batch-first LSTM over (T, B, H).

    On a CPU always in float32: torch's LSTM in half precision fails on many processors.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return _recur(lstm, x.float(), (state[0].float(), state[1].float()))
    output, state = lstm(x.transpose(0, 1), state)
    return output.transpose(0, 1), state
