"""Thins a series of numbers for a chart without losing a spike."""

from __future__ import annotations

from collections.abc import Sequence


def keep_extremes(values: Sequence[float | None], max_points: int) -> list[int]:
    """Places of at most `max_points` of the values, ascending, the same ones at every call.

    None stands for a value that is missing or was not finite. The first and the last value stay; what lies
    between is cut into runs of equal length, and of each run the lowest and the highest stay, and the first
    None, since that is a spike too. `max_points` is at least 8.
    """
    if len(values) <= max_points:
        return list(range(len(values)))
    inner_count = len(values) - 2
    run_count = (max_points - 2) // (3 if None in values else 2)
    kept = {0, len(values) - 1}
    for run in range(run_count):
        start = 1 + run * inner_count // run_count
        end = 1 + (run + 1) * inner_count // run_count
        kept.update(start + place for place in _extremes(values[start:end]))
    return sorted(kept)


def _extremes(run: Sequence[float | None]) -> set[int]:
    """Whole passes by the interpreter's own functions, not a loop: there may be a hundred thousand values."""
    finite = [value for value in run if value is not None]
    # The earlier of two equal values, so that a flat run keeps one point.
    kept = {run.index(min(finite)), run.index(max(finite))} if finite else set()
    return kept if len(finite) == len(run) else {*kept, run.index(None)}
