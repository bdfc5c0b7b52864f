"""Figures per column, and what is wrong with the values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.dataset.columns import TEXT, in_one_piece
from trainer.dataset.findings import MOST_EXAMPLES, finding
from trainer.dataset.roles import words
from trainer.dataset.schema import Column, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from trainer.dataset.layout import Layout
    from trainer.dataset.schema import FindingCode

    FloatArray = npt.NDArray[np.float64]
    IntArray = npt.NDArray[np.int64]

_PERCENT = {"percent", "percentage", "pct", "perc"}
# Sentinels such as 1.8e308; in float32 they, or their differences, would be infinite.
_LARGEST = 1e30
_NUMBER = r"^[+-]?([1-9]\d*|0)?\.?\d+([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class _Trouble:
    """One kind of trouble in one column: what to say, and the rows (or series) where it shows."""

    detail: str
    series: npt.NDArray[np.integer[Any]]
    rows: int
    examples: list[dict[str, Any]]


def describe_columns(
    table: pa.Table, layout: Layout, units: Mapping[str, str | None]
) -> tuple[list[Column], list[Finding]]:
    """Every column of the table in order, and the findings on values. Memory for one column at a time."""
    columns, troubles = [], _Troubles(layout)
    for name in table.column_names:
        unit = units.get(name)
        role = _role(name, table[name].type, layout)
        if role == "numeric":
            values = _floats(table[name])
            columns.append(_numeric(name, values, unit))
            troubles.look_at(name, values, unit)
        else:
            columns.append(Column(name=name, type=role, unit=unit, missing_count=table[name].null_count))
            if role == "text" and name not in layout.group_columns:
                troubles.look_at_text(name, table[name])
    return columns, troubles.findings()


def clean_floats(column: pa.ChunkedArray) -> FloatArray:
    """The column as float64, NaN wherever there is no number that float32 can reckon with."""
    values = _floats(column)
    return values if _are_all_usable(values) else np.where(_is_usable(values), values, np.nan)


def _are_all_usable(values: FloatArray) -> bool:
    # NaN is in neither bound: any makes the least and the greatest one NaN too.
    return not len(values) or (values.min() >= -_LARGEST and values.max() <= _LARGEST)


def _is_usable(values: FloatArray) -> npt.NDArray[np.bool_]:
    usable: npt.NDArray[np.bool_] = np.abs(values) <= _LARGEST
    return usable


def _floats(column: pa.ChunkedArray) -> FloatArray:
    """Not to be written to: they may be the column's own."""
    if column.type != pa.float64():
        column = pc.cast(column, pa.float64(), safe=False)
    return np.asarray(in_one_piece(column).to_numpy(zero_copy_only=False))


def _role(name: str, kind: pa.DataType, layout: Layout) -> Any:
    if name == layout.time_column:
        return "time"
    if name in layout.group_columns or kind == TEXT:
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "time" if pa.types.is_timestamp(kind) or pa.types.is_date(kind) else "numeric"


def _numeric(name: str, values: FloatArray, unit: str | None) -> Column:
    finite = values if _are_all_usable(values) else values[_is_usable(values)]
    if not len(finite):
        return Column(name=name, type="numeric", unit=unit, missing_count=len(values))
    return Column(
        name=name,
        type="numeric",
        unit=unit,
        missing_count=len(values) - len(finite),
        minimum=float(finite.min()),
        maximum=float(finite.max()),
        mean=float(finite.mean()),
    )


