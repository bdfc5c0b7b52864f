"""Forecasts for a large fleet, part by part: python -m benchmarks.prediction [--servers 10000]

A network is trained for a few steps on 200 servers (encoder 48, horizon 12, two targets), then forecasts for
servers with a day at 5-minute steps, most of them new to it. Processor seconds of one thread; the forward
passes alone, on batches that are there already, say what there is to reach.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.large_data import Part, Parts
from benchmarks.large_file import write_fleet
from foretrain.forecast_table import forecast_table, write_table
from trainer.bundle import read_bundle
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping
from trainer.future import look_ahead, read_history
from trainer.loading import quick_imports
from trainer.spec import TrainingSpec
from trainer.split import Windows

if TYPE_CHECKING:
    from trainer.events import TrainerEvent, Wish

TRAINED_ON, STEPS, ENCODER, HORIZON = 200, 288, 48, 12


class Silent:
    def report(self, event: TrainerEvent) -> None: ...

    def stop_wish(self) -> Wish | None:
        return None


def train_a_little(folder: Path) -> None:
    recipe = importlib.import_module("trainer.recipe")
    data = folder / "fleet.parquet"
    write_fleet(data, TRAINED_ON, STEPS)
    spec = TrainingSpec(
        target_metrics=["cpu_percent", "memory_percent"],
        encoder_length=ENCODER,
        horizon=HORIZON,
        max_steps=20,
        max_train_windows=640,
    )
    mapping = DatasetMapping()
    file = recipe.DatasetFile(data, "parquet", mapping, inspect(data, "parquet", mapping))
    recipe.train(spec, file, folder / "model", Silent())


def predict_in_parts(folder: Path) -> list[Part]:
    """What `foretrain predict` does, timed."""
    parts = Parts()
    with parts.timed("importing torch, Lightning, pytorch-forecasting"), quick_imports():
        prediction: Any = importlib.import_module("trainer.predict")
    prediction.torch.set_num_threads(1)
    bundle = read_bundle(folder / "model")
    with parts.timed("reading the history"):
        history = read_history(bundle, folder / "history.parquet", "parquet", DatasetMapping())
    with parts.timed("cutting it, adding the horizon"):
        future = look_ahead(history, bundle)
    with parts.timed("network, windows"):
        count = len(future.origins)
        windows = Windows(np.arange(count), future.origins, np.ones(count, np.int64), 1)
        model = prediction.load_model(bundle)
        source = prediction.WindowSource(
            future.series,
            bundle.layout,
            bundle.scaling,
            encoder_length=ENCODER,
            horizon=HORIZON,
            device=prediction.CPU,
            history_end=future.origins,
        )
    size = prediction.forward_batch_size(bundle.spec, bundle.layout, prediction.CPU)
    with parts.timed(f"forecast, batches of {size}"):
        raw = prediction.forecast(model, source, windows, size)
    with parts.timed("sorting, calibrating, writing Parquet"):
        ordered = np.sort(raw, axis=-1)
        quantiles = ordered if bundle.calibration is None else bundle.calibration.apply(ordered)
        write_table(forecast_table(bundle, future, quantiles.astype(np.float32)), folder / "out.parquet")
    batches = [x for x, _ in importlib.import_module("trainer.batches").WindowBatches(source, windows, size)]
    with parts.timed("(the forward passes alone)"), prediction.torch.inference_mode():
        for x in batches:
            model.quantiles(x)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.folder:
        print(json.dumps([asdict(part) for part in predict_in_parts(asked.folder)]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train_a_little(folder)
        write_fleet(folder / "history.parquet", asked.servers, STEPS)
        command = [sys.executable, "-m", "benchmarks.prediction", "--folder", name]
        rounds = []
        for _ in range(asked.rounds):
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            rounds.append([Part(**part) for part in json.loads(answer.stdout)])
    print("| part | CPU s | peak GB |\n|---|---|---|")
    for same in zip(*rounds, strict=True):
        best = min(same, key=lambda part: part.cpu_seconds)
        print(f"| {best.name} | {best.cpu_seconds:.2f} | {best.peak_bytes / 1e9:.2f} |")


if __name__ == "__main__":
    main()
