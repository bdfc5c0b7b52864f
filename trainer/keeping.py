"""A run's state is kept in memory and in a file: at each epoch's end, every minute, and at a stop."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl

from trainer.events import CheckpointSaved
from trainer.state import Position, TrainingState, own_copy, random_state, save_state, set_random_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.callbacks import BestWeights
    from trainer.model import ForecastModel
    from trainer.observer import Observer
    from trainer.prepare import PreparedRun
    from trainer.reporting import ScalarLog
    from trainer.state import Adaptation

RESUME_STATE = "resume.safetensors"
# Keeping may take this share of the time at most: large networks are kept less often.
KEEPING_SHARE = 0.02


class StateKeeper:
    """The newest state of a run, and the newest one known to be sound. Outlives the fits of a run that heals.

    `identity` says whose states they are (`state.identity_of`); it is asked for at the first save, for it
    reads the whole dataset. Without a `path` no file is written: another rank does it.
    """

    def __init__(
        self,
        path: Path | None,
        identity: Callable[[], dict[str, str]],
        observer: Observer,
        every_seconds: float,
        loaded: TrainingState | None = None,
    ) -> None:
        self.latest = loaded
        self.sound = None if loaded is None else _sound_part(loaded)
        self._path = path
        self._identity = identity
        self._observer = observer
        self._every_seconds = every_seconds
        self._due_at = time.monotonic() + every_seconds

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due_at

    def begin(self, state: TrainingState) -> None:
        """Remember the state before the first step; no file, for there is nothing to lose."""
        self.latest = self.sound = state

    def roll_back(self) -> None:
        """Forget what came after the newest sound state."""
        self.latest = self.sound

    def adopt(self, adaptation: Adaptation) -> None:
        """Note a change of the run in the state that it goes on from, so that a crash does not forget it."""
        if self.latest is None or self.sound is None:
            return
        self.sound = replace(self.sound, adaptation=adaptation)
        self.keep(replace(self.latest, adaptation=adaptation), self.latest.position.epoch, is_sound=False)

    def keep(self, state: TrainingState, epoch: int, *, is_sound: bool) -> None:
        """Write the file and report it. `is_sound`: the validation was never better than with this state."""
        self.latest = state
        if is_sound:
            self.sound = state
        if self._path is None:
            return
        identity = self._identity()  # at the first time it takes as long as reading the data
        started_at = time.monotonic()
        save_state(self._path, state, identity)
        step = state.position.step
        self._observer.report(CheckpointSaved(name=RESUME_STATE, step=step, epoch=epoch, val_loss=None))
        now = time.monotonic()
        self._due_at = now + max(self._every_seconds, (now - started_at) / KEEPING_SHARE)


def _sound_part(state: TrainingState) -> TrainingState:
    """What to roll back to: the state itself if its weights are the best so far, else the best ones with an
    optimizer that starts afresh.
    """
    if not state.best_weights or state.best.step == state.best.measured_step == state.position.step:
        return state
    return replace(state, weights=state.best_weights, optimizer={})


class StateSaving(pl.Callback):
    """Takes a run's state between two optimizer steps. Stands behind those who judge the weights."""

    def __init__(
        self, run: PreparedRun, keeper: StateKeeper, best: BestWeights, log: ScalarLog, started_at: float
    ) -> None:
        self._run, self._keeper, self._best, self._log = run, keeper, best, log
        self._start = keeper.latest
        self._started_at = started_at
        self.position = self._start.position if self._start is not None else Position()

    def on_train_start(self, trainer: pl.Trainer, pl_module: ForecastModel) -> None:  # type: ignore[override]
        if self._start is None:
            self._keeper.begin(self._capture(trainer, pl_module))
            return
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and self._start.scaler:
            scaler.load_state_dict(self._start.scaler)
        set_random_state(self._start.random, self._run.device)

    def on_train_epoch_start(self, _: pl.Trainer, pl_module: ForecastModel) -> None:  # type: ignore[override]
        pl_module.first_window = self._run.train_batches.first_window

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: ForecastModel,  # type: ignore[override]
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        if trainer.global_step == self.position.step:
            return
        batches = self._run.train_batches
        windows = min(batches.first_window + (batch_idx + 1) * batches.batch_size, batches.size)
        self.position = Position(trainer.global_step, trainer.current_epoch, windows)
        # At the end of an epoch the validation comes first, and then the state is kept anyway.
        if windows < batches.size and self._keeper.is_due:
            self.keep(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: ForecastModel) -> None:  # type: ignore[override]
        self._run.train_batches.begin_at(0)
        self.position = Position(trainer.global_step, trainer.current_epoch + 1, 0)
        self.keep(trainer, pl_module)

    def keep(self, trainer: pl.Trainer, model: ForecastModel) -> None:
        """Keep the state as it is now, between two steps."""
        step = self.position.step
        is_sound = self._best.best.step == step and self._best.best.measured_step == step
        self._keeper.keep(self._capture(trainer, model), self._run.size.epoch_of(step), is_sound=is_sound)

    def _capture(self, trainer: pl.Trainer, model: ForecastModel) -> TrainingState:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        optimizer = trainer.optimizers[0].state_dict()["state"] if trainer.optimizers else {}
        return TrainingState(
            position=self.position,
            weights=own_copy(model.state_dict()),
            best_weights=dict(self._best.weights),
            optimizer={index: own_copy(values) for index, values in optimizer.items()},
            random=random_state(self._run.device),
            best=replace(self._best.best, losses=list(self._best.best.losses)),
            counters=model.tally.kept(),
            plateau=model.plan.learning_rate.memory(),
            scaler={} if scaler is None else scaler.state_dict(),
            points=[(p.step, p.epoch, p.name, p.value) for p in self._log.points],
            seconds=time.monotonic() - self._started_at,
            adaptation=self._run.adaptation,
        )
