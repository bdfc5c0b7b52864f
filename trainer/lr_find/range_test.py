"""The range test: a copy of the model trains while the rate rises; its loss says where learning is fastest.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3.
"""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from trainer.checkpoint import write_whole
from trainer.events import Adjustment, ProgressReported
from trainer.lr_find.curve import has_blown_up, read_curve
from trainer.observer import obey_stop_wish
from trainer.prepare import adapted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.model import ForecastModel
    from trainer.observer import Observer
    from trainer.prepare import PreparedRun
    from trainer.state import TrainingState
    from trainer.windows import Batch

LR_FIND = "lr_find.json"
LOWEST_RATE, HIGHEST_RATE = 1e-6, 1.0
STEPS = 100  # optimizer steps, at rates that rise geometrically
# The schedule's peak over the suggestion, but not beyond the lowest point of the smoothed curve. The steepest
# descent of a sweep is where learning sets in, below the largest rate that still trains, and one-cycle spends
# most of its steps below its peak. Measured on 50 servers of the Google trace, 5 epochs, hidden size 16, two
# seeds, best validation loss: the suggestion itself (.0029) .910; three times that .793 and .782; the default
# of .01, which is 3.5 and 4.7 times that, .791 and .764; ten times that .761 with the second seed.
PEAK_FACTOR = 5.0
PROGRESS_SECONDS = 1.0
AUTOCAST = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class LearningRateFound:
    """What the range test came to; `rate` is what to train with, the peak of the schedule.

    `suggestion` is None where the loss did not fall: then `rate` is the one that was asked for.
    """

    asked: float
    rate: float
    suggestion: float | None
    reason: str
    rates: list[float]
    losses: list[float]  # of training, in scaled space, mean over each optimizer step's windows
    smoothed: list[float | None]

    @property
    def adjustment(self) -> Adjustment:
        if self.suggestion is None:
            reason = f"learning-rate finder: {self.reason}; the rate that was asked for stays"
        else:
            times = self.rate / self.suggestion
            reason = f"learning-rate finder: {times:.2g} times {self.suggestion:.3g}, {self.reason}"
        return Adjustment(field="learning_rate", requested=self.asked, effective=self.rate, reason=reason)

    def to_json(self) -> dict[str, Any]:
        """The content of lr_find.json; the lists are of equal length."""
        return {
            "asked": self.asked,
            "learning_rate": self.rate,
            "suggestion": self.suggestion,
            "reason": self.reason,
            "rates": self.rates,
            "losses": self.losses,
            "smoothed": self.smoothed,
        }


