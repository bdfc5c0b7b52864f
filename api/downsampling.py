"""Thins a series of numbers for a chart without losing a spike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Point(Protocol):
    """A number at a step; None stands for a value that was not finite."""

    @property
    def value(self) -> float | None: ...


P = TypeVar("P", bound=Point)


def keep_extremes(points: Sequence[P], max_points: int) -> list[P]:
    """At most `max_points` of one series' points, in their order, the same ones at every call.

    The first and the last point stay; what lies between is cut into runs of equal length, and of each
    run the lowest and the highest point stay, and the first that was not finite, since that is a spike too.
    `max_points` is at least 8.
    """
    if len(points) <= max_points:
        return list(points)
    has_gaps = any(point.value is None for point in points)
    inner_count = len(points) - 2
    run_count = (max_points - 2) // (3 if has_gaps else 2)
    kept = {0, len(points) - 1}
    for run in range(run_count):
        start = 1 + run * inner_count // run_count
        end = 1 + (run + 1) * inner_count // run_count
        kept |= _extremes(points, range(start, end))
    return [points[index] for index in sorted(kept)]


def _extremes(points: Sequence[P], run: range) -> set[int]:
    finite = [(value, index) for index in run if (value := points[index].value) is not None]
    gaps = [index for index in run if points[index].value is None]
    kept = set(gaps[:1])
    if finite:
        # The earlier of two equal values, so that a flat run keeps one point.
        kept |= {min(finite)[1], max(finite, key=lambda pair: (pair[0], -pair[1]))[1]}
    return kept
