from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainer.evaluation.verdict import WindowLosses, judge

HORIZON = 12


def windows(series: int, origins: int) -> tuple[np.ndarray, np.ndarray]:
    series_index = np.repeat(np.arange(series), origins)
    return series_index, (np.arange(series)[:, None] * 1000 + np.arange(origins)).ravel()


def losses(model: Any, rival: Any, n: int) -> WindowLosses:
    ones = np.ones(n)
    return WindowLosses(model * ones, rival * ones, 20.0 * ones, model * ones, rival * ones, HORIZON * ones)


def verdict(model: Any, rival: Any, *, series: int = 30, origins: int = 24, seed: int = 1) -> dict[str, Any]:
    series_index, origin_row = windows(series, origins)
    return judge(losses(model, rival, len(origin_row)), series_index, origin_row, HORIZON, seed)


def noise(n: int, scale: float, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, n)


def test_a_clear_winner_is_better_and_a_clear_loser_worse() -> None:
    spread = noise(720, 0.3)
    better = verdict(1.0 + spread, 1.5 + spread)
    assert better["verdict"] == "better"
    assert better["q_risk_difference"] == pytest.approx(-0.5 / 20)
    assert better["mae_difference"] == pytest.approx(-0.5 / HORIZON)
    assert better["interval"][1] < 0
    assert better["reason"] is None
    assert verdict(1.5 + spread, 1.0 + spread)["verdict"] == "worse"


def test_equal_forecasts_are_inconclusive() -> None:
    tie = verdict(1.0, 1.0)
    assert (tie["verdict"], tie["interval"]) == ("inconclusive", [0.0, 0.0])
    assert "zero" in tie["reason"]


def test_differences_that_are_only_noise_are_inconclusive() -> None:
    assert verdict(1.0 + noise(720, 0.5, 1), 1.0 + noise(720, 0.5, 2))["verdict"] == "inconclusive"


def test_a_winner_on_one_server_alone_is_inconclusive() -> None:
    gain = np.repeat([20.0] + [0.0] * 29, 24) + noise(720, 0.1)
    answer = verdict(30.0 - gain, 30.0)
    assert answer["q_risk_difference"] < 0
    assert answer["verdict"] == "inconclusive"


def test_windows_of_one_block_do_not_count_as_independent() -> None:
    """Twelve neighbours that share their luck weigh as one: single windows would call this a win."""
    luck = noise(20, 1.0)
    gain = np.repeat(luck - luck.mean() - 0.2, 12)
    answer = verdict(1.0 + gain, 1.0, series=1, origins=240)
    assert (answer["blocks"], answer["resampled"]) == (20, "blocks")
    assert answer["verdict"] == "inconclusive"
    assert abs(gain.mean()) > 2.5 * gain.std() / np.sqrt(240)


def test_blocks_span_at_least_a_horizon_and_the_rest_joins_the_last() -> None:
    assert verdict(1.0, 1.0, series=4, origins=35)["blocks"] == 8
    assert verdict(1.0, 1.0, series=4, origins=36)["blocks"] == 12
    assert verdict(1.0, 1.0, series=9, origins=1)["blocks"] == 9


def test_few_series_are_resampled_by_blocks_alone() -> None:
    assert verdict(1.0, 2.0, series=9)["resampled"] == "blocks"
    assert verdict(1.0, 2.0, series=10)["resampled"] == "series and blocks"


def test_fewer_than_eight_blocks_are_inconclusive_with_the_reason() -> None:
    answer = verdict(1.0, 9.0, series=7, origins=12)
    assert (answer["verdict"], answer["blocks"]) == ("inconclusive", 7)
    assert "only 7 blocks" in answer["reason"]


def test_nothing_but_zeros_is_inconclusive() -> None:
    series_index, origin_row = windows(30, 24)
    none = losses(1.0, 2.0, 720)
    empty = WindowLosses(
        none.model, none.rival, 0 * none.size, none.model_error, none.rival_error, none.count
    )
    answer = judge(empty, series_index, origin_row, HORIZON, 1)
    assert (answer["verdict"], answer["q_risk_difference"]) == ("inconclusive", None)


def test_the_same_seed_gives_the_same_interval_and_order_does_not_matter() -> None:
    model = 1.0 + noise(720, 0.5)
    first = verdict(model, 1.1, seed=7)
    assert verdict(model, 1.1, seed=7) == first
    assert verdict(model, 1.1, seed=8)["interval"] != first["interval"]
    series_index, origin_row = windows(30, 24)
    mixed = np.random.default_rng(0).permutation(720)
    shuffled = judge(losses(model[mixed], 1.1, 720), series_index[mixed], origin_row[mixed], HORIZON, 7)
    assert shuffled["interval"] == pytest.approx(first["interval"], abs=1e-12)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """One block a series: the bootstrap of a mean over 400 series has the standard error of that mean."""
    each = np.repeat(noise(400, 1.0), HORIZON)
    answer = verdict(1.0 + each, 1.0, series=400, origins=HORIZON)
    expected = 2 * 1.96 * noise(400, 1.0).std() / np.sqrt(400) / 20
    assert answer["interval"][1] - answer["interval"][0] == pytest.approx(expected, rel=0.1)
