from __future__ import annotations

import pytest

from core.jobs.lifecycle import (
    ALLOWED_VERBS,
    FAULTS,
    REQUEUE_RULES,
    TRANSITIONS,
    FailureReason,
    JobStatus,
    RequeueReason,
    backoff_seconds,
    is_terminal,
)


def test_every_status_has_its_transitions_and_verbs() -> None:
    assert set(TRANSITIONS) == set(ALLOWED_VERBS) == set(JobStatus)


def test_only_a_queued_job_starts_to_run() -> None:
    assert [status for status in JobStatus if JobStatus.RUNNING in TRANSITIONS[status]] == [JobStatus.QUEUED]


def test_nothing_leaves_succeeded() -> None:
    assert TRANSITIONS[JobStatus.SUCCEEDED] == frozenset()


def test_the_ends_are_terminal() -> None:
    assert {status for status in JobStatus if is_terminal(status)} == {"succeeded", "failed", "cancelled"}


def test_every_failure_has_its_fault() -> None:
    assert set(FAULTS) == set(FailureReason)


def test_every_requeue_has_its_rule() -> None:
    assert set(REQUEUE_RULES) == set(RequeueReason)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 2), (2, 4), (3, 8), (20, 60)])
def test_the_wait_after_crashes_doubles_to_a_minute(failures: int, seconds: float) -> None:
    assert backoff_seconds(failures) == seconds
