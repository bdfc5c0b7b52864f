"""What was done to each series before it could be used: counted per series and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.dataset.filling import Filled
    from trainer.dataset.grid import Grid
    from trainer.dataset.layout import Layout

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MOST_SERIES = 1000


@dataclass(frozen=True)
class Repairs:
    """Counts per series, (n_series,) each; those of the last two by column."""

    duplicates: IntArray  # rows overruled by a later row of the same step
    moved: IntArray  # rows moved to the nearest step
    missing: IntArray  # steps without any row
    interpolated: dict[str, IntArray]  # steps on a line between two that were seen
    masked: dict[str, IntArray]  # steps that carry the last value; no number of either kind carries loss

    @property
    def affected(self) -> IntArray:
        """Rows and steps that something was done to, per series; a step counts once per column."""
        filled = [*self.interpolated.values(), *self.masked.values()]
        return np.asarray(np.sum([self.duplicates, self.moved, *filled], axis=0), np.int64)


def count_repairs(layout: Layout, grid: Grid, filled: Mapping[str, Filled]) -> Repairs:
    """Count what aligning and filling did to each series."""
    n_series = len(layout.names)

    def rows_of(places: npt.NDArray[np.int32]) -> IntArray:
        return np.bincount(places, minlength=n_series)

    def steps_of(marked: BoolArray) -> IntArray:
        if not marked.any():
            return np.zeros(n_series, np.int64)
        return np.add.reduceat(marked, grid.offsets[:-1], dtype=np.int64)

    interpolated = {name: steps_of(each.interpolated) for name, each in filled.items()}
    masked = {name: steps_of(~each.observed & ~each.interpolated) for name, each in filled.items()}
    if grid.is_layout:
        none = np.zeros(n_series, np.int64)
        return Repairs(rows_of(layout.row_series[layout.duplicates]), none, none, interpolated, masked)
    series = layout.series_of_kept()
    overruled = np.concatenate([layout.row_series[layout.duplicates], series[~grid.kept]])
    return Repairs(
        duplicates=rows_of(overruled),
        moved=rows_of(series[(grid.shifts != 0) & grid.kept]),
        missing=grid.lengths - rows_of(series[grid.kept]),
        interpolated=interpolated,
        masked=masked,
    )


def data_report(
    names: Sequence[str], lengths: IntArray, repairs: Repairs, usable: BoolArray
) -> dict[str, Any]:
    """Plain JSON values: totals, and each series that something was done to, the worst first.

    Left out come first, then by the share of their steps that was touched; at most 1000 are listed.
    """
    affected = repairs.affected
    troubled = np.flatnonzero((affected > 0) | ~usable)
    worst = troubled[np.lexsort((-(affected / np.maximum(lengths, 1))[troubled], usable[troubled]))]
    listed = worst[:MOST_SERIES]
    return {
        "series": len(names),
        "steps": int(lengths.sum()),
        "totals": _counts(repairs, slice(None)) | {"too_short": int((~usable).sum())},
        "touched_series": len(troubled),
        "listed_series": len(listed),
        "worst": [
            {"series": names[place], "steps": int(lengths[place]), "too_short": not usable[place]}
            | _counts(repairs, slice(place, place + 1))
            for place in listed.tolist()
        ],
    }


def _counts(repairs: Repairs, places: slice) -> dict[str, Any]:
    columns = {
        name: {
            "interpolated": int(repairs.interpolated[name][places].sum()),
            "masked": int(repairs.masked[name][places].sum()),
        }
        for name in repairs.masked
    }
    return {
        "duplicates": int(repairs.duplicates[places].sum()),
        "moved_stamps": int(repairs.moved[places].sum()),
        "missing_steps": int(repairs.missing[places].sum()),
        "columns": {name: counts for name, counts in columns.items() if any(counts.values())},
    }
