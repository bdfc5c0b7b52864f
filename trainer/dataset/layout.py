"""Rows of a file put in the order of their series and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.dataset.clock import to_micros
from trainer.dataset.keys import name_series
from trainer.dataset.roles import find_group_columns, find_time_column, refuse_duplicate_rows

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from trainer.dataset.schema import DatasetMapping

    IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Rows sorted by series and time; of rows that share both, only the file's last is kept."""

    time_column: str
    group_columns: list[str]
    names: list[str]  # sorted
    order: IntArray  # (kept,) row of the file
    offsets: IntArray  # (n_series + 1,) into order
    times: IntArray  # (kept,) epoch microseconds
    duplicates: IntArray  # rows of the file that were overruled
    backwards: IntArray  # rows of the file that are older than the row before them in their series
    row_series: IntArray  # (rows of the file,)
    row_times: IntArray  # (rows of the file,)

    def series_of_kept(self) -> IntArray:
        """(kept,) place of each kept row's series."""
        return self.row_series[self.order]

    def within_series(self) -> npt.NDArray[np.bool_]:
        """(kept - 1,) True where a kept row and the next one are of one series."""
        series = self.series_of_kept()
        within: npt.NDArray[np.bool_] = series[1:] == series[:-1]
        return within


def lay_out(table: pa.Table, mapping: DatasetMapping) -> Layout:
    """Find clock and series and sort by them. Raises DatasetError."""
    time_column = find_time_column(table, mapping)
    times = to_micros(table[time_column], time_column)
    group_columns = find_group_columns(table, mapping, time_column, times)
    return lay_out_by(table, time_column, group_columns, times)


def lay_out_by(table: pa.Table, time_column: str, group_columns: list[str], times: IntArray) -> Layout:
    """Sort by known columns. Raises DatasetError when more than half of the rows repeat others."""
    names, series = name_series(table, group_columns)
    by_file = np.argsort(series, kind="stable") if len(names) > 1 else np.arange(len(series))
    backwards = _backwards(series[by_file], times[by_file])
    order = by_file if not backwards.any() else np.lexsort((times, series))
    overruled = _same_as_next(series[order], times[order])
    refuse_duplicate_rows(int(overruled.sum()), len(times), group_columns)
    kept = order[~overruled]
    return Layout(
        time_column=time_column,
        group_columns=group_columns,
        names=names,
        order=kept,
        offsets=np.searchsorted(series[kept], np.arange(len(names) + 1)).astype(np.int64),
        times=times[kept],
        duplicates=order[overruled],
        backwards=by_file[backwards],
        row_series=series,
        row_times=times,
    )


def _backwards(series: IntArray, times: IntArray) -> npt.NDArray[np.bool_]:
    back = np.zeros(len(series), np.bool_)
    back[1:] = (series[1:] == series[:-1]) & (times[1:] < times[:-1])
    return back


def _same_as_next(series: IntArray, times: IntArray) -> npt.NDArray[np.bool_]:
    same = np.zeros(len(series), np.bool_)
    same[:-1] = (series[1:] == series[:-1]) & (times[1:] == times[:-1])
    return same
