"""Stock libraries alone repeat our forecasts: for servers trained on and for one that is new."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from trainer.scaling import centre_and_scale

if TYPE_CHECKING:
    from tests.trainer.stock_script import StockLibraries

pytestmark = pytest.mark.slow

TARGETS = ["cpu_percent", "memory_percent", "disk_percent", "load_average"]


def gappy_fleet(make_series: Any, targets: list[str]) -> Any:
    """Servers far apart in level, with gaps before and across the last forecast's origin."""
    series = make_series([90, 80, 70], [*targets, "fan"])
    for name in targets:
        series.values[name][:90] *= 20
    for name in (*targets, "fan"):
        series.observed[name][[82, 83, 86, 87, 88]] = False  # the last window of the first begins at 87
        series.observed[name][235:238] = False  # and of the last at 237
    return series


@pytest.mark.parametrize("targets", [1, 4])
@pytest.mark.parametrize("normalizer", ["window_standard", "series_robust"])
def test_stock_repeats_forecasts_of_known_and_new_servers_across_gaps(
    run_training: Any, make_series: Any, stock_libraries: StockLibraries, targets: int, normalizer: str
) -> None:
    names = TARGETS[:targets]
    trained = run_training(
        gappy_fleet(make_series, names),
        target_metrics=names,
        observed_covariates=["fan"],
        normalizer=normalizer,
    )
    script = stock_libraries.run_example(trained.out_dir)

    assert script.returncode == 0, script.stdout + script.stderr
    assert script.stdout.count("12 steps x 3 quantiles") == targets


def test_a_new_servers_scale_is_that_of_its_own_rows_before_the_forecast(
    run_training: Any, make_series: Any
) -> None:
    series = make_series([90, 80, 70])
    trained = run_training(series, normalizer="series_robust")
    frame = pq.read_table(trained.out_dir / "example.parquet").to_pandas()
    new = frame[~frame["known"]]

    history = series.values["cpu_percent"][170 : 240 - 3].astype(np.float64)
    assert [new["m000_centre"].iloc[0], new["m000_scale"].iloc[0]] == pytest.approx(
        centre_and_scale(history, robust=True)
    )
    assert frame[frame["known"]]["m000_scale"].isna().all()


def test_the_script_would_notice_the_scale_of_the_fleet(
    run_training: Any, make_series: Any, stock_libraries: StockLibraries
) -> None:
    trained = run_training(make_series([90, 80, 70]), normalizer="series_robust")
    path = trained.out_dir / "example.json"
    example = json.loads(path.read_text())
    centres = example["columns"]["m000_centre"]
    example["columns"]["m000_centre"] = [None if value is None else value + 1 for value in centres]
    path.write_text(json.dumps(example))

    assert stock_libraries.run_example(trained.out_dir).returncode == 1


def test_a_lone_series_without_a_name_is_repeated_too(
    run_training: Any, make_series: Any, stock_libraries: StockLibraries
) -> None:
    series = replace(make_series([90]), series_names=["all"])
    trained = run_training(series, static_categoricals=None, normalizer="series_standard")
    script = stock_libraries.run_example(trained.out_dir)

    assert script.returncode == 0, script.stdout + script.stderr
    assert "6 steps x 3 quantiles" in script.stdout
