"""Batches of a file gathered into columns, with the limits checked after each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.dataset.columns import ColumnBuilder, text_builder
from trainer.dataset.errors import problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    import pyarrow as pa

    from trainer.dataset.limits import ReadLimits

    Batch = dict[str, pa.Array]


def gather(
    batches: Callable[[], Iterator[Batch]], wanted: Collection[str] | None, limits: ReadLimits
) -> dict[str, pa.ChunkedArray]:
    """All batches as columns. The file is read a second time for columns whose type gave way to text."""
    columns = _gather_once(batches(), {}, wanted, limits)
    lost = {name: text_builder() for name, column in columns.items() if column.lost_spelling}
    if lost:
        columns |= _gather_once(batches(), lost, lost.keys(), limits)
    return {name: column.finish() for name, column in columns.items()}


def check_size(rows: int, columns: int, limits: ReadLimits) -> None:
    """Raise DatasetError above the limits on rows, columns and cells."""
    if columns > limits.max_columns:
        raise problem(
            "too_many_columns", f"The file has {columns:,} columns; at most {limits.max_columns:,} are read."
        )
    if rows > limits.max_rows or rows * columns > limits.max_cells:
        raise problem(
            "too_many_rows",
            f"The file has at least {rows:,} rows in {columns:,} columns; at most {limits.max_rows:,} rows "
            f"and {limits.max_cells:,} cells are read. Send fewer columns, a shorter time or a coarser step.",
        )


def _gather_once(
    batches: Iterator[Batch],
    columns: dict[str, ColumnBuilder],
    wanted: Collection[str] | None,
    limits: ReadLimits,
) -> dict[str, ColumnBuilder]:
    rows = 0
    for batch in batches:
        for name, values in batch.items():
            if wanted is None or name in wanted:
                column = columns.setdefault(name, ColumnBuilder())
                column.pad(rows)
                column.add(values)
        rows += len(next(iter(batch.values()))) if batch else 0
        check_size(rows, len(columns), limits)
    for column in columns.values():
        column.pad(rows)
    return columns
