"""Every score against a plain loop written from its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.evaluation.scores import coverage, mae, pinball, q_risk, rmse, smape, width

RNG = np.random.default_rng(11)
ACTUAL = RNG.normal(20, 15, (37, 5))
FORECAST = (ACTUAL + RNG.normal(0, 6, ACTUAL.shape)).astype(np.float32)
LOW, HIGH = FORECAST - RNG.random(ACTUAL.shape) * 8, FORECAST + RNG.random(ACTUAL.shape) * 8
WEIGHT = (RNG.random(ACTUAL.shape) > 0.3).astype(np.float64)
CELLS = [(n, h) for n in range(37) for h in range(5)]


def seen(step: int | None) -> list[tuple[int, int]]:
    return [(n, h) for n, h in CELLS if WEIGHT[n, h] and step in {None, h}]


def loop_q_risk(quantile: float, step: int | None) -> float:
    losses = sizes = 0.0
    for cell in seen(step):
        error = ACTUAL[cell] - float(FORECAST[cell])
        losses += quantile * error if error > 0 else (quantile - 1) * error
        sizes += abs(ACTUAL[cell])
    return 2 * losses / sizes


def loop_mean(step: int | None, term: str) -> float:
    terms = []
    for cell in seen(step):
        actual, forecast = ACTUAL[cell], float(FORECAST[cell])
        terms.append(
            {
                "abs": abs(actual - forecast),
                "square": (actual - forecast) ** 2,
                "smape": 2 * abs(actual - forecast) / max(abs(actual) + abs(forecast), 10.0),
                "inside": float(LOW[cell] <= actual <= HIGH[cell]),
                "width": HIGH[cell] - LOW[cell],
            }[term]
        )
    return math.fsum(terms) / len(terms)


@pytest.mark.parametrize("quantile", [0.02, 0.1, 0.5, 0.9])
def test_q_risk_is_that_of_the_paper(quantile: float) -> None:
    assert q_risk(ACTUAL, FORECAST, quantile, WEIGHT) == pytest.approx(loop_q_risk(quantile, None), abs=1e-6)
    steps = [loop_q_risk(quantile, step) for step in range(5)]
    assert q_risk(ACTUAL, FORECAST, quantile, WEIGHT, axis=0) == pytest.approx(steps, abs=1e-6)


@pytest.mark.parametrize("step", [None, 0, 4])
def test_errors_coverage_and_width_are_weighted_means(step: int | None) -> None:
    axis = None if step is None else 0
    here = () if step is None else step
    assert mae(ACTUAL, FORECAST, WEIGHT, axis)[here] == pytest.approx(loop_mean(step, "abs"), abs=1e-6)
    assert rmse(ACTUAL, FORECAST, WEIGHT, axis)[here] == pytest.approx(
        loop_mean(step, "square") ** 0.5, abs=1e-6
    )
    assert smape(ACTUAL, FORECAST, WEIGHT, 10.0, axis)[here] == pytest.approx(
        loop_mean(step, "smape"), abs=1e-6
    )
    assert coverage(ACTUAL, LOW, HIGH, WEIGHT, axis)[here] == pytest.approx(
        loop_mean(step, "inside"), abs=1e-6
    )
    assert width(LOW, HIGH, WEIGHT, axis)[here] == pytest.approx(loop_mean(step, "width"), abs=1e-6)


def test_the_pinball_loss_of_the_median_is_half_the_absolute_error() -> None:
    assert pinball(ACTUAL, FORECAST, 0.5) == pytest.approx(np.abs(ACTUAL - FORECAST) / 2)


def test_the_floor_tames_values_next_to_zero() -> None:
    actual, forecast, one = np.array([[0.0]]), np.array([[0.01]]), np.ones((1, 1))
    assert smape(actual, forecast, one, 0.0) == pytest.approx(2.0)
    assert smape(actual, forecast, one, 1.0) == pytest.approx(0.02)


def test_nothing_observed_gives_no_number() -> None:
    nothing = np.zeros_like(WEIGHT)
    assert np.isnan(q_risk(ACTUAL, FORECAST, 0.5, nothing))
    assert np.isnan(mae(ACTUAL, FORECAST, nothing, axis=0)).all()
    assert np.isnan(q_risk(0 * ACTUAL, FORECAST, 0.5, WEIGHT))
