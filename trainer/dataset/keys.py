"""Series keys: group values become codes, codes become sorted names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.dataset.columns import in_one_piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    IntArray = npt.NDArray[np.integer[Any]]

NO_VALUE = "(none)"
_SINGLE = "all"
# Up to this many possible pairs a table of them is quicker than a sort.
_SMALL_PRODUCT = 1 << 24


@dataclass(frozen=True)
class Codes:
    """Which of `count` different keys each row has, (rows,) int32 or int64."""

    codes: IntArray
    count: int


def factorise(column: pa.ChunkedArray) -> Codes:
    """Rows with equal values get equal codes; rows without a value form a key of their own."""
    values = in_one_piece(column)
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    count = len(values.dictionary)
    if not values.indices.null_count:
        return _compact(values.indices.to_numpy(), count)
    codes = pc.fill_null(values.indices, count).to_numpy(zero_copy_only=False)
    return _compact(codes, count + 1)


def combine(first: Codes | None, second: Codes) -> Codes:
    """Keys made of both."""
    if first is None:
        return second
    return _compact(first.codes.astype(np.int64) * second.count + second.codes, first.count * second.count)


def share_of_duplicates(groups: Codes | None, times: npt.NDArray[np.int64]) -> float:
    """Share of the rows whose group and time another row has before them."""
    groups = groups or Codes(np.zeros(len(times), np.int32), 1)
    # Most files are sorted, by series or by time: then equal pairs are neighbours.
    distinct = _count_in_order(groups.codes, times) or _count_in_order(times, groups.codes)
    if distinct is None:
        stamps, codes = np.unique(times, return_inverse=True)
        distinct = combine(groups, Codes(codes, len(stamps))).count
    return 1.0 - distinct / max(1, len(times))


def _count_in_order(first: IntArray, second: IntArray) -> int | None:
    """How many different pairs there are, if the rows are sorted by first and, within it, second."""
    rises, repeats = first[1:] > first[:-1], first[1:] == first[:-1]
    repeats &= second[1:] >= second[:-1]
    if not (rises | repeats).all():
        return None
    rises |= second[1:] != second[:-1]
    return 1 + int(np.count_nonzero(rises))


def name_series(table: pa.Table, columns: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int32]]:
    """Sorted series names, and the place of each row's series in them, (rows,).

    A name is the group values joined by "/"; a slash within a value is written %2F where names would clash.
    """
    if not columns:
        return [_SINGLE], np.zeros(table.num_rows, np.int32)
    combined = factorise(table[columns[0]])
    for column in columns[1:]:
        combined = combine(combined, factorise(table[column]))
    changes = np.append(0, np.flatnonzero(combined.codes[1:] != combined.codes[:-1]) + 1)
    first_rows = np.zeros(combined.count, np.int64)
    first_rows[combined.codes[changes[::-1]]] = changes[::-1]
    names = _joined(table.select(list(columns)).take(pa.array(first_rows)))
    order = sorted(range(len(names)), key=names.__getitem__)
    if order == list(range(len(names))):
        return names, combined.codes.astype(np.int32, copy=False)
    places = np.empty(len(names), np.int32)
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


def _compact(codes: IntArray, possible: int) -> Codes:
    """Codes without holes, 0 to count - 1."""
    if possible > max(_SMALL_PRODUCT, len(codes)):
        unique, inverse = np.unique(codes, return_inverse=True)
        return Codes(inverse, len(unique))
    used = np.zeros(possible, np.bool_)
    used[codes] = True
    if used.all():
        return Codes(codes, possible)
    places = np.cumsum(used, dtype=codes.dtype) - 1
    return Codes(places[codes], int(used.sum()))
