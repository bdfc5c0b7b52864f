from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest

from tests.trainer.evaluation.samples import NORMAL, QUANTILES, bell, inputs_of, series_of, windows_of
from trainer.dataset.series import SeriesData
from trainer.evaluation.calibration import Calibration
from trainer.evaluation.inputs import EvaluationInputs, ForecastSet
from trainer.evaluation.result import evaluate

HORIZON, TRAIN, HELD_OUT, END = 6, 120, 160, 200


def noisy(servers: int = 12, seed: int = 0, *, masked: float = 0.0) -> SeriesData:
    rng = np.random.default_rng(seed)
    level = rng.uniform(10, 80, servers)
    values = [centre + rng.normal(0, 1 + place % 3, END) for place, centre in enumerate(level)]
    hidden = [rng.random(END) < masked for _ in values]
    return series_of(values, hidden=hidden)


def around_level(series: SeriesData, start: int, end: int, factor: float) -> ForecastSet:
    """An honest model: each server's training mean with its deviation, too narrow by a factor."""
    series_index, origins = windows_of(series, start, end, HORIZON)
    values = series.values["cpu"].astype(np.float64)
    parts = [values[first : first + TRAIN] for first in series.offsets[:-1]]
    mean, deviation = np.array([part.mean() for part in parts]), np.array([part.std() for part in parts])
    quantiles = mean[series_index][:, None] + deviation[series_index][:, None] * NORMAL / factor
    return ForecastSet(series_index, origins, np.repeat(quantiles[:, None, None, :], HORIZON, axis=1))


def honest(series: SeriesData, factor: float = 2.0, **more: Any) -> EvaluationInputs:
    validation = around_level(series, TRAIN, HELD_OUT, factor)
    test = around_level(series, HELD_OUT, END, factor)
    return inputs_of(series, validation, test, train=TRAIN, held_out=HELD_OUT, **more)


def test_the_result_is_plain_json_with_every_score() -> None:
    result = json.loads(json.dumps(evaluate(honest(noisy())), allow_nan=False))
    assert result["scored_on"] == "test"
    assert result["windows"] == {"validation": 12 * 35, "scored": 12 * 35}
    assert result["q_risk_over"] == [0.1, 0.5, 0.9]
    assert result["season"] == {"name": "hour", "steps": 12}
    scores = result["targets"]["cpu"]
    for forecast in (scores["model"], scores["model_raw"], *scores["rivals"].values()):
        assert set(forecast["intervals"]) == {"50", "80", "96"}
        assert len(forecast["q_risk_per_quantile"]) == 7
        assert len(forecast["by_horizon"]["q_risk"]) == HORIZON
        assert len(forecast["by_horizon"]["intervals"]["80"]["coverage"]) == HORIZON
        assert all(isinstance(forecast[name], float) for name in ("q_risk", "mae", "rmse", "smape"))


def test_scores_equal_a_loop_over_observed_steps() -> None:
    series = noisy(masked=0.2)
    inputs = honest(series, calibration="none")
    scores = evaluate(inputs)["targets"]["cpu"]["model"]
    assert inputs.test is not None
    numerators, sizes, errors = dict.fromkeys(QUANTILES, 0.0), 0.0, []
    for n, origin in enumerate(inputs.test.origin_row):
        for step in range(HORIZON):
            if not series.observed["cpu"][origin + step]:
                continue
            actual = float(series.values["cpu"][origin + step])
            sizes += abs(actual)
            errors.append(actual - inputs.test.quantiles[n, step, 0, 3])
            for place, quantile in enumerate(QUANTILES):
                error = actual - inputs.test.quantiles[n, step, 0, place]
                numerators[quantile] += 2 * max(quantile * error, (quantile - 1) * error)
    for quantile in QUANTILES:
        assert scores["q_risk_per_quantile"][f"{quantile:g}"] == pytest.approx(
            numerators[quantile] / sizes, abs=1e-6
        )
    mean = sum(numerators[quantile] for quantile in (0.1, 0.5, 0.9)) / 3 / sizes
    assert scores["q_risk"] == pytest.approx(mean, abs=1e-6)
    assert scores["mae"] == pytest.approx(math.fsum(map(abs, errors)) / len(errors), abs=1e-6)
    assert scores["rmse"] == pytest.approx((math.fsum(e * e for e in errors) / len(errors)) ** 0.5, abs=1e-6)


def test_the_smape_floor_is_a_hundredth_of_the_mean_training_size() -> None:
    series = noisy(masked=0.2)
    values = np.concatenate(
        [
            series.values["cpu"][first : first + TRAIN][series.observed["cpu"][first : first + TRAIN]]
            for first in series.offsets[:-1]
        ]
    )
    floor = evaluate(honest(series))["targets"]["cpu"]["smape_floor"]
    assert floor == pytest.approx(0.01 * np.abs(values.astype(np.float64)).mean(), rel=1e-6)