def write_lr_find(path: Path, content: dict[str, Any]) -> None:
    """Write `LearningRateFound.to_json()`, as a whole file."""
    write_whole(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def is_rate_to_be_found(run: PreparedRun, state: TrainingState | None) -> bool:
    """Whether the spec wants it and it has not been done; `state` is what the run goes on from."""
    return run.spec.auto_lr_find and state is None and run.adaptation.lr_find is None


def with_found_rate(run: PreparedRun, observer: Observer) -> PreparedRun:
    """The same run at the rate that was found, which it remembers with its curve."""
    found = find_learning_rate(run, observer)
    before = run.adaptation
    return adapted(
        run,
        replace(
            before,
            changes=before.changes | {"learning_rate": found.rate},
            adjustments=[*before.adjustments, found.adjustment],
            lr_find=found.to_json(),
        ),
    )


def find_learning_rate(run: PreparedRun, observer: Observer) -> LearningRateFound:
    """Search the rate that the run is trained with; the run itself is left as it was, bit for bit.

    A copy of the model is trained on the run's own batches, with its loss, clipping, optimizer and precision;
    the state of every random generator is put back. Deterministic for a seed. The peak of the schedule is
    PEAK_FACTOR times the suggestion at most.
    Raises StopRequested; a `time_limit` ends the test with what it has.
    """
    with isolate_rng():
        if run.ranks.count > 1:
            torch.manual_seed(run.ranks.seed_of(run.spec.random_seed))
        rates, losses = _range_test(run, observer)
    reading = read_curve(rates, losses)
    asked = run.spec.learning_rate
    return LearningRateFound(
        asked=asked,
        rate=asked if reading.rate is None else _peak(reading.rate, rates, reading.smoothed),
        suggestion=reading.rate,
        reason=reading.reason,
        rates=rates,
        losses=losses,
        smoothed=reading.smoothed,
    )


def _peak(suggestion: float, rates: list[float], smoothed: list[float | None]) -> float:
    """The schedule's peak, between the suggestion and where the loss is lowest."""
    levels = [(loss, rate) for rate, loss in zip(rates, smoothed, strict=True) if loss is not None]
    _, lowest = min(levels)
    return max(suggestion, min(PEAK_FACTOR * suggestion, lowest, HIGHEST_RATE))


def _range_test(run: PreparedRun, observer: Observer) -> tuple[list[float], list[float]]:
    """Rates and losses up to where the loss stops being a number or blows up."""
    trainee = _Trainee(run)
    steps = trainee.steps()
    losses: list[float] = []
    ladder = np.geomspace(LOWEST_RATE, HIGHEST_RATE, STEPS).tolist()
    started_at = reported_at = time.monotonic()
    for done, rate in enumerate(ladder):
        obey_stop_wish(observer)
        if observer.stop_wish() == "time_limit":
            break
        now = time.monotonic()
        if now - reported_at >= PROGRESS_SECONDS:
            _report_progress(run, observer, done, now - started_at)
            reported_at = now
        loss = trainee.learn(next(steps), rate)
        if not math.isfinite(loss):
            break
        losses.append(loss)
        if has_blown_up(losses):
            break
    return ladder[: len(losses)], losses


class _Trainee:
    """A copy of the run's model, and one optimizer step of it at a time."""

    def __init__(self, run: PreparedRun) -> None:
        self._run = run
        self._model: ForecastModel = copy.deepcopy(run.model).to(run.device).train()
        self._model.prepare(self._model.plan)
        self._optimizer = self._model.configure_optimizers()
        self._scaler = torch.amp.GradScaler(run.device.type, enabled=run.spec.precision == "16-mixed")

    def steps(self) -> Iterator[list[tuple[int, Batch]]]:
        """The numbered batches of each optimizer step, epoch after epoch."""
        batches = copy.copy(self._run.train_batches)  # its epoch is its own
        group: list[tuple[int, Batch]] = []
        epoch = 0
        while True:
            batches.set_epoch(epoch)
            for index, batch in enumerate(batches):
                group.append((index, batch))
                if len(group) == self._run.spec.accumulate_grad_batches or index == len(batches) - 1:
                    yield group
                    group = []
            epoch += 1

    def learn(self, group: list[tuple[int, Batch]], rate: float) -> float:
        """Take one optimizer step at this rate; returns the loss before it, a mean over the windows."""
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = rate
        total = torch.zeros(1, device=self._run.device)
        for index, batch in group:
            with self._autocast():
                loss = self._model.training_step(batch, index) / self._run.spec.accumulate_grad_batches
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call] # of torch
            self._model.on_after_backward()
            total += loss.detach()
        self._scaler.unscale_(self._optimizer)
        self._model.configure_gradient_clipping(self._optimizer, self._run.spec.gradient_clip_val or None)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._model.optimizer_zero_grad()
        self._run.ranks.add_up(total)
        return float(total)

    def _autocast(self) -> torch.autocast:
        dtype = AUTOCAST.get(self._run.spec.precision)
        return torch.autocast(self._run.device.type, dtype=dtype, enabled=dtype is not None)


def _report_progress(run: PreparedRun, observer: Observer, done: int, seconds: float) -> None:
    """How far the test is, as a share of the test: training has not begun."""
    observer.report(
        ProgressReported(
            fraction=done / STEPS,
            epoch=0,
            epochs=run.size.epochs,
            step=0,
            total_steps=run.size.total_steps,
            windows_per_second=done * run.size.effective_batch_size / seconds if done else None,
            eta_seconds=None,
        )
    )
