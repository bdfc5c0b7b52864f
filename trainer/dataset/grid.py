"""Every series on its own regular grid: one row a step from its first stamp to its last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.dataset.clock import iso
from trainer.dataset.errors import problem

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainer.dataset.layout import Layout
    from trainer.dataset.limits import ReadLimits

    IntArray = npt.NDArray[np.int64]

# A grid this much longer than the data comes from a stray stamp or too fine a frequency.
_MOST_GRID_ROWS_PER_ROW = 20
_FEW_ROWS = 100_000
_NEAR_ZERO = 0.1


@dataclass(frozen=True)
class Grid:
    """Where each kept row of a layout stands on the grid."""

    step: int  # microseconds
    offsets: IntArray  # (n_series + 1,) into grid rows
    starts: IntArray  # (n_series,) time of each series's first grid row
    kept: npt.NDArray[np.bool_]  # (layout rows,) False for rows whose step a later row takes too
    rows: IntArray | slice  # (kept rows,) grid row of each; all of it, if the layout is the grid
    shifts: IntArray  # (layout rows,) microseconds between a stamp and its step

    @property
    def is_layout(self) -> bool:
        """Whether each row of the layout stands on a step of its own, and each step has one."""
        return isinstance(self.rows, slice)

    @property
    def lengths(self) -> IntArray:
        """Steps per series."""
        return np.diff(self.offsets)

    def times(self) -> IntArray:
        """(grid rows,) epoch microseconds."""
        times = np.full(self.offsets[-1], self.step)
        ends = self.starts + (self.lengths - 1) * self.step
        times[self.offsets[:-1]] = self.starts - np.append(0, ends[:-1])
        return np.cumsum(times, out=times)


def align(layout: Layout, step: int, limits: ReadLimits) -> Grid:
    """Snap each stamp to the nearest step of its series's grid. Raises DatasetError if that explodes."""
    if layout.only_step == step:
        return _grid_of(layout, step, limits)
    series = layout.series_of_kept()
    phases = _phases(layout, series, step)
    slots = np.floor_divide(layout.times - phases[series] + step // 2, step)
    first, last = slots[layout.offsets[:-1]], slots[layout.offsets[1:] - 1]
    lengths = last - first + 1
    _refuse_explosion(layout, lengths, step, limits)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    kept = np.ones(len(slots), np.bool_)
    kept[:-1] = (slots[1:] != slots[:-1]) | (series[1:] != series[:-1])
    return Grid(
        step=step,
        offsets=offsets,
        starts=first * step + phases,
        kept=kept,
        rows=(slots - first[series] + offsets[series])[kept],
        shifts=layout.times - (slots * step + phases[series]),
    )


def _grid_of(layout: Layout, step: int, limits: ReadLimits) -> Grid:
    _refuse_explosion(layout, np.diff(layout.offsets), step, limits)
    rows = len(layout.times)
    return Grid(
        step=step,
        offsets=layout.offsets,
        starts=layout.times[layout.offsets[:-1]],
        kept=np.broadcast_to(np.True_, rows),
        rows=slice(None),
        shifts=np.broadcast_to(np.int64(0), rows),
    )


def _phases(layout: Layout, series: npt.NDArray[np.int32], step: int) -> IntArray:
    """Where in the step each series's stamps lie: their most common place, or the mean one if they jitter."""
    rests = np.mod(layout.times, step)
    starts = layout.offsets[:-1]
    phases = rests[starts].copy()
    mixed = np.minimum.reduceat(rests, starts) != np.maximum.reduceat(rests, starts)
    if mixed.any():
        commonest, share = _commonest(series, rests, layout.offsets)
        mean = _circular_mean(rests, layout.offsets, step)
        phases[mixed] = np.where(share > 1 / 2, commonest, mean)[mixed]
    return phases


def _commonest(
    series: npt.NDArray[np.int32], rests: IntArray, offsets: IntArray
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    order = np.lexsort((rests, series))
    new = np.ones(len(order), np.bool_)
    new[1:] = (rests[order][1:] != rests[order][:-1]) | (series[order][1:] != series[order][:-1])
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(order)))
    best = np.lexsort((counts, series[order][starts]))
    last_of_series = (
        np.searchsorted(series[order][starts][best], np.arange(len(offsets) - 1), side="right") - 1
    )
    chosen = best[last_of_series]
    return rests[order][starts][chosen], counts[chosen] / np.diff(offsets)


def _circular_mean(rests: IntArray, offsets: IntArray, step: int) -> IntArray:
    angles = rests * (2 * np.pi / step)
    sines, cosines = (np.add.reduceat(part, offsets[:-1]) for part in (np.sin(angles), np.cos(angles)))
    share = np.arctan2(sines, cosines) / (2 * np.pi)
    # Collectors that aim at the full step and miss it by a little shall stay on the full step.
    share[np.abs(share) <= _NEAR_ZERO] = 0.0
    means: IntArray = np.mod(np.rint(share * step).astype(np.int64), step)
    return means


def _refuse_explosion(layout: Layout, lengths: IntArray, step: int, limits: ReadLimits) -> None:
    rows, steps = len(layout.times), int(lengths.sum())
    if steps <= min(limits.max_grid_rows, max(_FEW_ROWS, _MOST_GRID_ROWS_PER_ROW * rows)):
        return
    worst = int(np.argmax(lengths))
    start, end = (
        iso(layout.times[place]) for place in (layout.offsets[worst], layout.offsets[worst + 1] - 1)
    )
    raise problem(
        "irregular_frequency",
        f"{rows:,} rows would lie on {steps:,} steps of {step / 1e6:g} s. Series {layout.names[worst]!r} "
        f"alone runs from {start} to {end}; remove stray time stamps or set a coarser mapping.frequency.",
        column=layout.time_column,
    )
