"""Which worker can hold which job, and how many to wake. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.tables import Worker

QUEUES = ("gpu", "cpu")
# A machine with a GPU trains on its CPU too, but only while nothing waits for the GPU.
_SERVED = {"gpu": ("gpu", "cpu"), "cpu": ("cpu",)}


def queues_served(worker_class: str) -> tuple[str, ...]:
    """The queues a worker of this class takes jobs from, the first one first."""
    return _SERVED.get(worker_class, (worker_class,))


def serving(workers: Sequence[Worker], queue: str) -> list[Worker]:
    """Those that take jobs from the queue."""
    return [worker for worker in workers if queue in queues_served(worker.queue)]


def why_none_can_hold(workers: Sequence[Worker], queue: str, devices: int) -> str | None:
    """A sentence, or None where one of these workers can hold such a job."""
    takers = serving(workers, queue)
    if not takers:
        return f"No live worker can hold it: none serves the queue {queue}."
    most = max(worker.devices for worker in takers)
    if most >= devices:
        return None
    if most == 0:
        return f"No live worker can hold it: the disks of those that serve the queue {queue} are full."
    lack = f"it needs {devices} devices, and none of the queue {queue} has more than {most}"
    return f"No live worker can hold it: {lack}."


def plan_nudges(waiting: Mapping[tuple[str, int], int], idle: Sequence[Worker]) -> dict[str, int]:
    """Messages each queue needs, one per idle worker at most, none for rows that no idle worker can hold.

    `waiting` counts rows by queue and devices. Whoever is idle may take a message: where some could not hold
    every row, all are woken, so that the right one is.
    """
    free, plan = list(idle), {}
    for queue in QUEUES:
        takers = serving(free, queue)
        most = max((worker.devices for worker in takers), default=0)
        sizes = {size: rows for (name, size), rows in waiting.items() if name == queue and size <= most}
        if not sizes:
            continue
        all_fit = max(sizes) <= min(worker.devices for worker in takers)
        plan[queue] = min(sum(sizes.values()), len(takers)) if all_fit else len(takers)
        woken = takers[: plan[queue]]
        free = [worker for worker in free if worker not in woken]
    return plan
