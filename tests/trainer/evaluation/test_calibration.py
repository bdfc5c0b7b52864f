from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.trainer.evaluation.samples import NORMAL, QUANTILES
from trainer.evaluation.calibration import Calibration, fit_calibration, trust_by_age
from trainer.evaluation.intervals import intervals

HORIZON = 6


def forecasts_and_truth(
    seed: int, n: int, *, overconfident: float, targets: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Normal truth whose scale differs by window and step; intervals too narrow by a factor."""
    rng = np.random.default_rng(seed)
    scale = rng.lognormal(0, 1, (n, 1, 1)) * np.arange(1, HORIZON + 1)[:, None] ** 0.5
    centre = rng.normal(50, 20, (n, HORIZON, targets))
    actual = centre + scale * rng.normal(0, 1, centre.shape)
    return (centre[..., None] + (scale / overconfident)[..., None] * NORMAL), actual


def covered(forecasts: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """(n_intervals, horizon, n_targets) shares within each interval."""
    inside = [
        (forecasts[..., pair.low] <= actual) & (actual <= forecasts[..., pair.high])
        for pair in intervals(QUANTILES)
    ]
    return np.asarray(np.stack(inside).mean(axis=1))


@pytest.mark.parametrize("overconfident", [2.5, 0.5])
def test_calibrated_intervals_cover_their_nominal_share_at_every_step(overconfident: float) -> None:
    past, truth = forecasts_and_truth(1, 8000, overconfident=overconfident)
    calibration = fit_calibration(truth, np.ones(truth.shape), past, QUANTILES)
    fresh, later = forecasts_and_truth(2, 4000, overconfident=overconfident)
    nominal = np.array([pair.nominal for pair in intervals(QUANTILES)])[:, None, None]
    assert np.abs(covered(fresh, later) - nominal).max() > 0.1
    assert np.abs(covered(calibration.apply(fresh), later) - nominal).max() < 0.03


def test_each_shift_is_the_conformal_rank_of_the_scores() -> None:
    past, truth = forecasts_and_truth(3, 50, overconfident=2.0, targets=1)
    calibration = fit_calibration(truth, np.ones(truth.shape), past, QUANTILES)
    widest = past[:, 2, 0, 6] - past[:, 2, 0, 0]
    floor = 0.01 * np.mean(past[..., 0, 6] - past[..., 0, 0])

    def errors(place: int) -> list[float]:
        return sorted((truth[n, 2, 0] - past[n, 2, 0, place]) / (widest[n] + floor) for n in range(50))

    # The quantiles .1, .5 and .9: outwards to the next rank that 51 windows would need, the median between.
    assert calibration.shifts[0, 5, 2] == pytest.approx(errors(5)[math.ceil(51 * 0.9) - 1], abs=1e-12)
    assert calibration.shifts[0, 1, 2] == pytest.approx(errors(1)[50 - math.ceil(51 * 0.9)], abs=1e-12)
    assert calibration.shifts[0, 3, 2] == pytest.approx(np.median(errors(3)), abs=1e-12)


def test_masked_steps_do_not_count() -> None:
    past, truth = forecasts_and_truth(4, 400, overconfident=2.0)
    weight = (np.random.default_rng(4).random(truth.shape) > 0.3).astype(float)
    spoilt = np.where(weight == 0, 1e6, truth)
    shifts = fit_calibration(truth, weight, past, QUANTILES).shifts
    assert np.array_equal(fit_calibration(spoilt, weight, past, QUANTILES).shifts, shifts)


def test_trust_counts_like_repetition() -> None:
    past, truth = forecasts_and_truth(12, 60, overconfident=2.0)
    trust = np.random.default_rng(12).integers(1, 4, 60).astype(float)
    twice = np.repeat(np.arange(60), trust.astype(int))
    weighted = fit_calibration(truth, np.ones(truth.shape), past, QUANTILES, trust).shifts
    repeated = fit_calibration(truth[twice], np.ones(truth[twice].shape), past[twice], QUANTILES).shifts
    # A new window counts as the heaviest here and as one there, and floors differ a little.
    assert np.median(np.abs(weighted - repeated)) < 0.02


def test_newer_windows_count_more_where_there_are_enough_of_them() -> None:
    ages = np.tile(np.arange(48), 200)
    trust = trust_by_age(ages, 12)
    assert trust[:48] == pytest.approx(0.5 ** (np.arange(48) / 6))
    assert (trust_by_age(np.arange(400), 12) == 1).all()
    few_series = trust_by_age(np.tile(np.arange(400), 3), 12)
    assert 0 < few_series[399] < 1
    assert few_series.sum() ** 2 / (few_series**2).sum() >= 500


def test_intervals_follow_a_drift_of_the_spread() -> None:
    rng = np.random.default_rng(13)
    age = np.tile(np.arange(60), 200)
    spread = 2.0 - age / 60
    truth = (spread[:, None, None] * rng.normal(0, 1, (len(age), HORIZON, 1))) + 50
    past = np.broadcast_to(50 + NORMAL, (len(age), HORIZON, 1, 7))
    fresh = 50 + 2.0 * rng.normal(0, 1, (4000, HORIZON, 1))
    forecasts = np.broadcast_to(50 + NORMAL, (4000, HORIZON, 1, 7))

    def coverage_80(trust: np.ndarray | None) -> float:
        calibration = fit_calibration(truth, np.ones(truth.shape), past, QUANTILES, trust)
        return float(covered(calibration.apply(forecasts), fresh)[1].mean())

    assert coverage_80(None) < 0.7
    assert coverage_80(trust_by_age(age, HORIZON)) == pytest.approx(0.8, abs=0.05)


def test_a_step_with_few_values_borrows_from_all() -> None:
    past, truth = forecasts_and_truth(5, 300, overconfident=2.0, targets=1)
    weight = np.ones(truth.shape)
    weight[5:, 3] = 0
    shifts = fit_calibration(truth, weight, past, QUANTILES).shifts[0, 6]
    pooled = np.sort(shifts[[0, 1, 2, 4, 5]])
    assert pooled[0] <= shifts[3] <= pooled[-1]


def test_nothing_to_fit_on_moves_nothing() -> None:
    past, truth = forecasts_and_truth(6, 10, overconfident=2.0)
    calibration = fit_calibration(truth, np.zeros(truth.shape), past, QUANTILES)
    assert np.array_equal(calibration.apply(past), past)


def test_a_forecast_that_lies_too_low_is_moved_up() -> None:
    past, truth = forecasts_and_truth(14, 2000, overconfident=1.0)
    widest = past[..., 6] - past[..., 0]
    low = past - 0.2 * widest[..., None]
    calibrated = fit_calibration(truth, np.ones(truth.shape), low, QUANTILES).apply(low)
    assert (truth < low[..., 3]).mean() < 0.4
    assert (truth < calibrated[..., 3]).mean() == pytest.approx(0.5, abs=0.02)
    assert np.abs(calibrated - past).max() < 0.2 * widest.max()


def test_the_median_of_a_sound_forecast_stays_and_quantiles_never_cross() -> None:
    past, truth = forecasts_and_truth(7, 500, overconfident=0.2)
    calibrated = fit_calibration(truth, np.ones(truth.shape), past, QUANTILES).apply(past[..., ::-1])
    assert (np.diff(calibrated, axis=-1) >= 0).all()
    moved = np.abs(calibrated[..., 3] - past[..., 3]) / (past[..., 6] - past[..., 0])
    assert moved.max() < 0.02


def test_a_flat_forecast_still_gets_an_interval() -> None:
    rng = np.random.default_rng(8)
    past = np.full((200, HORIZON, 1, 7), 71.5)
    past[:100] += NORMAL * 0.1
    truth = 71.5 + rng.normal(0, 0.3, (200, HORIZON, 1))
    calibrated = fit_calibration(truth, np.ones(truth.shape), past, QUANTILES).apply(past)
    assert (calibrated[..., 6] > calibrated[..., 0]).all()


def test_without_symmetric_pairs_there_is_nothing_to_calibrate() -> None:
    past, truth = forecasts_and_truth(9, 40, overconfident=2.0)
    calibration = fit_calibration(truth, np.ones(truth.shape), past[..., [3, 5]], (0.5, 0.9))
    assert np.array_equal(calibration.apply(past[..., [3, 5]]), past[..., [3, 5]])


def test_a_calibration_survives_json() -> None:
    past, truth = forecasts_and_truth(10, 100, overconfident=2.0)
    calibration = fit_calibration(truth, np.ones(truth.shape), past, QUANTILES)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert np.array_equal(again.apply(past), calibration.apply(past))


@pytest.mark.parametrize("count", [1, 10])
def test_few_series_widen_a_fan_in_full_and_move_it_in_part(count: int) -> None:
    past, truth = forecasts_and_truth(3, 400, overconfident=1.5)
    low = past - 3.0
    whole = fit_calibration(truth, np.ones(truth.shape), low, QUANTILES).shifts
    part = fit_calibration(truth, np.ones(truth.shape), low, QUANTILES, n_series=count).shifts

    assert whole[:, 3].min() > 0.1
    assert part[:, 3] == pytest.approx(whole[:, 3] * count / (count + 2))
    for lower, upper in ((0, 6), (1, 5), (2, 4)):
        assert part[:, upper] - part[:, lower] == pytest.approx(whole[:, upper] - whole[:, lower])
        common = whole[:, upper] + whole[:, lower]
        assert part[:, upper] + part[:, lower] == pytest.approx(common * count / (count + 2))
