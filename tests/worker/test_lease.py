from __future__ import annotations

import threading
import time
from collections.abc import Callable

from core.errors import LeaseLost
from core.jobs.claim import Wishes
from trainer.events import ProgressReported, Wish
from worker.lease import Lease

SOON = 10.0
HALFWAY = ProgressReported(
    fraction=0.5, epoch=0, epochs=1, step=5, total_steps=10, windows_per_second=None, eta_seconds=None
)
HOURS = 3600.0


class Renewals:
    """Stands for the database: answers each renewal with what it was told to."""

    def __init__(self, answer: Wishes | Exception) -> None:
        self.answer = answer
        self.carried: list[ProgressReported | None] = []
        self.first_came = threading.Event()
        self.second_came = threading.Event()

    def __call__(self, progress: ProgressReported | None) -> Wishes:
        self.carried.append(progress)
        self.first_came.set()
        if len(self.carried) >= 2:
            self.second_came.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ignore(_wish: Wish | None = None) -> None:
    pass


def make_lease(
    renew: Callable[[ProgressReported | None], Wishes],
    *,
    heartbeat: float = 0.01,
    lease: float = HOURS,
    on_wish: Callable[[Wish], None] = ignore,
    on_lost: Callable[[], None] = ignore,
) -> Lease:
    return Lease(
        renew,
        held_since=time.monotonic(),
        heartbeat_seconds=heartbeat,
        lease_seconds=lease,
        on_wish=on_wish,
        on_lost=on_lost,
    )


def test_one_renewal_takes_the_latest_progress_along() -> None:
    renewals = Renewals(Wishes(cancel=False, pause=False))
    lease = make_lease(renewals)
    lease.carry(HALFWAY)
    with lease:
        assert renewals.second_came.wait(SOON)

    assert renewals.carried[:2] == [HALFWAY, None]


def test_the_first_progress_waits_for_no_heartbeat() -> None:
    renewals = Renewals(Wishes(cancel=False, pause=False))
    further = HALFWAY.model_copy(update={"step": 6})
    with make_lease(renewals, heartbeat=HOURS) as lease:
        lease.carry(HALFWAY)
        assert renewals.first_came.wait(SOON)
        lease.carry(further)

    assert renewals.carried == [HALFWAY, further]  # that one at the end


def test_progress_that_could_not_be_delivered_goes_with_the_next_renewal() -> None:
    renewals = Renewals(ConnectionError("down"))
    lease = make_lease(renewals)
    lease.carry(HALFWAY)
    with lease:
        assert renewals.second_came.wait(SOON)

    assert renewals.carried[:2] == [HALFWAY, HALFWAY]


def test_each_wish_comes_back_once() -> None:
    renewals = Renewals(Wishes(cancel=False, pause=True))
    calls: list[str] = []
    with make_lease(renewals, on_wish=calls.append, on_lost=lambda: calls.append("lost")):
        assert renewals.second_came.wait(SOON)
        renewals.second_came.clear()
        renewals.answer = Wishes(cancel=True, pause=True)
        assert renewals.second_came.wait(SOON)

    assert calls == ["pause", "cancel"]


def test_a_fenced_renewal_loses_the_lease_at_once() -> None:
    lost = threading.Event()
    with make_lease(Renewals(LeaseLost("fenced")), on_lost=lost.set) as lease:
        assert lost.wait(SOON)

        assert lease.is_lost
        assert lease.seconds_left == 0


def test_failing_renewals_are_borne_until_a_whole_lease_has_passed() -> None:
    renewals, lost = Renewals(ConnectionError("down")), threading.Event()
    with make_lease(renewals, on_lost=lost.set, heartbeat=0.01, lease=0.3):
        assert renewals.second_came.wait(SOON)
        assert not lost.is_set()
        assert lost.wait(SOON)


def test_a_renewal_that_hangs_loses_the_lease_when_its_time_is_up() -> None:
    released, lost = threading.Event(), threading.Event()

    def hang(_progress: ProgressReported | None) -> Wishes:
        released.wait(SOON)
        return Wishes(cancel=False, pause=False)

    with make_lease(hang, on_lost=lost.set, lease=0.1):
        assert lost.wait(SOON)
        released.set()


def test_renewals_keep_the_lease_far_longer_than_one_lease() -> None:
    renewals, lost = Renewals(Wishes(cancel=False, pause=False)), threading.Event()
    with make_lease(renewals, on_lost=lost.set, heartbeat=0.02, lease=0.4) as lease:
        assert not lost.wait(1.0)
        assert lease.seconds_left > 0


def test_nothing_is_lost_once_renewing_was_stopped() -> None:
    renewals, lost = Renewals(LeaseLost("the job has ended")), threading.Event()
    with make_lease(renewals, on_lost=lost.set, heartbeat=HOURS) as lease:
        lease.stop_renewing()
        lease.give_up()

    assert not lost.is_set()
