"""Thinned series keep their spikes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.thinning import keep_extremes

Values = list[float | None]
# Few different values too, so that there are ties.
VALUES = st.lists(st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), max_size=300)
LIMIT = st.integers(8, 120)


@given(values=VALUES, limit=LIMIT)
def test_no_more_than_asked_for_ascending_with_both_ends(values: Values, limit: int) -> None:
    kept = keep_extremes(values, limit)
    assert len(kept) <= limit
    assert kept == sorted(set(kept))
    assert kept[:1] == list(range(len(values)))[:1]
    assert kept[-1:] == list(range(len(values)))[-1:]
    assert kept == keep_extremes(values, limit)


@given(values=VALUES, limit=LIMIT)
def test_what_is_left_out_lies_close_to_a_higher_a_lower_or_another_gap(values: Values, limit: int) -> None:
    kept = keep_extremes(values, limit)
    runs = (limit - 2) // (3 if None in values else 2)
    reach = -(-len(values) // runs)
    for place in set(range(len(values))) - set(kept):
        near = [values[other] for other in kept if abs(other - place) <= reach]
        value = values[place]
        if value is None:
            assert None in near
        else:
            finite = [one for one in near if one is not None]
            assert min(finite) <= value <= max(finite)


@given(values=VALUES, limit=LIMIT)
def test_a_series_that_is_short_enough_stays_whole(values: Values, limit: int) -> None:
    assert keep_extremes(values[:limit], limit) == list(range(len(values[:limit])))


@given(at=st.integers(0, 99_999), spike=st.sampled_from([9.0, -9.0, None]))
def test_a_single_spike_in_a_hundred_thousand_flat_points_is_kept(at: int, spike: float | None) -> None:
    values: Values = [1.0] * 100_000
    values[at] = spike
    assert at in keep_extremes(values, 100)
