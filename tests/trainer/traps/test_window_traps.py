"""Traps of the stock trainer, windows and quantiles. Each test shows the trap, then ours on equal data."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data import (
    GroupNormalizer,
    MultiNormalizer,
    NaNLabelEncoder,
)
from pytorch_forecasting.metrics import QuantileLoss
from pytorch_forecasting.models.nn.rnn import LSTM

from tests.trainer.traps.stock_way import (
    ENCODER,
    HORIZON,
    IGNORED,
    dataset,
    first_batch,
    fit,
    fleet,
    loader,
    network,
)
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


def test_quantiles_without_the_median_fail_after_an_epoch_there_and_before_the_run_here(
    make_spec: Any,
) -> None:
    data = dataset(fleet())
    model = network(data, loss=QuantileLoss([0.1, 0.9]), output_size=2)
    trainer = fit(model, loader(data))
    with pytest.raises(ValueError, match=r"0\.5 is not in list"):
        trainer.validate(model, data.to_dataloader(train=False, batch_size=16), verbose=False)

    with pytest.raises(ValidationError, match=r"quantiles must contain 0\.5"):
        make_spec(quantiles=[0.1, 0.9])


def test_quantiles_cross_there_and_what_we_publish_never_does(odd_run: Any) -> None:
    data = dataset(fleet())
    theirs = network(data).eval()(first_batch(data)[0])["prediction"]

    table = pq.read_table(odd_run.out_dir / "example.parquet").to_pandas()
    raw = [np.diff(row) for row in table["m000_raw"].dropna()]
    published = [np.diff(row) for place in range(4) for row in table[f"m00{place}_published"].dropna()]

    assert (theirs.diff(dim=-1) < 0).any()
    assert len(raw) > 0
    assert len(published) == 4 * len(raw)
    assert all((steps >= 0).all() for steps in published)


def test_a_window_without_history_takes_anothers_state_there_and_none_is_cut_here(
    our_way: Any, make_spec: Any
) -> None:
    """The middle sample has no history: it should keep its own first state, 103 to 105 and 203 to 205."""
    first = torch.arange(9.0).reshape(1, 3, 3)
    layer = LSTM(2, 3, batch_first=True)
    _, (hidden, cell) = layer(
        torch.randn(3, 4, 2),
        (first + 100, first + 200),
        lengths=torch.tensor([4, 0, 2]),
        enforce_sorted=False,
    )

    run = our_way(fleet())

    assert hidden[0, 1].tolist() == [100.0, 101.0, 102.0]  # the first sample's
    assert cell[0, 1].tolist() == [100.0, 101.0, 102.0]  # and its hidden state at that
    assert all((x["encoder_lengths"] == ENCODER).all() for x, _ in run.train_batches)
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        make_spec(encoder_length=0)


def test_the_tutorials_validation_scores_one_window_a_server_there_and_all_of_them_here(
    our_way: Any,
) -> None:
    frame = fleet()
    training = dataset(frame[frame["time_idx"] < 30])
    validation = TimeSeriesDataSet.from_dataset(training, frame, predict=True, stop_randomization=True)

    run = our_way(frame, validation_split=0.25, test_split=0.0)

    assert len(validation) == 2
    assert run.validation_batches.size == 2 * (10 - HORIZON + 1)


def test_the_last_partial_batch_is_dropped_there_and_trained_on_here(our_way: Any) -> None:
    frame = fleet()
    data = dataset(frame)
    theirs = sum(len(x["groups"]) for x, _ in loader(data, 16))

    run = our_way(frame, batch_size=16)
    ours = [len(x["groups"]) for x, _ in run.train_batches]

    assert (len(data), theirs) == (60, 48)
    assert sum(ours) == run.split.train.total
    assert ours[-1] < 16


def test_preparing_is_a_loop_over_rows_there_and_whole_columns_here(our_way: Any) -> None:
    """Category encoding is a list comprehension over rows, ends of windows a Python loop without numba."""
    labels = pd.Series(np.repeat([f"server-{i}" for i in range(2_000)], 100))
    encoder = NaNLabelEncoder(add_nan=True).fit(labels)
    began = time.process_time()
    encoder.transform(labels)
    theirs = time.process_time() - began

    run = our_way(fleet())
    names = [f"server-{i}" for i in range(2_000)]
    series = replace(
        run.series,
        series_names=names,
        offsets=np.arange(2_001) * 100,
        times=np.tile(np.arange(100) * 300_000_000, 2_000),
        values={"cpu_percent": np.zeros(200_000, np.float32)},
        observed={"cpu_percent": np.ones(200_000, np.bool_)},
        categories={"server": names},
    )
    began = time.process_time()
    source_of(run, series)
    ours = time.process_time() - began

    assert ours < theirs
