"""Series on a regular grid, as training and evaluation take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trainer.dataset.clock import iso, to_micros
from trainer.dataset.column_report import clean_floats
from trainer.dataset.columns import TEXT, in_one_piece
from trainer.dataset.conversion import convert
from trainer.dataset.errors import problem
from trainer.dataset.filling import fill
from trainer.dataset.findings import MOST_EXAMPLES, clock_findings
from trainer.dataset.grid import align
from trainer.dataset.keys import NO_VALUE, texts
from trainer.dataset.layout import lay_out_by
from trainer.dataset.limits import DEFAULT_LIMITS
from trainer.dataset.mapped import map_floats
from trainer.dataset.reading import is_reshaped, read_table
from trainer.dataset.repairs import count_repairs
from trainer.dataset.schema import Finding

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.dataset.errors import DatasetError
    from trainer.dataset.filling import Filled
    from trainer.dataset.grid import Grid
    from trainer.dataset.layout import Layout
    from trainer.dataset.limits import ReadLimits
    from trainer.dataset.repairs import Repairs
    from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetSchema

MissingPolicy = Literal["interpolate", "mask", "error"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class SeriesData:
    """All series end to end on the regular grid of `frequency_seconds`.

    Rows of series i are `offsets[i]:offsets[i + 1]` in every array, time ascending, one row a step.
    `values` are finite everywhere, also where nothing was seen; `observed` is False there, and such a step
    carries no loss and no score. A filled value may lean on what came after its gap: who looks from before
    the gap has closed takes `filling.open_gaps`.
    """

    series_names: list[str]  # sorted; group values joined by "/", "all" without group columns
    offsets: IntArray  # (n_series + 1,)
    times: IntArray  # (rows,) epoch microseconds, UTC
    frequency_seconds: float
    values: dict[str, FloatArray]  # column -> float32 (rows,)
    observed: dict[str, BoolArray]  # column -> (rows,)
    categories: dict[str, list[str]]  # column -> one value per series
    findings: list[Finding]
    repairs: Repairs | None = None  # None for series that were not read from a file

    @property
    def n_series(self) -> int:
        return len(self.series_names)

    @property
    def lengths(self) -> IntArray:
        """Steps per series, (n_series,)."""
        return np.diff(self.offsets)


def load_series(
    path: Path,
    format: DatasetFormat,  # noqa: A002 - the word of the API
    mapping: DatasetMapping,
    schema: DatasetSchema,
    numeric: list[str],
    categorical: list[str],
    missing_policy: MissingPolicy,
    *,
    mapped_in: Path | None = None,
    limits: ReadLimits = DEFAULT_LIMITS,
) -> SeriesData:
    """Read the named columns onto the grid that `schema` found.

    `missing_policy`: `interpolate` draws a line through gaps of up to 3 steps, longer ones carry the last
    value; `mask` carries it through every gap; `error` refuses any gap. With `mapped_in`, a folder, the
    values lie in files there that have no name any more, instead of in memory. Raises DatasetError, also for
    a category that changes within a series and for a numeric column without a number; OSError for a full
    disk.
    """
    keys = {schema.time_column, *schema.group_columns, *categorical}
    # Parquet gives its columns one by one, and then only one of them need be held as it stands in the file.
    apart = format == "parquet" and not is_reshaped(format, mapping)
    columns = keys if apart else {*keys, *numeric}
    table = read_table(path, format, mapping, columns=columns, limits=limits)
    times = to_micros(table[schema.time_column], schema.time_column)
    layout = lay_out_by(table, schema.time_column, schema.group_columns, times)
    grid = align(layout, round(schema.frequency_seconds * 1e6), limits)

    def read(name: str) -> pa.ChunkedArray:
        known = table if name in columns else read_table(path, format, mapping, columns=[name], limits=limits)
        return convert(known[name], name, layout, mapping)

    found = {name: categories_of(table[name], name, layout) for name in categorical}
    if apart:
        table = table.select([name for name in numeric if name in columns])  # the rest is not needed any more
    return put_on_grid(read, layout, grid, numeric, found, missing_policy, mapped_in)


def put_on_grid(
    read: Callable[[str], pa.ChunkedArray],
    layout: Layout,
    grid: Grid,
    numeric: list[str],
    categories: dict[str, list[str]],
    missing_policy: MissingPolicy,
    mapped_in: Path | None = None,
) -> SeriesData:
    """Columns whose rows are laid out and aligned, `read` by their names one by one; as `load_series`."""
    filled = {name: _on_grid(read(name), name, layout, grid, missing_policy, mapped_in) for name in numeric}
    repairs = count_repairs(layout, grid, filled)
    return SeriesData(
        series_names=layout.names,
        offsets=grid.offsets,
        times=layout.times if grid.is_layout else grid.times(),
        frequency_seconds=grid.step / 1e6,
        values={name: each.values for name, each in filled.items()},
        observed={name: each.observed for name, each in filled.items()},
        categories=categories,
        findings=[*clock_findings(layout, grid), *_filling_finding(repairs)],
        repairs=repairs,
    )


def _on_grid(
    column: pa.ChunkedArray,
    name: str,
    layout: Layout,
    grid: Grid,
    missing_policy: MissingPolicy,
    mapped_in: Path | None,
) -> Filled:
    if column.type == TEXT or not _is_number(column.type):
        raise problem("no_numeric_column", f"Column {name!r} does not hold numbers.", column=name)
    on_grid = clean_floats(column)[layout.order]
    if not grid.is_layout:
        rows = on_grid[grid.kept]
        on_grid = np.full(grid.offsets[-1], np.nan)
        on_grid[grid.rows] = rows
    missing = np.isnan(on_grid)
    if missing.all():
        raise problem("no_numeric_column", f"Column {name!r} holds no number at all.", column=name)
    if missing_policy == "error" and missing.any():
        raise _missing(name, int(np.argmax(missing)), int(missing.sum()), layout, grid)
    if missing.any() and not on_grid.flags.writeable:
        on_grid = on_grid.copy()
    filled = fill(on_grid, grid.offsets, interpolate=missing_policy == "interpolate")
    values = filled.values.astype(np.float32) if mapped_in is None else map_floats(filled.values, mapped_in)
    return replace(filled, values=values)


def _missing(name: str, row: int, count: int, layout: Layout, grid: Grid) -> DatasetError:
    series = int(np.searchsorted(grid.offsets, row, side="right")) - 1
    at = iso(int(grid.starts[series]) + (row - int(grid.offsets[series])) * grid.step)
    return problem(
        "missing_values",
        f"{name} lacks {count:,} of {int(grid.offsets[-1]):,} steps, first in series "
        f"{layout.names[series]!r} at {at}; missing_policy=error refuses that. Use interpolate or mask.",
        column=name,
    )


def categories_of(column: pa.ChunkedArray, name: str, layout: Layout) -> list[str]:
    """One value per series; rows without a value do not count against it."""
    values = in_one_piece(column)
    values = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    most = len(values.dictionary)
    codes = pc.fill_null(values.indices, most).to_numpy(zero_copy_only=False)[layout.order]
    starts = layout.offsets[:-1]
    lowest = np.minimum.reduceat(codes, starts)
    seen = np.where(codes == most, -1, codes) if values.null_count else codes
    highest = np.maximum.reduceat(seen, starts)
    varying = np.flatnonzero((highest > lowest) & (lowest < most))
    words = [*texts(values.dictionary), NO_VALUE]
    if len(varying):
        series = varying[0]
        raise problem(
            "varying_category",
            f"{name} changes within {len(varying):,} series, first in {layout.names[series]!r} from "
            f"{words[lowest[series]]!r} to {words[highest[series]]!r}; a category must stay the same.",
            column=name,
        )
    return [words[code] for code in lowest]


def _filling_finding(repairs: Repairs) -> list[Finding]:
    """Interpolated and masked steps per column, as one finding."""
    touched = {
        name: (repairs.interpolated[name], masked)
        for name, masked in repairs.masked.items()
        if (repairs.interpolated[name] + masked).any()
    }
    if not touched:
        return []
    parts = [
        f"{name}: {int(short.sum()):,} steps interpolated, {int(masked.sum()):,} masked"
        for name, (short, masked) in touched.items()
    ]
    examples = [
        {"column": name, "interpolated": int(short.sum()), "masked": int(masked.sum())}
        for name, (short, masked) in list(touched.items())[:MOST_EXAMPLES]
    ]
    counts = [short + masked for short, masked in touched.values()]
    return [
        Finding(
            code="missing_values",
            detail="; ".join(parts) + ".",
            series_count=int((np.sum(counts, axis=0) > 0).sum()),
            row_count=max(int(count.sum()) for count in counts),
            examples=examples,
        )
    ]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
