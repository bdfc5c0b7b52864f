"""Forecasts of the future from what training left."""

# ruff: noqa: PD011 - SeriesData.values is no data frame's
from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.bundle import InvalidBundle, read_bundle
from trainer.dataset.errors import DatasetError
from trainer.dataset.schema import ColumnMapping, DatasetMapping
from trainer.future import look_ahead, read_history
from trainer.layout import Layout
from trainer.predict import forecast_future, load_model
from trainer.prepare import prepare
from trainer.scaling import fit_scaling
from trainer.split import split_series
from trainer.windows import WindowSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from trainer.dataset.series import SeriesData

ENCODER, HORIZON = 6, 3
NO_OVERRIDES = DatasetMapping()
COLUMNS = ("cpu_percent", "memory_percent", "fan", "plan")


def some_fleet(make_series: Any) -> SeriesData:
    series: SeriesData = make_series([90, 80, 70], COLUMNS)
    series.values["cpu_percent"][:90] *= 20
    series.observed["memory_percent"][[40, 41, 233]] = False
    return series


@pytest.fixture(scope="module")
def trained(run_training: Any, make_series: Any) -> Callable[[str], Any]:
    """A run per normalizer, with covariates of every kind."""
    runs: dict[str, Any] = {}

    def run(normalizer: str) -> Any:
        if normalizer not in runs:
            runs[normalizer] = run_training(
                some_fleet(make_series),
                target_metrics=list(COLUMNS[:2]),
                observed_covariates=["fan"],
                known_covariates=["plan", "hour_of_day"],
                normalizer=normalizer,
            )
        return runs[normalizer]

    return run


def cut(series: SeriesData, keep: list[tuple[str, int, str]]) -> SeriesData:
    """Of each named series its first rows, and one horizon of rows without values but for `plan`; renamed."""
    rows, lengths = [], []
    for name, history, _ in keep:
        start = series.offsets[series.series_names.index(name)]
        rows.append(np.arange(start, start + history + HORIZON))
        lengths.append(history + HORIZON)
    order = np.concatenate(rows)
    ahead = np.concatenate([np.arange(length) >= length - HORIZON for length in lengths])
    return replace(
        series,
        series_names=[name for _, _, name in keep],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        times=series.times[order],
        values={name: values[order] for name, values in series.values.items()},
        observed={
            name: seen[order] & (~ahead if name != "plan" else np.bool_(True))
            for name, seen in series.observed.items()
        },
    )


def forecasts_of(trained: Any, data: Any) -> tuple[Any, np.ndarray]:
    bundle = read_bundle(trained.out_dir)
    future = look_ahead(read_history(bundle, data.path, data.format, NO_OVERRIDES), bundle)
    return future, forecast_future(bundle, future)


def published(trained: Any, inside: str) -> dict[str, np.ndarray]:
    """(horizon, quantiles) of each series in example.parquet."""
    frame: pd.DataFrame = pq.read_table(trained.out_dir / "example.parquet").to_pandas()
    ahead = frame[frame["is_forecast"]]
    return {str(name): np.stack(list(part[f"{inside}_published"])) for name, part in ahead.groupby("series")}


@pytest.mark.slow
@pytest.mark.parametrize("normalizer", ["window_standard", "series_robust"])
def test_known_and_new_servers_are_forecast_as_training_published_them(
    trained: Any, make_series: Any, make_dataset: Any, tmp_path: Path, normalizer: str
) -> None:
    run = trained(normalizer)
    keep = [(f"server-0{i}", length - HORIZON, f"server-0{i}") for i, length in enumerate((90, 80, 70))]
    keep.append(("server-02", 70 - HORIZON, "stranger"))
    data = make_dataset(cut(some_fleet(make_series), keep), tmp_path / "recent.parquet")
    future, quantiles = forecasts_of(run, data)

    assert future.series.series_names == ["server-00", "server-01", "server-02", "stranger"]
    assert future.known.tolist() == [True, True, True, False]
    for place, inside in enumerate(("m000", "m001")):
        expected = published(run, inside)
        expected["stranger"] = expected.pop("a new server")
        for index, name in enumerate(future.series.series_names):
            assert quantiles[index, :, place] == pytest.approx(expected[name], rel=1e-5, abs=1e-4)
    assert not np.allclose(quantiles[2], quantiles[3], rtol=1e-3)


