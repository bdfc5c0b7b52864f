# ruff: noqa: PD011 - SeriesData.values is no data frame's
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_forecasting import TimeSeriesDataSet

from trainer import stock
from trainer.batches import WindowBatches
from trainer.clock import calendar_names, calendar_values
from trainer.layout import SERIES, TIME_INDEX, Layout
from trainer.scaling import fit_scaling
from trainer.split import Windows, split_series
from trainer.windows import WindowSource, calendar_table, first_time_indices

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.dataset.series import SeriesData
    from trainer.scaling import Scaling
    from trainer.spec import TrainingSpec

    MakeSeries = Callable[..., SeriesData]
    MakeSpec = Callable[..., TrainingSpec]

CPU = torch.device("cpu")
COLUMNS = ("cpu_percent", "memory_percent", "plan", "fan")


def layout_of(targets: int) -> Layout:
    return Layout(
        targets=COLUMNS[:targets],
        calendar=("hour_of_day",),
        known=("plan",),
        observed=("fan",),
        statics=("server",),
    )


def scaled(series: SeriesData, layout: Layout, spec: TrainingSpec) -> Scaling:
    split = split_series(
        series,
        encoder_length=spec.encoder_length,
        horizon=spec.horizon,
        validation_split=spec.validation_split,
        test_split=spec.test_split,
        window_stride=1,
    )
    return fit_scaling(series, split, layout, spec.normalizer)


def source_of(series: SeriesData, layout: Layout, scaling: Scaling, spec: TrainingSpec) -> WindowSource:
    return WindowSource(
        series, layout, scaling, encoder_length=spec.encoder_length, horizon=spec.horizon, device=CPU
    )


def all_windows(series: SeriesData, spec: TrainingSpec) -> Windows:
    counts = series.lengths - spec.encoder_length - spec.horizon + 1
    return Windows(np.arange(series.n_series), series.offsets[:-1] + spec.encoder_length, counts, 1)


def stock_frame(series: SeriesData, layout: Layout) -> pd.DataFrame:
    """The same data as a user of pytorch-forecasting would hold them."""
    place = np.repeat(np.arange(series.n_series), series.lengths)
    within = np.arange(len(series.times)) - series.offsets[place]
    columns: dict[str, Any] = {
        SERIES: [series.series_names[i] for i in place],
        TIME_INDEX: first_time_indices(series)[place] + within,
    }
    for name, inside in layout.internal_statics.items():
        columns[inside] = [series.categories[name][i] for i in place]
    for index, name in enumerate(calendar_names(layout.calendar)):
        columns[name] = calendar_values(layout.calendar, series.times)[:, index]
    for name, inside in layout.internal.items():
        columns[inside] = series.values[name].astype(np.float64)
    return pd.DataFrame(columns)


def assert_same(ours: Any, theirs: Any, what: str) -> None:
    if isinstance(theirs, list):
        assert isinstance(ours, list), what
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{what}[{index}]")
        return
    if theirs is None:
        assert ours is None, what
        return
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, msg=lambda detail: f"{what}: {detail}")


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize(
    "normalizer", ["window_robust", "window_standard", "series_robust", "series_standard", "none"]
)
def test_a_batch_equals_what_time_series_data_set_collates(
    make_series: MakeSeries, make_spec: MakeSpec, targets: int, normalizer: str
) -> None:
    series, layout = make_series([40, 25, 33], COLUMNS), layout_of(targets)
    spec = make_spec(normalizer=normalizer)
    scaling = scaled(series, layout, spec)
    if scaling.per_window:  # pytorch-forecasting has no floor
        scaling = replace(scaling, floors=np.zeros(targets))
    dataset = TimeSeriesDataSet.from_parameters(
        stock.dataset_parameters(layout, scaling, spec), stock_frame(series, layout)
    )
    theirs = iter(dataset.to_dataloader(train=False, batch_size=16))

    source = source_of(series, layout, scaling, spec)
    for ours in WindowBatches(source, all_windows(series, spec), 16):
        their_x, their_y = next(theirs)
        assert list(ours[0]) == list(their_x)
        for key, values in their_x.items():
            assert_same(ours[0][key], values, key)
        assert_same(ours[1][0], their_y[0], "target")
        assert_same(ours[1][1], their_y[1], "weight")
    assert next(theirs, None) is None


