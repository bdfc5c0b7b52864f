"""Our trainer on a fleet: `trainer.recipe.train` on the servers trained on, then forecasts of both groups."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from benchmarks.contestant import Forecasts, contestant_main
from benchmarks.fleet import QUANTILES, Fleet
from benchmarks.memory import resident_bytes
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping
from trainer.dataset.series import load_series
from trainer.forecasting import forecast, forward_batch_size
from trainer.hardware import detect_hardware
from trainer.noise import library_noise_off
from trainer.prepare import PreparedRun, prepare
from trainer.recipe import DatasetFile, train
from trainer.spec import TrainingSpec
from trainer.split import Windows, split_as_asked
from trainer.windows import WindowSource

if TYPE_CHECKING:
    import argparse

    from trainer.events import TrainerEvent

IMPORTED_BYTES = resident_bytes()
PARTS = ("validation", "test")


@dataclass
class Listener:
    """Remembers when phases began and what each epoch's validation said; wishes nothing."""

    started_at: float = field(default_factory=time.monotonic)
    phases: dict[str, float] = field(default_factory=dict)  # name -> seconds since the start
    peaks: dict[str, int] = field(default_factory=dict)  # name -> bytes over the imports when it began
    val_losses: list[float] = field(default_factory=list)

    def report(self, event: TrainerEvent) -> None:
        if event.type == "phase":
            self.phases[event.phase] = time.monotonic() - self.started_at
            self.peaks[event.phase] = resident_bytes("VmHWM") - IMPORTED_BYTES
        elif event.type == "metrics" and event.values.get("val_loss") is not None:
            self.val_losses.append(float(event.values["val_loss"] or 0.0))

    def stop_wish(self) -> None:
        return None


def run(fleet: Fleet, asked: argparse.Namespace) -> tuple[Forecasts, dict[str, Any]]:
    """Forecasts by weights, group and part, and what is to be told of the run."""
    torch.set_num_threads(asked.threads)
    spec = spec_of(fleet, seed=asked.seed, epochs=asked.epochs, options=asked.options)
    with tempfile.TemporaryDirectory() as folder:
        seen, new = (write_group(fleet, group, Path(folder)) for group in ("seen", "new"))
        listener, out = Listener(), Path(folder) / "out"
        result = train(spec, seen, out, listener).result or {}
        with library_noise_off():
            ready = prepare(spec, seen, detect_hardware())
        forecasts: Forecasts = {}
        for weights, state in (
            ("best", load_file(out / "model.safetensors")),
            ("last", torch.load(out / "last.ckpt", weights_only=False)["state_dict"]),
        ):
            ready.model.load_state_dict(state)
            for part, windows in zip(PARTS, (ready.split.validation, ready.split.test), strict=True):
                forecasts[weights, "seen", part] = _ordered(ready, ready.source, windows)
            if fleet.seen < len(fleet.servers):
                forecasts[weights, "new", "test"] = _new_servers(ready, new)
    facts = {
        "val_losses": listener.val_losses,
        "seconds": listener.phases["validating"],
        "peak_bytes": listener.peaks["validating"],
        "windows_seen": result["steps"] * result["resolved_spec"]["effective_batch_size"],
        "bad_steps": result["bad_steps"],
        "resolved_spec": result["resolved_spec"],
    }
    return forecasts, facts


def spec_of(fleet: Fleet, *, seed: int, epochs: int, options: dict[str, Any]) -> TrainingSpec:
    """The default spec but for shape, targets and epochs; `options` go over that."""
    asked: dict[str, Any] = {
        "target_metrics": list(fleet.targets),
        "encoder_length": fleet.encoder_length,
        "horizon": fleet.horizon,
        "quantiles": list(QUANTILES),
        "validation_split": fleet.validation_steps / fleet.steps,
        "test_split": fleet.test_steps / fleet.steps,
        "epochs": epochs,
        "random_seed": seed,
    }
    return TrainingSpec(**(asked | options))


def write_group(fleet: Fleet, group: Any, folder: Path) -> DatasetFile:
    """The group's servers as a Parquet file, inspected."""
    path = folder / f"{group}.parquet"
    frame = fleet.frame(group).drop(columns="time_idx")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    place = table.schema.get_field_index("timestamp")
    stamps = table["timestamp"].cast(pa.timestamp("us", "UTC"))
    pq.write_table(table.set_column(place, "timestamp", stamps), path)
    if not len(frame):
        return DatasetFile(path, "parquet", DatasetMapping(), None)  # type: ignore[arg-type]
    return DatasetFile(path, "parquet", DatasetMapping(), inspect(path, "parquet", DatasetMapping()))


def _new_servers(ready: PreparedRun, data: DatasetFile) -> Any:
    """The test tail of servers that were never seen, scaled by their history up to that tail."""
    spec, layout = ready.spec, ready.layout
    series = load_series(
        data.path,
        data.format,
        data.mapping,
        data.schema,
        layout.numeric,
        list(layout.statics),
        spec.missing_policy,
    )
    split = split_as_asked(series, spec)
    source = WindowSource(
        series,
        layout,
        ready.scaling,
        encoder_length=spec.encoder_length,
        horizon=spec.horizon,
        device=ready.device,
        history_end=split.validation_end,
    )
    return _ordered(ready, source, split.test)


def _ordered(ready: PreparedRun, source: WindowSource, windows: Windows | None) -> Any:
    """(servers, origins, horizon, targets, quantiles): windows come by server, then by origin."""
    if windows is None:
        raise ValueError("there is no test tail")
    found = forecast(ready.model, source, windows, forward_batch_size(ready.spec, ready.layout, ready.device))
    return np.asarray(found).reshape(len(windows.counts), -1, *found.shape[1:])


if __name__ == "__main__":
    contestant_main(run)
