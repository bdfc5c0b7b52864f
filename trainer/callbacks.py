"""What happens around the steps: metrics and progress go out, the best weights stay, wishes are obeyed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from trainer.errors import Diverged
from trainer.events import CheckpointSaved, MetricsReported, ProgressReported
from trainer.observer import obey_stop_wish
from trainer.report.inputs import MetricPoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.events import StopReason
    from trainer.model import ForecastModel
    from trainer.observer import Observer

PROGRESS_SECONDS = 1.0
BAD_STEPS_ALLOWED = 10  # in a row; a single one may come from a single odd batch


class TrainingCut(Exception):
    """Training ends in the middle of an epoch; what follows it goes on."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class RunSize:
    """How long the run will be."""

    epochs: int
    steps_per_epoch: int
    total_steps: int
    effective_batch_size: int

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that this many optimizer steps end in."""
        return max(math.ceil(step / self.steps_per_epoch), 1)


class ScalarLog:
    """Where a run's numbers go: memory, the observer, and a TensorBoard folder, opened at the first."""

    def __init__(self, observer: Observer, tensorboard_dir: Path) -> None:
        self.points: list[MetricPoint] = []
        self._observer = observer
        self._tensorboard_dir = tensorboard_dir
        self._writer: Any = None

    def add(self, step: int, epoch: int, values: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.points += [MetricPoint(step, epoch, name, value) for name, value in finite.items()]
        self._observer.report(MetricsReported(step=step, epoch=epoch, values=finite))
        for name, value in values.items():
            self._tensorboard().add_scalar(name, value, step)

    def close(self) -> None:
        self._tensorboard().close()

    def _tensorboard(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow, and not needed to start

            self._writer = SummaryWriter(str(self._tensorboard_dir))
        return self._writer


class Reporting(pl.Callback):
    """Training loss, rate, gradient norm and speed every so many steps; progress every second."""

    def __init__(
        self, scalars: ScalarLog, observer: Observer, size: RunSize, *, every: int, rate_interval: str
    ) -> None:
        self._scalars, self._observer, self._size = scalars, observer, size
        self._every, self._rate_interval = every, rate_interval
        self._step = 0
        self._windows = 0
        self._seconds = 0.0
        self._logged: tuple[int, float] = (0, 0.0)  # windows and seconds at the last log
        self._resumed_at = 0.0
        self._progress_at = 0.0
        self._validation_seconds = 0.0

    def on_train_start(self, *_: Any) -> None:
        self._resumed_at = time.monotonic()
        self._report_progress()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: ForecastModel,  # type: ignore[override] # the only module we train
        outputs: Any,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        self._windows += len(batch[0]["decoder_lengths"])
        if trainer.global_step == self._step:
            return  # in the middle of an accumulated group
        self._step = trainer.global_step
        self._pass_time()
        if self._step % self._every == 0:
            self._report_metrics(pl_module)
        if time.monotonic() - self._progress_at >= PROGRESS_SECONDS:
            self._report_progress()

    def on_validation_start(self, *_: Any) -> None:
        self._pass_time()

    def on_validation_end(self, _: pl.Trainer, pl_module: ForecastModel) -> None:  # type: ignore[override]
        self._validation_seconds = time.monotonic() - self._resumed_at
        self._resumed_at = time.monotonic()
        self.flush(pl_module)
        epoch = self._size.epoch_of(self._step)
        if self._rate_interval == "epoch":
            rate = pl_module.plan.learning_rate.at(max(self._step - 1, 0))
            self._scalars.add(self._step, epoch, {"learning_rate": rate})
        self._report_progress()

    def flush(self, model: ForecastModel) -> None:
        """Report what has been trained since the last report, if anything."""
        if model.train_batches:
            self._report_metrics(model)

    def _report_metrics(self, model: ForecastModel) -> None:
        """The one place in training where numbers are read back from the device."""
        check_gradients(model, self._step)
        windows, seconds = self._logged
        values = {
            "train_loss": float(model.train_loss) / model.train_batches,
            "grad_norm": float(model.gradient_norm),
            "windows_per_second": (self._windows - windows) / max(self._seconds - seconds, 1e-9),
        }
        if self._rate_interval == "step":
            values["learning_rate"] = model.plan.learning_rate.at(self._step - 1)
        model.reset_train_loss()
        self._logged = (self._windows, self._seconds)
        self._scalars.add(self._step, self._size.epoch_of(self._step), values)

    def _pass_time(self) -> None:
        now = time.monotonic()
        self._seconds += now - self._resumed_at
        self._resumed_at = now

    def _report_progress(self) -> None:
        self._progress_at = time.monotonic()
        epoch = self._size.epoch_of(self._step)
        speed = self._windows / self._seconds if self._windows else None
        self._observer.report(
            ProgressReported(
                fraction=min(self._step / self._size.total_steps, 1.0),
                epoch=epoch,
                epochs=self._size.epochs,
                step=self._step,
                total_steps=self._size.total_steps,
                windows_per_second=speed,
                eta_seconds=None if speed is None else self._remaining_seconds(speed, epoch),
            )
        )

    def _remaining_seconds(self, speed: float, epoch: int) -> float:
        steps = self._size.total_steps - self._step
        validations = max(self._size.epochs - epoch + (steps > 0), 0)
        return steps * self._size.effective_batch_size / speed + validations * self._validation_seconds


def check_gradients(model: ForecastModel, step: int) -> None:
    """Raise Diverged if too many steps in a row had to be left out."""
    if float(model.bad_steps_in_a_row) >= BAD_STEPS_ALLOWED:
        raise Diverged(
            f"the loss was not finite in {int(model.bad_steps_in_a_row)} steps in a row, up to step {step}; "
            f"lower learning_rate (now {model.plan.learning_rate.peak:g}), or use precision 32-true"
        )


@dataclass
class BestWeights(pl.Callback):
    """Measures validation, writes `model.ckpt` when it is the best so far and `last.ckpt` always.

    `write` takes a file name, the model, the epochs done and the step.
    """

    scalars: ScalarLog  # not `log`: Lightning puts a function of its own there
    observer: Observer
    size: RunSize
    targets: tuple[str, ...]
    patience: int
    write: Callable[[str, ForecastModel, int, int], None]
    best_loss: float = math.inf
    best_losses: list[float] = field(default_factory=list)
    best_step: int = 0
    best_epoch: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    measured_step: int = -1
    stale_epochs: int = 0
    exhausted: bool = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: ForecastModel) -> None:  # type: ignore[override]
        self.take(pl_module, trainer.global_step)
        if self.patience and self.stale_epochs >= self.patience:
            self.exhausted = trainer.should_stop = True

    def take(self, model: ForecastModel, step: int) -> None:
        """Judge the weights by the validation that has just run."""
        epoch = self.size.epoch_of(step)
        losses = model.validation.per_target()
        loss = sum(losses)
        if not math.isfinite(loss):
            raise Diverged(
                f"the validation loss was not finite after step {step}; lower learning_rate "
                f"(now {model.plan.learning_rate.peak:g}), or use precision 32-true"
            )
        self.measured_step = step
        model.plan.learning_rate.heed(loss)
        values = {"val_loss": loss}
        if len(losses) > 1:
            values |= {f"val_loss/{name}": own for name, own in zip(self.targets, losses, strict=True)}
        self.scalars.add(step, epoch, values)
        if loss < self.best_loss:
            self.best_loss, self.best_losses, self.stale_epochs = loss, losses, 0
            self.best_step, self.best_epoch = step, epoch
            self.weights = {
                name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()
            }
            self.save("model.ckpt", model, step, loss)
        else:
            self.stale_epochs += 1
        self.save("last.ckpt", model, step, loss)

    def save(self, name: str, model: ForecastModel, step: int, loss: float | None) -> None:
        epoch = self.size.epoch_of(step)
        self.write(name, model, epoch, step)
        self.observer.report(
            CheckpointSaved(
                name="model.ckpt" if name == "model.ckpt" else "last.ckpt",
                step=step,
                epoch=epoch,
                val_loss=loss,
            )
        )


class StopWatch(pl.Callback):
    """Ends training at the end of an optimizer step, when the observer wishes so or time is up."""

    def __init__(self, observer: Observer, deadline: float | None) -> None:
        self._observer = observer
        self._deadline = deadline  # of time.monotonic()
        self._step = 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if self._observer.stop_wish() == "time_limit":
            raise TrainingCut("time_limit")
        obey_stop_wish(self._observer, self._step)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TrainingCut("time_limit")

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        obey_stop_wish(self._observer, self._step)
