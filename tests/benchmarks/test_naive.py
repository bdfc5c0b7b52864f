from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.fleet import QUANTILES
from benchmarks.naive import LAST_VALUE, SEASONAL_NAIVE, naive_forecasts
from tests.benchmarks.fleets import small_fleet


def test_the_last_value_moves_by_its_own_changes_in_the_training_part() -> None:
    fleet = small_fleet(steps=90)

    found = naive_forecasts(fleet)[LAST_VALUE]["last", "new", "test"]

    series = fleet.table[3, :, 1].astype(np.float64)
    origin, step = int(fleet.origins("test")[1]), 2
    changes = series[step + 1 : fleet.train_end] - series[: fleet.train_end - step - 1]
    expected = series[origin - 1] + np.quantile(changes, QUANTILES)
    assert found[1, 1, step, 1] == pytest.approx(expected, rel=1e-5)


def test_seasonal_naive_repeats_the_hour_before() -> None:
    fleet = small_fleet(steps=90, noise=0.0)

    found = naive_forecasts(fleet)[SEASONAL_NAIVE]["last", "seen", "test"]

    # A wave of 12 steps without noise repeats itself: no change, hence no spread.
    assert found[..., 3] == pytest.approx(fleet.actual("seen", "test"), abs=1e-3)
    assert np.ptp(found, axis=-1).max() < 1e-3


def test_without_a_season_that_fits_twice_there_is_only_the_last_value() -> None:
    fleet = small_fleet(steps=40)

    assert list(naive_forecasts(replace(fleet, seen=4))) == [LAST_VALUE]


def test_a_fleet_without_new_servers_has_no_forecasts_of_them() -> None:
    fleet = replace(small_fleet(steps=90), seen=4)

    assert {group for _, group, _ in naive_forecasts(fleet)[LAST_VALUE]} == {"seen"}
