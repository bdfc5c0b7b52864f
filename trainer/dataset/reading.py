"""Files become Arrow tables, a row per server and stamp, within limits on rows, columns and lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa

from trainer.dataset.batches import check_size
from trainer.dataset.csv_files import read_csv, read_header
from trainer.dataset.errors import problem
from trainer.dataset.formats import check_magic
from trainer.dataset.influx_files import read_influx
from trainer.dataset.limits import DEFAULT_LIMITS
from trainer.dataset.naming import choose_columns, mapped_name
from trainer.dataset.ndjson_files import read_ndjson
from trainer.dataset.parquet_files import parquet_names, read_parquet
from trainer.dataset.prometheus_files import read_prometheus
from trainer.dataset.reshaping import pivot_series, reshape
from trainer.dataset.roles import GROUPS_KEY
from trainer.dataset.schema import DatasetMapping
from trainer.dataset.victoriametrics_files import read_victoriametrics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from trainer.dataset.labelled import LabelledSeries
    from trainer.dataset.limits import ReadLimits
    from trainer.dataset.schema import DatasetFormat

_IGNORED = b"ignored_columns"
# Formats of series with labels; each reader also names what it left out.
LABELLED: dict[str, Callable[[Path, ReadLimits], tuple[list[LabelledSeries], list[str]]]] = {
    "prometheus": read_prometheus,
    "victoriametrics": read_victoriametrics,
    "influx": read_influx,
}


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
    read = _read_reshaped if is_reshaped(format, mapping) else _read_as_it_is
    table = read(path, format, mapping, columns, limits)
    if table.num_rows == 0:
        raise problem("empty_file", "The file holds no rows.")
    return table


def ignored_columns(table: pa.Table) -> list[str]:
    """Columns of the file that `read_table` left out: neither number, text, flag nor time."""
    found: list[str] = json.loads((table.schema.metadata or {}).get(_IGNORED, b"[]"))
    return found


def is_reshaped(format: DatasetFormat, mapping: DatasetMapping) -> bool:  # noqa: A002 - as above
    """Whether the table is another one than stands in the file."""
    return format in LABELLED or bool(mapping.long or mapping.wide or mapping.preset)


def _read_reshaped(
    path: Path,
    format: DatasetFormat,  # noqa: A002 - as above
    mapping: DatasetMapping,
    columns: Collection[str] | None,
    limits: ReadLimits,
) -> pa.Table:
    if format in LABELLED:
        if mapping.long or mapping.wide:
            raise problem(
                "bad_mapping", f"A file in the format {format} has series, it is no long or wide table."
            )
        series, ignored = LABELLED[format](path, limits)
        pivoted = pivot_series(series, mapping, limits)
    else:
        plain = _read_as_it_is(path, format, DatasetMapping(), None, limits)
        pivoted, left_out = reshape(plain, mapping, limits)
        ignored = [*ignored_columns(plain), *left_out]
    chosen = choose_columns(list(pivoted.columns), mapping, columns)
    groups = [chosen[name] for name in pivoted.group_columns if name in chosen]
    return _table(pivoted.columns, chosen, ignored, groups)


def _read_as_it_is(
    path: Path,
    format: DatasetFormat,  # noqa: A002 - as above
    mapping: DatasetMapping,
    columns: Collection[str] | None,
    limits: ReadLimits,
) -> pa.Table:
    if format == "parquet":
        return _read_parquet(path, mapping, columns, limits)
    if format == "ndjson":
        return _read_ndjson(path, mapping, columns, limits)
    return _read_csv(path, mapping, columns, limits, gzipped=format == "csv.gz")


def _read_parquet(
    path: Path, mapping: DatasetMapping, columns: Collection[str] | None, limits: ReadLimits
) -> pa.Table:
    names, ignored = parquet_names(path, limits)
    chosen = choose_columns(names, mapping, columns)
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
    chosen = choose_columns(header[0], mapping, columns)
    return _table(read_csv(path, header, chosen, gzipped=gzipped, limits=limits), chosen, [])


def _read_ndjson(
    path: Path, mapping: DatasetMapping, columns: Collection[str] | None, limits: ReadLimits
) -> pa.Table:
    old_names = {mapped_name(mapping, name): name for name in mapping.columns}
    wanted = None if columns is None else {old_names.get(name, name) for name in columns}
    # What columns there are is known only once the whole file has been read.
    found, names, ignored = read_ndjson(path, wanted, limits)
    return _table(found, choose_columns(names, mapping, columns), ignored)


def _table(
    found: dict[str, pa.ChunkedArray],
    chosen: dict[str, str],
    ignored: list[str],
    groups: list[str] | None = None,
) -> pa.Table:
    if not found:
        raise problem("empty_file", "The file holds no rows.")
    table = pa.table({new: found[name].unify_dictionaries() for name, new in chosen.items()})
    return table.replace_schema_metadata({_IGNORED: json.dumps(ignored), GROUPS_KEY: json.dumps(groups)})
