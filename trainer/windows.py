"""Windows cut by index, a whole batch at a time, from tensors that lie on the training device.

`WindowSource.batch` gives what pytorch-forecasting's `TimeSeriesDataSet` and its collate give for the same
windows, key by key, without a line of Python per window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trainer.clock import calendar_values
from trainer.scaling import encode_categories

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainer.dataset.series import SeriesData
    from trainer.layout import Layout
    from trainer.scaling import Scaling

Batch = tuple[dict[str, Any], tuple[Any, Any]]
QUARTILES = (0.25, 0.5, 0.75)
# Beyond this many steps per row of data the shared calendar would be mostly holes.
SPARSE_CALENDAR = 4


class WindowSource:
    """The data on the device, and the cutting of batches out of them."""

    def __init__(
        self,
        series: SeriesData,
        layout: Layout,
        scaling: Scaling,
        *,
        encoder_length: int,
        horizon: int,
        device: torch.device,
    ) -> None:
        self.layout = layout
        self.scaling = scaling
        self.encoder_length = encoder_length
        self.horizon = horizon
        self.device = device
        self._targets = self._columns(series, layout.targets)
        self._scaled_targets, self._series_scale = self._series_scaled_targets(series)
        self._covariates = self._scaled_covariates(series)
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
        targets = self._targets[flat].view(size, length, -1)
        scale, scaled = self._scale(series, targets, flat)
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
        return x, (decoder_target, self._window_weights(rows[:, ahead]))

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
        blocks.append(self._relative_time.view(1, -1, 1).expand(size, -1, 1))
        if covariates is not None:
            blocks.append(covariates[..., known:])
        blocks.append(scaled)
        return blocks

    def _scale(self, series: Tensor, targets: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and scale, (B, K, 2), and the targets in scaled space, (B, T, K)."""
        size, length, count = targets.shape
        if self._scaled_targets is not None and self._series_scale is not None:
            return self._series_scale[series], self._scaled_targets[flat].view(size, length, count)
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
        """1 where a step was observed; None where all of them were, as pytorch-forecasting has it."""
        if self._weights is None:
            return None
        return self._per_target(self._weights[rows])

    def _per_target(self, values: Tensor, axis: int = -1) -> Any:
        """A list per target for several targets, the bare tensor for one: pytorch-forecasting's habit."""
        parts = list(values.unbind(axis))
        return parts if len(parts) > 1 else parts[0]

    def _columns(self, series: SeriesData, names: tuple[str, ...]) -> Tensor:
        table = np.empty((len(series.times), len(names)), dtype=np.float32)
        for index, name in enumerate(names):
            table[:, index] = series.values[name]
        return torch.from_numpy(table).to(self.device)

    def _series_scaled_targets(self, series: SeriesData) -> tuple[Tensor | None, Tensor | None]:
        """For series_*: the targets scaled in float64, and the scales, both None otherwise."""
        if self.scaling.target is None:
            return None, None
        scales = series_table(self.scaling, self.scaling.target, series)
        scaled = scale_by_series(series, self.layout.targets, scales)
        return (
            torch.from_numpy(scaled).to(self.device),
            torch.tensor(scales, dtype=torch.float32, device=self.device),
        )

    def _scaled_covariates(self, series: SeriesData) -> Tensor | None:
        """Known, then observed covariates, (rows, n)."""
        known, observed = self.layout.known, self.layout.observed
        if not known and not observed:
            return None
        fleet = np.broadcast_to(self.scaling.known, (series.n_series, *self.scaling.known.shape))
        own = series_table(self.scaling, self.scaling.observed, series)
        scaled = scale_by_series(series, (*known, *observed), np.concatenate([fleet, own], axis=1))
        return torch.from_numpy(scaled).to(self.device)

    def _loss_weights(self, series: SeriesData) -> Tensor | None:
        observed = [series.observed[name] for name in self.layout.targets]
        if all(column.all() for column in observed):
            return None
        return torch.from_numpy(np.stack(observed, axis=1).astype(np.float32)).to(self.device)

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


def series_table(
    scaling: Scaling, table: npt.NDArray[np.float64], series: SeriesData
) -> npt.NDArray[np.float64]:
    """The rows of a per-series table of the scaling, in the order of `series`; the median for others."""
    place = encode_categories(list(scaling.series), series.series_names) - 1
    rows = table[place]
    rows[place < 0] = np.median(table, axis=0)
    return rows


def scale_by_series(
    series: SeriesData, columns: tuple[str, ...], scales: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Columns less their series' centre, over its scale, computed in float64; `scales` (n_series, n, 2)."""
    scaled = np.empty((len(series.times), len(columns)), dtype=np.float32)
    for index, name in enumerate(columns):
        centre = np.repeat(scales[:, index, 0], series.lengths)
        scale = np.repeat(scales[:, index, 1], series.lengths)
        scaled[:, index] = (series.values[name].astype(np.float64) - centre) / scale
    return scaled
