from __future__ import annotations

import csv
import json
import pickletools
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pytorch_forecasting import TemporalFusionTransformer
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trainer.stock_script import StockLibraries

NAMES = [
    "model.safetensors",
    "model.json",
    "example.parquet",
    "example.json",
    "stock_example.py",
    "result.json",
    "forecasts.json",
    "metrics.csv",
    "report.html",
    "tensorboard.zip",
]


@pytest.mark.slow
def test_every_artifact_is_there_and_reported_when_it_is_whole(two_targets: Any) -> None:
    reported = [event.name for event in two_targets.observer.of_type("artifact")]

    assert reported == NAMES
    assert all((two_targets.out_dir / name).stat().st_size > 0 for name in NAMES)
    assert not list(two_targets.out_dir.glob("*.part"))


@pytest.mark.slow
def test_stock_libraries_repeat_our_forecasts_of_two_targets(
    two_targets: Any, stock_libraries: StockLibraries
) -> None:
    script = stock_libraries.run_example(two_targets.out_dir)

    assert script.returncode == 0, script.stderr
    assert "cpu: 12 steps x 3 quantiles" in script.stdout
    assert "net.in: 12 steps x 3 quantiles" in script.stdout
    assert "equal within the tolerance" in script.stdout


@pytest.mark.slow
@pytest.mark.parametrize("normalizer", ["window_robust", "none"])
def test_stock_libraries_repeat_our_forecasts_of_one_target(
    run_training: Any, make_series: Any, stock_libraries: StockLibraries, normalizer: str
) -> None:
    series = make_series([90, 80, 70], ("cpu_percent", "plan", "fan"))
    series.values["cpu_percent"][:90] = 50.0  # flat: its scale is the floor
    trained = run_training(
        series, normalizer=normalizer, known_covariates=["plan", "hour_of_day"], observed_covariates=["fan"]
    )

    script = stock_libraries.run_example(trained.out_dir)

    assert script.returncode == 0, script.stdout + script.stderr


@pytest.mark.slow
def test_the_script_notices_forecasts_that_differ(
    two_targets: Any, stock_libraries: StockLibraries, tmp_path: Path
) -> None:
    for name in ("model.ckpt", "stock_example.py"):
        (tmp_path / name).write_bytes((two_targets.out_dir / name).read_bytes())
    example = json.loads((two_targets.out_dir / "example.json").read_text())
    example["columns"]["m000"] = [value + 0.01 for value in example["columns"]["m000"]]
    (tmp_path / "example.json").write_text(json.dumps(example))

    script = stock_libraries.run_example(tmp_path)

    assert script.returncode == 1
    assert "DIFFERENT" in script.stdout


@pytest.mark.parametrize("name", ["model.ckpt", "last.ckpt"])
def test_a_checkpoint_holds_no_class_of_ours(two_targets: Any, name: str) -> None:
    with ZipFile(two_targets.out_dir / name) as archive:
        (pickled,) = (entry for entry in archive.namelist() if entry.endswith("data.pkl"))
        strings = {
            argument
            for _, argument, _ in pickletools.genops(archive.read(pickled))
            if isinstance(argument, str)
        }

    modules = {text.split(" ")[0].split(".")[0] for text in strings}
    assert "pytorch_forecasting" in modules
    assert "trainer" not in modules


def test_stock_opens_the_checkpoint_with_the_arguments_of_its_own_network(two_targets: Any) -> None:
    model = TemporalFusionTransformer.load_from_checkpoint(two_targets.out_dir / "model.ckpt")

    assert type(model) is TemporalFusionTransformer
    assert model.target_names == ["m000", "m001"]
    assert model.hparams.embedding_labels["c000"] == {
        "nan": 0,
        "server-00": 1,
        "server-01": 2,
        "server-02": 3,
    }
    assert [loss.quantiles for loss in model.loss.metrics] == [[0.1, 0.5, 0.9]] * 2


