"""The whole recipe: load, split, scale, cut windows, build the network, fit, evaluate, save."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.artifacts import save_artifacts
from trainer.errors import named_failure
from trainer.evaluate import evaluate_best
from trainer.events import Finished, PhaseStarted, Resolved, Stopped
from trainer.fit import fit
from trainer.hardware import detect_hardware
from trainer.noise import library_noise_off
from trainer.observer import StopRequested
from trainer.prepare import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetSchema
    from trainer.events import StopReason, Wish
    from trainer.hardware import Hardware
    from trainer.observer import Observer
    from trainer.spec import TrainingSpec


@dataclass(frozen=True)
class DatasetFile:
    """A dataset on disk, and how it is read."""

    path: Path
    format: DatasetFormat
    mapping: DatasetMapping
    schema: DatasetSchema


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended. `result` is the content of result.json; None if a wish ended the run before it."""

    stop_reason: StopReason | None
    wish: Wish | None
    step: int
    result: dict[str, Any] | None


def train(
    spec: TrainingSpec,
    data: DatasetFile,
    out_dir: Path,
    observer: Observer,
    *,
    hardware: Hardware | None = None,
) -> TrainingResult:
    """Train on one dataset and leave everything under `out_dir`; tell `observer` on the way.

    A wish of the observer ends training at the end of an optimizer step with `last.ckpt` written;
    `time_limit` goes on to evaluate the best weights. Raises InvalidDataset, UnsupportedHardware,
    OutOfMemory, Diverged, NoSpace.
    """
    try:
        with library_noise_off():
            return _train(spec, data, out_dir, observer, hardware or detect_hardware())
    except StopRequested as stop:
        observer.report(Stopped(wish=stop.wish, step=stop.step))
        return TrainingResult(stop_reason=None, wish=stop.wish, step=stop.step, result=None)
    except Exception as error:
        failure = named_failure(error, batch_size=spec.batch_size)
        if failure is None or failure is error:
            raise
        raise failure from error


def _train(
    spec: TrainingSpec, data: DatasetFile, out_dir: Path, observer: Observer, hardware: Hardware
) -> TrainingResult:
    started_at = time.monotonic()
    out_dir.mkdir(parents=True, exist_ok=True)
    observer.report(PhaseStarted(phase="preparing"))
    run = prepare(spec, data, hardware)
    observer.report(
        Resolved(
            resolved_spec=run.resolved_spec,
            adjustments=run.adjustments,
            windows=run.window_counts,
            total_steps=run.size.total_steps,
            parameters=run.model.size(),
        )
    )
    for warning in run.warnings:
        observer.report(warning)

    observer.report(PhaseStarted(phase="training"))
    fitted = fit(run, out_dir, observer, started_at=started_at)

    observer.report(PhaseStarted(phase="validating"))
    evaluation = evaluate_best(run, fitted, observer)

    observer.report(PhaseStarted(phase="saving"))
    result = save_artifacts(
        run, fitted, evaluation, out_dir, observer, hardware, seconds=time.monotonic() - started_at
    )
    observer.report(Finished(stop_reason=fitted.stop_reason, summary=result["summary"]))
    return TrainingResult(stop_reason=fitted.stop_reason, wish=None, step=fitted.steps, result=result)
