"""Parquet: sizes are read from the footer and refused before any column is read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.dataset.batches import check_size
from trainer.dataset.columns import TEXT
from trainer.dataset.errors import problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from trainer.dataset.limits import ReadLimits

_MOST_FOOTER_ITEMS = 10_000_000
_MOST_FOOTER_BYTES = 128 * 2**20
_DEEPEST_NESTING = 3
_BATCH_ROWS = 1 << 17
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
_TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


def parquet_names(path: Path, limits: ReadLimits) -> tuple[list[str], list[str]]:
    """Names of the readable columns, and of those left out because of their type. Raises DatasetError.

    A struct's fields are columns of their own, `outer.inner`.
    """
    with _problems_named(), path.open("rb") as file:
        parquet = _open(file)
        check_size(parquet.metadata.num_rows, parquet.metadata.num_columns, limits)
        fields = _flat_fields(parquet.schema_arrow)
    readable = [field.name for field in fields if _kind(field.type) is not None]
    return readable, [field.name for field in fields if _kind(field.type) is None]


def read_parquet(path: Path, wanted: Collection[str], limits: ReadLimits) -> dict[str, pa.ChunkedArray]:
    """The wanted columns by their names in the file. Text stays dictionary-coded. Raises DatasetError."""
    rows = 0
    with _problems_named(), path.open("rb") as file:
        parquet = _open(file)
        kinds = {field.name: _kind(field.type) for field in _flat_fields(parquet.schema_arrow)}
        columns = {name: _Column(kinds[name], parquet.metadata.num_rows) for name in wanted}
        text = [name for name in wanted if kinds[name] == TEXT]
        batches = _open(file, text).iter_batches(_BATCH_ROWS, columns=list(wanted), use_threads=False)
        for batch in batches:
            rows += batch.num_rows
            check_size(rows, len(columns), limits)
            table = _flat_table(pa.Table.from_batches([batch]))
            for name, column in columns.items():
                column.add(_cast(table[name].combine_chunks(), kinds[name]))
    return {name: column.finish() for name, column in columns.items()}


class _Column:
    """A column that grows batch by batch: one piece while no value is missing, so that nobody copies it."""

    def __init__(self, kind: pa.DataType | None, rows: int) -> None:
        self._kind = kind
        self._parts: list[pa.Array] = []
        whole_bytes = kind is not None and kind != TEXT and kind.bit_width % 8 == 0
        self._width = kind.bit_width // 8 if kind is not None and whole_bytes else 0
        self._piece = np.empty(rows * self._width, np.uint8)
        self._end = 0  # of what is in the piece, in bytes

    def add(self, values: pa.Array) -> None:
        size = len(values) * self._width
        if self._parts or not self._width or values.null_count or self._end + size > len(self._piece):
            self._parts.append(values)
            return
        start = values.offset * self._width
        self._piece[self._end : self._end + size] = np.frombuffer(values.buffers()[1], np.uint8, size, start)
        self._end += size

    def finish(self) -> pa.ChunkedArray:
        rows = self._end // self._width if self._width else 0
        piece = [pa.Array.from_buffers(self._kind, rows, [None, pa.py_buffer(self._piece)])] if rows else []
        return pa.chunked_array([*piece, *self._parts], self._kind)


def _open(file: IO[bytes], text: list[str] | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(
        file,
        read_dictionary=text,
        thrift_string_size_limit=_MOST_FOOTER_BYTES,
        thrift_container_size_limit=_MOST_FOOTER_ITEMS,
    )


def _flat_fields(schema: pa.Schema) -> list[pa.Field]:
    return list(_flat_table(schema.empty_table()).schema)


def _flat_table(table: pa.Table) -> pa.Table:
    for _ in range(_DEEPEST_NESTING):
        if not any(pa.types.is_struct(field.type) for field in table.schema):
            break
        table = table.flatten()
    return table


def _kind(kind: pa.DataType) -> pa.DataType | None:
    """The type a column is read as; None for a type that is neither number, text, flag nor time."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return kind
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return pa.int64()
    if any(test(kind) for test in _NUMBERS):
        return pa.float64()
    return TEXT if any(test(kind) for test in _TEXTS) else None


def _cast(values: pa.Array, kind: pa.DataType | None) -> pa.Array:
    if kind == TEXT:
        # Arrow trusts the file's dictionary codes and its UTF-8; a damaged file would be read out of bounds.
        values.validate(full=True)
    if values.type == kind:
        return values
    if kind == TEXT and not pa.types.is_dictionary(values.type):
        return pc.cast(values, pa.string()).dictionary_encode()
    if pa.types.is_dictionary(values.type) and kind != TEXT:
        values = values.dictionary_decode()
    if pa.types.is_float16(values.type):
        values = pc.cast(values, pa.float32())
    return pc.cast(values, kind, safe=False)


@contextmanager
def _problems_named() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        if "thread" in str(error):  # none can be started for lack of memory
            raise MemoryError(str(error)) from error
        raise problem(
            "unreadable_file", "The Parquet file is damaged or cut off; write or upload it again in full."
        ) from error
