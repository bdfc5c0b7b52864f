"""One column of one series, thin enough to be drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trainer.dataset.errors import problem
from trainer.dataset.schema import SeriesValues
from trainer.dataset.series import load_series
from trainer.thinning import keep_extremes

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetSchema

MOST_NAMES = 1000


def read_values(
    path: Path,
    format: DatasetFormat,  # noqa: A002 - the word of the API
    mapping: DatasetMapping,
    schema: DatasetSchema,
    *,
    column: str,
    series: str | None,
    max_points: int,
) -> SeriesValues:
    """What was measured, null where nothing was; `series` None: the first. Raises DatasetError."""
    data = load_series(path, format, mapping, schema, [column], [], "mask")
    if series is not None and series not in data.series_names:
        raise problem("unknown_series", f"There is no series {series!r}.")
    place = 0 if series is None else data.series_names.index(series)
    rows = slice(int(data.offsets[place]), int(data.offsets[place + 1]))
    measured = np.where(data.observed[column][rows], data.values[column][rows], np.nan)
    values = [None if math.isnan(value) else value for value in measured.tolist()]
    kept = keep_extremes(values, max_points)
    return SeriesValues(
        series=data.series_names[place],
        column=column,
        step_count=len(values),
        times=(data.times[rows][kept] / 1e6).tolist(),
        values=[None if (value := values[place]) is None else float(f"{value:.7g}") for place in kept],
        series_names=data.series_names[:MOST_NAMES],
    )
