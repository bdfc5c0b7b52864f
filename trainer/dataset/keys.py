"""Series keys: group values become codes, codes become sorted names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

NO_VALUE = "(none)"
_SINGLE = "all"
# Up to this many possible pairs a table of them is quicker than a sort.
_SMALL_PRODUCT = 1 << 24


@dataclass(frozen=True)
class Codes:
    """Which of `count` different keys each row has, (rows,) int64."""

    codes: npt.NDArray[np.int64]
    count: int


def factorise(column: pa.ChunkedArray) -> Codes:
    """Rows with equal values get equal codes; rows without a value form a key of their own."""
    values = column.combine_chunks()
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    count = len(values.dictionary)
    codes = pc.fill_null(values.indices, count).to_numpy(zero_copy_only=False).astype(np.int64)
    return _compact(codes, count + 1)


def combine(first: Codes | None, second: Codes) -> Codes:
    """Keys made of both."""
    if first is None:
        return second
    return _compact(first.codes * second.count + second.codes, first.count * second.count)


def share_of_duplicates(groups: Codes | None, stamps: npt.NDArray[np.int64]) -> float:
    """Share of the rows whose group and stamp another row has before them."""
    pairs = combine(groups, Codes(stamps, int(stamps.max(initial=0)) + 1))
    return 1.0 - pairs.count / max(1, len(stamps))


def name_series(table: pa.Table, columns: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Sorted series names, and the place of each row's series in them, (rows,).

    A name is the group values joined by "/"; a slash within a value is written %2F where names would clash.
    """
    if not columns:
        return [_SINGLE], np.zeros(table.num_rows, np.int64)
    combined = factorise(table[columns[0]])
    for column in columns[1:]:
        combined = combine(combined, factorise(table[column]))
    first_rows = np.zeros(combined.count, np.int64)
    first_rows[combined.codes[::-1]] = np.arange(table.num_rows - 1, -1, -1)
    names = _joined(table.select(list(columns)).take(pa.array(first_rows)))
    order = sorted(range(len(names)), key=names.__getitem__)
    places = np.empty(len(names), np.int64)
    places[order] = np.arange(len(names))
    return [names[place] for place in order], places[combined.codes]


def texts(column: pa.ChunkedArray) -> list[str]:
    """Group or category values as text; a whole float such as 7.0 reads 7."""
    return [_text(value) for value in column.to_pylist()]


def _joined(rows: pa.Table) -> list[str]:
    parts = list(zip(*(texts(column) for column in rows.columns), strict=True))
    names = ["/".join(values) for values in parts]
    if len(set(names)) < len(names):
        names = [
            "/".join(value.replace("%", "%25").replace("/", "%2F") for value in values) for values in parts
        ]
    return names


def _text(value: object) -> str:
    if value is None:
        return NO_VALUE
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _compact(codes: npt.NDArray[np.int64], possible: int) -> Codes:
    """Codes without holes, 0 to count - 1."""
    if possible > max(_SMALL_PRODUCT, len(codes)):
        unique, inverse = np.unique(codes, return_inverse=True)
        return Codes(inverse.astype(np.int64, copy=False), len(unique))
    used = np.zeros(possible, np.bool_)
    used[codes] = True
    if used.all():
        return Codes(codes, possible)
    places = np.cumsum(used) - 1
    return Codes(places[codes], int(used.sum()))
