"""What the end of a trainer child means for its job. Pure: events and exit codes in, a decision out."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.jobs.lifecycle import MEMORY_CURE, FailureReason, RequeueReason
from trainer.events import Failed, Finished, Stopped

if TYPE_CHECKING:
    from trainer.events import StopReason, Wish
    from worker.trainer_process import Ending

_USERS_MISTAKE_EXIT = 2
_OUT_OF_MEMORY = "The machine's memory did not suffice: the kernel killed the trainer."
_STALLED = "The trainer made no progress for longer than a run may, and was ended."
_TIMED_OUT = (
    "The job reached max_runtime_seconds before its first checkpoint; allow it more time or train less."
)


@dataclass(frozen=True)
class JobSucceeded:
    stop_reason: StopReason
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobFailed:
    code: FailureReason
    message: str


@dataclass(frozen=True)
class JobCancelled:
    pass


@dataclass(frozen=True)
class JobPaused:
    pass


@dataclass(frozen=True)
class JobRequeued:
    reason: RequeueReason
    message: str


@dataclass(frozen=True)
class AttemptLost:
    """The job was somebody else's by then; nothing of the attempt was kept."""


Outcome = JobSucceeded | JobFailed | JobCancelled | JobPaused | JobRequeued


def judge(
    last_word: Finished | Stopped | Failed | None,
    ending: Ending,
    wish: Wish | None,
    *,
    has_checkpoint: bool,
    out_of_memory: bool = False,
    adapts: bool = False,
    has_stalled: bool = False,
) -> Outcome:
    """A finished job is finished, whatever was wished meanwhile; a cancelled one never reads as failed.

    `wish` is what we asked for last; it takes effect even when the child had to be killed over it.
    `has_checkpoint`: whether one is stored. `out_of_memory`: whether the kernel has killed meanwhile.
    `adapts`: whether the next attempt would then take a smaller batch; a child that says itself that its
    memory did not suffice has come to the end of that already. `has_stalled`: whether we ended the child
    because it had nothing to say.
    """
    if isinstance(last_word, Finished):
        return JobSucceeded(last_word.stop_reason, last_word.summary)
    if wish == "cancel":
        return JobCancelled()
    if isinstance(last_word, Failed):
        return JobFailed(FailureReason(last_word.code), last_word.message)
    if wish is not None:
        return judge_unstarted(wish, has_checkpoint=has_checkpoint)
    if has_stalled and ending.killed:
        return JobRequeued(RequeueReason.STALLED, _STALLED)
    return _judge_silent(ending, out_of_memory=out_of_memory, adapts=adapts)


def _judge_silent(ending: Ending, *, out_of_memory: bool, adapts: bool) -> Outcome:
    if out_of_memory and ending.return_code == -signal.SIGKILL:
        if adapts:
            return JobRequeued(RequeueReason.OUT_OF_MEMORY, _OUT_OF_MEMORY)
        return JobFailed(FailureReason.OUT_OF_MEMORY, f"{_OUT_OF_MEMORY} {MEMORY_CURE}")
    if ending.return_code == _USERS_MISTAKE_EXIT:
        return JobFailed(FailureReason.INTERNAL, "The trainer refused the job without saying why.")
    return JobRequeued(RequeueReason.CRASHED, f"The trainer ended unexpectedly ({ending.describe()}).")


def judge_unstarted(wish: Wish, *, has_checkpoint: bool = False) -> Outcome:
    """What a wish does to a job whose child has nothing to say, or was never started."""
    match wish:
        case "cancel":
            return JobCancelled()
        case "pause":
            return JobPaused()
        case "time_limit" if has_checkpoint:
            return JobSucceeded("time_limit")
        case "time_limit":
            return JobFailed(FailureReason.TIMED_OUT, _TIMED_OUT)
        case _:
            return JobRequeued(RequeueReason.DRAINED, "The worker was asked to end.")
