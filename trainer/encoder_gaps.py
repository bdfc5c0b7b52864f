"""Gaps that are still open where a forecast begins: the encoder sees the last value, not where it led."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trainer.dataset.filling import open_gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from trainer.dataset.series import SeriesData

    FloatArray = npt.NDArray[np.float64]


class EncoderGaps:
    """For some columns of the fleet: which steps of a window lie in a gap its origin does not see the end of.

    Filled values lean on what came after their gap. A window that begins within one, or right behind it and
    before the next value, must see the last value before it instead.
    """

    def __init__(self, first: Tensor, carried: Tensor) -> None:
        self._first = first  # (rows, n)
        self._carried = carried  # (rows, n)

    def close(self, values: Tensor, rows: Tensor, encoder_length: int) -> Tensor:
        """`values` (B, T, n) at `rows` (B, T), as they looked from the first step of the horizon."""
        last = rows[:, encoder_length - 1]
        is_open = rows[:, :encoder_length, None] >= self._first[last][:, None]
        past = torch.where(is_open, self._carried[last][:, None], values[:, :encoder_length])
        return torch.cat((past, values[:, encoder_length:]), dim=1)


def gaps_of(
    series: SeriesData,
    columns: tuple[str, ...],
    neutral: Callable[[str], FloatArray | float],
    device: torch.device,
    scales: Mapping[str, FloatArray] | None = None,
) -> EncoderGaps | None:
    """The gaps of these columns, in scaled space with `scales` (n_series, 2) each; None if there are none.

    `neutral` says what stands for a column that has not been seen yet, one number or one per series.
    """
    if all(series.observed[name].all() for name in columns):
        return None
    first = np.empty((len(series.times), len(columns)), np.int32)  # a grid has at most 1e8 rows
    carried = np.empty((len(series.times), len(columns)), np.float32)
    for index, name in enumerate(columns):
        values = series.values[name].astype(np.float64)
        found = open_gaps(values, series.observed[name], series.offsets, neutral(name))
        last = found.carried
        if scales is not None:
            centre, scale = np.repeat(scales[name], series.lengths, axis=0).T
            last = (last - centre) / scale
        first[:, index], carried[:, index] = found.first, last
    return EncoderGaps(torch.from_numpy(first).to(device), torch.from_numpy(carried).to(device))
