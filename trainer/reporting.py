"""Numbers on their way out of a training run: metrics, speed, progress."""

from __future__ import annotations

import math
import shutil
import time
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from trainer.divergence import check_loss
from trainer.events import MetricsReported, ProgressReported
from trainer.memory import resident_bytes
from trainer.report.inputs import MetricPoint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from trainer.model import ForecastModel
    from trainer.observer import Observer
    from trainer.run_size import RunSize

PROGRESS_SECONDS = 1.0


class ScalarLog:
    """Where a run's numbers go: memory, the observer, and a TensorBoard folder, opened at the first.

    `points` are those of a run that goes on; the folder is written anew with them, where there is one.
    """

    def __init__(
        self, observer: Observer, tensorboard_dir: Path | None, points: Iterable[MetricPoint] = ()
    ) -> None:
        self.points = list(points)
        self._observer = observer
        self._tensorboard_dir = tensorboard_dir
        self._writer: Any = None

    def add(self, step: int, epoch: int, values: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._observer.report(MetricsReported(step=step, epoch=epoch, values=finite))
        new = [MetricPoint(step, epoch, name, value) for name, value in finite.items()]
        if self._tensorboard_dir is not None:
            for point in new if self._writer is not None else [*self.points, *new]:
                self._draw(point)
        self.points += new

    def close(self) -> None:
        if self._tensorboard_dir is None:
            return
        if self._writer is None:
            for point in self.points:
                self._draw(point)
        self._tensorboard().close()

    def _draw(self, point: MetricPoint) -> None:
        value = math.nan if point.value is None else point.value
        self._tensorboard().add_scalar(point.name, value, point.step)

    def _tensorboard(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow, and not needed to start

            folder = str(self._tensorboard_dir)
            shutil.rmtree(folder, ignore_errors=True)
            self._writer = SummaryWriter(folder)
        return self._writer


class Reporting(pl.Callback):
    """Training loss, rate, gradient norm, speed and memory every so many steps; progress every second."""

    def __init__(
        self,
        scalars: ScalarLog,
        observer: Observer,
        size: RunSize,
        *,
        every: int,
        rate_interval: str,
        first_step: int = 0,
    ) -> None:
        self._scalars, self._observer, self._size = scalars, observer, size
        self._every, self._rate_interval = every, rate_interval
        self._step = first_step
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
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        self._windows += pl_module.plan.windows_of_batch(batch_idx, pl_module.first_window)
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
        """Report what has been trained since the last report, if anything. Raises Diverged."""
        if model.tally.batches:
            self._report_metrics(model)

    def _report_metrics(self, model: ForecastModel) -> None:
        """The one place in training where numbers are read back from the device."""
        tally = model.tally
        batches = float(tally.good_batches)
        train_loss = float(tally.train_loss) / batches if batches else math.nan
        check_loss(model, train_loss, self._step)
        windows, seconds = self._logged
        values = {
            "train_loss": train_loss,
            "grad_norm": float(tally.gradient_norm),
            "windows_per_second": (self._windows - windows) / max(self._seconds - seconds, 1e-9),
        }
        if self._rate_interval == "step":
            values["learning_rate"] = model.plan.learning_rate.at(self._step - 1)
        in_use = _memory_in_use(model.device)
        if in_use is not None:
            values["memory_bytes"] = float(in_use)
        tally.begin_report()
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


def _memory_in_use(device: torch.device) -> int | None:
    """Bytes of this process, of several the first: what torch holds of the GPU, else what is resident."""
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else resident_bytes()
