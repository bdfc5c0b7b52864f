"""The plain pytorch-forecasting way to train our network, as its tutorial shows it: what we compare with.

It needs pytorch-forecasting and lightning alone, nothing of ours, and is not slow on purpose: no plots
(`log_interval=-1`), no logger, as many loader workers as are quicker, all cores. A test locks this file by
its hash.

    python benchmarks/baseline.py DATA.parquet --epochs 20
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.data import GroupNormalizer, MultiNormalizer
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss

QUANTILES = [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98]
BATCH_SIZE = 32
VALIDATION_BATCH_SIZE = 10 * BATCH_SIZE
LEARNING_RATE = 0.01
GRADIENT_CLIP = 0.1
TRIAL_BATCHES = 50
WORKERS = (0, 2)


def resident_bytes(field: str = "VmRSS") -> int:
    """Memory of this process: VmRSS is what it holds now, VmHWM the most it ever held. Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


IMPORTED_BYTES = resident_bytes()


@dataclass(frozen=True)
class Cut:
    """Steps [0, train_end) are trained on, [train_end, validation_end) validated on, the rest is the test."""

    train_end: int
    validation_end: int
    encoder_length: int = 48
    horizon: int = 12


@dataclass(frozen=True)
class BaselineRun:
    """A finished training; `best` and `last` are checkpoints."""

    val_losses: list[float]  # one per epoch
    epoch_ends: list[float]  # seconds since the start, one per epoch
    seconds: float  # from the DataFrame to the last epoch's end
    peak_bytes: int  # the most memory held until then, less what the imports hold
    train_windows: int
    workers: int
    training: TimeSeriesDataSet
    best: Path
    last: Path

    def forecast(self, checkpoint: Path, data: pd.DataFrame, first_step: int) -> tuple[pd.DataFrame, Any]:
        """Forecast every window of `data` whose horizon starts at `first_step` or later.

        Returns an index with columns server and time_idx (the first forecast step), and quantiles in original
        units (windows, horizon, targets, quantiles).
        """
        windows = TimeSeriesDataSet.from_dataset(
            self.training, data, min_prediction_idx=first_step, stop_randomization=True
        )
        loader = windows.to_dataloader(train=False, batch_size=VALIDATION_BATCH_SIZE, num_workers=0)
        model = TemporalFusionTransformer.load_from_checkpoint(checkpoint)
        quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
        found = model.predict(loader, mode="quantiles", return_index=True, trainer_kwargs=quiet)
        return found.index, np.stack([part.cpu().numpy() for part in found.output], axis=2)


def train_baseline(
    frame: pd.DataFrame,
    targets: list[str],
    cut: Cut,
    folder: Path,
    *,
    epochs: int,
    seed: int,
    threads: int | None = None,
    workers: int | None = None,
) -> BaselineRun:
    """Train on a frame with the columns server, time_idx (0, 1, …), timestamp and the targets.

    `threads=None`: one per core. `workers=None`: 0 or 2 loader workers, whichever trains quicker here; the
    trial is not part of `seconds`. Checkpoints go to `folder`.
    """
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    if workers is None:
        workers = min(WORKERS, key=lambda count: _trial_seconds(frame, targets, cut, count))
    started_at = time.monotonic()
    pl.seed_everything(seed, workers=True, verbose=False)
    training, validation = _datasets(frame, targets, cut)
    model = _network(training, targets)
    record = _EpochRecord(started_at)
    kept = ModelCheckpoint(dirpath=folder, filename="best", monitor="val_loss")
    trainer = _trainer(max_epochs=epochs, callbacks=[kept, record])
    trainer.fit(model, _loader(training, workers, train=True), _loader(validation, workers, train=False))
    seconds = time.monotonic() - started_at
    trainer.save_checkpoint(folder / "last.ckpt")
    return BaselineRun(
        val_losses=record.val_losses,
        epoch_ends=record.epoch_ends,
        seconds=seconds,
        peak_bytes=resident_bytes("VmHWM") - IMPORTED_BYTES,
        train_windows=len(training),
        workers=workers,
        training=training,
        best=Path(kept.best_model_path),
        last=folder / "last.ckpt",
    )


