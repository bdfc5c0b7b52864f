"""The history to forecast from, and room for the steps that come after it. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trainer.dataset.clock import iso, to_micros
from trainer.dataset.conversion import convert
from trainer.dataset.errors import DatasetError, problem
from trainer.dataset.filling import last_seen
from trainer.dataset.frequency import find_step
from trainer.dataset.grid import align
from trainer.dataset.layout import lay_out_by
from trainer.dataset.limits import DEFAULT_LIMITS
from trainer.dataset.naming import mapped_name
from trainer.dataset.reading import LABELLED, read_table
from trainer.dataset.schema import ColumnMapping, DatasetMapping
from trainer.dataset.series import SeriesData, categories_of, put_on_grid
from trainer.dataset.steps import parse_frequency

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from trainer.bundle import Bundle
    from trainer.dataset.layout import Layout as Rows
    from trainer.dataset.schema import DatasetFormat
    from trainer.dataset.series import MissingPolicy
    from trainer.layout import Layout

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# How far two steps may lie apart and still be the same.
SAME_STEP = 0.01


@dataclass(frozen=True)
class Future:
    """Series with enough history, each followed by the steps to forecast."""

    series: SeriesData
    origins: IntArray  # (n_series,) global row of the first step to forecast
    known: BoolArray  # (n_series,) whether the network was trained on the series
    seen: BoolArray  # (n_series, n_targets) whether the encoder holds a value of the target
    too_short: dict[str, str]  # series that cannot be forecast -> why

    def times(self, horizon: int) -> IntArray:
        """(n_series, horizon) epoch microseconds of the steps to forecast."""
        times: IntArray = self.series.times[self.origins[:, None] + np.arange(horizon)]
        return times


def read_history(
    bundle: Bundle,
    path: Path,
    format: DatasetFormat,  # noqa: A002 - the word of the API
    overrides: DatasetMapping,
) -> SeriesData:
    """Read what the network needs from a file, with the mapping of the training data but for `overrides`.

    Group columns are among the categories. Raises DatasetError, also for another step than in training.
    """
    categories = list(dict.fromkeys([*bundle.group_columns, *bundle.layout.statics]))
    columns = {bundle.time_column, *categories, *bundle.layout.numeric}
    mapping = _mapping(bundle, format, overrides, columns)
    table = read_table(path, format, mapping, columns=columns)
    times = to_micros(table[bundle.time_column], bundle.time_column)
    rows = lay_out_by(table, bundle.time_column, bundle.group_columns, times)
    _require_step(bundle, rows, overrides)
    grid = align(rows, round(bundle.frequency_seconds * 1e6), DEFAULT_LIMITS)

    def read(name: str) -> pa.ChunkedArray:
        return convert(table[name], name, rows, mapping)

    # What may be missing was decided for training; rows for the future lack their targets in any case.
    policy: MissingPolicy = "mask" if bundle.spec.missing_policy == "mask" else "interpolate"
    found = {name: categories_of(table[name], name, rows) for name in categories}
    return put_on_grid(read, rows, grid, bundle.layout.numeric, found, policy)


def _mapping(
    bundle: Bundle,
    format: DatasetFormat,  # noqa: A002 - as above
    overrides: DatasetMapping,
    needed: set[str],
) -> DatasetMapping:
    """The mapping of the training, of the needed columns; other names of clock and series stand for its."""
    columns = {old: new for old, new in bundle.mapping.columns.items() if (new.name or old) in needed}
    renamed = {overrides.time_column: bundle.time_column} if overrides.time_column else {}
    if overrides.group_columns is not None:
        if len(overrides.group_columns) != len(bundle.group_columns):
            raise problem(
                "unknown_column",
                f"The model tells its series apart by {len(bundle.group_columns)} columns "
                f"({', '.join(bundle.group_columns) or 'none'}), {len(overrides.group_columns)} were named.",
            )
        renamed |= dict(zip(overrides.group_columns, bundle.group_columns, strict=True))
    for name, meant in renamed.items():
        if mapped_name(bundle.mapping, name) != meant:
            columns = {old: new for old, new in columns.items() if new.name != meant}
            columns[name] = ColumnMapping(name=meant)
    for name, told in overrides.columns.items():
        columns = {old: new for old, new in columns.items() if (new.name or old) != (told.name or name)}
        columns[name] = told
    own_shape = overrides.long or overrides.wide or overrides.preset
    shape = overrides if own_shape else bundle.mapping
    has_labels = format in LABELLED
    return DatasetMapping(
        time_column=bundle.time_column,
        group_columns=bundle.group_columns,
        long=None if has_labels else shape.long,
        wide=None if has_labels else shape.wide,
        preset=shape.preset,
        columns=columns,
    )


def _require_step(bundle: Bundle, rows: Rows, overrides: DatasetMapping) -> None:
    """Raise DatasetError if the rows follow each other at another step than those of the training."""
    given = overrides.frequency
    try:
        step = (parse_frequency(given) if given else find_step(rows)) / 1e6
    except DatasetError:
        if bundle.mapping.frequency is None:
            raise
        return  # nor did those of the training keep to a step: it was given
    if abs(step / bundle.frequency_seconds - 1) > SAME_STEP:
        raise problem(
            "irregular_frequency",
            f"A row follows every {step:g} s here, every {bundle.frequency_seconds:g} s in the data that the "
            "model was trained on; resample the rows, or train a model on data like these.",
            column=bundle.time_column,
        )


def look_ahead(series: SeriesData, bundle: Bundle) -> Future:
    """Cut each series behind its last value of any target and add a horizon of steps without values.

    Known covariates keep their values there. Raises DatasetError where one of them lacks some.
    """
    layout, encoder_length, horizon = bundle.layout, bundle.spec.encoder_length, bundle.spec.horizon
    any_target = np.any([series.observed[name] for name in layout.targets], axis=0)
    starts = series.offsets[:-1]
    ends = last_seen(any_target, series.offsets)[series.offsets[1:] - 1] + 1
    history = np.where(ends > 0, ends - starts, 0)
    usable = np.flatnonzero(history >= encoder_length)
    too_short = {
        series.series_names[i]: f"{history[i]} of the {encoder_length} steps that the model looks back"
        for i in np.flatnonzero(history < encoder_length)
    }
    kept = _needed_history(series, bundle, usable, history[usable])
    extended, origins = _extended(
        series, usable, starts[usable] + history[usable] - kept, kept, layout, horizon
    )
    _require_known_covariates(extended, origins, layout, horizon)
    trained_on = set(bundle.scaling.series)
    past = origins[:, None] - np.arange(1, encoder_length + 1)
    return Future(
        series=extended,
        origins=origins,
        known=np.array([name in trained_on for name in extended.series_names], np.bool_),
        seen=np.stack([extended.observed[name][past].any(axis=1) for name in layout.targets], axis=1),
        too_short=too_short,
    )


def _needed_history(series: SeriesData, bundle: Bundle, places: IntArray, history: IntArray) -> IntArray:
    """How many of the last steps of each series's history the forecast depends on."""
    layout, encoder_length = bundle.layout, bundle.spec.encoder_length
    if bundle.scaling.target is not None or layout.observed:
        return history  # a new series is scaled by all of it
    past = (series.offsets[places] + history)[:, None] - np.arange(1, encoder_length + 1)
    seen = np.all([series.observed[name][past].any(axis=1) for name in layout.targets], axis=0)
    # A target that the encoder has not seen is carried into it from wherever it was seen last.
    return np.where(seen, encoder_length, history)


