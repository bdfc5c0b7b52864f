"""The TFTs of neuralforecast and darts on a fleet: same size, same windows.

They live in an environment of their own (requirements-peers.txt), without anything of our trainer.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from benchmarks.contestant import Forecasts, contestant_main
from benchmarks.fleet import QUANTILES, Fleet, Part

if TYPE_CHECKING:
    import argparse

Floats = npt.NDArray[np.float32]
Group = Any  # "seen" or "new"

# What is forecast of whom: calibration needs the validation tail of the servers trained on.
ASKED: tuple[tuple[Group, Part], ...] = (("seen", "validation"), ("seen", "test"), ("new", "test"))
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}


def run(fleet: Fleet, asked: argparse.Namespace) -> tuple[Forecasts, dict[str, Any]]:
    """Forecasts by weights, group and part, and what is to be told of the run."""
    torch.set_num_threads(asked.threads)
    for name in ("lightning.pytorch", "pytorch_lightning", "darts"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"neuralforecast": _neuralforecast, "darts": _darts}[asked.contestant](fleet, asked)


def _neuralforecast(fleet: Fleet, asked: argparse.Namespace) -> tuple[Forecasts, dict[str, Any]]:
    """One model per target, the other targets as past covariates; robust scaling per window."""
    options = {"windows_batch_size": 128, "learning_rate": 1e-3} | asked.options
    steps = math.ceil(asked.epochs * fleet.train_windows / options["windows_batch_size"])
    forecasts: Forecasts = {}
    seconds = 0.0
    for index in range(len(fleet.targets)):
        started_at = time.monotonic()
        forecaster = _trained_neuralforecast(fleet, index, asked.seed, steps, options)
        seconds += time.monotonic() - started_at
        for group, part in ASKED:
            found = _by_neuralforecast(forecaster, fleet, index, group, part)
            key = ("last", group, part)
            forecasts[key] = (
                found if index == 0 else np.concatenate([forecasts[key], found], axis=3, dtype=np.float32)
            )
    seen = steps * options["windows_batch_size"]
    return forecasts, {"seconds": seconds, "windows_seen": seen, "max_steps": steps, "options": options}


def _trained_neuralforecast(fleet: Fleet, index: int, seed: int, steps: int, options: dict[str, Any]) -> Any:
    # Imported here: a peer is needed only where it takes part.
    from neuralforecast import NeuralForecast  # type: ignore[import-not-found]  # noqa: PLC0415
    from neuralforecast.losses.pytorch import MQLoss  # type: ignore[import-not-found]  # noqa: PLC0415
    from neuralforecast.models import TFT  # type: ignore[import-not-found]  # noqa: PLC0415

    others = [name for place, name in enumerate(fleet.targets) if place != index]
    network = TFT(
        h=fleet.horizon,
        input_size=fleet.encoder_length,
        hist_exog_list=others or None,
        hidden_size=32,
        n_head=4,
        dropout=0.1,
        loss=MQLoss(quantiles=list(QUANTILES)),
        scaler_type="robust",
        max_steps=steps,
        random_seed=seed,
        **options,
        **QUIET,
        enable_checkpointing=False,
    )
    forecaster = NeuralForecast(models=[network], freq=1)
    values = fleet.table[: fleet.seen, : fleet.train_end]
    forecaster.fit(long_table(values, fleet.targets, index), val_size=0)
    return forecaster


def _by_neuralforecast(forecaster: Any, fleet: Fleet, index: int, group: Group, part: Part) -> Floats:
    """Each window's history goes in as a series of its own: (servers, origins, horizon, 1, quantiles)."""
    pasts = _pasts(fleet.table, fleet, group, part)
    servers, origins = pasts.shape[:2]
    frame = long_table(pasts.reshape(-1, *pasts.shape[2:]), fleet.targets, index)
    found = forecaster.predict(df=frame).sort_values(["unique_id", "ds"])
    columns = [name for name in found.columns if name not in {"unique_id", "ds"}]
    shape = (servers, origins, fleet.horizon, 1, len(QUANTILES))
    return np.asarray(found[columns], np.float32).reshape(shape)