class _Troubles:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._found: dict[FindingCode, list[_Trouble]] = {}

    def look_at(self, name: str, values: FloatArray, unit: str | None) -> None:
        def shown(row: int) -> float | str:
            value = float(values[row])
            return value if math.isfinite(value) else "missing" if math.isnan(value) else str(value)

        if _are_all_usable(values):
            self._look_at_numbers(name, values, unit, shown)
            return
        infinite = int(np.isinf(values).sum())
        unusable = ~_is_usable(values)
        huge = int((unusable & np.isfinite(values)).sum())
        what = f"missing, {infinite:,} of them infinite" if infinite else "missing"
        what += f", {huge:,} of them beyond {_LARGEST:g}" if huge else ""
        self._at_rows("missing_values", name, what, unusable, shown)
        values = np.where(unusable, np.nan, values)
        self._look_at_numbers(name, values, unit, shown)

    def _look_at_numbers(
        self, name: str, values: FloatArray, unit: str | None, shown: Callable[[int], float | str]
    ) -> None:
        """`values` are usable or NaN."""
        if _is_percent(name, unit):
            self._at_rows("out_of_range", name, "outside 0 to 100", (values < 0) | (values > 100), shown)
        elif "load" in words(name):
            self._at_rows("out_of_range", name, "negative", values < 0, shown)
        self._look_for_constant(name, values)

    def look_at_text(self, name: str, column: pa.ChunkedArray) -> None:
        """A column that is text only because of a few cells is worth a hint."""
        values = in_one_piece(column)
        codes = pc.fill_null(values.indices, -1).to_numpy(zero_copy_only=False)
        forms = pc.fill_null(pc.match_substring_regex(values.dictionary, _NUMBER), False)
        # The last place stands for rows without a value.
        is_number = np.append(forms.to_numpy(zero_copy_only=False), [False])[codes]
        others = (codes >= 0) & ~is_number
        if others.any() and is_number.sum() >= others.sum():

            def shown(row: int) -> str:
                return str(values.dictionary[int(codes[row])].as_py())

            self._at_rows("mixed_values", name, "no number, which makes the column text", others, shown)

    def findings(self) -> list[Finding]:
        return [
            finding(
                code,
                "; ".join(trouble.detail for trouble in troubles) + ".",
                np.concatenate([trouble.series for trouble in troubles]),
                sum(trouble.rows for trouble in troubles),
                _interleaved([trouble.examples for trouble in troubles]),
            )
            for code, troubles in self._found.items()
        ]

    def _at_rows(
        self,
        code: FindingCode,
        name: str,
        what: str,
        mask: npt.NDArray[np.bool_],
        shown: Callable[[int], float | str],
    ) -> None:
        rows, layout = np.flatnonzero(mask), self._layout
        if not len(rows):
            return
        examples = [
            {
                "series": layout.names[layout.row_series[row]],
                "row": int(row) + 1,
                "column": name,
                "value": shown(row),
            }
            for row in rows[:MOST_EXAMPLES]
        ]
        trouble = _Trouble(
            f"{name}: {len(rows):,} values {what}", layout.row_series[rows], len(rows), examples
        )
        self._found.setdefault(code, []).append(trouble)

    def _look_for_constant(self, name: str, values: FloatArray) -> None:
        layout = self._layout
        in_order = values[layout.order]
        starts = layout.offsets[:-1]
        lowest, highest = np.fmin.reduceat(in_order, starts), np.fmax.reduceat(in_order, starts)
        counts = np.add.reduceat(np.isfinite(in_order), starts)
        flat = np.flatnonzero((lowest == highest) & (counts > 1))
        if len(flat):
            examples = [
                {"series": layout.names[place], "column": name, "value": float(lowest[place])}
                for place in flat[:MOST_EXAMPLES]
            ]
            detail = f"{name}: constant in {len(flat):,} series"
            trouble = _Trouble(detail, flat, int(counts[flat].sum()), examples)
            self._found.setdefault("constant", []).append(trouble)


def _is_percent(name: str, unit: str | None) -> bool:
    unit = (unit or "").strip().lower()
    return unit in _PERCENT or unit == "%" or name.endswith("%") or bool(_PERCENT & set(words(name)))


def _interleaved(lists: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The first of each list, then the second of each, so that every column shows."""
    return [one[place] for place in range(MOST_EXAMPLES) for one in lists if place < len(one)]
