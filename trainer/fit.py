"""Training itself: Lightning's loop over our batches, where it begins and how it may end."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.profilers import PassThroughProfiler

from trainer.callbacks import BestWeights, InStep, StopWatch, TrainingCut
from trainer.checkpoint import write_checkpoint
from trainer.errors import CannotResume
from trainer.forecasting import measure_validation
from trainer.keeping import StateKeeper, StateSaving
from trainer.observer import StopRequested, obey_stop_wish
from trainer.parallel.strategy import FlatDDP
from trainer.report.inputs import MetricPoint
from trainer.reporting import Reporting, ScalarLog
from trainer.state import Best, Position, TrainingState

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.events import StopReason
    from trainer.model import ForecastModel
    from trainer.observer import Observer
    from trainer.prepare import PreparedRun

TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class FittedRun:
    """What training left: the network holds the best weights."""

    stop_reason: StopReason
    steps: int
    epochs: int
    best: Best
    log: ScalarLog


def fit(
    run: PreparedRun,
    out_dir: Path,
    observer: Observer,
    keeper: StateKeeper,
    *,
    started_at: float,
) -> FittedRun:
    """Train until the first limit, early stopping or a wish; the best weights are in the model afterwards.

    Goes on from the keeper's newest state, if it has one. `started_at` of time.monotonic() is when the run
    began, as if it had never been interrupted. Several ranks do this together, with an observer that they
    agree on; the leader alone writes files. Raises StopRequested after `last.ckpt` and the
    state were written, Diverged when the loss stops being a number.
    """
    start = keeper.latest
    obey_stop_wish(observer, 0 if start is None else start.position.step)
    points = [] if start is None else [MetricPoint(*point) for point in start.points]
    log = ScalarLog(observer, out_dir / TENSORBOARD if run.ranks.is_leader else None, points)
    try:
        return _Fit(run, out_dir, observer, keeper, log, started_at).finish()
    finally:
        log.close()


class _Fit:
    def __init__(
        self,
        run: PreparedRun,
        out_dir: Path,
        observer: Observer,
        keeper: StateKeeper,
        log: ScalarLog,
        started_at: float,
    ) -> None:
        self._run, self._observer, self._log = run, observer, log
        self._start = keeper.latest
        step = 0 if self._start is None else self._start.position.step
        self._best = _best_weights(run, out_dir, observer, log, self._start)
        self._saving = StateSaving(run, keeper, self._best, log, started_at)
        self._reporting = Reporting(
            log,
            observer,
            run.size,
            every=run.spec.log_every_n_steps,
            rate_interval=run.spec.lr_monitor_interval,
            first_step=step,
        )
        minutes = run.spec.max_minutes
        deadline = None if minutes is None else started_at + 60.0 * minutes
        # The order matters: figures are read before the weights are judged, a stop comes last.
        stop_watch = StopWatch(observer, deadline, step, run.ranks)
        watchers = [self._reporting, self._best, self._saving, stop_watch]
        if run.ranks.count > 1:
            watchers.insert(0, InStep(run.ranks, run.spec.random_seed, run.spec.batch_size))
        self._trainer = _lightning_trainer(run, out_dir, watchers)

    def finish(self) -> FittedRun:
        if self._start is not None:
            self._go_on_from(self._start)
        stop_reason = self._train()
        if stop_reason == "completed":
            stop_reason = self._why_it_ended()
        self._run.model.load_state_dict(self._best.weights)
        steps = self._trainer.global_step
        return FittedRun(stop_reason, steps, self._run.size.epoch_of(steps), self._best.best, self._log)

    def _train(self) -> StopReason:
        run, trainer = self._run, self._trainer
        stop_reason: StopReason = "completed"
        if not self._is_done():
            run.model.train()  # Lightning leaves the mode as it finds it
            try:
                trainer.fit(run.model, run.train_batches, run.validation_batches)
            except TrainingCut as cut:
                stop_reason = cut.reason
            except StopRequested as stop:
                self._best.save("last.ckpt", run.model, stop.step, loss=None)
                self._saving.keep(trainer, run.model)
                raise
        run.model.to(run.device)  # Lightning leaves it on the CPU
        if trainer.global_step > self._best.best.measured_step:
            self._judge()
        return stop_reason

    def _go_on_from(self, start: TrainingState) -> None:
        """Put everything where it was, and leave the checkpoints again: the folder may be a new one."""
        run = self._run
        run.model.to(run.device)
        try:
            run.model.load_state_dict(start.weights)
        except RuntimeError as error:
            raise CannotResume(f"the kept weights are those of another network: {error}") from error
        run.model.lay_flat()  # as they lay in the run that was interrupted
        run.model.go_on_from(start.counters, start.optimizer)
        run.model.plan.learning_rate.remember(start.plateau)
        self._best.write_again(run.model, start.position.step)
        if start.position.windows >= run.train_batches.size:
            # Interrupted behind the last step of an epoch, before it was judged.
            self._begin_at(start.position)
            self._judge()
            start = replace(start, position=Position(start.position.step, start.position.epoch + 1, 0))
            self._saving.position = start.position
        self._begin_at(start.position)

    def _begin_at(self, position: Position) -> None:
        loop = self._trainer.fit_loop
        epochs = loop.epoch_progress.current
        epochs.processed = epochs.completed = position.epoch  # type: ignore[attr-defined] # as it does itself
        loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = position.step
        loop.epoch_loop._batches_that_stepped = position.step  # noqa: SLF001 - Lightning restores it likewise
        self._run.train_batches.begin_at(position.windows)

    def _judge(self) -> None:
        """Measure the weights as they are, outside of Lightning's loop."""
        step = self._trainer.global_step
        self._reporting.flush(self._run.model)
        measure_validation(self._run.model, self._run.validation_batches)
        self._best.take(self._run.model, step)

    def _is_done(self) -> bool:
        spec, trainer = self._run.spec, self._trainer
        steps_done = spec.max_steps is not None and trainer.global_step >= spec.max_steps
        return steps_done or trainer.current_epoch >= spec.epochs or self._best.exhausted

    def _why_it_ended(self) -> StopReason:
        if self._best.exhausted:
            return "early_stopped"
        max_steps = self._run.spec.max_steps
        if max_steps is not None and self._trainer.global_step >= max_steps:
            return "max_steps"
        return "completed"


