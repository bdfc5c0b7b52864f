from __future__ import annotations

from trainer.layout import Layout
from trainer.spec import TrainingSpec


def test_columns_have_names_inside_that_no_library_trips_over() -> None:
    layout = Layout(("cpu", "net.in"), ("hour_of_day",), ("type",), ("half",), ("to",))

    assert layout.internal == {"cpu": "m000", "net.in": "m001", "type": "m002", "half": "m003"}
    assert layout.internal_statics == {"to": "c000"}
    assert layout.readable == {
        "m000": "cpu",
        "m001": "net.in",
        "m002": "type",
        "m003": "half",
        "c000": "to",
    }


def test_inputs_stand_in_the_order_of_pytorch_forecasting() -> None:
    layout = Layout(("cpu",), ("hour_of_day",), ("plan",), ("fan",), ())

    assert layout.reals == [
        "hour_of_day_sin",
        "hour_of_day_cos",
        "m001",
        "relative_time_idx",
        "m002",
        "m000",
    ]


def test_a_column_of_the_dataset_wins_over_a_calendar_feature_of_its_name() -> None:
    spec = TrainingSpec(target_metrics=["cpu"], known_covariates=["hour_of_day", "day_of_week"])

    layout = Layout.of(spec, ["cpu", "day_of_week"])

    assert layout.calendar == ("hour_of_day",)
    assert layout.known == ("day_of_week",)
