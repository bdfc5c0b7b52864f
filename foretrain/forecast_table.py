"""Forecasts as a table, one row per series, time and target; written as CSV or Parquet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from foretrain.refusals import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from trainer.bundle import Bundle
    from trainer.future import Future

ENDINGS = (".csv", ".parquet")
_MICROSECONDS = 1_000_000


def check_can_be_written(out: Path, *, force: bool) -> None:
    """Raise Refusal before any work is done, if the file could not be written at its end."""
    if out.suffix.lower() not in ENDINGS:
        raise Refusal(f"--out {out} has none of the endings {', '.join(ENDINGS)}")
    if not out.parent.is_dir():
        raise Refusal(f"--out {out} cannot be written: there is no folder {out.parent}")
    if out.is_dir():
        raise Refusal(f"--out {out} is a folder")
    if out.exists() and not force:
        raise Refusal(f"{out} is there already; --force overwrites it")
    if not os.access(out.parent, os.W_OK):
        raise Refusal(f"--out {out} cannot be written: {out.parent} is read-only for you")


def forecast_table(bundle: Bundle, future: Future, quantiles: npt.NDArray[np.float32]) -> pa.Table:
    """The group columns (or `series`), `timestamp`, `target`, `known`, and one column per quantile.

    `quantiles` (n_series, horizon, n_targets, n_quantiles); a target that is NaN has no rows.
    """
    series, targets = future.series, bundle.layout.targets
    horizon, per_series = bundle.spec.horizon, bundle.spec.horizon * len(targets)
    groups = {name: series.categories[name] for name in bundle.group_columns}
    columns: dict[str, Any] = {
        name: _repeated(values, per_series)
        for name, values in (groups or {"series": series.series_names}).items()
    }
    # A row per step within a row per target within a row per series.
    times = np.repeat(future.times(horizon)[:, None], len(targets), axis=1).ravel()
    ours = {
        "timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
        "target": _repeated(list(targets), horizon, times=len(series.series_names)),
        "known": pa.array(np.repeat(future.known, per_series)),
    }
    columns |= {_free(name, columns): values for name, values in ours.items()}
    flat = np.moveaxis(quantiles, 1, 2).reshape(-1, quantiles.shape[-1])
    columns |= {f"q{level:g}": flat[:, place] for place, level in enumerate(bundle.spec.quantiles)}
    return pa.table(columns).filter(pa.array(np.isfinite(flat[:, 0])))


def write_table(table: pa.Table, out: Path) -> None:
    """Write whole or not at all. Raises Refusal."""
    unfinished = out.with_name(out.name + ".part")
    try:
        if out.suffix.lower() == ".csv":
            pa_csv.write_csv(_with_readable_times(table), unfinished)
        else:
            pq.write_table(table, unfinished)
        unfinished.replace(out)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise Refusal(f"--out {out} cannot be written: {error.strerror or error}") from error


def _repeated(values: list[str], each: int, *, times: int = 1) -> pa.Array:
    codes = np.tile(np.repeat(np.arange(len(values), dtype=np.int32), each), times)
    return pa.DictionaryArray.from_arrays(codes, pa.array(values, pa.string()))


def _free(name: str, taken: dict[str, Any]) -> str:
    return _free(f"forecast_{name}", taken) if name in taken else name


def _with_readable_times(table: pa.Table) -> pa.Table:
    """Times as ISO 8601 with a Z."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            stamps = table.column(place).cast(pa.int64()).to_numpy()
            fractions = (stamps % _MICROSECONDS).any()
            unique, codes = np.unique(stamps, return_inverse=True)
            texts = np.datetime_as_string(unique.view("datetime64[us]"), unit="us" if fractions else "s")
            values = pa.DictionaryArray.from_arrays(
                codes.astype(np.int32), pa.array([f"{text}Z" for text in texts], pa.string())
            )
            table = table.set_column(place, field.name, values)
    return table
