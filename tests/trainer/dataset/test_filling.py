from __future__ import annotations

import numpy as np
import pytest

from trainer.dataset.filling import fill, open_gaps

NAN = float("nan")
OFFSETS = np.array([0, 8, 12])
VALUES = np.array([NAN, 2.0, NAN, NAN, 5.0, NAN, NAN, NAN, NAN, NAN, 7.0, NAN])


def test_what_was_interpolated_is_told_apart_from_what_was_seen() -> None:
    filled = fill(VALUES.copy(), OFFSETS, interpolate=True)

    assert filled.values.tolist() == [2, 2, 3, 4, 5, 5, 5, 5, 7, 7, 7, 7]
    assert np.flatnonzero(filled.observed).tolist() == [1, 4, 10]
    assert np.flatnonzero(filled.interpolated).tolist() == [2, 3]


def test_without_interpolation_the_last_value_is_carried() -> None:
    filled = fill(VALUES.copy(), OFFSETS, interpolate=False)

    assert filled.values.tolist() == [2, 2, 2, 2, 5, 5, 5, 5, 7, 7, 7, 7]
    assert not filled.interpolated.any()


def test_an_open_gap_is_known_by_its_first_step_and_the_value_before_it() -> None:
    filled = fill(VALUES.copy(), OFFSETS, interpolate=True)
    gaps = open_gaps(filled.values, filled.observed, OFFSETS, np.array([-1.0, -2.0]))

    assert gaps.first.tolist() == [0, 2, 2, 2, 5, 5, 5, 5, 8, 8, 11, 11]
    assert gaps.carried.tolist() == [-1, 2, 2, 2, 5, 5, 5, 5, -2, -2, 7, 7]


@pytest.mark.parametrize(
    ("origin", "seen"), [(3, [-1, 2, 2]), (4, [-1, 2, 2, 2]), (5, [2, 2, 3, 4, 5]), (1, [-1])]
)
def test_a_column_looks_from_each_origin_as_it_was_known_there(origin: int, seen: list[float]) -> None:
    values = np.array([2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0])
    observed = np.array([False, True, False, False, True, False, False, False])
    offsets = np.array([0, 8])
    gaps = open_gaps(values, observed, offsets, -1.0)
    known = gaps.values_at(values, np.arange(origin)[None], np.array([origin]))

    # The first value stands before it only once it has been seen.
    expected = [2 if value == -1 and origin > 1 else value for value in seen]
    assert known[0].tolist() == expected
