"""Windows cut by index, a whole batch at a time, from tensors that lie on the training device.

`WindowSource.batch` gives what pytorch-forecasting's `TimeSeriesDataSet` and its collate give for the same
windows, key by key, without a line of Python per window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.clock import calendar_values
from trainer.encoder_gaps import gaps_of
from trainer.scaling import encode_categories, scales_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.dataset.series import SeriesData
    from trainer.encoder_gaps import EncoderGaps
    from trainer.layout import Layout
    from trainer.scaling import Scaling

Scales = dict[str, npt.NDArray[np.float64]]
Batch = tuple[dict[str, Any], tuple[Any, Any]]
QUARTILES = (0.25, 0.5, 0.75)
# Beyond this many steps per row of data the shared calendar would be mostly holes.
SPARSE_CALENDAR = 4


class WindowSource:
    """The data on the device, and the cutting of batches out of them.

    A series that was not trained on is scaled by its rows before `history_end` (n_series,), exclusive global
    rows. Raises ValueError for such a series where that is needed and not given.
    """

    def __init__(
        self,
        series: SeriesData,
        layout: Layout,
        scaling: Scaling,
        *,
        encoder_length: int,
        horizon: int,
        device: torch.device,
        history_end: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.layout = layout
        self.scaling = scaling
        self.encoder_length = encoder_length
        self.horizon = horizon
        self.device = device
        self.scales = _scales_by_series(series, layout, scaling, history_end)
        self._targets = [self._column(series, name) for name in layout.targets]
        self._target_gaps = gaps_of(series, layout.targets, self.neutral, device)
        self._scaled_targets, self._scaled_gaps, self._series_scale = self._series_scaled_targets(series)
        self._covariates, self._covariate_gaps = self._scaled_covariates(series)
        self._weights = self._loss_weights(series)
        self._calendar, slots = calendar_table(series, layout.calendar)
        self._calendar = self._calendar.to(device)
        starts = series.offsets[:-1]
        self._slot_shift = self._to_device(slots - starts)
        self._time_shift = self._to_device(first_time_indices(series) - starts)
        self._statics = self._to_device(self._static_codes(series))
        self._series_codes = self._to_device(encode_categories(list(scaling.series), series.series_names))
        steps = torch.arange(-encoder_length, horizon, device=device)
        self._steps = steps
        self._relative_time = (steps / encoder_length).to(torch.float32)
        self._floors = torch.tensor(scaling.floors, dtype=torch.float32, device=device)
        self._identity = torch.tensor([0.0, 1.0], device=device)
        self._ranks = quantile_ranks(encoder_length)

    def batch(self, series: Tensor, origins: Tensor, unknown: Tensor | None = None) -> Batch:
        """The windows with these series and origins, each (B,), int64.

        `unknown` (B,) bool marks windows whose categories are hidden, as those of a new server would be.
        """
        rows = origins[:, None] + self._steps
        size, length = rows.shape
        flat = rows.flatten()
        targets = torch.stack([column[flat] for column in self._targets], dim=-1).view(size, length, -1)
        if self._target_gaps is not None:
            targets = self._target_gaps.close(targets, rows, self.encoder_length)
        scale, scaled = self._scale(series, targets, rows)
        cont = torch.cat(self._inputs(series, rows, flat, scaled), dim=-1)
        cat = self._categories(series, unknown)[:, None, :].expand(-1, length, -1)
        past, ahead = slice(None, self.encoder_length), slice(self.encoder_length, None)
        decoder_target = self._per_target(targets[:, ahead])
        x = {
            "encoder_cat": cat[:, past],
            "encoder_cont": cont[:, past],
            "encoder_target": self._per_target(targets[:, past]),
            "encoder_lengths": torch.full((size,), self.encoder_length, device=self.device),
            "decoder_cat": cat[:, ahead],
            "decoder_cont": cont[:, ahead],
            "decoder_target": decoder_target,
            "decoder_lengths": torch.full((size,), self.horizon, device=self.device),
            "decoder_time_idx": self._time_shift[series][:, None] + rows[:, ahead],
            "groups": self._series_codes[series][:, None],
            "target_scale": self._per_target(scale, axis=1),
        }
        return x, (decoder_target, self._window_weights(rows))

    def seen_steps(self, origins: Tensor) -> Tensor | None:
        """How many of each window's values carry loss, (B,); None where all do."""
        weights = self._window_weights(origins[:, None] + self._steps)
        if weights is None:
            return None
        parts = weights if isinstance(weights, list) else [weights]
        return torch.stack(parts).sum(dim=(0, 2))

    def neutral(self, name: str) -> npt.NDArray[np.float64] | float:
        """What stands for a column that has not been seen yet: its centre, where its series has one."""
        return self.scales[name][:, 0] if name in self.scales else 0.0

    def _inputs(self, series: Tensor, rows: Tensor, flat: Tensor, scaled: Tensor) -> list[Tensor]:
        """The blocks of encoder_cont and decoder_cont, in the layout's order, each (B, T, ·)."""
        size, length = rows.shape
        blocks = []
        if self.layout.calendar:
            blocks.append(self._calendar[rows + self._slot_shift[series][:, None]])
        known = len(self.layout.known)
        covariates = None
        if self._covariates is not None:
            covariates = self._covariates[flat].view(size, length, -1)
            blocks.append(covariates[..., :known])
            covariates = covariates[..., known:]
            if self._covariate_gaps is not None:
                covariates = self._covariate_gaps.close(covariates, rows, self.encoder_length)
        blocks.append(self._relative_time.view(1, -1, 1).expand(size, -1, 1))
        if covariates is not None:
            blocks.append(covariates)
        blocks.append(scaled)
        return blocks

    def _scale(self, series: Tensor, targets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and scale, (B, K, 2), and the targets in scaled space, (B, T, K)."""
        size, length, count = targets.shape
        if self._scaled_targets is not None and self._series_scale is not None:
            scaled = self._scaled_targets[rows.flatten()].view(size, length, count)
            if self._scaled_gaps is not None:
                scaled = self._scaled_gaps.close(scaled, rows, self.encoder_length)
            return self._series_scale[series], scaled
        if not self.scaling.per_window:
            return self._identity.expand(size, count, 2), targets
        centre, scale = window_scale(
            targets[:, : self.encoder_length], self._ranks if self.scaling.robust else None
        )
        scale = torch.maximum(scale, self._floors)
        return torch.stack((centre, scale), dim=-1), (targets - centre[:, None]) / scale[:, None]

    def _categories(self, series: Tensor, unknown: Tensor | None) -> Tensor:
        codes = self._statics[series]
        return codes if unknown is None else codes.masked_fill(unknown[:, None], 0)

    def _window_weights(self, rows: Tensor) -> Any:
        """1 where a step was seen; None where all of them were, as pytorch-forecasting has it.

        A target of which the encoder saw nothing has no weight in the window: there is nothing to go by.
        """
        if self._weights is None:
            return None
        seen = self._weights[rows].to(torch.float32)
        past = seen[:, : self.encoder_length].amax(dim=1, keepdim=True)
        return self._per_target(seen[:, self.encoder_length :] * past)

    def _per_target(self, values: Tensor, axis: int = -1) -> Any:
        """A list per target for several targets, the bare tensor for one: pytorch-forecasting's habit."""
        parts = list(values.unbind(axis))
        return parts if len(parts) > 1 else parts[0]

    def _column(self, series: SeriesData, name: str) -> Tensor:
        """The column itself where it can be, for it may be larger than memory is."""
        return torch.from_numpy(np.require(series.values[name], np.float32, ["C", "W"])).to(self.device)

    def _series_scaled_targets(
        self, series: SeriesData
    ) -> tuple[Tensor | None, EncoderGaps | None, Tensor | None]:
        """For series_*: the targets scaled in float64, their gaps and the scales; all None otherwise."""
        targets = self.layout.targets
        if self.scaling.target is None:
            return None, None, None
        scaled = torch.from_numpy(scale_by_series(series, targets, self.scales)).to(self.device)
        table = np.stack([self.scales[name] for name in targets], axis=1)
        return (
            scaled,
            gaps_of(series, targets, self.neutral, self.device, self.scales),
            torch.tensor(table, dtype=torch.float32, device=self.device),
        )

    def _scaled_covariates(self, series: SeriesData) -> tuple[Tensor | None, EncoderGaps | None]:
        """Known, then observed covariates, (rows, n), and the gaps of the observed."""
        known, observed = self.layout.known, self.layout.observed
        if not known and not observed:
            return None, None
        fleet = {
            name: np.broadcast_to(self.scaling.known[index], (series.n_series, 2))
            for index, name in enumerate(known)
        }
        scaled = scale_by_series(series, (*known, *observed), fleet | self.scales)
        gaps = gaps_of(series, observed, self.neutral, self.device, self.scales)
        return torch.from_numpy(scaled).to(self.device), gaps

    def _loss_weights(self, series: SeriesData) -> Tensor | None:
        """(rows, n_targets) bool."""
        observed = [series.observed[name] for name in self.layout.targets]
        if all(column.all() for column in observed):
            return None
        return torch.from_numpy(np.stack(observed, axis=1)).to(self.device)

    def _static_codes(self, series: SeriesData) -> npt.NDArray[np.int64]:
        codes = np.zeros((series.n_series, len(self.layout.statics)), dtype=np.int64)
        for index, name in enumerate(self.layout.statics):
            codes[:, index] = encode_categories(self.scaling.categories[name], series.categories[name])
        return codes

    def _to_device(self, values: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def window_scale(encoder: Tensor, ranks: list[tuple[int, int, float]] | None) -> tuple[Tensor, Tensor]:
    """Centre and scale of each encoder window and target, (B, K) each, from (B, E, K).

    With `ranks` median and half the interquartile range, else mean and deviation; both as in
    pytorch-forecasting's `TorchNormalizer`, epsilon included.
    """
    epsilon = torch.finfo(encoder.dtype).eps
    if ranks is None:
        return encoder.mean(dim=1), encoder.std(dim=1) + epsilon
    ordered = encoder.sort(dim=1).values
    low, centre, high = (
        torch.lerp(ordered[:, below], ordered[:, above], weight) for below, above, weight in ranks
    )
    return centre, (high - low) / 2.0 + epsilon


def quantile_ranks(length: int) -> list[tuple[int, int, float]]:
    """The neighbours in sorted order, and the weight of the upper, for each quartile of `length` values."""
    ranks = []
    for quantile in QUARTILES:
        # In float32, as torch.quantile does it: the same numbers to the last bit.
        rank = float(np.float32(quantile) * np.float32(length - 1))
        below = int(rank)
        ranks.append((below, min(below + 1, length - 1), rank - below))
    return ranks


def first_time_indices(series: SeriesData) -> npt.NDArray[np.int64]:
    """The number of the first step of each series on the clock of its frequency, (n_series,)."""
    step_us = series.frequency_seconds * 1e6
    return np.rint(series.times[series.offsets[:-1]] / step_us).astype(np.int64)


def calendar_table(series: SeriesData, features: tuple[str, ...]) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Calendar inputs, (slots, ·), and the slot of each series' first row.

    Series that share a clock share the slots; where they lie decades apart, every row has its own.
    """
    first, lengths = first_time_indices(series), series.lengths
    span = int((first + lengths).max() - first.min())
    if span <= SPARSE_CALENDAR * len(series.times):
        step_us = series.frequency_seconds * 1e6
        times = np.rint(np.arange(first.min(), first.min() + span) * step_us).astype(np.int64)
        return torch.from_numpy(calendar_values(features, times)), first - first.min()
    return torch.from_numpy(calendar_values(features, series.times)), series.offsets[:-1].copy()


def _scales_by_series(
    series: SeriesData, layout: Layout, scaling: Scaling, history_end: npt.NDArray[np.int64] | None
) -> Scales:
    """Centre and scale per series, (n_series, 2), of the columns that are scaled by their series."""
    robust = scaling.robust
    observed = scales_of(
        series,
        layout.observed,
        scaling,
        scaling.observed,
        scaling.observed_floors,
        history_end,
        robust=False,
    )
    scales = {name: observed[:, index] for index, name in enumerate(layout.observed)}
    if scaling.target is not None:
        targets = scales_of(
            series, layout.targets, scaling, scaling.target, scaling.floors, history_end, robust=robust
        )
        scales |= {name: targets[:, index] for index, name in enumerate(layout.targets)}
    return scales


def scale_by_series(
    series: SeriesData, columns: tuple[str, ...], scales: Mapping[str, npt.NDArray[np.float64]]
) -> npt.NDArray[np.float32]:
    """Columns less their series' centre, over its scale, (n_series, 2) each, computed in float64."""
    scaled = np.empty((len(series.times), len(columns)), dtype=np.float32)
    for index, name in enumerate(columns):
        centre, scale = np.repeat(scales[name], series.lengths, axis=0).T
        scaled[:, index] = (series.values[name].astype(np.float64) - centre) / scale
    return scaled
