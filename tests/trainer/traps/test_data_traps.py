"""Traps of the stock trainer, data. Each test shows the trap, then ours on the same data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data import (
    EncoderNormalizer,
    GroupNormalizer,
    MultiNormalizer,
    NaNLabelEncoder,
    TorchNormalizer,
)
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss

from tests.trainer.traps.stock_way import (
    ENCODER,
    HORIZON,
    IGNORED,
    ODD_NAMES,
    dataset,
    first_batch,
    fit,
    fleet,
    loader,
    network,
)
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping
from trainer.dataset.series import load_series
from trainer.windows import WindowSource

pytestmark = [pytest.mark.slow, *(pytest.mark.filterwarnings(warning) for warning in IGNORED)]


def two_metrics(big: float = 1.0, small: float = 0.01) -> pd.DataFrame:
    frame = fleet(metrics=["cpu_percent", "load_average"])
    return frame.assign(cpu_percent=frame["cpu_percent"] * big, load_average=frame["load_average"] * small)


def several(*normalizers: Any) -> Any:
    return MultiNormalizer(list(normalizers))


def per_server() -> Any:
    return GroupNormalizer(groups=["server"])


def source_of(run: Any, series: Any, **more: Any) -> WindowSource:
    """Windows of other data, cut and scaled as the run says."""
    return WindowSource(
        series,
        run.layout,
        run.scaling,
        encoder_length=run.spec.encoder_length,
        horizon=run.spec.horizon,
        device=torch.device("cpu"),
        **more,
    )


def test_whole_numbers_are_classes_there_and_numbers_here(our_way: Any) -> None:
    frame = fleet().astype({"cpu_percent": "int64"})
    data = dataset(frame)
    _, (classes, _) = first_batch(data)

    x, (actual, _) = next(iter(our_way(frame).validation_batches))

    assert isinstance(data.target_normalizer, NaNLabelEncoder)
    assert classes.dtype == torch.int64
    assert classes.max() < 30  # not one of the values
    assert actual.dtype == torch.float32
    assert set(actual.flatten().tolist()) <= set(frame["cpu_percent"].astype(float))
    assert not torch.equal(x["encoder_cont"], x["encoder_cont"].round())


def flat_then_up() -> pd.DataFrame:
    frame = fleet(steps=60)
    still = frame["server"] == "server-0"
    return frame.assign(
        cpu_percent=frame["cpu_percent"].where(~still, np.where(frame["time_idx"] < 30, 70.0, 75.0))
    )


def test_a_flat_window_pins_the_forecast_there_and_has_a_floor_here(our_way: Any) -> None:
    """A disk stands at 70 for 30 steps, then at 75: the windows just before the step."""
    frame = flat_then_up()
    data = dataset(frame, target_normalizer=EncoderNormalizer())
    model, (x, (actual, weight)) = network(data), first_batch(data, 200)
    before = (x["target_scale"][:, 1] < 1e-6) & (actual[:, -1] == 75) & (x["encoder_target"][:, -1] == 70)
    forecast = model(x)["prediction"]
    QuantileLoss()(forecast[before], (actual[before], weight)).backward()

    run = our_way(frame, normalizer="window_standard")
    origins = torch.tensor([28, 29, 30])
    own_x, own_y = run.source.batch(torch.zeros(3, dtype=torch.int64), origins)
    torch.autograd.backward(run.model.training_step((own_x, own_y), 0))

    assert int(before.sum()) == 3
    assert x["target_scale"][before, 1].max() == pytest.approx(1.19e-7, rel=0.01)
    assert (forecast[before] - 70).abs().max() < 1e-4
    assert model.output_layer.bias.grad.abs().max() < 1e-6
    assert own_x["target_scale"][:, 1].min() > 0.01
    assert run.model.output_layer.bias.grad.abs().max() > 0.01
    assert (run.model.quantiles(own_x) - 70).abs().max() > 0.01


def test_the_normalizer_in_the_model_is_that_of_the_last_sample_there_and_never_moves_here(
    our_way: Any,
) -> None:
    frame = fleet()
    data = dataset(frame, target_normalizer=EncoderNormalizer())
    model, states = network(data), []
    for sample in (0, len(data) - 1):
        data[sample]
        states.append(float(model.output_transformer.center_))

    run = our_way(frame, normalizer="window_standard")
    before = dict(vars(run.model.output_transformer))
    first = list(run.validation_batches)
    again = list(run.validation_batches)

    assert model.output_transformer is data.target_normalizer
    assert states[0] != states[1]
    assert vars(run.model.output_transformer) == before
    assert all(
        torch.equal(one[0]["target_scale"], other[0]["target_scale"])
        for one, other in zip(first, again, strict=True)
    )


def test_a_percentage_drowns_a_load_average_there_and_weighs_alike_here(our_way: Any) -> None:
    frame = two_metrics()
    targets = ["cpu_percent", "load_average"]
    data = dataset(frame, targets, target_normalizer=several(per_server(), per_server()))
    loss = MultiLoss([QuantileLoss(), QuantileLoss()])
    model = network(data, loss=loss, output_size=[7, 7])
    x, (actual, _) = first_batch(data)
    forecast = model(x)["prediction"]
    theirs = [
        float(metric(own, (values, None)))
        for metric, own, values in zip(loss.metrics, forecast, actual, strict=True)
    ]

    run = our_way(frame, target_metrics=targets)
    losses = []
    for factor in (1.0, 1000.0):  # the same load in thousandths
        scaled = our_way(two_metrics(small=0.01 * factor), target_metrics=targets)
        scaled.model.load_state_dict(run.model.state_dict())
        scaled.model.eval()
        losses.append(float(scaled.model.training_step(next(iter(scaled.validation_batches)), 0)))

    assert theirs[1] < 0.02 * sum(theirs)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("several_targets", [False, True], ids=["one target", "two targets"])
def test_a_new_server_is_a_key_error_there_and_gets_a_forecast_of_its_own_scale_here(
    our_way: Any, *, several_targets: bool
) -> None:
    frame = two_metrics()
    targets = ["cpu_percent", "load_average"] if several_targets else ["cpu_percent"]
    newcomer = frame[frame["server"] == "server-1"].assign(
        server="new", cpu_percent=lambda f: f.cpu_percent + 900
    )
    normalizer = several(per_server(), per_server()) if several_targets else per_server()
    data = dataset(frame, targets if several_targets else "cpu_percent", target_normalizer=normalizer)
    with pytest.raises(KeyError, match="Unknown category 'new'"):
        TimeSeriesDataSet.from_dataset(data, newcomer)[0]

    run = our_way(frame, target_metrics=targets)
    renamed = replace(
        our_way(newcomer, target_metrics=targets).series, series_names=["new"], categories={"server": ["new"]}
    )
    source = source_of(run, renamed, history_end=np.array([30]))
    x, _ = source.batch(torch.tensor([0]), torch.tensor([30]))
    run.model.eval()
    forecast = run.model.quantiles(x)

    assert x["encoder_cat"].unique().tolist() == [0]
    assert forecast.isfinite().all()
    assert (forecast[0, :, 0] - newcomer["cpu_percent"].iloc[29]).abs().max() < 100


def test_the_row_of_the_unknown_is_a_frozen_zero_there_and_is_trained_here(our_way: Any) -> None:
    frame = fleet()
    encoders = {name: NaNLabelEncoder(add_nan=True) for name in ("server", "__group_id__server")}
    data = dataset(frame, static_categoricals=["server"], categorical_encoders=encoders)
    model = network(data)
    fit(model, loader(data))

    run = our_way(frame, learning_rate=0.01)
    before = run.model.input_embeddings["c000"].weight.detach().clone()
    fit(run.model, run.train_batches)

    assert model.input_embeddings["server"].weight[0].abs().max() == 0
    assert (run.model.input_embeddings["c000"].weight[0] != before[0]).all()


def test_a_clock_that_starts_again_leaves_nothing_there_and_all_of_it_here(our_way: Any) -> None:
    later = fleet().assign(time_idx=lambda frame: frame["time_idx"] + 1000)
    earlier = fleet(seed=1)
    data = dataset(later)
    assert data.get_parameters()["min_prediction_idx"] == 1000
    with pytest.raises(ValueError, match="0 sample"):
        TimeSeriesDataSet.from_dataset(data, earlier)

    run = our_way(later)
    source = source_of(
        run, our_way(earlier.assign(timestamp=earlier["timestamp"] - pd.Timedelta("900D"))).series
    )
    x, (actual, _) = source.batch(torch.tensor([0]), torch.tensor([ENCODER]))

    assert run.parameters["min_prediction_idx"] is None
    assert actual[0].tolist() == pytest.approx(earlier["cpu_percent"][ENCODER : ENCODER + HORIZON].tolist())
    assert run.model.eval().quantiles(x).isfinite().all()


def test_one_missing_value_is_reported_as_all_of_them_there_and_as_one_here(our_way: Any) -> None:
    frame = two_metrics()
    frame.loc[5, "cpu_percent"] = np.nan
    with pytest.raises(ValueError, match=r"80 \(100.00%\) of cpu_percent values"):
        dataset(
            frame,
            ["cpu_percent", "load_average"],
            target_normalizer=several(TorchNormalizer(), TorchNormalizer()),
        )
    with pytest.raises(ValueError, match=r"\(100.00%\) of cpu_percent values"):
        dataset(frame.fillna(np.inf))

    run = our_way(frame, target_metrics=["cpu_percent", "load_average"])
    (finding,) = (f for f in run.data.schema.findings if f.code == "missing_values")

    assert finding.row_count == 1
    assert finding.examples == [{"series": "server-0", "row": 6, "column": "cpu_percent", "value": "missing"}]


def test_a_gap_is_filled_and_trained_on_there_and_carries_no_loss_here(our_way: Any) -> None:
    frame = fleet(2, 60).assign(cpu_percent=lambda frame: frame["time_idx"] + 0.5)
    frame = frame.drop(index=range(20, 27))
    with pytest.raises(AssertionError, match="larger than 1"):
        dataset(frame)
    data = dataset(frame, allow_missing_timesteps=True, target_normalizer=per_server())
    invented = [
        (y.tolist(), weight)
        for _, (y, weight) in (data[i] for i in range(len(data)))
        if 19.5 in y[1:] and y[0] == 19.5
    ]

    run = our_way(frame)
    _, (actual, weights) = run.source.batch(torch.tensor([0]), torch.tensor([19]))

    assert invented
    assert invented[0] == ([19.5, 19.5, 27.5], None)  # 7 steps are one, and count in full
    assert weights[0].tolist() == [1.0, 0.0, 0.0]
    assert actual[0, 0] == 19.5
    assert any(finding.code == "gaps" and finding.row_count == 7 for finding in run.series.findings)


def test_jittering_stamps_collide_when_numbered_there_and_are_aligned_here(our_way: Any) -> None:
    """Stamps 20 s around a step of 300 s, numbered as tutorials do it: time since the start, divided."""
    frame, random = fleet(2, 200), np.random.default_rng(1)
    stamps = frame["timestamp"] + pd.to_timedelta(random.uniform(-20, 20, len(frame)), unit="s")
    since = (stamps - stamps.groupby(frame["server"]).transform("min")).dt.total_seconds()
    frame = frame.assign(timestamp=stamps, time_idx=(since // 300).astype(int))
    collisions = int(frame.duplicated(["server", "time_idx"]).sum())
    with pytest.raises(AssertionError, match="larger than 1"):
        dataset(frame)
    survivors = len(dataset(frame, allow_missing_timesteps=True))

    run = our_way(frame)
    unaligned = next(finding for finding in run.series.findings if finding.code == "unaligned")

    assert collisions > 50
    assert survivors < 0.9 * 2 * (200 - ENCODER - HORIZON + 1)
    assert run.series.lengths.tolist() == [200, 200]
    assert run.series.observed["cpu_percent"].all()
    assert (unaligned.row_count, unaligned.series_count) == (400, 2)


@pytest.mark.parametrize("name", ["cpu", "type", "half", "net.in", "forward", "state_dict"])
def test_a_metric_named_like_a_part_of_torch_ends_there_and_trains_here(our_way: Any, name: str) -> None:
    frame = fleet().rename(columns={"cpu_percent": name})
    with pytest.raises((KeyError, ValueError), match=r"already exists|must not contain"):
        network(dataset(frame, name))

    run = our_way(frame, target_metrics=[name])

    assert run.model.training_step(next(iter(run.train_batches)), 0).isfinite()


def test_a_whole_training_on_such_names_keeps_them_in_its_result(odd_run: Any) -> None:
    assert list(odd_run.result["scores"]["targets"]) == ODD_NAMES
    assert set(odd_run.result["best"]["val_loss_per_target"]) == set(ODD_NAMES)
    assert all(value > 0 for value in odd_run.result["best"]["val_loss_per_target"].values())


def test_an_unsigned_clock_and_a_numbered_rack_end_there_and_are_read_here(tmp_path: Any) -> None:
    frame = fleet().astype({"time_idx": "uint32"}).assign(rack=7)
    with pytest.raises(AssertionError, match="should be of type integer"):
        dataset(frame)
    with pytest.raises(ValueError, match="was found to be numeric"):
        dataset(frame.astype({"time_idx": "int64"}), static_categoricals=["rack"])

    path, mapping = tmp_path / "data.parquet", DatasetMapping(group_columns=["server", "rack"])
    seconds = (frame["timestamp"].astype("int64") // 10**6).astype("uint32")
    table = pa.table({"time": pa.array(seconds, pa.uint32()), "server": frame["server"]})
    table = table.append_column("rack", pa.array(frame["rack"], pa.uint8()))
    pq.write_table(table.append_column("cpu_percent", pa.array(frame["cpu_percent"])), path)
    schema = inspect(path, "parquet", mapping)
    series = load_series(path, "parquet", mapping, schema, ["cpu_percent"], ["rack"], "interpolate")

    assert schema.starts_at == frame["timestamp"].min()
    assert schema.frequency_seconds == 300
    assert series.series_names == ["server-0/7", "server-1/7"]
    assert series.categories == {"rack": ["7", "7"]}
