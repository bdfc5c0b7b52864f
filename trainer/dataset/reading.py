"""Files become Arrow tables: CSV, CSV.gz, Parquet and NDJSON, within limits on rows, columns and lines."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pyarrow as pa

from trainer.dataset.batches import check_size
from trainer.dataset.csv_files import read_csv, read_header
from trainer.dataset.errors import listed, problem
from trainer.dataset.formats import check_magic
from trainer.dataset.limits import DEFAULT_LIMITS
from trainer.dataset.ndjson_files import read_ndjson
from trainer.dataset.parquet_files import parquet_names, read_parquet

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from trainer.dataset.errors import DatasetError
    from trainer.dataset.limits import ReadLimits
    from trainer.dataset.schema import DatasetFormat, DatasetMapping

_IGNORED = b"ignored_columns"


def read_table(
    path: Path,
    format: DatasetFormat,  # noqa: A002 - the word of the API
    mapping: DatasetMapping,
    *,
    columns: Collection[str] | None = None,
    limits: ReadLimits = DEFAULT_LIMITS,
) -> pa.Table:
    """Read a dataset with the mapping's column names.

    Numbers come as int64 or float64 (decimals and half floats included), text as dictionary<int32, string>,
    flags as bool, times as they stand in the file. `columns` keeps only these, by their mapped names.
    Columns of other types are left out; `ignored_columns` names them. Raises DatasetError.
    """
    check_magic(path, format)
    if format == "parquet":
        table = _read_parquet(path, mapping, columns, limits)
    elif format == "ndjson":
        table = _read_ndjson(path, mapping, columns, limits)
    else:
        table = _read_csv(path, mapping, columns, limits, gzipped=format == "csv.gz")
    if table.num_rows == 0:
        raise problem("empty_file", "The file holds no rows.")
    return table


def ignored_columns(table: pa.Table) -> list[str]:
    """Columns of the file that `read_table` left out: neither number, text, flag nor time."""
    found: list[str] = json.loads((table.schema.metadata or {}).get(_IGNORED, b"[]"))
    return found


def mapped_name(mapping: DatasetMapping, name: str) -> str:
    """The published name of a column that the mapping calls by its name in the file or by its new one."""
    column = mapping.columns.get(name)
    return column.name if column is not None and column.name is not None else name


def _read_parquet(
    path: Path, mapping: DatasetMapping, columns: Collection[str] | None, limits: ReadLimits
) -> pa.Table:
    names, ignored = parquet_names(path, limits)
    chosen = _choose(names, mapping, columns)
    return _table(read_parquet(path, list(chosen), limits), chosen, ignored)


def _read_csv(
    path: Path,
    mapping: DatasetMapping,
    columns: Collection[str] | None,
    limits: ReadLimits,
    *,
    gzipped: bool,
) -> pa.Table:
    header = read_header(path, gzipped=gzipped, limits=limits)
    check_size(0, len(header[0]), limits)
    chosen = _choose(header[0], mapping, columns)
    return _table(read_csv(path, header, chosen, gzipped=gzipped, limits=limits), chosen, [])


def _read_ndjson(
    path: Path, mapping: DatasetMapping, columns: Collection[str] | None, limits: ReadLimits
) -> pa.Table:
    old_names = {mapped_name(mapping, name): name for name in mapping.columns}
    wanted = None if columns is None else {old_names.get(name, name) for name in columns}
    # What columns there are is known only once the whole file has been read.
    found, names, ignored = read_ndjson(path, wanted, limits)
    return _table(found, _choose(names, mapping, columns), ignored)


def _choose(names: Sequence[str], mapping: DatasetMapping, columns: Collection[str] | None) -> dict[str, str]:
    """Names in the file of the columns to read, each with its published name, in the file's order."""
    _refuse_duplicates(names)
    for name in mapping.columns:
        if name not in names:
            raise unknown_column(name, names)
    published = {name: mapped_name(mapping, name) for name in names}
    _refuse_duplicates(list(published.values()))
    for name in columns or ():
        if name not in published.values():
            raise unknown_column(name, published.values())
    return {name: new for name, new in published.items() if columns is None or new in columns}


def unknown_column(name: str, names: Collection[str]) -> DatasetError:
    """The error for a column that is not there; it lists those that are."""
    return problem(
        "unknown_column", f"There is no column {name!r}; the file has {listed(names)}.", column=name
    )


def _refuse_duplicates(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise problem(
            "duplicate_column",
            f"More than one column is called {listed(twice)}; give each a name of its own.",
            column=twice[0],
        )


def _table(found: dict[str, pa.ChunkedArray], chosen: dict[str, str], ignored: list[str]) -> pa.Table:
    if not found:
        raise problem("empty_file", "The file holds no rows.")
    table = pa.table({new: found[name].unify_dictionaries() for name, new in chosen.items()})
    return table.replace_schema_metadata({_IGNORED: json.dumps(ignored)})