def long_table(values: Floats, targets: tuple[str, ...], index: int) -> pd.DataFrame:
    """The long format of (series, steps, targets): target `index` is y."""
    count, steps = values.shape[:2]
    columns = {
        "y" if place == index else name: values[:, :, place].reshape(-1) for place, name in enumerate(targets)
    }
    keys = {"unique_id": np.repeat(np.arange(count), steps), "ds": np.tile(np.arange(steps), count)}
    return pd.DataFrame(keys | columns)


def _pasts(values: Floats, fleet: Fleet, group: Group, part: Part) -> Floats:
    """The encoder's steps of every window, (servers, origins, encoder_length, targets)."""
    steps = fleet.origins(part)[:, None] + np.arange(-fleet.encoder_length, 0)
    pasts: Floats = values[fleet.of(group)][:, steps]
    return pasts


def _darts(fleet: Fleet, asked: argparse.Namespace) -> tuple[Forecasts, dict[str, Any]]:
    """All targets as components of one series per server, each scaled to 0-1 over its own training part."""
    from darts.models import TFTModel  # type: ignore[import-not-found]  # noqa: PLC0415
    from darts.utils.likelihood_models.torch import (  # type: ignore[import-not-found]  # noqa: PLC0415
        QuantileRegression,
    )

    options = {"batch_size": 32, "lr": 1e-3} | asked.options
    past = fleet.table[:, : fleet.train_end]
    low = past.min(axis=1, keepdims=True)
    scale = past.max(axis=1, keepdims=True) - low
    scale[scale == 0] = 1.0
    scaled = (fleet.table - low) / scale
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model = TFTModel(
            input_chunk_length=fleet.encoder_length,
            output_chunk_length=fleet.horizon,
            hidden_size=32,
            hidden_continuous_size=16,
            lstm_layers=1,
            num_attention_heads=4,
            dropout=0.1,
            batch_size=options["batch_size"],
            n_epochs=asked.epochs,
            add_relative_index=True,
            likelihood=QuantileRegression(quantiles=list(QUANTILES)),
            optimizer_kwargs={"lr": options["lr"]},
            random_state=asked.seed,
            model_name="darts",
            work_dir=folder,
            save_checkpoints=True,
            pl_trainer_kwargs=QUIET,
        )
        from_step = fleet.train_end - fleet.encoder_length
        model.fit(
            darts_series(scaled[: fleet.seen, : fleet.train_end]),
            val_series=darts_series(scaled[: fleet.seen, from_step : fleet.validation_end]),
            verbose=False,
        )
        seconds = time.monotonic() - started_at
        best = TFTModel.load_from_checkpoint("darts", work_dir=folder, best=True)
        forecasts: Forecasts = {
            (weights, group, part): _by_darts(source, fleet, scaled, low, scale, group, part)
            for weights, source in (("best", best), ("last", model))
            for group, part in ASKED
        }
    seen = asked.epochs * fleet.train_windows
    return forecasts, {"seconds": seconds, "windows_seen": seen, "options": options}


def _by_darts(
    model: Any, fleet: Fleet, scaled: Floats, low: Floats, scale: Floats, group: Group, part: Part
) -> Floats:
    """(servers, origins, horizon, targets, quantiles), in original units."""
    pasts = _pasts(scaled, fleet, group, part)
    found = model.predict(
        n=fleet.horizon,
        series=darts_series(pasts.reshape(-1, *pasts.shape[2:])),
        batch_size=512,
        predict_likelihood_parameters=True,
        verbose=False,
    )
    shape = (*pasts.shape[:2], fleet.horizon, len(fleet.targets), len(QUANTILES))
    quantiles = np.stack([one.values(copy=False) for one in found]).reshape(shape)
    factor, shift = (array[fleet.of(group)][:, :, None, :, None] for array in (scale, low))
    return np.asarray(quantiles * factor + shift, np.float32)


def darts_series(values: Floats) -> list[Any]:
    """A darts series for each of (series, steps, targets)."""
    from darts import TimeSeries  # type: ignore[import-not-found]  # noqa: PLC0415

    times = pd.RangeIndex(values.shape[1])
    return [TimeSeries.from_times_and_values(times, one.astype(np.float32)) for one in values]


if __name__ == "__main__":
    contestant_main(run)
