from __future__ import annotations

import pytest

from core.tables import Worker
from core.workers.capacity import plan_nudges, why_none_can_hold


def worker(queue: str, devices: int = 1) -> Worker:
    return Worker(name=f"{queue}-{devices}", queue=queue, devices=devices)


def test_a_gpu_worker_holds_jobs_of_both_queues_and_a_cpu_worker_of_one() -> None:
    assert why_none_can_hold([worker("gpu")], "cpu", 1) is None
    assert why_none_can_hold([worker("gpu")], "gpu", 1) is None
    assert why_none_can_hold([worker("cpu")], "gpu", 1) is not None


def test_what_needs_more_devices_than_any_worker_has_is_told_so() -> None:
    workers = [worker("gpu", 2), worker("gpu", 4)]

    assert why_none_can_hold(workers, "gpu", 4) is None
    reason = why_none_can_hold(workers, "gpu", 8)
    assert reason is not None
    assert "needs 8 devices" in reason
    assert "more than 4" in reason


def test_a_queue_whose_workers_have_full_disks_says_so_and_wakes_none() -> None:
    full = [worker("cpu", 0)]

    assert why_none_can_hold(full, "cpu", 1) == (
        "No live worker can hold it: the disks of those that serve the queue cpu are full."
    )
    assert why_none_can_hold([*full, worker("cpu")], "cpu", 1) is None
    assert plan_nudges({("cpu", 1): 3}, full) == {}


@pytest.mark.parametrize(
    ("waiting", "idle", "needed"),
    [
        ({}, [worker("cpu")], {}),
        ({("cpu", 1): 10_000}, [], {}),
        ({("cpu", 1): 10_000}, [worker("cpu"), worker("cpu")], {"cpu": 2}),
        ({("cpu", 1): 1}, [worker("cpu"), worker("cpu")], {"cpu": 1}),
        # One message wakes one worker, whichever queue it lies in.
        ({("gpu", 1): 9, ("cpu", 1): 9}, [worker("gpu")], {"gpu": 1}),
        ({("gpu", 1): 1, ("cpu", 1): 9}, [worker("gpu"), worker("gpu"), worker("cpu")], {"gpu": 1, "cpu": 2}),
        ({("gpu", 1): 9}, [worker("cpu")], {}),
        # Whoever could not hold it may be the one that is woken: so all are.
        ({("gpu", 2): 1}, [worker("gpu"), worker("gpu"), worker("gpu", 2)], {"gpu": 3}),
        ({("gpu", 4): 5}, [worker("gpu"), worker("gpu", 2)], {}),
    ],
)
def test_as_many_are_woken_as_are_of_use(
    waiting: dict[tuple[str, int], int], idle: list[Worker], needed: dict[str, int]
) -> None:
    assert plan_nudges(waiting, idle) == needed
