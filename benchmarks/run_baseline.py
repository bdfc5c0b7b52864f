"""The baseline on a fleet: train, then forecast both tails with the best and with the last epoch's weights.

It cannot forecast servers it has not seen: pytorch-forecasting raises KeyError for them. With
`NaNLabelEncoder(add_nan=True)` it would, but then scales each server by its neighbour in the list.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.baseline import BaselineRun, Cut, train_baseline, with_clock
from benchmarks.contestant import Forecasts, contestant_main

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from benchmarks.fleet import Fleet


def run(fleet: Fleet, asked: argparse.Namespace) -> tuple[Forecasts, dict[str, Any]]:
    """Forecasts by weights, group and part, and what is to be told of the run."""
    frame = fleet.frame("seen")
    cut = Cut(fleet.train_end, fleet.validation_end, fleet.encoder_length, fleet.horizon)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = train_baseline(
            frame,
            list(fleet.targets),
            cut,
            Path(folder),
            epochs=asked.epochs,
            seed=asked.seed,
            threads=asked.threads,
            workers=0,
        )
        forecasts = {
            (weights, "seen", part): _forecast(done, checkpoint, frame, fleet, part)
            for weights, checkpoint in (("best", done.best), ("last", done.last))
            for part in ("validation", "test")
        }
    facts = {
        "val_losses": done.val_losses,
        "epoch_ends": done.epoch_ends,
        "seconds": done.seconds,
        "peak_bytes": done.peak_bytes,
        "windows_seen": asked.epochs * done.train_windows,
    }
    return forecasts, facts


def _forecast(done: BaselineRun, checkpoint: Path, frame: pd.DataFrame, fleet: Fleet, part: Any) -> Any:
    """(servers, origins, horizon, targets, quantiles) in the fleet's order."""
    origins = fleet.origins(part)
    end = origins[-1] + fleet.horizon
    index, quantiles = done.forecast(
        checkpoint, with_clock(frame[frame["time_idx"] < end]), first_step=int(origins[0])
    )
    place = {name: number for number, name in enumerate(fleet.servers[: fleet.seen])}
    ordered = np.full((fleet.seen, len(origins), *quantiles.shape[1:]), np.nan, np.float32)
    ordered[index["server"].map(place), index["time_idx"] - origins[0]] = quantiles
    return ordered


if __name__ == "__main__":
    contestant_main(run)