def _extended(
    series: SeriesData, places: IntArray, starts: IntArray, history: IntArray, layout: Layout, horizon: int
) -> tuple[SeriesData, IntArray]:
    """The series at these places from these rows on: so many steps of history each, then the horizon; and
    where that begins.
    """
    lengths = history + horizon
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    ahead = within >= np.repeat(history, lengths)
    rows = np.repeat(starts, lengths) + within
    exists = rows < np.repeat(series.offsets[places + 1], lengths)
    rows = np.where(exists, rows, 0)
    values, observed = {}, {}
    for name, column in series.values.items():
        kept = exists if name in layout.known else exists & ~ahead
        values[name] = np.where(kept, column[rows], np.float32(0.0))
        observed[name] = kept & series.observed[name][rows]
    step = round(series.frequency_seconds * 1e6)
    extended = SeriesData(
        series_names=[series.series_names[i] for i in places],
        offsets=offsets,
        times=np.repeat(series.times[starts], lengths) + within * step,
        frequency_seconds=series.frequency_seconds,
        values=values,
        observed=observed,
        categories={name: [each[i] for i in places] for name, each in series.categories.items()},
        findings=series.findings,
    )
    return extended, offsets[:-1] + history


def _require_known_covariates(series: SeriesData, origins: IntArray, layout: Layout, horizon: int) -> None:
    ahead = origins[:, None] + np.arange(horizon)
    for name in layout.known:
        lacking = np.flatnonzero(~series.observed[name][ahead].all(axis=1))
        if not len(lacking):
            continue
        first = lacking[0]
        raise problem(
            "missing_values",
            f"{name} has to be known in advance, for all {horizon} steps from "
            f"{iso(series.times[ahead[first, 0]])} on in series {series.series_names[first]!r}; it lacks "
            f"values there in {len(lacking):,} series. Add rows for these times, with {name} and without "
            "targets.",
            column=name,
        )
