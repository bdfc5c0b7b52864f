"""What is wrong with the rows and the clock of a dataset, counted, with the first examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.dataset.clock import iso
from trainer.dataset.schema import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from trainer.dataset.grid import Grid
    from trainer.dataset.layout import Layout
    from trainer.dataset.schema import FindingCode

    IntArray = npt.NDArray[np.int64]

MOST_EXAMPLES = 5
# The default encoder length and horizon of a training spec: shorter series need shorter windows.
DEFAULT_WINDOW_STEPS = 120


def clock_findings(layout: Layout, grid: Grid) -> list[Finding]:
    """Gaps, duplicates, unaligned and unordered stamps, series too short for a default window."""
    found = [
        _duplicates(layout),
        _unordered(layout),
        _unaligned(layout, grid),
        _gaps(layout, grid),
        _too_short(layout, grid),
    ]
    return [finding for finding in found if finding is not None]


def finding(
    code: FindingCode,
    detail: str,
    series: Iterable[int] | IntArray,
    rows: int,
    examples: list[dict[str, Any]],
) -> Finding:
    """One finding; `series` are the places of the series it touches, `rows` how many rows or steps."""
    count = len(np.unique(np.asarray(series, dtype=np.int64)))
    return Finding(
        code=code, detail=detail, series_count=count, row_count=int(rows), examples=examples[:MOST_EXAMPLES]
    )


def _duplicates(layout: Layout) -> Finding | None:
    rows = layout.duplicates
    if not len(rows):
        return None
    return finding(
        "duplicates",
        f"{len(rows):,} rows share their series and time with a later row; the last one in the file counts.",
        layout.row_series[rows],
        len(rows),
        [_row_example(layout, row) for row in np.sort(rows)[:MOST_EXAMPLES]],
    )


def _unordered(layout: Layout) -> Finding | None:
    rows = layout.backwards
    if not len(rows):
        return None
    return finding(
        "unordered",
        f"{len(rows):,} rows are older than the row before them in their series; rows were sorted by time.",
        layout.row_series[rows],
        len(rows),
        [_row_example(layout, row) for row in np.sort(rows)[:MOST_EXAMPLES]],
    )


def _unaligned(layout: Layout, grid: Grid) -> Finding | None:
    if grid.is_layout:
        return None
    places = np.flatnonzero((grid.shifts != 0) | ~grid.kept)
    if not len(places):
        return None
    lost = int((~grid.kept).sum())
    overruled = (
        f"; on {lost:,} of them another row followed within the same step and counts instead" if lost else ""
    )
    rows = layout.rows_at(places)
    examples = [
        _row_example(layout, row) | {"offset_seconds": float(grid.shifts[place]) / 1e6}
        for row, place in zip(rows[:MOST_EXAMPLES], places, strict=False)
    ]
    return finding(
        "unaligned",
        f"{len(rows):,} stamps lie off the grid of {grid.step / 1e6:g} s and were moved to the "
        f"nearest step{overruled}.",
        layout.row_series[rows],
        len(rows),
        examples,
    )


def _gaps(layout: Layout, grid: Grid) -> Finding | None:
    if isinstance(grid.rows, slice):
        return None
    missing = np.diff(grid.rows) - 1
    series = layout.series_of_kept()[grid.kept]
    missing[series[1:] != series[:-1]] = 0
    places = np.flatnonzero(missing)
    if not len(places):
        return None
    times = layout.times[grid.kept]
    examples = [
        {"series": layout.names[series[place]], "after": iso(times[place]), "steps": int(missing[place])}
        for place in places[:MOST_EXAMPLES]
    ]
    return finding(
        "gaps",
        f"{int(missing.sum()):,} steps are missing in {len(places):,} gaps; the longest is "
        f"{int(missing.max()):,} steps.",
        series[places],
        int(missing.sum()),
        examples,
    )


def _too_short(layout: Layout, grid: Grid) -> Finding | None:
    short = np.flatnonzero(grid.lengths < DEFAULT_WINDOW_STEPS)
    if not len(short):
        return None
    lengths = grid.lengths
    short = short[np.argsort(lengths[short], kind="stable")]
    return finding(
        "too_short",
        f"{len(short):,} series are shorter than {DEFAULT_WINDOW_STEPS} steps, the default encoder_length "
        "plus horizon; they need shorter windows.",
        short,
        int(lengths[short].sum()),
        [{"series": layout.names[place], "steps": int(lengths[place])} for place in short[:MOST_EXAMPLES]],
    )


def _row_example(layout: Layout, row: int) -> dict[str, Any]:
    return {
        "series": layout.names[layout.row_series[row]],
        "row": int(row) + 1,
        "time": iso(layout.row_times[row]),
    }
