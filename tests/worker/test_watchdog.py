from __future__ import annotations

import threading
import time

from worker.watchdog import Watchdog

SOON = 10.0


def test_silence_is_noticed_once() -> None:
    barks: list[float] = []
    barked = threading.Event()

    def bark() -> None:
        barks.append(time.monotonic())
        barked.set()

    with Watchdog(0.02, bark) as watchdog:
        assert barked.wait(SOON)
        watchdog.feed()
        assert not threading.Event().wait(0.1)

    assert watchdog.has_barked
    assert len(barks) == 1


def test_a_child_that_goes_on_speaking_is_left_alone() -> None:
    barked, spoken_until = threading.Event(), time.monotonic() + 1.0

    with Watchdog(0.5, barked.set) as watchdog:
        while time.monotonic() < spoken_until:
            watchdog.feed()
            barked.wait(0.01)

    assert not watchdog.has_barked
