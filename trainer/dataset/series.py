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
from trainer.dataset.columns import TEXT
from trainer.dataset.errors import problem
from trainer.dataset.filling import fill
from trainer.dataset.findings import MOST_EXAMPLES, clock_findings
from trainer.dataset.grid import align
from trainer.dataset.keys import NO_VALUE, texts
from trainer.dataset.layout import lay_out_by
from trainer.dataset.limits import DEFAULT_LIMITS
from trainer.dataset.reading import read_table
from trainer.dataset.repairs import count_repairs
from trainer.dataset.schema import Finding

if TYPE_CHECKING:
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
    limits: ReadLimits = DEFAULT_LIMITS,
) -> SeriesData:
    """Read the named columns onto the grid that `schema` found.

    `missing_policy`: `interpolate` draws a line through gaps of up to 3 steps, longer ones carry the last
    value; `mask` carries it through every gap; `error` refuses any gap. Raises DatasetError, also for a
    category that changes within a series and for a numeric column without a number.
    """
    columns = {schema.time_column, *schema.group_columns, *numeric, *categorical}
    table = read_table(path, format, mapping, columns=columns, limits=limits)
    times = to_micros(table[schema.time_column], schema.time_column)
    layout = lay_out_by(table, schema.time_column, schema.group_columns, times)
    grid = align(layout, round(schema.frequency_seconds * 1e6), limits)
    return put_on_grid(table, layout, grid, numeric, categorical, missing_policy)


def put_on_grid(
    table: pa.Table,
    layout: Layout,
    grid: Grid,
    numeric: list[str],
    categorical: list[str],
    missing_policy: MissingPolicy,
) -> SeriesData:
    """The named columns of a table whose rows are laid out and aligned; as `load_series`."""
    filled = {name: _on_grid(table, name, layout, grid, missing_policy) for name in numeric}
    repairs = count_repairs(layout, grid, filled)
    return SeriesData(
        series_names=layout.names,
        offsets=grid.offsets,
        times=grid.times(),
        frequency_seconds=grid.step / 1e6,
        values={name: each.values for name, each in filled.items()},
        observed={name: each.observed for name, each in filled.items()},
        categories={name: _categories(table[name], name, layout) for name in categorical},
        findings=[*clock_findings(layout, grid), *_filling_finding(repairs)],
        repairs=repairs,
    )


def _on_grid(table: pa.Table, name: str, layout: Layout, grid: Grid, missing_policy: MissingPolicy) -> Filled:
    if table[name].type == TEXT or not _is_number(table[name].type):
        raise problem("no_numeric_column", f"Column {name!r} does not hold numbers.", column=name)
    on_grid = np.full(grid.offsets[-1], np.nan)
    on_grid[grid.rows] = clean_floats(table[name])[layout.order[grid.kept]]
    missing = np.isnan(on_grid)
    if missing.all():
        raise problem("no_numeric_column", f"Column {name!r} holds no number at all.", column=name)
    if missing_policy == "error" and missing.any():
        raise _missing(name, int(np.argmax(missing)), int(missing.sum()), layout, grid)
    filled = fill(on_grid, grid.offsets, interpolate=missing_policy == "interpolate")
    return replace(filled, values=filled.values.astype(np.float32))


def _missing(name: str, row: int, count: int, layout: Layout, grid: Grid) -> DatasetError:
    series = int(np.searchsorted(grid.offsets, row, side="right")) - 1
    at = iso(int(grid.starts[series]) + (row - int(grid.offsets[series])) * grid.step)
    return problem(
        "missing_values",
        f"{name} lacks {count:,} of {int(grid.offsets[-1]):,} steps, first in series "
        f"{layout.names[series]!r} at {at}; missing_policy=error refuses that. Use interpolate or mask.",
        column=name,
    )


def _categories(column: pa.ChunkedArray, name: str, layout: Layout) -> list[str]:
    """One value per series; rows without a value do not count against it."""
    values = column.combine_chunks()
    values = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    most = len(values.dictionary)
    codes = pc.fill_null(values.indices, most).to_numpy(zero_copy_only=False).astype(np.int64)[layout.order]
    starts = layout.offsets[:-1]
    lowest = np.minimum.reduceat(codes, starts)
    highest = np.maximum.reduceat(np.where(codes == most, -1, codes), starts)
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
