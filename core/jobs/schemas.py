"""Jobs as the API takes and shows them. pydantic only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from core.jobs.lifecycle import Fault, JobStatus
from core.open_enums import Open
from core.stored import read_stored
from trainer.dataset.schema import NO_OTHER_KEYS
from trainer.events import Adjustment
from trainer.spec import TrainingSpec

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=200, pattern=PRINTABLE)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=32, json_schema_extra=NO_OTHER_KEYS)]
DisplayName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE)]


class JobLimits(BaseModel):
    """When the service gives up on a job by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_runtime_seconds: int | None = Field(
        None,
        ge=1,
        title="Longest run",
        description="Running time over all attempts; a retry starts to count anew.",
        examples=[3600],
        json_schema_extra={"x-unit": "seconds"},
    )
    max_pending_seconds: int | None = Field(
        None,
        ge=1,
        title="Longest wait",
        description="Each stay in the queue.",
        examples=[86_400],
        json_schema_extra={"x-unit": "seconds"},
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=20,
        title="Attempts",
        description="Lost or crashed runs before the job fails.",
        examples=[3],
        json_schema_extra={"x-unit": "attempts"},
    )


class JobCreate(BaseModel):
    """What to train, on which dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset_id: str = Field(min_length=1, max_length=40, examples=["ds_019299aabbcc7ddd8eeeffff00001111"])
    name: DisplayName | None = None
    labels: Labels = Field(default_factory=dict)
    priority: int = Field(0, ge=-100, le=100, strict=True, description="Higher first.")
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    limits: JobLimits = Field(default_factory=JobLimits)


class JobChange(BaseModel):
    """What can be changed of a job, whatever its status. What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: int = Field(ge=1, strict=True, description="The `revision` the job was read at.")
    labels: Labels | None = Field(None, description="These take the place of all there are.")
    priority: int | None = Field(None, ge=-100, le=100, strict=True, description="Higher first.")


RetryFrom = Literal["beginning", "checkpoint"]


class JobRetry(BaseModel):
    """Where a retried job starts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: RetryFrom = Field(
        "beginning", alias="from", description="`checkpoint`: go on from the last stored state, if any."
    )


class JobWarning(BaseModel):
    """Something the customer should know; the job runs all the same."""

    code: str
    message: str


class StatusReason(BaseModel):
    code: str
    message: str


class Progress(BaseModel):
    """A step is an optimizer step."""

    fraction: float = Field(ge=0.0, le=1.0)
    epoch: int
    epochs: int
    step: int
    total_steps: int
    windows_per_second: float | None
    eta_at: datetime | None
    updated_at: datetime


class QueuePlace(BaseModel):
    """Where a queued job stands."""

    position: int = Field(ge=1, description="1 is claimed next.")
    reason: str = Field(description="Why it waits, in a sentence.")


class QueueState(BaseModel):
    """One queue, over all tenants."""

    name: str
    queued: int
    running: int
    oldest_seconds: float | None = Field(description="How long the job that waits longest has waited.")
    workers: int = Field(description="Live ones that take its jobs.")
    idle_workers: int


class Queues(BaseModel):
    """What waits, and who is there for it: enough to scale workers by."""

    queues: list[QueueState]


class Checkpoint(BaseModel):
    """A stored checkpoint, and the validation loss that made it."""

    name: str
    step: int
    epoch: int
    val_loss: float | None
    attempt: int
    size_bytes: int
    sha256: str
    created_at: datetime


class Usage(BaseModel):
    running_seconds: float = Field(description="Over all attempts, the present one included.")


class TrainingPlan(BaseModel):
    """What the trainer counted once it had read the data."""

    windows: dict[str, int]
    total_steps: int
    parameters: int


class ResolvedTraining(BaseModel):
    """The answer to `validate_only`: what would be trained."""

    resolved_spec: TrainingSpec
    adjustments: list[Adjustment]
    warnings: list[JobWarning]


class Range(BaseModel):
    """At least `low`, at most `high`; the same where the number is exact."""

    model_config = ConfigDict(from_attributes=True)

    low: int
    high: int


class SpeedSeen(BaseModel):
    """What the duration is reckoned from: the speeds that the tenant's own jobs of this queue came to."""

    windows_per_second_low: float
    windows_per_second_high: float
    job_count: int
    alike: bool = Field(
        description="These jobs had networks and windows of this size. Where there were none, any jobs' "
        "speeds stand in, and the range says little."
    )


