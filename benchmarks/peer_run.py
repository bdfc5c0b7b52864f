"""One contestant of `benchmarks/peers.py`: its own trainer on a fleet, timed between the ends of its steps.

The peers run in their own environment (requirements-peers.txt), which has nothing of our trainer.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.contestant import versions
from benchmarks.fleet import QUANTILES, Fleet, load_fleet
from benchmarks.memory import proportional_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
EPOCHS = 100  # more than any stretch lasts


class Measured(BaseException):
    """The stretch is full: nothing of the training that follows is wanted."""


class SteadyState:
    """Training between the ends of steps, from step `first` on, until so many seconds are full."""

    def __init__(self, first: int, seconds: float) -> None:
        self._started_at = time.perf_counter()
        self._first, self._seconds = first, seconds
        self._mark: tuple[int, float, float] | None = None
        self.imported_bytes = 0
        self.warm_up = 0.0  # seconds from the start of this program to the first step that counts
        self.steps, self.clock, self.processor = 0, 0.0, 0.0

    def imported(self) -> None:
        """All that the contestant imports is in memory, and nothing else."""
        self.imported_bytes = proportional_bytes()

    def passed(self, step: int, *, counts: bool = True) -> None:
        """The end of a step; what came since the one told before is left out if it does not count.

        Raises Measured once the stretch is full.
        """
        if step < self._first:
            return
        now = step, time.perf_counter(), time.process_time()
        if self._mark is None:
            self.warm_up = now[1] - self._started_at
        elif counts:
            self.steps += now[0] - self._mark[0]
            self.clock += now[1] - self._mark[1]
            self.processor += now[2] - self._mark[2]
        self._mark = now
        if self.clock >= self._seconds:
            raise Measured


def meter(stretch: SteadyState, base: type, options: dict[str, Any]) -> Any:
    """A callback, of the Lightning package that the contestant uses."""

    def on_train_batch_end(self: Any, trainer: Any, *_: Any) -> None:
        del self
        stretch.passed(trainer.global_step)

    def on_fit_start(self: Any, trainer: Any, pl_module: Any) -> None:
        del self, trainer
        if options.get("compile"):
            pl_module.compile()

    return type("Meter", (base,), {"on_train_batch_end": on_train_batch_end, "on_fit_start": on_fit_start})()


def loader_options(options: dict[str, Any]) -> dict[str, Any]:
    """Of a torch DataLoader; workers that stay."""
    workers = options.get("workers", 0)
    return {"num_workers": workers, "persistent_workers": True} if workers else {}


def optimizer_options(options: dict[str, Any]) -> dict[str, Any]:
    return {"fused": True} if options.get("fused") else {}


def run_ours(fleet: Fleet, asked: argparse.Namespace, stretch: SteadyState) -> None:
    # Imported here and below: each contestant where it takes part.
    from benchmarks.ours import spec_of, write_group  # noqa: PLC0415
    from trainer.recipe import train  # noqa: PLC0415

    class Observer:
        """Told every ten steps; ours alone validates after an epoch, which must not be timed."""

        def __init__(self) -> None:
            self.validated = False

        def report(self, event: Any) -> None:
            if event.type != "metrics":
                return
            self.validated |= "val_loss" in event.values
            if "train_loss" in event.values:
                counts, self.validated = not self.validated, False
                stretch.passed(event.step, counts=counts)

        def stop_wish(self) -> None:
            return None

    stretch.imported()
    options = {
        "batch_size": asked.batch,
        "hidden_size": asked.hidden,
        "log_every_n_steps": asked.first // 2,
        "early_stopping_patience": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        data = write_group(fleet, "seen", Path(folder))
        spec = spec_of(fleet, seed=asked.seed, epochs=EPOCHS, options=options)
        train(spec, data, Path(folder) / "out", Observer())


def run_pytorch_forecasting(fleet: Fleet, asked: argparse.Namespace, stretch: SteadyState) -> None:
    import lightning.pytorch as pl  # noqa: PLC0415
    from pytorch_forecasting import TemporalFusionTransformer  # noqa: PLC0415
    from pytorch_forecasting.metrics import MultiLoss, QuantileLoss  # noqa: PLC0415

    from benchmarks.baseline import GRADIENT_CLIP, LEARNING_RATE, Cut, _datasets  # noqa: PLC0415

    stretch.imported()
    cut = Cut(fleet.train_end, fleet.validation_end, fleet.encoder_length, fleet.horizon)
    training, _ = _datasets(fleet.frame("seen"), list(fleet.targets), cut)
    network = TemporalFusionTransformer.from_dataset(
        training,
        learning_rate=LEARNING_RATE,
        hidden_size=asked.hidden,
        hidden_continuous_size=16,
        attention_head_size=4,
        dropout=0.1,
        loss=MultiLoss([QuantileLoss(quantiles=list(QUANTILES)) for _ in fleet.targets]),
        optimizer="adam",
        optimizer_params=optimizer_options(asked.options),
        log_interval=-1,
    )
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        gradient_clip_val=GRADIENT_CLIP,
        callbacks=[meter(stretch, pl.Callback, asked.options)],
        enable_checkpointing=False,
        **QUIET,  # type: ignore[arg-type]
    )
    loader = training.to_dataloader(train=True, batch_size=asked.batch, **loader_options(asked.options))
    trainer.fit(network, loader)


def run_neuralforecast(fleet: Fleet, asked: argparse.Namespace, stretch: SteadyState) -> None:
    """One target, the others as past covariates: half the work of the others, as it knows no more."""
    from neuralforecast import NeuralForecast  # type: ignore[import-not-found]  # noqa: PLC0415
    from neuralforecast.losses.pytorch import MQLoss  # type: ignore[import-not-found]  # noqa: PLC0415
    from neuralforecast.models import TFT  # type: ignore[import-not-found]  # noqa: PLC0415
    from pytorch_lightning import Callback  # noqa: PLC0415

    from benchmarks.peer_forecasts import long_table  # noqa: PLC0415

    stretch.imported()
    network = TFT(
        h=fleet.horizon,
        input_size=fleet.encoder_length,
        hist_exog_list=list(fleet.targets[1:]) or None,
        hidden_size=asked.hidden,
        n_head=4,
        dropout=0.1,
        loss=MQLoss(quantiles=list(QUANTILES)),
        scaler_type="robust",
        max_steps=1_000_000,
        random_seed=asked.seed,
        windows_batch_size=asked.batch,
        learning_rate=1e-3,
        optimizer=torch.optim.Adam,
        optimizer_kwargs=optimizer_options(asked.options),
        dataloader_kwargs=loader_options(asked.options),
        callbacks=[meter(stretch, Callback, asked.options)],
        enable_checkpointing=False,
        **QUIET,
    )
    values = fleet.table[: fleet.seen, : fleet.train_end]
    NeuralForecast(models=[network], freq=1).fit(long_table(values, fleet.targets, 0), val_size=0)


def run_darts(fleet: Fleet, asked: argparse.Namespace, stretch: SteadyState) -> None:
    from darts.models import TFTModel  # type: ignore[import-not-found]  # noqa: PLC0415
    from darts.utils.likelihood_models.torch import (  # type: ignore[import-not-found]  # noqa: PLC0415
        QuantileRegression,
    )
    from pytorch_lightning import Callback  # noqa: PLC0415

    from benchmarks.peer_forecasts import darts_series  # noqa: PLC0415

    stretch.imported()
    values = fleet.table[: fleet.seen, : fleet.train_end]
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    model = TFTModel(
        input_chunk_length=fleet.encoder_length,
        output_chunk_length=fleet.horizon,
        hidden_size=asked.hidden,
        hidden_continuous_size=16,
        lstm_layers=1,
        num_attention_heads=4,
        dropout=0.1,
        batch_size=asked.batch,
        n_epochs=EPOCHS,
        add_relative_index=True,
        likelihood=QuantileRegression(quantiles=list(QUANTILES)),
        optimizer_kwargs={"lr": 1e-3} | optimizer_options(asked.options),
        random_state=asked.seed,
        save_checkpoints=False,
        pl_trainer_kwargs={**QUIET, "callbacks": [meter(stretch, Callback, asked.options)]},
    )
    series = darts_series((values - low) / (high - low).clip(1e-6))
    model.fit(series, dataloader_kwargs=loader_options(asked.options), verbose=False)


RUNS: dict[str, Callable[[Fleet, argparse.Namespace, SteadyState], None]] = {
    "ours": run_ours,
    "pytorch-forecasting": run_pytorch_forecasting,
    "neuralforecast": run_neuralforecast,
    "darts": run_darts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contestant", choices=list(RUNS), required=True)
    parser.add_argument("--fleet", type=Path, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--hidden", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--first", type=int, default=20, help="The step after which the clock starts.")
    parser.add_argument("--seconds", type=float, required=True, help="How long it runs from there.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--options", type=json.loads, default={})
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in ("lightning.pytorch", "pytorch_lightning", "darts"):
        logging.getLogger(name).setLevel(logging.ERROR)
    stretch = SteadyState(asked.first, asked.seconds)
    fleet = load_fleet(asked.fleet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            RUNS[asked.contestant](fleet, asked, stretch)
        except Measured:
            pass
        else:
            raise RuntimeError(f"{asked.contestant} ended before {asked.seconds} s were full")
    found = {
        "windows": stretch.steps * asked.batch,
        "clock": stretch.clock,
        "processor": stretch.processor,
        "warm_up": stretch.warm_up,
        "imported_bytes": stretch.imported_bytes,
        "versions": versions(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