@pytest.mark.slow
def test_the_horizon_begins_behind_the_last_value_of_any_target(
    trained: Any, make_series: Any, make_dataset: Any, tmp_path: Path
) -> None:
    series = cut(some_fleet(make_series), [("server-00", 50, "server-00"), ("server-01", 40, "server-01")])
    series.observed["cpu_percent"][40:] = False
    series.observed["memory_percent"][48:50] = False
    future, quantiles = forecasts_of(
        trained("window_standard"), make_dataset(series, tmp_path / "recent.parquet")
    )

    assert future.times(HORIZON)[0, 0] == series.times[48]
    assert np.diff(future.times(HORIZON)).tolist() == [[300_000_000] * 2] * 2
    assert future.seen.tolist() == [[False, True], [False, True]]
    assert np.isnan(quantiles[:, :, 0]).all()
    assert np.isfinite(quantiles[:, :, 1]).all()
    assert (np.diff(quantiles[:, :, 1], axis=-1) >= 0).all()


def test_history_that_the_network_does_not_look_at_is_left_out(
    two_targets: Any, make_series: Any, make_dataset: Any, tmp_path: Path
) -> None:
    """All but the encoder; where that has no value of a target, the last one is carried into it."""
    columns = ("cpu", "net.in")
    long = make_series([90, 80], columns)
    long.observed["net.in"][90 + 60 :] = False
    ends = long.offsets[1:]
    rows = np.concatenate([np.arange(end - ENCODER, end) for end in ends])
    short = replace(
        long,
        offsets=np.array([0, ENCODER, 2 * ENCODER]),
        times=long.times[rows],
        values={name: long.values[name][rows] for name in columns},
        observed={name: long.observed[name][rows] for name in columns},
    )
    future, from_long = forecasts_of(two_targets, make_dataset(long, tmp_path / "long.parquet"))
    _, from_short = forecasts_of(two_targets, make_dataset(short, tmp_path / "short.parquet"))

    assert future.series.lengths.tolist() == [ENCODER + HORIZON, 80 + HORIZON]
    assert np.array_equal(from_long[0], from_short[0])


def test_a_series_without_enough_history_is_listed_and_left_out(
    trained: Any, make_series: Any, make_dataset: Any, tmp_path: Path
) -> None:
    keep = [("server-00", 50, "server-00"), ("server-01", ENCODER - 1, "short"), ("server-02", 30, "empty")]
    series = cut(some_fleet(make_series), keep)
    for name in COLUMNS[:2]:
        series.observed[name][series.offsets[2] :] = False
    future, _ = forecasts_of(trained("window_standard"), make_dataset(series, tmp_path / "recent.parquet"))

    assert future.series.series_names == ["server-00"]
    assert future.too_short == {
        "empty": "0 of the 6 steps that the model looks back",
        "short": "5 of the 6 steps that the model looks back",
    }


def test_a_covariate_that_has_to_be_known_in_advance_is_asked_for_by_series_and_time(
    trained: Any, make_series: Any, make_dataset: Any, tmp_path: Path
) -> None:
    series = cut(some_fleet(make_series), [("server-00", 50, "server-00"), ("server-01", 40, "server-01")])
    series.observed["plan"][-1] = False

    with pytest.raises(DatasetError, match=r"plan has to be known .* 3 steps .* 'server-01'.* in 1 series"):
        forecasts_of(trained("window_standard"), make_dataset(series, tmp_path / "recent.parquet"))


def test_rows_at_another_step_than_in_training_are_refused(
    trained: Any, make_series: Any, make_dataset: Any, tmp_path: Path
) -> None:
    series = cut(some_fleet(make_series), [("server-00", 50, "server-00")])
    series.times[:] = series.times[0] + np.arange(len(series.times)) * 60_000_000

    with pytest.raises(DatasetError, match=r"every 60 s here, every 300 s in the data"):
        forecasts_of(trained("window_standard"), make_dataset(series, tmp_path / "recent.parquet"))


def test_columns_of_other_names_stand_for_those_of_the_training(
    trained: Any, make_series: Any, make_dataset: Any, tmp_path: Path
) -> None:
    bundle = read_bundle(trained("window_standard").out_dir)
    series = cut(some_fleet(make_series), [("server-00", 50, "server-00")])
    data = make_dataset(series, tmp_path / "recent.parquet")
    table = pq.read_table(data.path)
    renamed = {"timestamp": "ts", "server": "host"}
    pq.write_table(
        table.rename_columns([renamed.get(name, name) for name in table.column_names]), tmp_path / "other"
    )

    with pytest.raises(DatasetError, match=r"no column .(timestamp|server)."):
        read_history(bundle, tmp_path / "other", "parquet", NO_OVERRIDES)
    found = read_history(
        bundle, tmp_path / "other", "parquet", DatasetMapping(time_column="ts", group_columns=["host"])
    )
    assert found.series_names == ["server-00"]
    assert found.categories["server"] == ["server-00"]


