"""Counters become rates and numbers change their unit, as the mapping says, column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from trainer.dataset.column_report import clean_floats
from trainer.dataset.columns import TEXT
from trainer.dataset.errors import problem
from trainer.dataset.naming import mapped_name
from trainer.dataset.presets import preset_units
from trainer.dataset.rates import rates_in
from trainer.dataset.units import conversion_between, rate_unit

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trainer.dataset.layout import Layout
    from trainer.dataset.schema import ColumnMapping, DatasetMapping


def convert_columns(table: pa.Table, layout: Layout, mapping: DatasetMapping) -> pa.Table:
    """The table with every column in the unit that is published. Raises DatasetError."""
    for place, name in enumerate(table.column_names):
        column = table[name]
        converted = convert(column, name, layout, mapping)
        if converted is not column:
            table = table.set_column(place, name, converted)
    return table


def convert(column: pa.ChunkedArray, name: str, layout: Layout, mapping: DatasetMapping) -> pa.ChunkedArray:
    """The column of this published name, (rows of the file,), in its published unit; itself where that is its
    own. Raises DatasetError where numbers are asked of something else.
    """
    told = next((each for old, each in mapping.columns.items() if mapped_name(mapping, old) == name), None)
    if told is None or not (told.counter or told.convert_to):
        return column
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        what = "text" if column.type == TEXT else "no numbers"
        raise problem("bad_mapping", f"Column {name!r} holds {what}, which cannot be converted.", column=name)
    values = clean_floats(column)
    if told.counter:
        values = rates_in(layout, values)
    return pa.chunked_array([pa.array(_in_unit(values, told), from_pandas=True)])


def published_units(mapping: DatasetMapping) -> dict[str, str | None]:
    """Units by published name."""
    units: dict[str, str | None] = dict(preset_units(mapping.preset))
    for old, told in mapping.columns.items():
        unit = told.published_unit
        units[mapped_name(mapping, old)] = units.get(old) if unit is None else unit
    return units


def _in_unit(values: npt.NDArray[np.float64], told: ColumnMapping) -> npt.NDArray[np.float64]:
    if told.convert_to is None:
        return values
    source = rate_unit(told.unit) if told.counter and told.unit is not None else told.unit
    conversion = conversion_between(source, told.convert_to)
    return values * conversion.factor + conversion.offset