def test_the_weights_without_pickle_are_those_of_the_checkpoint(two_targets: Any) -> None:
    plain = load_file(two_targets.out_dir / "model.safetensors")
    pickled = torch.load(two_targets.out_dir / "model.ckpt", weights_only=False)["state_dict"]

    assert set(plain) == set(pickled)
    assert all(torch.equal(plain[name], pickled[name]) for name in plain)


def test_the_description_holds_all_that_forecasting_needs(two_targets: Any) -> None:
    model = json.loads((two_targets.out_dir / "model.json").read_text())

    assert model["columns"] == {"cpu": "m000", "net.in": "m001", "server": "c000"}
    assert model["scaling"]["categories"] == {"server": ["server-00", "server-01", "server-02"]}
    assert model["spec"]["target_metrics"] == ["cpu", "net.in"]
    assert model["resolved_spec"]["accelerator"] == "cpu"
    assert model["calibration"]["method"] == "conformal"
    assert len(model["data_sha256"]) == len(model["spec_sha256"]) == 64
    assert model["versions"]["torch"] == version("torch")


def test_the_result_tells_machine_windows_and_history(two_targets: Any) -> None:
    result = json.loads((two_targets.out_dir / "result.json").read_text())

    assert set(result["scores"]["targets"]) == {"cpu", "net.in"}
    assert result["hardware"]["cpu"] == "plain processor"
    assert result["hardware"]["threads"] == torch.get_num_threads()
    assert [step for step, _ in result["loss_history"]["val_loss"]] == [result["steps"] // 2, result["steps"]]
    assert result["best"]["val_loss"] == result["summary"]["val_loss"]


def test_metrics_stand_one_a_row(two_targets: Any) -> None:
    with (two_targets.out_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert list(rows[0]) == ["step", "epoch", "name", "value"]
    assert {row["epoch"] for row in rows if row["name"] == "val_loss"} == {"1", "2"}


def test_tensorboard_opens_the_logs(two_targets: Any, tmp_path: Path) -> None:
    with ZipFile(two_targets.out_dir / "tensorboard.zip") as archive:
        archive.extractall(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()

    assert {"train_loss", "val_loss", "learning_rate"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("val_loss")) == 2
    assert set(events.Tags()["images"]) == {"forecasts/cpu", "forecasts/net.in"}
    spec = events.Tensors("spec/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| horizon | 3 |" in spec


def test_the_forecasts_to_draw_are_those_of_the_report_for_more_series(two_targets: Any) -> None:
    forecasts = json.loads((two_targets.out_dir / "forecasts.json").read_text())
    shown = pq.read_table(two_targets.out_dir / "example.parquet").to_pandas()

    assert forecasts["quantiles"] == [0.1, 0.5, 0.9]
    assert {window["target"] for window in forecasts["windows"]} == {"cpu", "net.in"}
    for window in forecasts["windows"]:
        assert len(window["history"]) == len(window["history_times"]) == 6
        assert len(window["actual"]) == len(window["times"]) == len(window["quantiles"]) == 3
        assert window["history_times"] + window["times"] == sorted(window["history_times"] + window["times"])
    first = forecasts["windows"][0]
    rows = shown[(shown["series"] == first["series"]) & shown["known"] & shown["is_forecast"]]
    assert np.allclose(np.stack(rows["m000_published"]), first["quantiles"], rtol=1e-5)


def test_the_example_holds_whole_windows_with_raw_and_published_forecasts(two_targets: Any) -> None:
    frame = pq.read_table(two_targets.out_dir / "example.parquet").to_pandas()
    ahead = frame[frame["is_forecast"]]

    assert len(frame) == 4 * (6 + 3)
    assert len(ahead) == 4 * 3
    assert frame[~frame["known"]]["series"].unique().tolist() == ["a new server"]
    assert all(list(row) == sorted(row) for row in ahead["m000_published"])
    assert frame[~frame["is_forecast"]]["m000_raw"].isna().all()
