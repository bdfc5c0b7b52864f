from __future__ import annotations

import math

import pytest

from benchmarks.seeds import estimate, paired_change


def test_the_interval_is_students_over_the_seeds() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])

    # t(0.975, 4) = 2.776, deviation sqrt(2.5), over sqrt(5)
    assert found.mean == 3.0
    assert found.half_width == pytest.approx(2.7764 * math.sqrt(2.5 / 5), rel=1e-4)
    assert (found.low, found.high) == (found.mean - found.half_width, found.mean + found.half_width)


def test_one_seed_has_no_interval() -> None:
    assert math.isnan(estimate([2.0]).half_width)


def test_no_seed_is_an_error() -> None:
    with pytest.raises(ValueError, match="no value"):
        estimate([])


def test_a_paired_change_counts_only_the_seeds_that_both_have() -> None:
    found = paired_change({1: 0.8, 2: 1.6, 3: 9.0}, {1: 1.0, 2: 2.0, 4: 1.0})

    assert found is not None
    assert found.mean == pytest.approx(-0.2)
    assert found.half_width == pytest.approx(0.0, abs=1e-9)
    assert found.count == 2


def test_without_a_common_seed_there_is_no_paired_change() -> None:
    assert paired_change({1: 1.0}, {2: 1.0}) is None