def test_masked_steps_have_the_weight_pytorch_forecasting_gives_them(
    make_series: MakeSeries, make_spec: MakeSpec
) -> None:
    series, layout, spec = make_series([40, 30], COLUMNS), layout_of(1), make_spec()
    series.observed["cpu_percent"][17:20] = False
    scaling = replace(scaled(series, layout, spec), floors=np.zeros(1))
    frame = stock_frame(series, layout).assign(weight=series.observed["cpu_percent"].astype(float))
    parameters = stock.dataset_parameters(layout, scaling, spec) | {"weight": "weight"}
    theirs = iter(
        TimeSeriesDataSet.from_parameters(parameters, frame).to_dataloader(train=False, batch_size=64)
    )

    (_, (_, weights)), *_ = WindowBatches(
        source_of(series, layout, scaling, spec), all_windows(series, spec), 64
    )

    assert_same(weights, next(theirs)[1][1], "weight")


def test_a_flat_window_is_scaled_by_the_floor_and_not_by_next_to_nothing(
    make_series: MakeSeries, make_spec: MakeSpec
) -> None:
    series, layout, spec = make_series([40, 40]), Layout(("cpu_percent",), (), (), (), ()), make_spec()
    series.values["cpu_percent"][:40] = 42.0
    scaling = scaled(series, layout, spec)

    x, _ = source_of(series, layout, scaling, spec).batch(torch.tensor([0]), torch.tensor([10]))

    assert scaling.floors[0] > 0.1
    assert x["target_scale"][0].tolist() == pytest.approx([42.0, scaling.floors[0]])
    assert x["encoder_cont"][..., -1].abs().max() == 0.0


def test_an_integer_metric_stays_a_number_and_becomes_no_class(
    make_series: MakeSeries, make_spec: MakeSpec
) -> None:
    series, layout, spec = make_series([40, 40]), Layout(("cpu_percent",), (), (), (), ()), make_spec()
    series.values["cpu_percent"] = np.rint(series.values["cpu_percent"]).astype(np.int64)

    x, (actual, _) = source_of(series, layout, scaled(series, layout, spec), spec).batch(
        torch.tensor([0]), torch.tensor([10])
    )

    assert actual.dtype == torch.float32
    assert x["encoder_cont"].dtype == torch.float32


def test_a_series_unseen_in_training_gets_the_unknown_category_and_its_own_window_scale(
    make_series: MakeSeries, make_spec: MakeSpec
) -> None:
    layout, spec = Layout(("cpu_percent",), (), (), (), ("server",)), make_spec()
    scaling = scaled(make_series([60, 60]), layout, spec)
    stranger = replace(make_series([60]), series_names=["new"], categories={"server": ["new"]})
    stranger.values["cpu_percent"] += 1000

    x, _ = source_of(stranger, layout, scaling, spec).batch(torch.tensor([0]), torch.tensor([10]))

    assert x["encoder_cat"].unique().tolist() == [0]
    assert x["target_scale"][0, 0] > 1000
    assert x["encoder_cont"][..., -1].abs().max() < 20


def test_series_that_lie_decades_apart_do_not_blow_up_the_calendar(make_series: MakeSeries) -> None:
    series = make_series([50, 50])
    series.times[50:] -= 30 * 365 * 86_400_000_000
    together, slots_together = calendar_table(make_series([50, 50]), ("hour_of_day",))
    apart, slots_apart = calendar_table(series, ("hour_of_day",))

    assert len(together) == 50
    assert slots_together.tolist() == [0, 0]
    assert len(apart) == 100
    assert slots_apart.tolist() == [0, 50]
    torch.testing.assert_close(apart[:50], together)
