"""What a dataset holds: its clock, its series, its columns and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.dataset.clock import as_datetime
from trainer.dataset.column_report import describe_columns
from trainer.dataset.conversion import convert_columns, published_units
from trainer.dataset.errors import listed, problem
from trainer.dataset.findings import clock_findings
from trainer.dataset.frequency import find_step
from trainer.dataset.grid import align
from trainer.dataset.layout import lay_out
from trainer.dataset.limits import DEFAULT_LIMITS
from trainer.dataset.reading import ignored_columns, read_table
from trainer.dataset.schema import DatasetSchema, Finding
from trainer.dataset.steps import parse_frequency

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.grid import Grid
    from trainer.dataset.limits import ReadLimits
    from trainer.dataset.schema import Column, DatasetFormat, DatasetMapping


def inspect(
    path: Path,
    format: DatasetFormat,  # noqa: A002 - the word of the API
    mapping: DatasetMapping,
    *,
    limits: ReadLimits = DEFAULT_LIMITS,
) -> DatasetSchema:
    """Detect what the mapping leaves open and describe the dataset. Raises DatasetError if it is unusable."""
    table = read_table(path, format, mapping, limits=limits)
    layout = lay_out(table, mapping)
    table = convert_columns(table, layout, mapping)
    columns, value_findings = describe_columns(table, layout, published_units(mapping))
    _require_numbers(columns)
    step = parse_frequency(mapping.frequency) if mapping.frequency else find_step(layout)
    grid = align(layout, step, limits)
    return DatasetSchema(
        format=format,
        time_column=layout.time_column,
        group_columns=layout.group_columns,
        frequency_seconds=step / 1e6,
        columns=columns,
        row_count=table.num_rows,
        series_count=len(layout.names),
        series_lengths=_lengths(grid),
        starts_at=as_datetime(layout.row_times.min()),
        ends_at=as_datetime(layout.row_times.max()),
        findings=[*clock_findings(layout, grid), *value_findings, *_ignored(ignored_columns(table))],
    )


def _require_numbers(columns: list[Column]) -> None:
    if not any(column.type == "numeric" and column.minimum is not None for column in columns):
        raise problem(
            "no_numeric_column",
            f"No column holds numbers to forecast; the file has {listed(column.name for column in columns)}.",
        )


def _lengths(grid: Grid) -> dict[str, int]:
    lengths = grid.lengths
    return {"min": int(lengths.min()), "median": int(np.median(lengths)), "max": int(lengths.max())}


def _ignored(names: list[str]) -> list[Finding]:
    if not names:
        return []
    detail = f"Columns that are neither number, text, flag nor time were left out: {listed(names)}."
    return [
        Finding(
            code="ignored_columns",
            detail=detail,
            series_count=0,
            row_count=0,
            examples=[{"column": name} for name in names[:5]],
        )
    ]
