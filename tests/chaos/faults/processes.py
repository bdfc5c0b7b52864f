"""Processes that are killed, frozen and asked to end."""

from __future__ import annotations

import os
from signal import SIGKILL, SIGTERM

from tests.chaos.diary import Fault
from tests.chaos.members import START_SECONDS, thaw
from tests.chaos.stage import Stage, Victim
from tests.processes import eventually

ORPHANS_END_SECONDS = 2.0
# Beside the bounds that the settings promise: for a machine that is busy with other things.
SLACK_SECONDS = 12.0


def kill_trainer(stage: Stage) -> None:
    victim = stage.pick()
    stage.diary.note_hit("trainer killed", victim)
    _kill(victim.trainer_pid)


def kill_worker(stage: Stage) -> None:
    victim = stage.pick()
    stage.diary.note_hit("worker killed", victim)
    orphans = victim.worker.children()
    victim.worker.kill()
    stage.diary.expect(
        all(orphan.ends_within(ORPHANS_END_SECONDS) for orphan in orphans),
        f"the trainer of {victim.worker.name} outlived it",
    )


def kill_worker_and_broker(stage: Stage) -> None:
    victim = stage.pick()
    stage.diary.note_hit("worker, trainer and broker killed", victim)
    _kill(victim.trainer_pid)
    victim.worker.kill()
    stage.broker.kill()


def freeze_worker(stage: Stage) -> None:
    """Past its lease, until the job is another's; then it goes on as if nothing had been."""
    victim = stage.pick()
    stage.diary.note_hit("worker and trainer frozen", victim)
    frozen = victim.worker.freeze()
    try:
        await_taken_away(stage, victim)
        stage.let_last(0.0, stage.pace.lease)
    finally:
        thaw(frozen)


def await_taken_away(stage: Stage, victim: Victim) -> None:
    """Until the job is not this run's any more."""
    owned = "SELECT count(*) FROM jobs WHERE id = %s AND token = %s AND status = 'running'"
    eventually(
        lambda: stage.sql(owned, victim.job_id, victim.token) == [(0,)],
        stage.pace.lease + stage.pace.sweep + SLACK_SECONDS,
    )


def drain_worker(stage: Stage) -> None:
    victim = stage.pick()
    stage.diary.note_hit("worker drained", victim)
    victim.worker.send(SIGTERM)
    ended_well = victim.worker.await_end(stage.pace.grace + SLACK_SECONDS)
    stage.diary.expect(ended_well, f"{victim.worker.name} did not end with 0 after SIGTERM")
    victim.worker.close()
    left = stage.sql(
        "SELECT count(*) FROM jobs WHERE id = %s AND token = %s AND status = 'running'",
        victim.job_id,
        victim.token,
    )
    stage.diary.expect(left == [(0,)], f"{victim.worker.name} ended and kept its lease")


def cut_drain_short(stage: Stage) -> None:
    victim = stage.pick()
    stage.diary.note_hit("drain cut short", victim)
    victim.worker.send(SIGTERM)
    stage.let_last(0.05, 0.8)
    victim.worker.kill()


def drain_around_claim(stage: Stage) -> None:
    """The signal comes while the only worker there is claims its only job, or just before, or just after."""
    worker = stage.rng.choice(stage.workers)
    # One that only just starts has no claim to drain.
    announced = "SELECT 1 FROM workers WHERE name = %s"
    eventually(lambda: stage.sql(announced, worker.name), START_SECONDS)
    stage.submit(stage.draw_plan(steps=8))
    stage.let_last(0.0, 0.1)
    worker.send(SIGTERM)
    ended_well = worker.await_end(stage.pace.grace + SLACK_SECONDS)
    stage.diary.expect(ended_well, f"{worker.name} did not end with 0 after SIGTERM")
    worker.close()


def kill_scheduler(stage: Stage) -> None:
    """One of the two, or both."""
    for scheduler in stage.rng.sample(stage.schedulers, stage.rng.choice([1, 2])):
        scheduler.kill()
    stage.let_last(0.0, 0.5)


def kill_everything(stage: Stage) -> None:
    """A power cut, but for the database and the objects."""
    for victim in stage.running():
        stage.diary.note_hit("all processes killed", victim)
    for member in [*stage.members, stage.broker]:
        member.kill()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, SIGKILL)
    except ProcessLookupError:
        return  # it was quicker


FAULTS = (
    Fault("trainer killed", kill_trainer, 12, "F11"),
    Fault("worker killed", kill_worker, 10, "F12, F22"),
    Fault("worker, trainer and broker killed", kill_worker_and_broker, 5, "F13"),
    Fault("worker and trainer frozen", freeze_worker, 8, "F14"),
    Fault("worker drained", drain_worker, 8, "F15"),
    Fault("drain cut short", cut_drain_short, 6, "F16"),
    Fault("drain around a claim", drain_around_claim, 8, "F17"),
    Fault("scheduler killed", kill_scheduler, 6, ""),
    Fault("all processes killed", kill_everything, 5, "F13"),
)
