"""Nothing that a network sees before a forecast begins depends on what comes after."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from trainer.batches import WindowBatches
from trainer.dataset.filling import fill
from trainer.layout import Layout
from trainer.loss import stacked
from trainer.prepare import prepare
from trainer.scaling import fit_scaling
from trainer.split import Windows, split_series
from trainer.windows import WindowSource

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.series import SeriesData

CPU = torch.device("cpu")
ENCODER, HORIZON = 6, 3
COLUMNS = ("cpu_percent", "memory_percent", "fan")
LAYOUT = Layout(COLUMNS[:2], (), (), ("fan",), ())
NORMALIZERS = ["window_robust", "window_standard", "series_robust", "series_standard", "none"]
SEEN_BY_THE_NETWORK = ("encoder_cont", "encoder_target", "target_scale")


def filled(series: SeriesData, raw: dict[str, Any]) -> SeriesData:
    """The series with these values, NaN in the gaps, as a file would be read."""
    columns = {name: fill(values.copy(), series.offsets, interpolate=True) for name, values in raw.items()}
    return replace(
        series,
        values={name: each.values.astype(np.float32) for name, each in columns.items()},
        observed={name: each.observed for name, each in columns.items()},
    )


def gappy(make_series: Any, lengths: list[int], seed: int = 0) -> tuple[SeriesData, dict[str, Any]]:
    """A fleet with short and long gaps in every column, also at its start."""
    random = np.random.default_rng(seed)
    series = make_series(lengths, COLUMNS)
    raw = {name: values.astype(np.float64) for name, values in series.values.items()}
    for values in raw.values():
        for start in random.integers(0, len(values), len(values) // 5):
            values[start : start + random.choice([1, 2, 3, 5, 9])] = np.nan
        values[series.offsets[1] : series.offsets[1] + 8] = np.nan
    return filled(series, raw), raw


def source_of(series: SeriesData, scaling: Any) -> WindowSource:
    return WindowSource(series, LAYOUT, scaling, encoder_length=ENCODER, horizon=HORIZON, device=CPU)


def scaling_of(series: SeriesData, normalizer: Any) -> Any:
    split = split_series(
        series,
        encoder_length=ENCODER,
        horizon=HORIZON,
        validation_split=0.2,
        test_split=0.1,
        window_stride=1,
    )
    return fit_scaling(series, split, LAYOUT, normalizer)


def assert_equal(ours: Any, theirs: Any) -> None:
    pairs = zip(ours, theirs, strict=True) if isinstance(ours, list) else [(ours, theirs)]
    for one, other in pairs:
        assert torch.equal(one, other)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_the_encoder_never_depends_on_what_follows_the_origin(make_series: Any, normalizer: str) -> None:
    series, raw = gappy(make_series, [60, 50])
    scaling = scaling_of(series, normalizer)
    source, random = source_of(series, scaling), np.random.default_rng(1)
    for index, (start, end) in enumerate(zip(series.offsets[:-1], series.offsets[1:], strict=True)):
        for origin in range(start + ENCODER, end - HORIZON + 1):
            otherwise = {name: values.copy() for name, values in raw.items()}
            for values in otherwise.values():
                values[origin:end] = np.where(
                    random.random(end - origin) < 0.4, np.nan, random.normal(500, 90, end - origin)
                )
            window = torch.tensor([index]), torch.tensor([origin])
            before, _ = source.batch(*window)
            after, _ = source_of(filled(series, otherwise), scaling).batch(*window)
            for name in SEEN_BY_THE_NETWORK:
                assert_equal(before[name], after[name])


def test_a_gap_that_closes_before_the_origin_is_interpolated_and_an_open_one_carried(
    make_series: Any,
) -> None:
    series = make_series([40], COLUMNS)
    raw = {name: np.arange(40.0) for name in COLUMNS}
    raw["cpu_percent"][[12, 13]] = raw["memory_percent"][[14, 15]] = np.nan
    series = filled(series, raw)
    x, _ = source_of(series, scaling_of(series, "window_standard")).batch(
        torch.tensor([0]), torch.tensor([15])
    )

    assert [part[0].tolist() for part in x["encoder_target"]] == [
        [9, 10, 11, 12, 13, 14],
        [9, 10, 11, 12, 13, 13],
    ]


def test_only_steps_that_were_seen_carry_loss_and_none_where_the_encoder_saw_nothing(
    make_series: Any,
) -> None:
    series = make_series([40], COLUMNS)
    raw = {name: np.arange(40.0) for name in COLUMNS}
    raw["cpu_percent"][[16]] = np.nan
    raw["memory_percent"][5:15] = np.nan
    series = filled(series, raw)
    assert series.values["cpu_percent"][16] == 16
    _, (_, weights) = source_of(series, scaling_of(series, "window_standard")).batch(
        torch.tensor([0]), torch.tensor([15])
    )

    assert [part[0].tolist() for part in weights] == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("normalizer", ["window_standard", "series_robust"])
def test_training_depends_on_nothing_from_the_validation_tail(
    make_series: Any,
    make_spec: Any,
    make_dataset: Any,
    plain_cpu: Any,
    tmp_path: Path,
    normalizer: str,
) -> None:
    """A short gap lies across the end of the training part: a line through it would lead into the tail."""
    spec = make_spec(
        target_metrics=["cpu_percent", "memory_percent"], observed_covariates=["fan"], normalizer=normalizer
    )
    runs = []
    for tail in (0.0, 400.0):
        series = make_series([60, 60], COLUMNS)
        for name in COLUMNS:
            series.values[name][44:60] += tail  # training ends at row 42
            series.values[name][106:120] -= tail
            series.observed[name][[41, 42, 43]] = False
            series.observed[name][60:103] = False  # only just seen in the training part
        runs.append(
            prepare(spec, make_dataset(series, tmp_path / f"{tail}.parquet"), plain_cpu).train_batches
        )
    for (x, (y, weight)), (other_x, (other_y, other_weight)) in zip(*runs, strict=True):
        for name in SEEN_BY_THE_NETWORK:
            assert_equal(x[name], other_x[name])
        assert_equal(weight, other_weight)
        assert torch.equal(stacked(y) * stacked(weight), stacked(other_y) * stacked(other_weight))


def test_the_weights_of_validation_count_only_what_was_seen(make_series: Any) -> None:
    series, raw = gappy(make_series, [60, 50])
    source = source_of(series, scaling_of(series, "window_standard"))
    windows = Windows(np.array([0]), np.array([40]), np.array([15]), 1)
    (_, (_, weights)), *_ = WindowBatches(source, windows, 64)

    seen = np.stack([np.isfinite(raw[name]) for name in LAYOUT.targets], axis=-1)
    for number, window in enumerate(stacked(weights).numpy()):
        rows = 40 + number + np.arange(HORIZON)
        any_before = seen[40 + number - ENCODER : 40 + number].any(axis=0)
        assert (window == (seen[rows] & any_before)).all()
