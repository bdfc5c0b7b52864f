"""What happens around the steps: the best weights stay, the run's state is kept, wishes are obeyed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from trainer.divergence import check_validation_loss
from trainer.events import CheckpointSaved
from trainer.observer import StopRequested, obey_stop_wish
from trainer.parallel.ranks import ALONE
from trainer.state import Best, Weights, own_copy

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.events import CheckpointName, StopReason
    from trainer.model import ForecastModel
    from trainer.observer import Observer
    from trainer.parallel.ranks import Ranks
    from trainer.reporting import ScalarLog
    from trainer.run_size import RunSize


class TrainingCut(Exception):
    """Training ends in the middle of an epoch; what follows it goes on."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


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
    best: Best = field(default_factory=Best)
    weights: Weights = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        """Whether early stopping has run out of patience."""
        return bool(self.patience) and self.best.stale_epochs >= self.patience

    def on_validation_end(self, trainer: pl.Trainer, pl_module: ForecastModel) -> None:  # type: ignore[override]
        self.take(pl_module, trainer.global_step)
        if self.exhausted:
            trainer.should_stop = True

    def take(self, model: ForecastModel, step: int) -> None:
        """Judge the weights by the validation that has just run. Raises Diverged."""
        epoch, best = self.size.epoch_of(step), self.best
        losses = model.validation.per_target()
        loss = sum(losses)
        check_validation_loss(model, loss, step)
        best.measured_step = step
        model.plan.learning_rate.heed(loss)
        values = {"val_loss": loss}
        if len(losses) > 1:
            values |= {f"val_loss/{name}": own for name, own in zip(self.targets, losses, strict=True)}
        self.scalars.add(step, epoch, values)
        if best.loss is None or loss < best.loss:
            best.loss, best.losses, best.stale_epochs = loss, losses, 0
            best.step, best.epoch = step, epoch
            self.weights = own_copy(model.state_dict())
            self.save("model.ckpt", model, step, loss)
        else:
            best.stale_epochs += 1
        self.save("last.ckpt", model, step, loss)

    def write_again(self, model: ForecastModel, step: int) -> None:
        """Leave both checkpoints of a run that goes on: its folder may be a new one."""
        if not step:
            return  # nothing has been learnt yet
        current = own_copy(model.state_dict())
        if self.weights:
            model.load_state_dict(self.weights)
            self.save("model.ckpt", model, self.best.step, self.best.loss)
            model.load_state_dict(current)
        self.save("last.ckpt", model, step, loss=None)

    def save(self, name: CheckpointName, model: ForecastModel, step: int, loss: float | None) -> None:
        epoch = self.size.epoch_of(step)
        self.write(name, model, epoch, step)
        self.observer.report(CheckpointSaved(name=name, step=step, epoch=epoch, val_loss=loss))


class StopWatch(pl.Callback):
    """Ends training at the end of an optimizer step, when the observer wishes so or time is up."""

    def __init__(
        self, observer: Observer, deadline: float | None, first_step: int = 0, ranks: Ranks = ALONE
    ) -> None:
        self._observer = observer
        self._ranks = ranks
        self._deadline = math.inf if deadline is None else deadline  # of time.monotonic()
        self._step = first_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        wish = self._observer.stop_wish()
        if wish == "time_limit" or self._is_late():
            raise TrainingCut("time_limit")
        if wish is not None:
            raise StopRequested(wish, self._step)

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        obey_stop_wish(self._observer, self._step)

    def _is_late(self) -> bool:
        if math.isinf(self._deadline):
            return False
        return bool(self._ranks.agree(time.monotonic() >= self._deadline))


class InStep(pl.Callback):
    """Several ranks hold the same weights, and draw their dropout each by itself.

    What is drawn at a place of the training is the same however a run came there.
    """

    def __init__(self, ranks: Ranks, seed: int, batch_size: int) -> None:
        self._ranks, self._seed, self._batch_size = ranks, seed, batch_size

    def on_train_start(self, _: pl.Trainer, pl_module: ForecastModel) -> None:  # type: ignore[override]
        self._ranks.check_in_step(pl_module.flat.whole)

    def on_validation_start(self, _: pl.Trainer, pl_module: ForecastModel) -> None:  # type: ignore[override]
        self._ranks.check_in_step(pl_module.flat.whole)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: ForecastModel,  # type: ignore[override] # the only module we train
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        window = pl_module.first_window + batch_idx * self._batch_size
        torch.manual_seed(self._ranks.seed_of(self._seed, trainer.current_epoch, window))