def test_calibration_mends_the_coverage_of_what_is_published() -> None:
    scores = evaluate(honest(noisy(60), factor=3.0))["targets"]["cpu"]
    assert scores["model_raw"]["intervals"]["80"]["coverage"] < 0.5
    assert scores["model"]["intervals"]["80"]["coverage"] == pytest.approx(0.8, abs=0.03)
    assert scores["model"]["intervals"]["96"]["coverage"] == pytest.approx(0.96, abs=0.02)
    # The median was sound.
    assert scores["model"]["mae"] == pytest.approx(scores["model_raw"]["mae"], rel=0.01)
    assert scores["model"]["q_risk"] < scores["model_raw"]["q_risk"]


def test_what_is_published_can_be_made_from_the_result() -> None:
    inputs = honest(noisy())
    result = evaluate(inputs)
    assert inputs.test is not None
    published = Calibration.from_json(result["calibration"]["parameters"]).apply(inputs.test.quantiles)
    again = honest(noisy(), calibration="none")
    forecasts = ForecastSet(inputs.test.series_index, inputs.test.origin_row, published)
    direct = EvaluationInputs(**{**vars(again), "test": forecasts})
    assert evaluate(direct)["targets"]["cpu"]["model"] == result["targets"]["cpu"]["model"]


def test_calibration_none_publishes_what_the_network_says() -> None:
    result = evaluate(honest(noisy(), calibration="none"))
    assert result["calibration"] == {"method": "none", "reason": "calibration=none", "parameters": None}
    assert result["targets"]["cpu"]["model"] == result["targets"]["cpu"]["model_raw"]


def test_a_good_model_is_better_and_a_biased_one_worse() -> None:
    series = noisy(20)
    good = evaluate(honest(series, factor=1.0))["targets"]["cpu"]["verdict"]
    assert good["verdict"] == "better"
    assert set(good["rivals"]) == {"last_value", "seasonal_naive"}
    assert good["against"] in good["rivals"]
    biased = bell(series, HELD_OUT, END, HORIZON, sigma=np.full(20, 0.1), bias=30.0)
    bad = inputs_of(
        series,
        bell(series, TRAIN, HELD_OUT, HORIZON, sigma=np.full(20, 0.1), bias=30.0),
        biased,
        train=TRAIN,
        held_out=HELD_OUT,
        calibration="none",  # which would mend a bias that stays the same
    )
    assert evaluate(bad)["targets"]["cpu"]["verdict"]["verdict"] == "worse"


def test_without_a_test_tail_validation_is_scored_and_nothing_judged() -> None:
    series = noisy()
    validation = around_level(series, TRAIN, END, 2.0)
    result = evaluate(inputs_of(series, validation, None, train=TRAIN, held_out=END))
    assert result["scored_on"] == "validation"
    scores = result["targets"]["cpu"]
    assert scores["verdict"] is None
    assert "test" in scores["verdict_reason"]
    assert scores["model"] == scores["model_raw"]
    assert result["calibration"]["parameters"] is not None


def test_without_a_season_there_is_no_seasonal_rival_but_a_reason() -> None:
    result = evaluate(honest(series_of([np.arange(END, dtype=float)] * 12, seconds=7.0)))
    assert result["season"] is None
    assert result["targets"]["cpu"]["rivals"]["seasonal_naive"] is None
    assert "no week, day or hour" in result["season_reason"]


def test_a_target_that_was_never_observed_gives_no_numbers() -> None:
    hidden = series_of([np.arange(END, dtype=float)] * 12, hidden=[np.ones(END, np.bool_)] * 12)
    result = evaluate(honest(hidden))
    scores = result["targets"]["cpu"]
    assert scores["model"]["q_risk"] is None
    assert scores["verdict"]["verdict"] == "inconclusive"
    assert result["calibration"]["method"] == "none"
    json.dumps(result, allow_nan=False)


def test_a_window_beyond_its_series_is_a_mistake() -> None:
    series = noisy()
    inputs = honest(series)
    assert inputs.test is not None
    late = ForecastSet(inputs.test.series_index, inputs.test.origin_row + 1, inputs.test.quantiles)
    with pytest.raises(ValueError, match="beyond the end"):
        evaluate(EvaluationInputs(**{**vars(inputs), "test": late}))


@pytest.mark.slow
def test_a_large_fleet_is_scored_in_seconds() -> None:
    rng = np.random.default_rng(0)
    series = series_of([rng.uniform(5, 90) + rng.normal(0, 2, 288) for _ in range(1200)])
    values = dict.fromkeys(("cpu", "memory"), series.values["cpu"])
    both = SeriesData(
        **{**vars(series), "values": values, "observed": dict.fromkeys(values, series.observed["cpu"])}
    )

    def forecasts(start: int) -> ForecastSet:
        series_index, origins = windows_of(series, start, start + 33, 24)
        truth = series.values["cpu"][origins[:, None] + np.arange(24)]
        quantiles = truth[:, :, None, None] + rng.normal(0, 2, (len(origins), 24, 2, 1)) + 2 * NORMAL
        return ForecastSet(series_index, origins, quantiles.astype(np.float32))

    inputs = inputs_of(series, forecasts(201), forecasts(255), train=201, held_out=250)
    began = time.monotonic()
    evaluate(EvaluationInputs(**{**vars(inputs), "series": both, "targets": ("cpu", "memory")}))
    assert time.monotonic() - began < 30
