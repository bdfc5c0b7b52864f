"""Thinned series keep their spikes."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.thinning import keep_extremes

VALUES = st.lists(st.just(math.nan) | st.floats(-1e6, 1e6) | st.integers(0, 2).map(float), max_size=300)
LIMIT = st.integers(8, 120)


@given(values=VALUES, limit=LIMIT)
def test_no_more_places_than_asked_for_in_their_order(values: list[float], limit: int) -> None:
    kept = keep_extremes(np.array(values, dtype=np.float64), limit).tolist()

    assert len(kept) == min(len(kept), limit, len(values))
    assert kept == sorted(set(kept))
    assert set(kept) <= set(range(len(values)))


@given(values=VALUES, limit=LIMIT)
def test_ends_and_the_extremes_and_gaps_of_each_run_survive(values: list[float], limit: int) -> None:
    """As the rule is written down, run by run."""
    kept = set(keep_extremes(np.array(values, dtype=np.float64), limit).tolist())

    if len(values) <= limit:
        assert kept == set(range(len(values)))
        return
    expected = {0, len(values) - 1}
    inner = len(values) - 2
    runs = (limit - 2) // (3 if any(math.isnan(value) for value in values) else 2)
    for run in range(runs):
        places = range(1 + run * inner // runs, 1 + (run + 1) * inner // runs)
        finite = [place for place in places if not math.isnan(values[place])]
        gaps = [place for place in places if math.isnan(values[place])]
        expected |= set(gaps[:1])
        if finite:
            expected |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
    assert kept == expected


def test_a_single_spike_among_flat_points_is_kept() -> None:
    values = np.ones(100_000)
    values[77_777] = 9.0

    assert 77_777 in keep_extremes(values, 100)


def test_infinite_values_are_extremes_too() -> None:
    values = np.zeros(1000)
    values[[300, 600]] = np.inf, -np.inf

    assert {300, 600} <= set(keep_extremes(values, 10).tolist())


def test_the_same_series_gives_the_same_places() -> None:
    values = np.array([float(step * 7919 % 101) for step in range(5000)])

    assert keep_extremes(values, 64).tolist() == keep_extremes(values, 64).tolist()
