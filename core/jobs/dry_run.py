"""What a job would be, before there is one. Works on a reader's session, which refuses to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.database import read_clock
from core.jobs import queries, repository
from core.jobs.line import Line, queue_place
from core.jobs.schemas import (
    JobCreate,
    JobEstimate,
    JobWarning,
    QueuePlace,
    Range,
    ResolvedTraining,
    SpeedSeen,
)
from core.jobs.service import queue_for, resolve_on
from core.stored import read_stored
from trainer.dataset.schema import DatasetSchema
from trainer.estimate import Estimate
from trainer.estimate import estimate as estimate_training
from trainer.spec import TrainingSpec

# What decides how long a window takes; jobs that agree in it are alike.
_SHAPE = (
    *("hidden_size", "hidden_continuous_size", "attention_head_size", "lstm_layers", "encoder_length"),
    *("horizon", "target_metrics", "known_covariates", "observed_covariates", "batch_size", "precision"),
    "devices",
)


@dataclass(frozen=True)
class _Newcomer:
    """A job that is not there, as the line sees it: behind all that are."""

    tenant_id: str
    queue: str
    devices: int
    priority: int
    queued_at: datetime
    not_before: datetime | None = None
    id: str = "job_~"


def validate(session: Session, tenant_id: str, body: JobCreate) -> ResolvedTraining:
    """What `service.submit` would train, and what the dataset's report warns of. Raises as it does."""
    return _look_at(session, tenant_id, body)[0]


def estimate(session: Session, tenant_id: str, body: JobCreate, line: Line) -> JobEstimate:
    """What the job would take and where in `line` it would stand. Raises as `service.submit` does."""
    resolved, schema = _look_at(session, tenant_id, body)
    queue = queue_for(session, body.training)
    now = read_clock(session)
    newcomer = _Newcomer(tenant_id, queue, body.training.devices, body.priority, now)
    size = estimate_training(resolved.resolved_spec, schema)
    speed = _speed(resolved.resolved_spec, queries.speeds_seen(session, tenant_id, queue))
    duration = None if speed is None else _duration(resolved.resolved_spec, size, speed)
    limit = body.limits.max_runtime_seconds
    return JobEstimate(
        resolved_spec=resolved.resolved_spec,
        adjustments=resolved.adjustments,
        warnings=[*resolved.warnings, *_too_long(duration, limit)],
        train_windows=_range(size.train_windows),
        validation_windows=_range(size.validation_windows),
        test_windows=_range(size.test_windows),
        steps=_range(size.steps),
        parameters=_range(size.parameters),
        memory_bytes=_range(size.memory_bytes),
        duration_seconds=duration,
        speed=speed,
        queue_name=queue,
        queue=_place(newcomer, line),
    )


def _look_at(session: Session, tenant_id: str, body: JobCreate) -> tuple[ResolvedTraining, DatasetSchema]:
    dataset = repository.find_dataset(session, tenant_id, body.dataset_id)
    resolved = resolve_on(dataset, body)
    schema = read_stored(DatasetSchema, dataset.schema if dataset is not None else None)
    found = [JobWarning(code=finding.code, message=finding.detail) for finding in schema.findings]
    return resolved.model_copy(update={"warnings": [*resolved.warnings, *found]}), schema


def _place(newcomer: _Newcomer, line: Line) -> QueuePlace:
    return queue_place(newcomer, line, newcomer.queued_at)


def _range(span: Any) -> Range:
    return Range.model_validate(span)


def _speed(spec: TrainingSpec, seen: Sequence[Any]) -> SpeedSeen | None:
    """From jobs of this shape, or from all where there are none."""
    if not seen:
        return None
    alike = [row.windows_per_second for row in seen if _is_alike(spec, row.resolved_spec)]
    speeds = alike or [row.windows_per_second for row in seen]
    return SpeedSeen(
        windows_per_second_low=min(speeds),
        windows_per_second_high=max(speeds),
        job_count=len(speeds),
        alike=bool(alike),
    )


def _is_alike(spec: TrainingSpec, other: Mapping[str, Any] | None) -> bool:
    if other is None:
        return False
    # What a spec of an earlier release does not name was trained as its default says.
    fields = TrainingSpec.model_fields
    return all(getattr(spec, name) == other.get(name, fields[name].default) for name in _SHAPE)


def _duration(spec: TrainingSpec, size: Estimate, speed: SpeedSeen) -> Range:
    windows = spec.effective_batch_size
    return Range(
        low=round(size.steps.low * windows / speed.windows_per_second_high),
        high=round(size.steps.high * windows / speed.windows_per_second_low),
    )


def _too_long(duration: Range | None, limit: int | None) -> list[JobWarning]:
    if duration is None or limit is None or duration.high <= limit:
        return []
    message = (
        f"The training may take up to {duration.high} s, max_runtime_seconds is {limit}: it would be cut "
        "short and end with the best weights it has by then."
    )
    return [JobWarning(code="time_limit_likely", message=message)]
