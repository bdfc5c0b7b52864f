"""A job's statuses, which may follow which, and what each way of failing means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Fault = Literal["user", "platform", "capacity"]
Verb = Literal["cancel", "pause", "resume", "retry"]
EventType = Literal[
    "job.artifact",
    "job.cancel_requested",
    "job.cancelled",
    "job.changed",
    "job.checkpoint",
    "job.failed",
    "job.pause_requested",
    "job.paused",
    "job.phase",
    "job.queued",
    "job.resolved",
    "job.running",
    "job.succeeded",
    "job.warning",
]


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Stored under these names, weights are of use to the owner: a job whose time is up has come to a result.
BEST_CHECKPOINT = "model.ckpt"
WEIGHTS = (BEST_CHECKPOINT, "last.ckpt")

TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.CANCELLED, JobStatus.FAILED}),
    JobStatus.RUNNING: frozenset(
        {JobStatus.QUEUED, JobStatus.PAUSED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset({JobStatus.QUEUED}),
    JobStatus.CANCELLED: frozenset({JobStatus.QUEUED}),
}

# What a customer may ask for in each status.
ALLOWED_VERBS: dict[JobStatus, tuple[Verb, ...]] = {
    JobStatus.QUEUED: ("cancel", "pause"),
    JobStatus.RUNNING: ("cancel", "pause"),
    JobStatus.PAUSED: ("cancel", "pause", "resume"),
    JobStatus.SUCCEEDED: (),
    JobStatus.FAILED: ("retry",),
    JobStatus.CANCELLED: ("cancel", "retry"),
}


def is_terminal(status: JobStatus) -> bool:
    """Nothing happens to the job any more unless somebody asks for it."""
    return status in TERMINAL


class FailureReason(StrEnum):
    """Codes of `failed`, in `status_reason.code`."""

    INVALID_DATASET = "invalid_dataset"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    CRASH_LOOP = "crash_loop"
    STALLED = "stalled"
    TIMED_OUT = "timed_out"
    PENDING_TIMEOUT = "pending_timeout"
    WORKER_LOST = "worker_lost"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    NO_SPACE = "no_space"
    UNSUPPORTED_HARDWARE = "unsupported_hardware"
    INTERNAL = "internal"


FAULTS: dict[FailureReason, Fault] = {
    FailureReason.INVALID_DATASET: "user",
    FailureReason.OUT_OF_MEMORY: "capacity",
    FailureReason.DIVERGED: "user",
    FailureReason.CRASH_LOOP: "platform",
    FailureReason.STALLED: "platform",
    FailureReason.TIMED_OUT: "user",
    FailureReason.PENDING_TIMEOUT: "capacity",
    FailureReason.WORKER_LOST: "platform",
    FailureReason.STORAGE_UNAVAILABLE: "platform",
    FailureReason.NO_SPACE: "platform",
    FailureReason.UNSUPPORTED_HARDWARE: "user",
    FailureReason.INTERNAL: "platform",
}


class RequeueReason(StrEnum):
    """Why a run ended without an end: each is tried again unasked."""

    WORKER_LOST = "worker_lost"
    CRASHED = "crashed"
    STALLED = "stalled"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    OUT_OF_MEMORY = "out_of_memory"
    DRAINED = "drained"


@dataclass(frozen=True)
class RequeueRule:
    """How a requeue is counted, and what the job fails with once the count is used up.

    `cure` ends the message then: it is what the owner can do.
    """

    counts_as_failure: bool
    waits: bool
    gives_up_as: FailureReason
    cure: str = ""


MEMORY_CURE = (
    "Halve batch_size and double accumulate_grad_batches (the effective batch stays the same), or shorten "
    "encoder_length."
)
REQUEUE_RULES: dict[RequeueReason, RequeueRule] = {
    RequeueReason.WORKER_LOST: RequeueRule(True, False, FailureReason.WORKER_LOST),
    RequeueReason.CRASHED: RequeueRule(True, True, FailureReason.CRASH_LOOP),
    RequeueReason.STALLED: RequeueRule(True, True, FailureReason.STALLED),
    RequeueReason.STORAGE_UNAVAILABLE: RequeueRule(True, True, FailureReason.STORAGE_UNAVAILABLE),
    RequeueReason.OUT_OF_MEMORY: RequeueRule(True, False, FailureReason.OUT_OF_MEMORY, MEMORY_CURE),
    RequeueReason.DRAINED: RequeueRule(False, False, FailureReason.WORKER_LOST),
}
MAX_PREEMPTIONS = 20


def backoff_seconds(failures: int) -> float:
    """Wait before the next run after this many failed ones: 2 s, doubled each time, a minute at most."""
    return min(60.0, 2.0 * 2.0 ** (max(failures, 1) - 1))
