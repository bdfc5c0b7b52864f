"""The rivals against plain loops over series, windows and steps."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.evaluation.samples import QUANTILES, series_of, windows_of
from trainer.dataset.series import SeriesData
from trainer.evaluation.inputs import ForecastSet
from trainer.evaluation.residuals import FEWEST_RESIDUALS
from trainer.evaluation.rivals import Rivals
from trainer.evaluation.season import Season, choose_season

HORIZON = 7


def walks(lengths: list[int], seed: int = 0) -> SeriesData:
    rng = np.random.default_rng(seed)
    hidden = [rng.random(length) < 0.1 for length in lengths]
    return series_of([np.cumsum(rng.normal(0, 1, length)) + 50 for length in lengths], hidden=hidden)


def forecasts_in(series: SeriesData, start: int, end: int) -> ForecastSet:
    series_index, origins = windows_of(series, start, end, HORIZON)
    return ForecastSet(series_index, origins, np.empty((len(origins), HORIZON, 1, len(QUANTILES))))


def loop_residuals(series: SeriesData, place: int, train: int, lag: int) -> list[float]:
    first = int(series.offsets[place])
    values, observed = series.values["cpu"].astype(float), series.observed["cpu"]
    return [
        values[row] - values[row - lag]
        for row in range(first + lag, first + train)
        if observed[row] and observed[row - lag]
    ]


def last_known(series: SeriesData, origin: int) -> float:
    row = origin - 1
    while not series.observed["cpu"][row]:
        row -= 1
    return float(series.values["cpu"][row])


def test_last_value_carries_the_quantiles_of_its_own_residuals() -> None:
    series = walks([120, 150, 400])
    forecasts = forecasts_in(series, 95, 115)
    rivals = Rivals(series, "cpu", series.offsets[:-1] + 90, forecasts, HORIZON, QUANTILES)
    found = rivals.last_value()
    for n in range(0, len(forecasts.origin_row), 5):
        place, origin = int(forecasts.series_index[n]), int(forecasts.origin_row[n])
        for step in range(HORIZON):
            residuals = np.quantile(loop_residuals(series, place, 90, step + 1), QUANTILES)
            expected = last_known(series, origin) + residuals
            assert found.quantiles[n, step] == pytest.approx(expected, abs=1e-6)
    assert found.pooled_series == 0
    assert (~series.observed["cpu"][forecasts.origin_row - 1]).any()


def test_a_rival_does_not_know_where_a_gap_leads_that_is_open_when_its_window_begins() -> None:
    values = np.arange(60.0)
    hidden = np.zeros(60, np.bool_)
    hidden[44:50] = hidden[30:33] = True
    series = series_of([values], hidden=[hidden])
    forecasts = ForecastSet(np.array([0]), np.array([47]), np.empty((1, HORIZON, 1, len(QUANTILES))))
    rivals = Rivals(series, "cpu", np.array([40]), forecasts, HORIZON, QUANTILES)

    assert rivals.last_value().quantiles[0, 0, 3] == pytest.approx(43 + 1)
    seasonal = rivals.seasonal_naive(Season("hour", 16)).quantiles[0, :, 3]
    assert seasonal[:2] == pytest.approx([31 + 16, 32 + 16])  # that gap had closed
    assert rivals.seasonal_naive(Season("hour", 2)).quantiles[0, 0, 3] == pytest.approx(43 + 2)


@pytest.mark.parametrize("season_steps", [12, 3])
def test_seasonal_naive_goes_back_as_many_seasons_as_the_step_needs(season_steps: int) -> None:
    series = walks([150, 130])
    forecasts = forecasts_in(series, 100, 120)
    rivals = Rivals(series, "cpu", series.offsets[:-1] + 90, forecasts, HORIZON, QUANTILES)
    found = rivals.seasonal_naive(Season("hour", season_steps))
    for n in (0, 5, 20):
        place, origin = int(forecasts.series_index[n]), int(forecasts.origin_row[n])
        for step in range(HORIZON):
            lag = season_steps
            while origin + step - lag >= origin:
                lag += season_steps
            residuals = np.quantile(loop_residuals(series, place, 90, lag), QUANTILES)
            expected = float(series.values["cpu"][origin + step - lag]) + residuals
            assert found.quantiles[n, step] == pytest.approx(expected, abs=1e-6)
    assert found.replaced_windows == 0


def test_windows_without_a_season_of_history_hold_the_last_value() -> None:
    series = walks([100])
    forecasts = forecasts_in(series, 40, 60)
    rivals = Rivals(series, "cpu", series.offsets[:-1] + 90, forecasts, HORIZON, QUANTILES)
    found = rivals.seasonal_naive(Season("hour", 50))
    assert found.replaced_windows == 10
    assert np.array_equal(found.quantiles[:10], rivals.last_value().quantiles[:10])


def test_series_with_few_residuals_take_those_of_all() -> None:
    series = walks([300, 300, 60])
    train_end = series.offsets[:-1] + np.array([250, 250, FEWEST_RESIDUALS // 2])
    forecasts = forecasts_in(series, 30, 60)
    found = Rivals(series, "cpu", train_end, forecasts, HORIZON, QUANTILES).last_value()
    assert found.pooled_series == 1
    residuals = [
        value
        for place, train in enumerate([250, 250, FEWEST_RESIDUALS // 2])
        for value in loop_residuals(series, place, train, 1)
    ]
    last = len(forecasts.origin_row) - 1
    base = last_known(series, int(forecasts.origin_row[last]))
    assert found.quantiles[last, 0] == pytest.approx(base + np.quantile(residuals, QUANTILES), abs=1e-6)


def test_a_series_of_which_nothing_was_seen_gets_a_bare_zero_and_no_hidden_value() -> None:
    series = series_of([np.arange(60.0)], hidden=[np.ones(60, np.bool_)])
    forecasts = forecasts_in(series, 40, 60)
    found = Rivals(series, "cpu", series.offsets[:-1] + 40, forecasts, HORIZON, QUANTILES).last_value()
    assert (found.quantiles == 0).all()


@pytest.mark.parametrize(
    ("training_steps", "seconds", "name", "steps"),
    [
        (201, 300, "hour", 12),
        (576, 300, "day", 288),
        (575, 300, "hour", 12),
        (4032, 300, "week", 2016),
        (60, 3600, "day", 24),
        (20, 86_400, "week", 7),
        (720, 10, "hour", 360),
    ],
)
def test_the_season_is_the_longest_that_fits_twice(
    training_steps: int, seconds: float, name: str, steps: int
) -> None:
    season, reason = choose_season(training_steps, seconds)
    assert season == Season(name, steps)
    assert str(training_steps) in reason


@pytest.mark.parametrize(
    ("training_steps", "seconds"), [(23, 300), (47, 3600), (1000, 604_800), (10_000, 70_000)]
)
def test_without_a_season_the_reason_is_told(training_steps: int, seconds: float) -> None:
    season, reason = choose_season(training_steps, seconds)
    assert season is None
    assert "fits twice" in reason
