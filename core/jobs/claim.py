"""What a worker holds while it runs a job: plain values, never rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.monitoring.origin import Origin
from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetSchema
from trainer.spec import TrainingSpec


@dataclass(frozen=True)
class ClaimedDataset:
    dataset_id: str
    storage_key: str
    format: DatasetFormat
    mapping: DatasetMapping
    schema: DatasetSchema
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class StoredCheckpoint:
    """A state that an earlier attempt stored: what training goes on from."""

    storage_key: str
    step: int | None
    sha256: str
    attempt: int


@dataclass(frozen=True)
class ClaimedJob:
    """`token` fences every write; `spec` is what was asked, `resolved_spec` what it last came to.

    `checkpoints` are the earlier attempts', two of each, newest first. `has_weights`: one of them stored
    weights that are of use to the owner. `memory_kills`: how many of them the kernel ended for want of
    memory.
    """

    job_id: str
    tenant_id: str
    token: int
    attempt: int
    spec: TrainingSpec
    resolved_spec: dict[str, Any] | None
    dataset: ClaimedDataset
    seed: int
    max_runtime_seconds: int | None
    remaining_runtime_seconds: float | None
    checkpoints: tuple[StoredCheckpoint, ...]
    has_weights: bool
    memory_kills: int
    origin: Origin

    @property
    def checkpoint(self) -> StoredCheckpoint | None:
        """The newest."""
        return self.checkpoints[0] if self.checkpoints else None


@dataclass(frozen=True)
class Wishes:
    """What the customer asked of a running job; cancel beats pause."""

    cancel: bool
    pause: bool


@dataclass(frozen=True)
class RegisteredArtifact:
    """`replaced_key`: the object this row pointed to before, for the caller to delete after the commit."""

    artifact_id: str
    replaced_key: str | None
