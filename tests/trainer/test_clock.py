from __future__ import annotations

import numpy as np
import pytest

from trainer.clock import calendar_names, calendar_values


def phase(feature: str, stamp: str) -> float:
    times = np.array([stamp], dtype="datetime64[us]").astype(np.int64)
    sine, cosine = calendar_values([feature], times)[0]
    return float(np.arctan2(sine, cosine) / (2 * np.pi)) % 1.0


@pytest.mark.parametrize(
    ("feature", "stamp", "expected"),
    [
        ("minute_of_hour", "2024-03-01T10:15:00", 0.25),
        ("hour_of_day", "2024-03-01T18:00:00", 0.75),
        ("day_of_week", "2024-03-04T00:00:00", 0.0),  # a Monday
        ("day_of_week", "2024-03-07T12:00:00", 0.5),
        ("day_of_month", "2024-02-15T12:00:00", 0.5),  # of 29 days
        ("month_of_year", "2023-07-02T12:00:00", 0.5),
        ("hour_of_day", "1969-12-31T06:00:00", 0.25),
    ],
)
def test_the_phase_is_the_share_of_the_period_that_has_passed(
    feature: str, stamp: str, expected: float
) -> None:
    assert phase(feature, stamp) == pytest.approx(expected, abs=1e-6)


def test_each_feature_has_a_sine_and_a_cosine_in_the_order_of_the_names() -> None:
    features = ["minute_of_hour", "hour_of_day"]
    values = calendar_values(features, np.zeros(3, dtype=np.int64))

    assert calendar_names(features) == [
        "minute_of_hour_sin",
        "minute_of_hour_cos",
        "hour_of_day_sin",
        "hour_of_day_cos",
    ]
    assert values.tolist() == [[0.0, 1.0, 0.0, 1.0]] * 3
