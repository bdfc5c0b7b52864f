"""The whole recipe: load, split, scale, cut windows, build the network, fit, evaluate, save."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch

from trainer.artifacts import save_artifacts
from trainer.errors import Diverged, OutOfMemory, named_failure
from trainer.evaluate import evaluate_best
from trainer.events import Finished, PhaseStarted, Resolved, Stopped
from trainer.fit import fit
from trainer.hardware import detect_hardware
from trainer.healing import halve_batch, heal
from trainer.keeping import RESUME_STATE, StateKeeper
from trainer.lr_find.range_test import is_rate_to_be_found, with_found_rate
from trainer.memory import release_memory
from trainer.noise import library_noise_off
from trainer.observer import StopRequested
from trainer.parallel.crew import Crew
from trainer.parallel.ranks import AgreedObserver, Ranks
from trainer.precision import decide_execution
from trainer.prepare import adapted, prepare
from trainer.state import identity_of, load_state

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetSchema
    from trainer.evaluate import Evaluation
    from trainer.events import StopReason, Wish
    from trainer.fit import FittedRun
    from trainer.hardware import Hardware
    from trainer.observer import Observer
    from trainer.prepare import PreparedRun
    from trainer.spec import TrainingSpec

# How often the state of a run is kept, beside the ends of its epochs: what a crash loses at most.
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class DatasetFile:
    """A dataset on disk, and how it is read."""

    path: Path
    format: DatasetFormat
    mapping: DatasetMapping
    schema: DatasetSchema

    @cached_property
    def sha256(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


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
    resume_from: Path | None = None,
    memory_kills: int = 0,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> TrainingResult:
    """Train on one dataset and leave everything under `out_dir`; tell `observer` on the way.

    A wish of the observer ends training at the end of an optimizer step with `last.ckpt` and the state
    written; `time_limit` goes on to evaluate the best weights. `resume_from` is the state of an earlier run
    with the same spec and data (`resume.safetensors`): the run goes on as if it had never stopped.
    `memory_kills`: how many processes of this run have been killed for memory so far.
    Raises InvalidDataset, UnsupportedHardware, OutOfMemory, Diverged, NoSpace, CannotResume.
    """
    machine = hardware or detect_hardware()
    state = None if resume_from is None else load_state(resume_from, identity_of(spec, data))
    keeper = StateKeeper(
        out_dir / RESUME_STATE, partial(identity_of, spec, data), observer, checkpoint_seconds, state
    )
    try:
        with library_noise_off():
            ranks = Ranks(count=decide_execution(spec, machine).devices)
            with Crew(spec, data, machine, ranks, out_dir) as crew:
                return _train(spec, data, out_dir, observer, machine, keeper, crew, memory_kills)
    except StopRequested as stop:
        observer.report(Stopped(wish=stop.wish, step=stop.step))
        return TrainingResult(stop_reason=None, wish=stop.wish, step=stop.step, result=None)
    except Exception as error:
        failure = named_failure(error, batch_size=spec.batch_size)
        if failure is None or failure is error:
            raise
        raise failure from error


def _train(
    spec: TrainingSpec,
    data: DatasetFile,
    out_dir: Path,
    observer: Observer,
    hardware: Hardware,
    keeper: StateKeeper,
    crew: Crew,
    memory_kills: int,
) -> TrainingResult:
    earlier = 0.0 if keeper.latest is None else keeper.latest.seconds
    started_at = time.monotonic() - earlier
    out_dir.mkdir(parents=True, exist_ok=True)
    observer.report(PhaseStarted(phase="preparing"))
    run = prepare(spec, data, hardware, out_dir, crew.ranks)
    if keeper.latest is not None:
        run = adapted(run, keeper.latest.adaptation)
    run = _heed_memory_kills(run, memory_kills)
    _announce(run, observer)
    for warning in run.warnings:
        observer.report(warning)

    run, fitted, evaluation = _fit_until_sound(run, out_dir, observer, hardware, keeper, crew, started_at)

    observer.report(PhaseStarted(phase="saving"))
    result = save_artifacts(
        run, fitted, evaluation, out_dir, observer, hardware, seconds=time.monotonic() - started_at
    )
    observer.report(Finished(stop_reason=fitted.stop_reason, summary=result["summary"]))
    return TrainingResult(stop_reason=fitted.stop_reason, wish=None, step=fitted.steps, result=result)


def _fit_until_sound(
    run: PreparedRun,
    out_dir: Path,
    observer: Observer,
    hardware: Hardware,
    keeper: StateKeeper,
    crew: Crew,
    started_at: float,
) -> tuple[PreparedRun, FittedRun, Evaluation]:
    """Train and evaluate; where memory or the loss gives out, change what the spec allows and go on.

    Training is done by all ranks, the rest by the leader.
    """
    agreed = AgreedObserver(observer, run.ranks)
    while True:
        try:
            with crew.at_work(run, keeper.latest):
                if is_rate_to_be_found(run, keeper.latest):
                    run = _with_found_rate(run, agreed)
                observer.report(PhaseStarted(phase="training"))
                fitted = fit(run, out_dir, agreed, keeper, started_at=started_at)
            observer.report(PhaseStarted(phase="validating"))
            return run, fitted, evaluate_best(run, fitted, observer)
        except Exception as error:
            failure = named_failure(error, batch_size=run.spec.batch_size)
            if not isinstance(failure, OutOfMemory | Diverged):
                raise
            if isinstance(failure, Diverged):
                keeper.roll_back()
            adaptation = heal(run.spec, failure, run.adaptation, hardware)
        del failure  # and with it the frames that hold the batch that was too large
        _free_memory()
        run = adapted(run, adaptation)
        keeper.adopt(adaptation)
        _announce(run, observer)


def _with_found_rate(run: PreparedRun, observer: Observer) -> PreparedRun:
    observer.report(PhaseStarted(phase="lr_find"))
    run = with_found_rate(run, observer)
    _announce(run, observer)
    return run


def _heed_memory_kills(run: PreparedRun, kills: int) -> PreparedRun:
    """Halve the batch once for every process that was killed since the state was kept."""
    if run.spec.on_out_of_memory != "adapt":
        return run
    unheeded = max(kills - run.adaptation.memory_kills, 0)
    for _ in range(unheeded):
        killed = OutOfMemory("the process was killed for memory")
        run = adapted(run, halve_batch(run.spec, run.adaptation, killed))
    return adapted(run, replace(run.adaptation, memory_kills=kills)) if unheeded else run


def _announce(run: PreparedRun, observer: Observer) -> None:
    observer.report(
        Resolved(
            resolved_spec=run.resolved_spec,
            adjustments=run.adjustments,
            windows=run.window_counts,
            total_steps=run.size.total_steps,
            parameters=run.model.size(),
        )
    )


def _free_memory() -> None:
    release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
