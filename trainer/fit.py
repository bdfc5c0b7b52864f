"""Training itself: Lightning's loop over our batches, and how it may end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import lightning.pytorch as pl

from trainer.callbacks import BestWeights, Reporting, ScalarLog, StopWatch, TrainingCut
from trainer.checkpoint import write_checkpoint
from trainer.forecasting import measure_validation
from trainer.observer import StopRequested, obey_stop_wish

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
    best: BestWeights
    log: ScalarLog


def fit(run: PreparedRun, out_dir: Path, observer: Observer, *, started_at: float) -> FittedRun:
    """Train until the first limit, early stopping or a wish; the best weights are in the model afterwards.

    Raises StopRequested after `last.ckpt` was written, Diverged when the loss stops being a number.
    """
    obey_stop_wish(observer)
    log = ScalarLog(observer, out_dir / TENSORBOARD)
    best = _best_weights(run, out_dir, observer, log)
    reporting = Reporting(
        log, observer, run.size, every=run.spec.log_every_n_steps, rate_interval=run.spec.lr_monitor_interval
    )
    deadline = None if run.spec.max_minutes is None else started_at + 60.0 * run.spec.max_minutes
    # The order matters: figures are read before the weights are judged, a stop comes last.
    trainer = _lightning_trainer(run, out_dir, [reporting, best, StopWatch(observer, deadline)])
    stop_reason: StopReason = "completed"
    try:
        trainer.fit(run.model, run.train_batches, run.validation_batches)
    except TrainingCut as cut:
        stop_reason = cut.reason
    except StopRequested as stop:
        best.save("last.ckpt", run.model, stop.step, loss=None)
        log.close()
        raise
    run.model.to(run.device)  # Lightning leaves it on the CPU
    if trainer.global_step > best.measured_step:
        reporting.flush(run.model)
        measure_validation(run.model, run.validation_batches)
        best.take(run.model, trainer.global_step)
    if stop_reason == "completed":
        stop_reason = _why_it_ended(run, trainer, best)
    log.close()
    run.model.load_state_dict(best.weights)
    steps = trainer.global_step
    return FittedRun(stop_reason, steps, run.size.epoch_of(steps), best, log)


def _best_weights(run: PreparedRun, out_dir: Path, observer: Observer, log: ScalarLog) -> BestWeights:
    def write(name: str, model: ForecastModel, epoch: int, step: int) -> None:
        path = out_dir / name
        write_checkpoint(path, model, run.parameters, run.outer_arguments, epoch=epoch, step=step)

    return BestWeights(log, observer, run.size, run.layout.targets, run.spec.early_stopping_patience, write)


def _lightning_trainer(run: PreparedRun, out_dir: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    spec = run.spec
    return pl.Trainer(
        accelerator="gpu" if run.device.type == "cuda" else "cpu",
        devices=1,
        precision=spec.precision,
        max_epochs=spec.epochs,
        max_steps=spec.max_steps or -1,
        accumulate_grad_batches=spec.accumulate_grad_batches,
        gradient_clip_val=spec.gradient_clip_val or None,
        callbacks=callbacks,
        deterministic=_determinism(run),
        default_root_dir=str(out_dir),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def _determinism(run: PreparedRun) -> bool | Literal["warn"]:
    """On CUDA pytorch-forecasting's interpolation has no deterministic backward: a warning, not an error."""
    if not run.spec.deterministic:
        return False
    return "warn" if run.device.type == "cuda" else True


def _why_it_ended(run: PreparedRun, trainer: pl.Trainer, best: BestWeights) -> StopReason:
    if best.exhausted:
        return "early_stopped"
    if run.spec.max_steps is not None and trainer.global_step >= run.spec.max_steps:
        return "max_steps"
    return "completed"
