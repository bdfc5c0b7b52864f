from __future__ import annotations

import pytest

from core.jobs.lifecycle import FailureReason, RequeueReason
from trainer.events import Failed, FailureCode, Finished, Stopped, Wish
from worker.outcome import JobCancelled, JobFailed, JobPaused, JobRequeued, JobSucceeded, Outcome, judge
from worker.trainer_process import Ending

DONE = Finished(stop_reason="completed", summary={"val_loss": 1.0})
BAD_DATA = Failed(code="invalid_dataset", message="The column cpu_percent is empty.")
CLEAN, CRASHED, KILLED = Ending(0, killed=False), Ending(-11, killed=False), Ending(-9, killed=True)
REFUSED = Ending(2, killed=False)


@pytest.mark.parametrize("wish", [None, "cancel", "drain", "time_limit"])
def test_a_job_that_finished_has_succeeded_whatever_was_wished(wish: Wish | None) -> None:
    assert judge(DONE, CLEAN, wish, has_checkpoint=True) == JobSucceeded("completed", {"val_loss": 1.0})


@pytest.mark.parametrize(
    ("last_word", "ending"),
    [
        (Stopped(wish="cancel", step=3), CLEAN),
        (None, KILLED),
        (None, CRASHED),
        (BAD_DATA, Ending(2, killed=False)),
    ],
)
def test_a_cancelled_job_never_reads_as_failed(last_word: Stopped | Failed | None, ending: Ending) -> None:
    assert judge(last_word, ending, "cancel", has_checkpoint=False) == JobCancelled()


def test_the_trainers_own_reason_is_the_jobs() -> None:
    outcome = judge(BAD_DATA, REFUSED, None, has_checkpoint=True)

    assert outcome == JobFailed(FailureReason.INVALID_DATASET, BAD_DATA.message)


@pytest.mark.parametrize("ending", [CLEAN, CRASHED, Ending(1, killed=False), Ending(-9, killed=False)])
def test_a_child_that_ends_without_a_word_has_crashed(ending: Ending) -> None:
    outcome = judge(None, ending, None, has_checkpoint=True)

    assert isinstance(outcome, JobRequeued)
    assert outcome.reason is RequeueReason.CRASHED


def test_a_kill_by_the_kernel_for_want_of_memory_says_what_to_do() -> None:
    killed = Ending(-9, killed=False)

    outcome = judge(None, killed, None, has_checkpoint=True, out_of_memory=True)

    assert isinstance(outcome, JobFailed)
    assert outcome.code is FailureReason.OUT_OF_MEMORY
    assert "Halve batch_size" in outcome.message


def test_a_job_that_adapts_is_tried_again_after_a_kill_for_want_of_memory() -> None:
    killed = Ending(-9, killed=False)

    outcome = judge(None, killed, None, has_checkpoint=False, out_of_memory=True, adapts=True)

    assert isinstance(outcome, JobRequeued)
    assert outcome.reason is RequeueReason.OUT_OF_MEMORY


@pytest.mark.parametrize("code", ["out_of_memory", "diverged"])
def test_a_trainer_that_adapted_in_vain_has_the_last_word(code: FailureCode) -> None:
    gave_up = Failed(code=code, message="There is nothing left to halve.")

    outcome = judge(gave_up, Ending(1, killed=False), None, has_checkpoint=True, adapts=True)

    assert outcome == JobFailed(FailureReason(code), "There is nothing left to halve.")


def test_a_crash_while_the_kernel_kills_elsewhere_is_a_crash() -> None:
    assert isinstance(judge(None, CRASHED, None, has_checkpoint=True, out_of_memory=True), JobRequeued)


def test_a_child_that_we_ended_for_its_silence_has_stalled_unless_something_was_wished() -> None:
    outcome = judge(None, KILLED, None, has_checkpoint=True, has_stalled=True)
    assert isinstance(outcome, JobRequeued)
    assert outcome.reason is RequeueReason.STALLED
    assert judge(None, KILLED, "cancel", has_checkpoint=True, has_stalled=True) == JobCancelled()


def test_a_users_mistake_without_a_reason_is_not_tried_again() -> None:
    outcome = judge(None, REFUSED, None, has_checkpoint=False)

    assert isinstance(outcome, JobFailed)
    assert outcome.code is FailureReason.INTERNAL


@pytest.mark.parametrize("ending", [CLEAN, KILLED])
def test_a_drained_job_goes_back_into_the_queue(ending: Ending) -> None:
    outcome = judge(Stopped(wish="drain", step=3), ending, "drain", has_checkpoint=True)

    assert isinstance(outcome, JobRequeued)
    assert outcome.reason is RequeueReason.DRAINED


@pytest.mark.parametrize("ending", [CLEAN, KILLED, CRASHED])
def test_a_job_that_shall_pause_is_paused_even_if_it_had_to_be_killed(ending: Ending) -> None:
    assert judge(None, ending, "pause", has_checkpoint=False) == JobPaused()


@pytest.mark.parametrize(
    ("has_checkpoint", "expected"),
    [(True, JobSucceeded("time_limit")), (False, FailureReason.TIMED_OUT)],
)
def test_the_time_limit_succeeds_only_with_a_stored_checkpoint(
    has_checkpoint: bool, expected: Outcome | FailureReason
) -> None:
    outcome = judge(None, KILLED, "time_limit", has_checkpoint=has_checkpoint)

    assert (outcome.code if isinstance(outcome, JobFailed) else outcome) == expected