class JobEstimate(ResolvedTraining):
    """What a job would take. Nothing is stored."""

    train_windows: Range = Field(description="In an epoch.")
    validation_windows: Range
    test_windows: Range
    steps: Range = Field(description="Of the optimizer, unless training stops early.")
    parameters: Range
    memory_bytes: Range = Field(
        description="Peak over what the imports take, of all devices together, computed on a CPU; within a "
        "quarter where one device trains."
    )
    duration_seconds: Range | None = Field(
        description="Of the training alone, to its last epoch; null where no speed has been seen yet."
    )
    speed: SpeedSeen | None = Field(description="Null where no job of the queue has told its speed yet.")
    queue_name: str
    queue: QueuePlace = Field(description="Where the job would stand now.")


def _known_spec(value: Any) -> Any:
    try:
        return read_stored(TrainingSpec, value) if isinstance(value, dict) else value
    except ValidationError:
        return value


# A plain dict where a later release says what this one cannot read, even without the keys it does not know.
SpecRead = Annotated[
    TrainingSpec | dict[str, Any], Field(union_mode="left_to_right"), BeforeValidator(_known_spec)
]


class JobRead(BaseModel):
    """One training job."""

    id: str
    name: str | None
    labels: dict[str, str]
    priority: int
    dataset_id: str
    status: Open[JobStatus]
    is_terminal: bool
    phase: str | None
    status_reason: StatusReason | None
    stop_reason: str | None
    fault: Open[Fault] | None
    attempt: int
    failures: int
    preemptions: int
    revision: int
    cancel_requested_at: datetime | None
    pause_requested_at: datetime | None
    heartbeat_at: datetime | None
    stalled: bool = Field(description="Running, but the worker has missed several heartbeats.")
    progress: Progress | None
    queue: QueuePlace | None = Field(description="Only while queued.")
    spec: SpecRead = Field(
        description="As asked, defaults filled in. Of a later release it may hold what TrainingSpec has not."
    )
    resolved_spec: dict[str, Any] | None
    plan: TrainingPlan | None
    adjustments: list[Adjustment]
    warnings: list[JobWarning]
    limits: JobLimits
    seed: int
    best_checkpoint: Checkpoint | None
    summary: dict[str, Any] | None
    usage: Usage
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class AttemptRead(BaseModel):
    """One run of a job."""

    model_config = ConfigDict(from_attributes=True)

    attempt: int
    worker_name: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None = Field(description="succeeded, failed, cancelled, or why the job was queued again.")
    message: str | None


class EventRead(BaseModel):
    """One entry of a job's log of events; under 4 KB."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    seq: int
    type: str
    created_at: datetime
    job_id: str
    data: dict[str, Any]


class MetricPoint(BaseModel):
    """One number at one optimizer step, of the latest attempt that reached it."""

    model_config = ConfigDict(from_attributes=True)

    step: int
    epoch: int
    value: float | None = Field(description="Null stands for a value that was not finite.")
    attempt: int
    created_at: datetime


class MetricSeries(BaseModel):
    name: str
    points: list[MetricPoint]


class MetricReport(BaseModel):
    """Numbers a worker hands in, all at one step."""

    model_config = ConfigDict(frozen=True)

    step: int
    epoch: int
    values: dict[str, float | None]


class LogChunkRead(BaseModel):
    """A piece of the trainer's stderr."""

    model_config = ConfigDict(from_attributes=True)

    attempt: int
    seq: int
    created_at: datetime
    text: str


class ArtifactRead(BaseModel):
    """A stored file."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    attempt: int
    step: int | None
    complete: bool = Field(description="False until the job has succeeded.")
    created_at: datetime
    links: dict[str, str] = Field(default_factory=dict)


JobSort = Literal["created_at", "-created_at"]
