"""Thinned series keep their spikes."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from api.downsampling import keep_extremes


@dataclass(frozen=True)
class Reading:
    step: int
    value: float | None


def readings(values: list[float | None]) -> list[Reading]:
    return [Reading(step, value) for step, value in enumerate(values)]


VALUES = st.lists(st.none() | st.floats(-1e6, 1e6), max_size=300)
LIMIT = st.integers(10, 120)


@given(values=VALUES, limit=LIMIT)
def test_no_more_points_than_asked_for_in_their_order_and_all_real(
    values: list[float | None], limit: int
) -> None:
    points = readings(values)
    kept = keep_extremes(points, limit)
    assert len(kept) <= limit
    assert set(kept) <= set(points)
    assert [point.step for point in kept] == sorted({point.step for point in kept})


@given(values=VALUES, limit=LIMIT)
def test_ends_extremes_and_gaps_survive(values: list[float | None], limit: int) -> None:
    points = readings(values)
    kept = keep_extremes(points, limit)
    assert kept[:1] == points[:1]
    assert kept[-1:] == points[-1:]
    finite = [value for value in values if value is not None]
    kept_values = [point.value for point in kept]
    assert not finite or {min(finite), max(finite)} <= set(kept_values)
    assert (None in values) == (None in kept_values)


def test_a_single_spike_in_a_million_flat_points_is_kept() -> None:
    values: list[float | None] = [1.0] * 100_000
    values[77_777] = 9.0
    assert Reading(77_777, 9.0) in keep_extremes(readings(values), 100)


def test_the_same_series_gives_the_same_points() -> None:
    points = readings([float(step * 7919 % 101) for step in range(5000)])
    assert keep_extremes(points, 64) == keep_extremes(points, 64)
