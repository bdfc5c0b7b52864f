"""Nudges on the side: asked for at once, carried out one after another, merged while they wait."""

from __future__ import annotations

import threading

from core.nudger import Nudger


def test_each_queue_is_nudged_and_close_waits_for_it() -> None:
    nudged: list[str] = []
    nudger = Nudger(nudged.append)

    nudger.ask("cpu")
    nudger.ask("gpu")
    nudger.close()

    assert nudged == ["cpu", "gpu"]


def test_nobody_waits_for_a_broker_and_what_is_asked_for_meanwhile_is_asked_for_once() -> None:
    nudged: list[str] = []
    begun, may_end = threading.Event(), threading.Event()

    def nudge(queue: str) -> None:
        nudged.append(queue)
        begun.set()
        may_end.wait(10)

    nudger = Nudger(nudge)
    nudger.ask("cpu")
    assert begun.wait(10)
    for _ in range(100):
        nudger.ask("cpu")
    nudger.ask("gpu")
    assert nudged == ["cpu"]

    may_end.set()
    nudger.close()

    # The first had begun: a row that came after it may have been overlooked by whom it woke.
    assert nudged == ["cpu", "cpu", "gpu"]


def test_one_that_was_never_asked_closes() -> None:
    Nudger(lambda _: None).close()


def test_closing_gives_up_on_a_nudge_that_hangs() -> None:
    begun, never = threading.Event(), threading.Event()

    def hang(_queue: str) -> None:
        begun.set()
        never.wait(10)

    nudger = Nudger(hang)
    nudger.ask("cpu")
    assert begun.wait(10)

    nudger.close(timeout_seconds=0.01)

    never.set()
