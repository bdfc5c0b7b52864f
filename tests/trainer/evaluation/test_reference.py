"""The evaluation beside a second one that shares no line with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.trainer.evaluation.reference import (
    HORIZON,
    SEED,
    TARGETS,
    Case,
    random_case,
    reference_block_sums,
    reference_interval,
    reference_last_value,
    reference_published,
    reference_scores,
    reference_season,
    reference_seasonal,
    reference_shifts,
    reference_trust,
    windows_of,
)

SEEDS = (0, 1, 2)
CLOSE = 1e-6


@pytest.fixture(scope="module", params=SEEDS)
def case(request: pytest.FixtureRequest) -> Case:
    return random_case(request.param)


def assert_equal_scores(ours: dict[str, Any], reference: dict[str, Any]) -> None:
    for name, expected in reference.items():
        if isinstance(expected, dict):
            assert set(ours[name]) == set(expected)
            assert_equal_scores(ours[name], expected)
        else:
            assert ours[name] == pytest.approx(expected, rel=CLOSE, abs=CLOSE), name


def at_step(scores: dict[str, Any], step: int) -> dict[str, Any]:
    """One step's numbers out of `by_horizon`."""
    return {
        name: at_step(value, step)
        if isinstance(value, dict)
        else value[step]
        if isinstance(value, list)
        else value
        for name, value in scores.items()
    }


@pytest.mark.parametrize("place", [0, 1], ids=TARGETS)
def test_raw_scores_equal_the_formulas_in_all_and_per_step(case: Case, place: int) -> None:
    assert case.inputs.test is not None
    ours = case.scores["targets"][TARGETS[place]]["model_raw"]
    forecasts = case.inputs.test.quantiles[:, :, place].astype(np.float64).tolist()

    assert_equal_scores(ours, reference_scores(case, TARGETS[place], forecasts))
    for step in range(HORIZON):
        expected = reference_scores(case, TARGETS[place], forecasts, step)
        assert_equal_scores(at_step(ours["by_horizon"], step), expected)


@pytest.mark.parametrize("place", [0, 1], ids=TARGETS)
def test_calibrated_scores_equal_shifts_derived_a_second_time(case: Case, place: int) -> None:
    ours = case.scores["targets"][TARGETS[place]]
    expected = reference_scores(case, TARGETS[place], reference_published(case, place))

    assert_equal_scores(ours["model"], expected)
    assert ours["model"]["intervals"]["80"]["coverage"] > ours["model_raw"]["intervals"]["80"]["coverage"]


def test_newer_validation_windows_weigh_more_in_both() -> None:
    """Enough windows for the decay of trust to take part."""
    large = random_case(7, servers=60)
    trust = reference_trust(windows_of(large.inputs.validation))
    shifts, floor = reference_shifts(large, 0)
    parameters = large.scores["calibration"]["parameters"]

    assert min(trust) < 0.5 < max(trust) == 1.0
    assert parameters["floors"][0] == pytest.approx(floor, rel=CLOSE)
    assert np.array(parameters["shifts"][0]) == pytest.approx(np.array(shifts), rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize("target", TARGETS)
def test_both_naive_rivals_equal_their_definition(case: Case, target: str) -> None:
    season = reference_season(case)
    ours = case.scores["targets"][target]["rivals"]

    assert season == ("hour", 4)
    assert case.scores["season"] == {"name": "hour", "steps": 4}
    assert_equal_scores(
        ours["last_value"], reference_scores(case, target, reference_last_value(case, target))
    )
    assert_equal_scores(
        ours["seasonal_naive"], reference_scores(case, target, reference_seasonal(case, target, season[1]))
    )


@pytest.mark.parametrize("place", [0, 1], ids=TARGETS)
def test_the_verdicts_interval_equals_a_bootstrap_by_loops(case: Case, place: int) -> None:
    target = TARGETS[place]
    ours = case.scores["targets"][target]["verdict"]["rivals"]["last_value"]
    sums = reference_block_sums(
        case, target, reference_published(case, place), reference_last_value(case, target)
    )
    blocks = [block for blocks in sums for block in blocks]
    difference = sum(block[0] for block in blocks) / sum(block[1] for block in blocks)
    low, high = reference_interval(sums, np.random.default_rng(SEED))

    assert (ours["series"], ours["blocks"]) == (len(sums), len(blocks))
    assert ours["q_risk_difference"] == pytest.approx(difference, abs=CLOSE)
    assert ours["interval"] == pytest.approx([low, high], abs=CLOSE)
    assert ours["verdict"] == ("better" if high < 0 else "worse" if low > 0 else "inconclusive")


def test_another_seed_moves_the_interval_but_not_what_it_says(case: Case) -> None:
    ours = case.scores["targets"]["cpu"]["verdict"]["rivals"]["last_value"]
    sums = reference_block_sums(case, "cpu", reference_published(case, 0), reference_last_value(case, "cpu"))
    low, high = reference_interval(sums, np.random.default_rng(SEED + 1))
    width = ours["interval"][1] - ours["interval"][0]

    assert ours["interval"] != pytest.approx([low, high], rel=1e-9)
    assert [low, high] == pytest.approx(ours["interval"], abs=0.15 * width)
    assert (low > 0, high < 0) == (ours["interval"][0] > 0, ours["interval"][1] < 0)
