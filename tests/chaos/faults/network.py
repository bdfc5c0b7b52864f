"""Connections that break, and connections that swallow what is sent and deliver it much later."""

from __future__ import annotations

from tests.chaos.diary import Fault
from tests.chaos.faults.processes import await_taken_away
from tests.chaos.stage import Stage


def cut_connections(stage: Stage) -> None:
    """Of one process, to one server or to all."""
    name = stage.rng.choice(sorted(stage.lines))
    stage.populate(4)
    wires = stage.lines[name].all()
    for wire in stage.rng.choice([wires, *[(wire,) for wire in wires]]):
        wire.cut()


def refuse_connections(stage: Stage) -> None:
    """One worker reaches nothing any more, for less than a lease or for longer."""
    worker = stage.pick().worker
    for wire in stage.lines[worker.name].all():
        wire.refuse()
    stage.let_last(0.2, 1.5, of=stage.pace.lease)


def hold_database_line(stage: Stage) -> None:
    """What a worker writes arrives when its job has long been another's: the case that fencing is for."""
    victim = stage.pick()
    stage.diary.note_hit("database line held", victim)
    line = stage.lines[victim.worker.name].database
    line.hold()
    await_taken_away(stage, victim)
    stage.let_last(0.5, 1.0, of=stage.pace.lease / 2)
    line.mend()


def hold_other_lines(stage: Stage) -> None:
    """A worker's ways to storage and broker, or the API's to the database, deliver late."""
    worker = stage.lines[stage.pick().worker.name]
    scheduler = stage.lines[stage.rng.choice(stage.schedulers).name]
    held = [worker.storage, worker.broker, scheduler.broker, scheduler.database, stage.lines["api"].broker]
    for wire in stage.rng.sample(held, 2):
        wire.hold()
    stage.let_last(0.5, 2.0)


FAULTS = (
    Fault("connections cut", cut_connections, 10, "F26"),
    Fault("worker cut off", refuse_connections, 6, "F26"),
    Fault("database line held", hold_database_line, 8, "F14"),
    Fault("other lines held", hold_other_lines, 6, ""),
)
