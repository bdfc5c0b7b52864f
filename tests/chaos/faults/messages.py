"""A broker that dies, forgets, loses and repeats."""

from __future__ import annotations

from tests.chaos.diary import Fault
from tests.chaos.stage import QUEUE, Stage
from tests.processes import eventually


def kill_broker(stage: Stage) -> None:
    """It comes back with nothing; meanwhile jobs are taken all the same."""
    stage.broker.kill()
    for _ in range(stage.rng.randint(1, 3)):
        stage.submit()
    stage.let_last(0.0, 1.5)


def flush_broker(stage: Stage) -> None:
    """With work waiting."""
    stage.populate(6)
    with stage.valkey() as valkey:
        valkey.flushall()


def lose_messages(stage: Stage) -> None:
    """All nudges that wait, and the one that the next job brings."""
    with stage.valkey() as valkey:
        valkey.delete(QUEUE)
        stage.submit()
        valkey.delete(QUEUE)


def repeat_messages(stage: Stage) -> None:
    """Every nudge twice more, the last one first."""
    stage.populate(5)
    with stage.valkey() as valkey:
        waiting = eventually(lambda: valkey.lrange(QUEUE, 0, -1), 60.0)
        for message in reversed(waiting):
            valkey.lpush(QUEUE, message, message)


FAULTS = (
    Fault("broker killed", kill_broker, 6, "F8"),
    Fault("broker flushed", flush_broker, 6, "F7"),
    Fault("messages lost", lose_messages, 6, ""),
    Fault("messages repeated in reverse", repeat_messages, 8, "F9"),
)