def test_a_mapping_of_the_training_holds_for_columns_that_are_needed_and_no_others(
    trained: Any, make_series: Any, make_dataset: Any, tmp_path: Path
) -> None:
    mapping = DatasetMapping(
        columns={"cpu": ColumnMapping(name="cpu_percent"), "gone": ColumnMapping(name="unused")}
    )
    bundle = replace(read_bundle(trained("window_standard").out_dir), mapping=mapping)
    data = make_dataset(
        cut(some_fleet(make_series), [("server-00", 50, "server-00")]), tmp_path / "recent.parquet"
    )
    table = pq.read_table(data.path)
    names = ["cpu" if name == "cpu_percent" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names), data.path)

    assert read_history(bundle, data.path, "parquet", NO_OVERRIDES).n_series == 1


def test_what_is_no_bundle_is_said_to_be_none(trained: Any, tmp_path: Path) -> None:
    run = trained("window_standard")
    with pytest.raises(InvalidBundle, match=r"lacks model.safetensors and model.json"):
        read_bundle(tmp_path)
    for name in ("model.json", "model.safetensors"):
        shutil.copy(run.out_dir / name, tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())

    (tmp_path / "model.json").write_text(json.dumps(description | {"format": 99}))
    with pytest.raises(InvalidBundle, match="is of format 99, this version of foretrain reads format 1"):
        read_bundle(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(description | {"scaling": {}}))
    with pytest.raises(InvalidBundle, match="damaged"):
        read_bundle(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(InvalidBundle, match="cannot be read"):
        read_bundle(tmp_path)


def test_weights_of_another_network_are_refused(trained: Any, tmp_path: Path) -> None:
    run = trained("window_standard")
    shutil.copy(run.out_dir / "model.json", tmp_path)
    save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors")

    with pytest.raises(InvalidBundle, match="does not hold the weights"):
        load_model(read_bundle(tmp_path))


UNKNOWN = "input_embeddings.embeddings.c000.weight"


def test_the_embedding_of_the_unknown_is_trained(trained: Any, plain_cpu: Any) -> None:
    run = trained("window_standard")
    start = prepare(run.spec, run.data, plain_cpu).model.state_dict()[UNKNOWN][0]
    end = load_file(run.out_dir / "model.safetensors")[UNKNOWN][0]

    assert (start != end).all()
    assert start.abs().min() > 0  # no padding, which would stay zero


def test_a_new_servers_forecast_rests_on_the_embedding_of_the_unknown(
    trained: Any, make_series: Any, make_dataset: Any, tmp_path: Path
) -> None:
    run = trained("window_standard")
    keep = [("server-00", 50, "server-00"), ("server-00", 50, "stranger")]
    data = make_dataset(cut(some_fleet(make_series), keep), tmp_path / "recent.parquet")
    _, before = forecasts_of(run, data)
    shutil.copytree(run.out_dir, tmp_path / "changed")
    weights = load_file(run.out_dir / "model.safetensors")
    weights[UNKNOWN][0] += 1.0
    save_file(weights, tmp_path / "changed" / "model.safetensors")
    _, after = forecasts_of(replace(run, out_dir=tmp_path / "changed"), data)

    assert np.array_equal(before[0], after[0])
    assert np.abs(before[1] - after[1]).max() > 1e-3


def test_a_new_server_in_a_known_zone_keeps_its_zone(make_series: Any, make_spec: Any) -> None:
    layout = Layout(("cpu_percent",), (), (), (), ("server", "zone"))
    series = replace(
        make_series([60, 60]), categories={"server": ["server-00", "server-01"], "zone": ["east", "west"]}
    )
    spec = make_spec()
    split = split_series(
        series, encoder_length=6, horizon=3, validation_split=0.2, test_split=0.1, window_stride=1
    )
    scaling = fit_scaling(series, split, layout, "window_standard")
    stranger = replace(series, categories={"server": ["new", "server-01"], "zone": ["west", "north"]})
    source = WindowSource(
        stranger,
        layout,
        scaling,
        encoder_length=spec.encoder_length,
        horizon=spec.horizon,
        device=torch.device("cpu"),
    )
    x, _ = source.batch(torch.tensor([0, 1]), torch.tensor([10, 70]))

    assert x["encoder_cat"][:, 0].tolist() == [[0, 2], [2, 0]]
