from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from trainer.dataset.schema import Column, DatasetSchema
from trainer.resolution import UnknownColumns, resolve_columns
from trainer.spec import TrainingSpec


def schema(*numeric: str, frequency: float = 300.0, steps: int = 288, **types: Any) -> DatasetSchema:
    kinds = {"timestamp": "time", "server": "text"} | dict.fromkeys(numeric, "numeric") | types
    return DatasetSchema(
        format="csv",
        time_column="timestamp",
        group_columns=["server"],
        frequency_seconds=frequency,
        columns=[Column(name=name, type=kind, missing_count=0) for name, kind in kinds.items()],
        row_count=steps,
        series_count=1,
        series_lengths={"min": steps, "median": steps, "max": steps},
        starts_at=datetime(2024, 1, 1, tzinfo=UTC),
        ends_at=datetime(2024, 1, 2, tzinfo=UTC),
    )


def problems(spec: TrainingSpec, dataset: DatasetSchema) -> list[tuple[str, str]]:
    with pytest.raises(UnknownColumns) as caught:
        resolve_columns(spec, dataset)
    return [(problem.pointer, problem.code) for problem in caught.value.problems]


def test_nothing_named_takes_cpu_percent_alone_and_says_so() -> None:
    resolved, adjustments = resolve_columns(TrainingSpec(), schema("cpu_percent", "memory_percent"))

    assert resolved.target_metrics == ["cpu_percent"]
    assert resolved.multi_target is False
    assert resolved.static_categoricals == []
    assert [a.field for a in adjustments] == ["target_metrics", "known_covariates"]


def test_multi_target_without_a_list_takes_the_usual_metrics_there_are() -> None:
    resolved, adjustments = resolve_columns(
        TrainingSpec(multi_target=True), schema("fan", "load_average", "cpu_percent")
    )

    assert resolved.target_metrics == ["cpu_percent", "load_average"]
    assert adjustments[0].effective == ["cpu_percent", "load_average"]


def test_several_named_targets_make_it_multi_target() -> None:
    resolved, _ = resolve_columns(TrainingSpec(target_metrics=["a", "b"]), schema("a", "b"))

    assert resolved.multi_target is True


def test_a_missing_target_is_pointed_at_and_the_columns_are_listed() -> None:
    with pytest.raises(
        UnknownColumns, match="no column 'disk'; those that fit are cpu_percent, fan"
    ) as caught:
        resolve_columns(TrainingSpec(target_metrics=["fan", "disk"]), schema("cpu_percent", "fan"))

    assert caught.value.problems[0].pointer == "/target_metrics/1"
    assert caught.value.problems[0].code == "unknown_column"


def test_a_missing_target_is_dropped_when_asked_for_and_reported() -> None:
    spec = TrainingSpec(target_metrics=["fan", "disk"], missing_targets="drop")
    resolved, adjustments = resolve_columns(spec, schema("fan"))

    assert resolved.target_metrics == ["fan"]
    assert (adjustments[0].requested, adjustments[0].effective) == (["fan", "disk"], ["fan"])


def test_dropping_every_target_leaves_nothing_to_train() -> None:
    spec = TrainingSpec(target_metrics=["disk"], missing_targets="drop")

    assert problems(spec, schema("fan")) == [("/target_metrics", "unknown_column")]


def test_text_is_no_target_even_where_missing_ones_are_dropped() -> None:
    spec = TrainingSpec(target_metrics=["server"], missing_targets="drop")

    assert problems(spec, schema("fan")) == [("/target_metrics/0", "wrong_type")]


def test_without_the_default_target_the_columns_are_listed() -> None:
    with pytest.raises(UnknownColumns, match="name some in target_metrics out of fan, heat"):
        resolve_columns(TrainingSpec(), schema("fan", "heat"))


@pytest.mark.parametrize(
    ("frequency", "steps", "expected"),
    [
        (300.0, 288, ["minute_of_hour"]),  # one day holds only one day
        (300.0, 288 * 3, ["minute_of_hour", "hour_of_day"]),
        (300.0, 288 * 14, ["minute_of_hour", "hour_of_day", "day_of_week"]),
        (3600.0, 24 * 70, ["hour_of_day", "day_of_week", "day_of_month"]),
        (86_400.0, 800, ["day_of_week", "day_of_month", "month_of_year"]),
    ],
)
def test_calendar_features_are_those_that_frequency_and_span_can_teach(
    frequency: float, steps: int, expected: list[str]
) -> None:
    resolved, _ = resolve_columns(
        TrainingSpec(target_metrics=["fan"]), schema("fan", frequency=frequency, steps=steps)
    )

    assert resolved.known_covariates == expected


def test_a_column_named_like_a_calendar_feature_is_not_taken_for_it() -> None:
    resolved, _ = resolve_columns(TrainingSpec(target_metrics=["fan"]), schema("fan", "minute_of_hour"))

    assert resolved.known_covariates == []


def test_every_wrong_covariate_is_pointed_at() -> None:
    spec = TrainingSpec(
        known_covariates=["plan", "hour_of_day", "cpu_percent"],
        observed_covariates=["server", "cpu_percent_"],
        static_categoricals=["fan"],
    )

    assert problems(spec, schema("cpu_percent", "fan")) == [
        ("/known_covariates/0", "unknown_column"),
        ("/known_covariates/2", "column_in_two_roles"),
        ("/observed_covariates/0", "wrong_type"),
        ("/observed_covariates/1", "unknown_column"),
        ("/static_categoricals/0", "wrong_type"),
    ]
