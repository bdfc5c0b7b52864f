"""Tables of another shape than a row per server and stamp: long, wide, and those with exporters' names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from trainer.dataset.clock import to_micros
from trainer.dataset.column_report import clean_floats
from trainer.dataset.columns import TEXT
from trainer.dataset.derivation import derive_columns, derive_series
from trainer.dataset.errors import listed, problem
from trainer.dataset.keys import combine, factorise, texts
from trainer.dataset.labelled import SeriesCollector
from trainer.dataset.layout import lay_out
from trainer.dataset.naming import name_in_file, unknown_column
from trainer.dataset.pivot import TIME, Pivot, pivot
from trainer.dataset.roles import find_time_column, names_a_series

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainer.dataset.keys import Codes
    from trainer.dataset.labelled import LabelledSeries
    from trainer.dataset.limits import ReadLimits
    from trainer.dataset.schema import DatasetMapping, LongTable, WideTable


def reshape(table: pa.Table, mapping: DatasetMapping, limits: ReadLimits) -> tuple[Pivot, list[str]]:
    """What a table becomes, still with the file's names, and the columns left out on the way.

    Raises DatasetError.
    """
    mapping = _in_file_names(mapping)
    if mapping.long is not None:
        series, left_out = _from_long(table, mapping.long, mapping, limits)
    elif mapping.wide is not None:
        series, left_out = _from_wide(table, mapping.wide, mapping, limits)
    else:
        return _with_derived(table, mapping), []
    return pivot_series(series, mapping, limits, find_time_column(table, mapping)), left_out


def pivot_series(
    series: list[LabelledSeries], mapping: DatasetMapping, limits: ReadLimits, time_column: str = TIME
) -> Pivot:
    """The table of labelled series, the preset's columns made first. Raises DatasetError."""
    if mapping.preset is not None and series:
        series = derive_series(series, mapping.preset)
    return pivot(series, _in_file_names(mapping).group_columns, limits, time_column)


def _in_file_names(mapping: DatasetMapping) -> DatasetMapping:
    """Renaming comes last: until then a mapping that calls columns by their new names means the old ones."""
    time, groups = mapping.time_column, mapping.group_columns
    return mapping.model_copy(
        update={
            "time_column": None if time is None else name_in_file(mapping, time),
            "group_columns": None if groups is None else [name_in_file(mapping, name) for name in groups],
            "columns": {},
        }
    )


def _with_derived(table: pa.Table, mapping: DatasetMapping) -> Pivot:
    layout = lay_out(table, mapping)
    if mapping.preset is not None:
        table = derive_columns(table, layout, mapping.preset)
    return Pivot({name: table[name] for name in table.column_names}, layout.group_columns)


def _times(table: pa.Table, mapping: DatasetMapping) -> tuple[str, npt.NDArray[np.int64]]:
    name = find_time_column(table, mapping)
    return name, to_micros(table[name], name)


def _from_long(
    table: pa.Table, long: LongTable, mapping: DatasetMapping, limits: ReadLimits
) -> tuple[list[LabelledSeries], list[str]]:
    time_column, times = _times(table, mapping)
    for name in (long.metric_column, long.value_column, *(mapping.group_columns or ())):
        if name not in table.column_names:
            raise unknown_column(name, table.column_names)
    if not _is_number(table[long.value_column].type):
        name = long.value_column
        raise problem("bad_mapping", f"The value column {name!r} does not hold numbers.", column=name)
    values = clean_floats(table[long.value_column])
    others = [
        name
        for name in table.column_names
        if name not in (time_column, long.metric_column, long.value_column)
    ]
    codes, labels = _label_columns(table, long.metric_column, others, mapping.group_columns)
    order = np.argsort(codes.codes, kind="stable")
    bounds = np.searchsorted(codes.codes[order], np.arange(codes.count + 1))
    first = pa.array(order[bounds[:-1]])
    metrics = texts(table[long.metric_column].take(first))
    named = {name: table[name].take(first) for name in labels}
    worded = {name: texts(column) for name, column in named.items()}
    collector = SeriesCollector(limits)
    for place in range(codes.count):
        rows = order[bounds[place] : bounds[place + 1]]
        tags = {name: words[place] for name, words in worded.items() if named[name][place].is_valid}
        collector.add(metrics[place], tags, times[rows], values[rows], row=int(rows[0]) + 1)
    return collector.finish(), [name for name in others if name not in labels]


def _label_columns(
    table: pa.Table, metric_column: str, others: list[str], groups: list[str] | None
) -> tuple[Codes, list[str]]:
    """Which series each row is of, and the columns that tell: the groups' if they are given, else all text.

    Beside given groups only columns that split no series are taken, which then describe it.
    """
    codes, labels = factorise(table[metric_column]), []
    wanted = [name for name in others if table[name].type == TEXT or names_a_series(name)]
    for name in dict.fromkeys([*(groups or ()), *wanted]):
        more = combine(codes, factorise(table[name]))
        splits = more.count > codes.count
        if groups is not None and name not in groups and splits:
            continue
        codes = more
        labels.append(name)
    if codes.count > max(1000, table.num_rows // 2):
        raise problem(
            "bad_mapping",
            f"Nearly every row is a series of its own by the columns {listed(labels)}; name those that tell "
            "the servers apart in mapping.group_columns.",
        )
    return codes, labels


def _from_wide(
    table: pa.Table, wide: WideTable, mapping: DatasetMapping, limits: ReadLimits
) -> tuple[list[LabelledSeries], list[str]]:
    time_column, times = _times(table, mapping)
    collector, left_out = SeriesCollector(limits), []
    for name in table.column_names:
        if name == time_column:
            continue
        server, separator, metric = name.rpartition(wide.separator) if wide.separator else (name, "", "")
        if not _is_number(table[name].type) or (wide.separator and not (server and separator and metric)):
            left_out.append(name)
            continue
        values = clean_floats(table[name])
        collector.add(metric or wide.metric or "", {wide.series_column: server}, times, values, row=1)
    series = collector.finish()
    if not series:
        raise problem(
            "bad_mapping",
            "No column of the wide table holds numbers of a server; the file has "
            f"{listed(table.column_names)}.",
        )
    return series, left_out


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
