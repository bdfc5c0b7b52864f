from __future__ import annotations

from typing import Any

from rich.console import Console

from foretrain.scores import score_table


def scores(q_risk: float) -> dict[str, Any]:
    return {"q_risk": q_risk, "mae": 1.25, "intervals": {"80": {"coverage": 0.81}}}


def shown(result: dict[str, Any]) -> str:
    console = Console(width=80, record=True)
    console.print(score_table(result))
    return console.export_text()


def make_result(**changes: Any) -> dict[str, Any]:
    verdict = {"verdict": "better", "against": "seasonal_naive", "reason": None}
    target = {
        "model": scores(0.111),
        "rivals": {"last_value": scores(0.333), "seasonal_naive": scores(0.222)},
        "verdict": verdict,
        "verdict_reason": None,
    }
    whole = {
        "scored_on": "test",
        "windows": {"scored": 99},
        "season": {"name": "day", "steps": 288},
        "season_reason": "",
        "targets": {"cpu_percent": target | changes},
    }
    return {"scores": whole}


def test_the_rivals_stand_beside_the_model_with_the_verdict() -> None:
    text = shown(make_result())

    for part in ("99 test windows", "cpu_percent", "0.111", "0.222", "0.333", "1.25", "81%", "better"):
        assert part in text
    assert "better than the better rival, seasonal naive" in text


def test_a_missing_season_and_a_missing_verdict_are_explained() -> None:
    result = make_result(
        rivals={"last_value": scores(0.333), "seasonal_naive": None},
        verdict=None,
        verdict_reason="the scores come from validation",
    )
    result["scores"] |= {"season": None, "season_reason": "no season fits twice"}

    text = shown(result)

    assert "cpu_percent: the scores come from validation" in text
    assert "no seasonal-naive: no season fits twice" in text