def with_clock(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame and the minute of the hour as sine and cosine, the input our own trainer takes too."""
    angle = 2 * np.pi * frame["timestamp"].dt.minute / 60
    return frame.assign(minute_sin=np.sin(angle), minute_cos=np.cos(angle))


def _datasets(
    frame: pd.DataFrame, targets: list[str], cut: Cut
) -> tuple[TimeSeriesDataSet, TimeSeriesDataSet]:
    frame = with_clock(frame)
    training = TimeSeriesDataSet(
        frame[frame["time_idx"] < cut.train_end],
        time_idx="time_idx",
        target=targets,
        group_ids=["server"],
        min_encoder_length=cut.encoder_length,
        max_encoder_length=cut.encoder_length,
        min_prediction_length=cut.horizon,
        max_prediction_length=cut.horizon,
        static_categoricals=["server"],
        time_varying_known_reals=["minute_sin", "minute_cos"],
        time_varying_unknown_reals=targets,
        target_normalizer=MultiNormalizer([GroupNormalizer(groups=["server"]) for _ in targets]),
        add_relative_time_idx=True,
        add_target_scales=True,
    )
    validation = TimeSeriesDataSet.from_dataset(
        training,
        frame[frame["time_idx"] < cut.validation_end],
        min_prediction_idx=cut.train_end,
        stop_randomization=True,
    )
    return training, validation


def _network(training: TimeSeriesDataSet, targets: list[str]) -> TemporalFusionTransformer:
    return TemporalFusionTransformer.from_dataset(
        training,
        learning_rate=LEARNING_RATE,
        hidden_size=32,
        hidden_continuous_size=16,
        attention_head_size=4,
        dropout=0.1,
        loss=MultiLoss([QuantileLoss(quantiles=QUANTILES) for _ in targets]),
        optimizer="adam",
        reduce_on_plateau_patience=4,
        log_interval=-1,
    )


def _loader(windows: TimeSeriesDataSet, workers: int, *, train: bool) -> Any:
    size = BATCH_SIZE if train else VALIDATION_BATCH_SIZE
    return windows.to_dataloader(
        train=train, batch_size=size, num_workers=workers, persistent_workers=workers > 0
    )


def _trainer(**settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        gradient_clip_val=GRADIENT_CLIP,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )


def _trial_seconds(frame: pd.DataFrame, targets: list[str], cut: Cut, workers: int) -> float:
    """How long the first batches take, the start of the workers left out: they persist."""
    training, _ = _datasets(frame, targets, cut)
    clock = _EpochRecord(0.0)
    _trainer(
        max_epochs=2, limit_train_batches=TRIAL_BATCHES, enable_checkpointing=False, callbacks=[clock]
    ).fit(_network(training, targets), _loader(training, workers, train=True))
    return clock.epoch_ends[1] - clock.epoch_ends[0]


class _EpochRecord(Callback):
    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.val_losses: list[float] = []
        self.epoch_ends: list[float] = []

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module
        self.val_losses.append(float(trainer.callback_metrics["val_loss"]))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del trainer, pl_module
        self.epoch_ends.append(time.monotonic() - self.started_at)


def main() -> None:
    """Train on the servers of a Parquet file with the columns server, timestamp and the targets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--targets", nargs="+", default=["cpu_percent", "memory_percent"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--validation", type=float, default=0.2)
    parser.add_argument("--test", type=float, default=0.0)
    asked = parser.parse_args()
    frame = pd.read_parquet(asked.data).sort_values(["server", "timestamp"], ignore_index=True)
    frame["time_idx"] = frame.groupby("server").cumcount()
    steps = int(frame["time_idx"].max()) + 1
    validation_end = steps - round(steps * asked.test)
    cut = Cut(validation_end - round(steps * asked.validation), validation_end)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        run = train_baseline(frame, asked.targets, cut, Path(folder), epochs=asked.epochs, seed=asked.seed)
    for epoch, (loss, seconds) in enumerate(zip(run.val_losses, run.epoch_ends, strict=True), start=1):
        print(f"epoch {epoch:3}  val_loss {loss:.4f}  {seconds:8.1f} s")
    print(f"{run.seconds:.1f} s, {run.peak_bytes / 2**20:.0f} MiB over imports, {run.workers} workers")


if __name__ == "__main__":
    main()
