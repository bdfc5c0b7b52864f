"""One contestant's training speed: so many steps of its own trainer on a fleet, timed between two of them.

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

from benchmarks.fleet import QUANTILES, Fleet, load_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    Times = tuple[float, float]

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}


class Stretch:
    """Processor time and clock between the ends of two training steps."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self._start: Times = (0.0, 0.0)
        self.spent: Times | None = None

    def passed(self, step: int) -> None:
        now = time.process_time(), time.perf_counter()
        if step == self.first:
            self._start = now
        elif step == self.last:
            self.spent = now[0] - self._start[0], now[1] - self._start[1]


def meter(stretch: Stretch, base: type) -> Any:
    """A callback, of the Lightning package that the contestant uses."""

    def on_train_batch_end(self: Any, trainer: Any, *_: Any) -> None:  # noqa: ARG001
        stretch.passed(trainer.global_step)

    return type("Meter", (base,), {"on_train_batch_end": on_train_batch_end})()


def run_ours(fleet: Fleet, asked: argparse.Namespace, stretch: Stretch) -> None:
    # Imported here and below: each contestant where it takes part.
    from benchmarks.ours import spec_of, write_group  # noqa: PLC0415
    from trainer.recipe import train  # noqa: PLC0415

    class Observer:
        """Steps are reported at multiples of `log_every_n_steps`; the real observer pays for it too."""

        def report(self, event: Any) -> None:
            if event.type == "metrics" and "train_loss" in event.values:
                stretch.passed(event.step)

        def stop_wish(self) -> None:
            return None

    options = {
        "batch_size": asked.batch,
        "hidden_size": asked.hidden,
        "max_steps": asked.last,
        # The first report loads the TensorBoard writer, once: it has to lie before the stretch that is timed.
        "log_every_n_steps": asked.first // 2,
        # The recipe ends with an evaluation, which is not timed: as little of it as may be.
        "calibration": "none",
    }
    with tempfile.TemporaryDirectory() as folder:
        data = write_group(fleet, "seen", Path(folder))
        spec = spec_of(fleet, seed=asked.seed, epochs=asked.epochs, options=options)
        train(spec, data, Path(folder) / "out", Observer())


def run_pytorch_forecasting(fleet: Fleet, asked: argparse.Namespace, stretch: Stretch) -> None:
    import lightning.pytorch as pl  # noqa: PLC0415

    from benchmarks.baseline import GRADIENT_CLIP, Cut, _datasets, _network  # noqa: PLC0415

    if asked.hidden != 32:
        raise ValueError("the baseline is of hidden size 32")
    cut = Cut(fleet.train_end, fleet.validation_end, fleet.encoder_length, fleet.horizon)
    training, _ = _datasets(fleet.frame("seen"), list(fleet.targets), cut)
    trainer = pl.Trainer(
        max_steps=asked.last,
        gradient_clip_val=GRADIENT_CLIP,
        callbacks=[meter(stretch, pl.Callback)],
        enable_checkpointing=False,
        **QUIET,  # type: ignore[arg-type]
    )
    loader = training.to_dataloader(train=True, batch_size=asked.batch, num_workers=0)
    trainer.fit(_network(training, list(fleet.targets)), loader)


def run_neuralforecast(fleet: Fleet, asked: argparse.Namespace, stretch: Stretch) -> None:
    """One target, the others as past covariates: half the work of the others, as it knows no more."""
    from neuralforecast import NeuralForecast  # type: ignore[import-not-found]  # noqa: PLC0415
    from neuralforecast.losses.pytorch import MQLoss  # type: ignore[import-not-found]  # noqa: PLC0415
    from neuralforecast.models import TFT  # type: ignore[import-not-found]  # noqa: PLC0415
    from pytorch_lightning import Callback  # noqa: PLC0415

    from benchmarks.peers import _long  # noqa: PLC0415

    network = TFT(
        h=fleet.horizon,
        input_size=fleet.encoder_length,
        hist_exog_list=list(fleet.targets[1:]) or None,
        hidden_size=asked.hidden,
        n_head=4,
        dropout=0.1,
        loss=MQLoss(quantiles=list(QUANTILES)),
        scaler_type="robust",
        max_steps=asked.last,
        random_seed=asked.seed,
        windows_batch_size=asked.batch,
        learning_rate=1e-3,
        callbacks=[meter(stretch, Callback)],
        enable_checkpointing=False,
        **QUIET,
    )
    values = fleet.table[: fleet.seen, : fleet.train_end]
    NeuralForecast(models=[network], freq=1).fit(_long(values, fleet.targets, 0), val_size=0)


def run_darts(fleet: Fleet, asked: argparse.Namespace, stretch: Stretch) -> None:
    from darts.models import TFTModel  # type: ignore[import-not-found]  # noqa: PLC0415
    from darts.utils.likelihood_models.torch import (  # type: ignore[import-not-found]  # noqa: PLC0415
        QuantileRegression,
    )
    from pytorch_lightning import Callback  # noqa: PLC0415

    from benchmarks.peers import _series  # noqa: PLC0415

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
        n_epochs=asked.epochs,
        add_relative_index=True,
        likelihood=QuantileRegression(quantiles=list(QUANTILES)),
        optimizer_kwargs={"lr": 1e-3},
        random_state=asked.seed,
        save_checkpoints=False,
        pl_trainer_kwargs={**QUIET, "max_steps": asked.last, "callbacks": [meter(stretch, Callback)]},
    )
    model.fit(_series((values - low) / (high - low).clip(1e-6)), verbose=False)


RUNS: dict[str, Callable[[Fleet, argparse.Namespace, Stretch], None]] = {
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
    parser.add_argument("--first", type=int, required=True, help="The step after which the clock starts.")
    parser.add_argument("--last", type=int, required=True, help="A multiple of it: where the clock stops.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in ("lightning.pytorch", "pytorch_lightning", "darts"):
        logging.getLogger(name).setLevel(logging.ERROR)
    stretch = Stretch(asked.first, asked.last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        RUNS[asked.contestant](load_fleet(asked.fleet), asked, stretch)
    if stretch.spent is None:
        raise RuntimeError(f"{asked.contestant} never came to step {asked.last}")
    windows = (asked.last - asked.first) * asked.batch
    found = {"processor": windows / stretch.spent[0], "clock": windows / stretch.spent[1]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
