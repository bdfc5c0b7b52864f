"""A run to report on."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.trainer.evaluation.samples import NORMAL, QUANTILES, bell, inputs_of, series_of
from trainer.evaluation.inputs import EvaluationInputs
from trainer.evaluation.result import evaluate
from trainer.report.inputs import ExampleForecast, MetricPoint, ReportInputs

HORIZON = 12


def scores(name: str = "cpu_percent", **more: Any) -> dict[str, Any]:
    """What `evaluate` says of biased forecasts of twelve daily patterns."""
    rng = np.random.default_rng(3)
    daily = 15 * np.sin(np.arange(288) / 20)
    series = series_of([50 + daily * rng.uniform(0.5, 1) + rng.normal(0, 2, 288) for _ in range(12)])
    sigma = np.full(12, 1.2)
    validation = bell(series, 200, 250, HORIZON, sigma=sigma, bias=1.0)
    test = bell(series, 250, 288, HORIZON, sigma=sigma, bias=1.0)
    inputs = inputs_of(series, validation, test, train=200, held_out=250, **more)
    renamed = {**vars(inputs), "targets": (name,)}
    vars(renamed["series"])["values"][name] = series.values["cpu"]
    vars(renamed["series"])["observed"][name] = series.observed["cpu"]
    return evaluate(EvaluationInputs(**renamed))


def examples(target: str, names: list[str]) -> list[ExampleForecast]:
    rng = np.random.default_rng(4)
    step, first = 300_000_000, 1_767_225_600_000_000
    made = []
    for name in names:
        path = 50 + 15 * np.sin(np.arange(60) / 9) + rng.normal(0, 1, 60)
        spread = np.sqrt(np.arange(1, HORIZON + 1))[:, None] * NORMAL
        made.append(
            ExampleForecast(
                series=name,
                target=target,
                history_times=first + step * np.arange(48),
                history=path[:48],
                times=first + step * np.arange(48, 60),
                actual=np.where(np.arange(12) == 5, np.nan, path[48:]),
                quantiles=path[48:, None] + spread,
            )
        )
    return made


def interpretation(*targets: str) -> dict[str, Any]:
    """What a run says its targets depend on."""
    known: dict[str, float | None] = {"hour_of_day": 0.02, "minute_of_hour": -0.001}
    measured: dict[str, float | None] = dict.fromkeys(targets, 0.4)
    return {
        "windows": 512,
        "selection": {
            "encoder": dict.fromkeys(targets, 0.7 / len(targets)) | {"hour_of_day": 0.3},
            "decoder": {"hour_of_day": 0.8, "position in the window": 0.2},
            "static": {"server": 1.0},
        },
        "attention": np.exp(-np.arange(48)[::-1] / 15).tolist(),
        "targets": {
            name: {
                "loss": 0.5 + place,
                "importance": {"encoder": measured | known, "decoder": known, "static": {"server": 0.05}},
                "history": [
                    {"oldest": 48, "newest": 2, "rise": 0.01},
                    {"oldest": 1, "newest": 1, "rise": 0.125},
                ],
            }
            for place, name in enumerate(targets)
        },
    }


def lr_find() -> dict[str, Any]:
    rates = np.geomspace(1e-6, 1.0, 50)
    smoothed = 1 - 0.8 / (1 + np.exp(-2 * (np.log10(rates) + 3)))
    return {
        "rates": rates.tolist(),
        "losses": [*(smoothed[:-1] + 0.01), None],
        "smoothed": smoothed.tolist(),
        "suggestion": 1.25e-3,
    }


def data_report(*names: str) -> dict[str, Any]:
    """Of a fleet in which something was done to each of these."""
    series = {"steps": 288, "too_short": False, "duplicates": 3, "moved_stamps": 4, "missing_steps": 5}
    columns = {"cpu_percent": {"interpolated": 21, "masked": 14}}
    return {
        "series": 1200,
        "steps": 345_600,
        "totals": {
            "duplicates": 3,
            "moved_stamps": 4,
            "missing_steps": 5,
            "columns": columns,
            "too_short": 0,
        },
        "touched_series": len(names),
        "listed_series": len(names),
        "worst": [{"series": name, **series, "columns": columns} for name in names],
    }


def report_inputs(target: str = "cpu_percent", **more: Any) -> ReportInputs:
    steps = range(0, 3000, 10)
    metrics = [MetricPoint(step, step // 1000, "train_loss", 0.4 + 2 / (1 + step / 100)) for step in steps]
    metrics += [MetricPoint(step, step // 1000, "learning_rate", 1e-3 * np.sin(step / 955)) for step in steps]
    metrics += [MetricPoint(step, step // 1000, "grad_norm", 0.3 + (step * 7 % 90) / 100) for step in steps]
    metrics += [
        MetricPoint(step, step // 1000, "val_loss", 1.5 + (step - 2000) ** 2 / 1e7)
        for step in range(0, 3001, 500)
    ]
    content: dict[str, Any] = {
        "title": f"Forecast of {target}",
        "result": {
            "scores": scores(target),
            "interpretation": interpretation(target),
            "best": {"val_loss": 1.5, "epoch": 2, "step": 2000},
            "stop_reason": "completed",
            "epochs": 3,
            "steps": 3000,
            "parameters": 54321,
            "windows": {"train": 1680, "validation": 468, "test": 324},
            "duration_seconds": 61.25,
            "resolved_spec": {"epochs": 3, "precision": "32-true"},
            "versions": {"torch": "2.13.0"},
            "hardware": {"device": "cpu", "threads": 2},
        },
        "metrics": metrics,
        "quantiles": QUANTILES,
        "examples": examples(target, ["web-1", "web-2", "db-1", "cache-7"]),
        "adjustments": [
            {
                "field": "precision",
                "requested": "bf16-mixed",
                "effective": "32-true",
                "reason": "no bf16 on this CPU",
            }
        ],
        "warnings": ["2 series are too short"],
        "findings": [
            {
                "code": "gaps",
                "detail": "7 steps are missing.",
                "series_count": 2,
                "row_count": 7,
                "examples": [],
            }
        ],
    }
    return ReportInputs(**(content | more))
