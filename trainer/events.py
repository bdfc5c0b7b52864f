"""The pipe's language: one JSON object a line, from the trainer child to its supervisor. Torch-free."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Phase = Literal["preparing", "lr_find", "training", "validating", "saving"]
StopReason = Literal["completed", "early_stopped", "max_steps", "time_limit", "cancelled"]
Wish = Literal["cancel", "pause", "drain", "time_limit"]
CheckpointName = Literal["model.ckpt", "last.ckpt", "resume.safetensors"]
FailureCode = Literal[
    "invalid_dataset", "out_of_memory", "diverged", "unsupported_hardware", "no_space", "internal"
]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Adjustment(BaseModel):
    """One field that runs otherwise than it was asked for, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    field: str
    requested: Any = None
    effective: Any = None
    reason: str


class PhaseStarted(_Event):
    type: Literal["phase"] = "phase"
    phase: Phase


class Resolved(_Event):
    """What will really be trained, once the data have been read."""

    type: Literal["resolved"] = "resolved"
    resolved_spec: dict[str, Any] = Field(description="The spec as it runs, with effective_batch_size.")
    adjustments: list[Adjustment]
    windows: dict[str, int] = Field(description="Windows in train, validation and test.")
    total_steps: int = Field(description="Optimizer steps planned.")
    parameters: int


class Warned(_Event):
    type: Literal["warning"] = "warning"
    code: str
    message: str


class MetricsReported(_Event):
    """Numbers at an optimizer step; an epoch's own carry the step it ended at."""

    type: Literal["metrics"] = "metrics"
    step: int
    epoch: int
    values: dict[str, float | None] = Field(description="None stands for a value that was not finite.")


class ProgressReported(_Event):
    type: Literal["progress"] = "progress"
    fraction: float = Field(ge=0.0, le=1.0)
    epoch: int
    epochs: int
    step: int
    total_steps: int
    windows_per_second: float | None
    eta_seconds: float | None


class CheckpointSaved(_Event):
    """A whole file under the output directory; the name is the artifact's name."""

    type: Literal["checkpoint"] = "checkpoint"
    name: CheckpointName
    step: int
    epoch: int
    val_loss: float | None


class ArtifactSaved(_Event):
    """A finished file, named relative to the output directory."""

    type: Literal["artifact"] = "artifact"
    name: str
    media_type: str


class Stopped(_Event):
    """Answers the wishes cancel, pause and drain: all is saved, the process ends now."""

    type: Literal["stopped"] = "stopped"
    wish: Wish
    step: int


class Finished(_Event):
    type: Literal["finished"] = "finished"
    stop_reason: StopReason
    summary: dict[str, Any] = Field(description="Headline of result.json: best val_loss, verdict per target.")


class Failed(_Event):
    type: Literal["failed"] = "failed"
    code: FailureCode
    message: str


TrainerEvent = Annotated[
    PhaseStarted
    | Resolved
    | Warned
    | MetricsReported
    | ProgressReported
    | CheckpointSaved
    | ArtifactSaved
    | Stopped
    | Finished
    | Failed,
    Field(discriminator="type"),
]
_ADAPTER: TypeAdapter[TrainerEvent] = TypeAdapter(TrainerEvent)


def parse_event(line: bytes | str) -> TrainerEvent:
    """One line of the pipe as an event; raises pydantic.ValidationError on anything else."""
    return _ADAPTER.validate_json(line)
