# ruff: noqa: PD011 - SeriesData.values is no data frame's
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet

from trainer import stock
from trainer.layout import SERIES, TIME_INDEX, Layout
from trainer.scaling import fit_scaling
from trainer.split import split_series

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.scaling import Scaling
    from trainer.spec import TrainingSpec

LAYOUT = Layout(("cpu_percent", "memory_percent"), (), (), (), ("server",))


@pytest.fixture
def fitted(make_series: Any, make_spec: Any) -> Callable[[str], tuple[Scaling, TrainingSpec]]:
    def fit(normalizer: str) -> tuple[Scaling, TrainingSpec]:
        spec = make_spec(normalizer=normalizer, target_metrics=list(LAYOUT.targets))
        series = make_series([60, 50], LAYOUT.targets)
        split = split_series(
            series,
            encoder_length=spec.encoder_length,
            horizon=spec.horizon,
            validation_split=0.2,
            test_split=0.1,
            window_stride=1,
        )
        return fit_scaling(series, split, LAYOUT, normalizer), spec  # type: ignore[arg-type]

    return fit


def frame(names: list[str], start: int = 1_000_000, rows: int = 20) -> pd.DataFrame:
    parts = (
        pd.DataFrame(
            {
                SERIES: name,
                TIME_INDEX: np.arange(start, start + rows),
                "c000": name,
                "m000": np.linspace(20.0, 30.0, rows),
                "m001": np.linspace(500.0, 600.0, rows),
            }
        )
        for name in names
    )
    return pd.concat(parts, ignore_index=True)


def test_the_network_has_the_arguments_stock_would_deduce_from_a_data_set(fitted: Any) -> None:
    scaling, spec = fitted("window_standard")
    dataset = TimeSeriesDataSet.from_parameters(
        stock.dataset_parameters(LAYOUT, scaling, spec), frame(["server-00", "server-01"])
    )
    parameters = stock.dataset_parameters(LAYOUT, scaling, spec)
    ours = stock.network_arguments(LAYOUT, scaling, spec) | stock.outer_arguments(LAYOUT, parameters)
    theirs = TemporalFusionTransformer.from_dataset(
        dataset, **{name: ours[name] for name in ("loss", "hidden_size", "embedding_paddings")}
    )

    deduced = (
        "output_size",
        "max_encoder_length",
        "static_categoricals",
        "static_reals",
        "time_varying_categoricals_encoder",
        "time_varying_categoricals_decoder",
        "categorical_groups",
        "time_varying_reals_encoder",
        "time_varying_reals_decoder",
        "x_reals",
        "x_categoricals",
        "embedding_labels",
    )
    assert {name: ours[name] for name in deduced} == {name: theirs.hparams[name] for name in deduced}
    assert {name: list(size) for name, size in ours["embedding_sizes"].items()} == {
        name: list(size) for name, size in theirs.hparams["embedding_sizes"].items()
    }


def test_the_parameters_are_all_that_a_data_set_takes_and_stay_as_they_are(fitted: Any) -> None:
    scaling, spec = fitted("series_robust")
    parameters = stock.dataset_parameters(LAYOUT, scaling, spec)
    dataset = TimeSeriesDataSet.from_parameters(parameters, frame(["server-00", "server-01"]))
    kept = dataset.get_parameters()

    assert set(kept) == set(parameters)
    plain = [name for name, value in parameters.items() if not hasattr(value, "fit") and name != "scalers"]
    fitted_ones = {"categorical_encoders", "min_prediction_idx", "add_encoder_length"}
    assert {name: kept[name] for name in plain if name not in fitted_ones} == {
        name: parameters[name] for name in plain if name not in fitted_ones
    }


@pytest.mark.parametrize("normalizer", ["window_standard", "series_standard"])
def test_stock_takes_a_server_it_has_never_seen(fitted: Any, normalizer: str) -> None:
    scaling, spec = fitted(normalizer)
    dataset = TimeSeriesDataSet.from_parameters(
        stock.dataset_parameters(LAYOUT, scaling, spec), frame(["new", "server-01"]), predict=True
    )
    x, _ = next(iter(dataset.to_dataloader(train=False, batch_size=2)))

    assert sorted(x["encoder_cat"][:, 0, 0].tolist()) == [0, 2]
    assert torch.isfinite(x["encoder_cont"]).all()


def test_stock_takes_data_from_before_the_training_data(fitted: Any) -> None:
    scaling, spec = fitted("window_standard")
    dataset = TimeSeriesDataSet.from_parameters(
        stock.dataset_parameters(LAYOUT, scaling, spec), frame(["server-00"], start=10), predict=True
    )

    assert len(dataset) == 1


def test_a_flat_series_is_scaled_by_the_floor_in_stock_too(make_series: Any) -> None:
    series, layout = make_series([60, 60]), Layout(("cpu_percent",), (), (), (), ())
    series.values["cpu_percent"][:60] = 7.0
    split = split_series(
        series, encoder_length=6, horizon=3, validation_split=0.2, test_split=0.1, window_stride=1
    )
    scaling = fit_scaling(series, split, layout, "series_standard")

    normalizer = stock.target_normalizer(layout, scaling)

    centre, scale = normalizer.get_parameters([1])
    assert centre == 7.0
    assert scale == pytest.approx(scaling.floors[0])
