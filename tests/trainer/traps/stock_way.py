"""pytorch-forecasting and Lightning, called as their documentation shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.metrics import QuantileLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

ENCODER, HORIZON = 8, 3
ODD_NAMES = ["cpu", "type", "half", "net.in"]
START = pd.Timestamp("2026-03-01", tz="UTC")
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
IGNORED = (
    "ignore::UserWarning",
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
    "ignore::RuntimeWarning",
)


def fleet(
    servers: int = 2, steps: int = 40, *, seed: int = 0, metrics: Sequence[str] = ("cpu_percent",)
) -> pd.DataFrame:
    """Servers with waves of their own: timestamp and time_idx, server, one column a metric."""
    random, parts = np.random.default_rng(seed), []
    for server in range(servers):
        clock = np.arange(steps)
        part = pd.DataFrame(
            {
                "timestamp": START + pd.to_timedelta(300 * clock, unit="s"),
                "time_idx": clock,
                "server": f"server-{server}",
            }
        )
        for name in metrics:
            part[name] = 40 + 20.0 * server + 5 * np.sin(clock / 3) + random.normal(0, 1, steps)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def dataset(frame: pd.DataFrame, target: Any = "cpu_percent", **changes: Any) -> TimeSeriesDataSet:
    arguments: dict[str, Any] = {
        "time_idx": "time_idx",
        "target": target,
        "group_ids": ["server"],
        "min_encoder_length": ENCODER,
        "max_encoder_length": ENCODER,
        "min_prediction_length": HORIZON,
        "max_prediction_length": HORIZON,
        "time_varying_known_reals": ["time_idx"],
        "time_varying_unknown_reals": [target] if isinstance(target, str) else target,
    }
    return TimeSeriesDataSet(frame, **(arguments | changes))


def network(data: TimeSeriesDataSet, **changes: Any) -> TemporalFusionTransformer:
    arguments: dict[str, Any] = {
        "hidden_size": 8,
        "attention_head_size": 2,
        "hidden_continuous_size": 4,
        "dropout": 0.0,
        "learning_rate": 0.01,
        "loss": QuantileLoss(),
        "optimizer": "adam",
        "log_interval": -1,
    }
    return TemporalFusionTransformer.from_dataset(data, **(arguments | changes))


def first_batch(data: TimeSeriesDataSet, size: int = 64) -> Any:
    return next(iter(data.to_dataloader(train=False, batch_size=size, num_workers=0)))


def fit(model: pl.LightningModule, batches: Any, **changes: Any) -> pl.Trainer:
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 1} | changes))
    trainer.fit(model, batches)
    return trainer


def loader(data: TimeSeriesDataSet, size: int = 16) -> Any:
    return data.to_dataloader(train=True, batch_size=size, num_workers=0)


class Batches:
    """Ready batches, as a loader gives them."""

    def __init__(self, *batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)
