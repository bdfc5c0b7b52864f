from __future__ import annotations

from typing import Any

from benchmarks.quality_tables import quality_tables

COVERAGES = {
    f"{name}_{nominal}": nominal / 100
    for name in ("coverage", "coverage_calibrated")
    for nominal in (50, 80, 96)
}


def _run(q_risk: float, val_loss: float, groups: tuple[str, ...] = ("seen", "new")) -> dict[str, Any]:
    figures = COVERAGES | {"q_risk": q_risk, "q_risk_calibrated": q_risk, "mae": 1.5}
    return {"best": {"val_loss": val_loss} | {group: {"cpu_percent": figures} for group in groups}}


def test_each_contestant_stands_with_mean_and_interval() -> None:
    table = quality_tables({"darts": {1: _run(0.04, 1.0), 2: _run(0.06, 1.0)}}, ("cpu_percent",))

    # t(0.975, 1) = 12.706, deviation 0.01 * sqrt(2), over sqrt(2)
    assert (
        "| darts | best | 2 | 0.0500 ± 0.1271 | 0.0500 ± 0.1271 | 1.500 ± 0.000 | 50 / 50 | 80 / 80 |"
        in table
    )


def test_ours_is_set_against_each_other_seed_by_seed() -> None:
    scores = {
        "ours": {1: _run(0.04, 0.9), 2: _run(0.05, 0.9)},
        "darts": {1: _run(0.05, 1.0), 2: _run(0.0625, 1.0), 3: _run(9.0, 1.0)},
    }

    table = quality_tables(scores, ("cpu_percent",))

    assert "| darts | best | q-risk cpu_percent, seen | 2 | -20.0 ± 0.0 % |" in table
    assert "| darts | best | val_loss | 2 | -10.0 ± 0.0 % |" in table


def test_a_contestant_without_new_servers_is_left_out_there_only() -> None:
    scores = {"baseline": {1: _run(0.05, 1.0, groups=("seen",))}}

    table = quality_tables(scores, ("cpu_percent",))

    assert "Servers trained on, cpu_percent" in table
    assert "Servers never seen" not in table