class _NoProfile(PassThroughProfiler):
    """Lightning enters a context around each of its eighty calls a step; this one costs nothing."""

    _NOTHING = nullcontext()

    def profile(self, action_name: str) -> Any:  # noqa: ARG002
        return self._NOTHING


def _best_weights(
    run: PreparedRun, out_dir: Path, observer: Observer, log: ScalarLog, start: TrainingState | None
) -> BestWeights:
    def write(name: str, model: ForecastModel, epoch: int, step: int) -> None:
        if not run.ranks.is_leader:
            return
        path = out_dir / name
        write_checkpoint(path, model, run.parameters, run.outer_arguments, epoch=epoch, step=step)

    best = BestWeights(log, observer, run.size, run.layout.targets, run.spec.early_stopping_patience, write)
    if start is not None:
        best.best = replace(start.best, losses=list(start.best.losses))
        best.weights = dict(start.best_weights)
    return best


def _lightning_trainer(run: PreparedRun, out_dir: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    spec, ranks = run.spec, run.ranks
    return pl.Trainer(
        accelerator="gpu" if run.device.type == "cuda" else "cpu",
        devices=ranks.count,
        strategy=FlatDDP(ranks) if ranks.count > 1 else "auto",
        precision=spec.precision,
        max_epochs=spec.epochs,
        max_steps=spec.max_steps or -1,
        accumulate_grad_batches=spec.accumulate_grad_batches,
        gradient_clip_val=spec.gradient_clip_val or None,
        callbacks=callbacks,
        deterministic=spec.deterministic,
        default_root_dir=str(out_dir),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        profiler=_NoProfile(),
        # A run that goes on in the middle of an epoch has a shorter one first.
        reload_dataloaders_every_n_epochs=1,
    )
