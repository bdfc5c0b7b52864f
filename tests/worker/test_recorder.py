from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import OperationalError

from core.errors import LeaseLost
from trainer.events import PhaseStarted, TrainerEvent
from worker.recorder import Recorder

SOON = 10.0
HOURS = 3600.0
PREPARING, TRAINING = PhaseStarted(phase="preparing"), PhaseStarted(phase="training")


class Sink:
    """Stands for the database; the first answers are `errors`, then all goes well."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.events: list[TrainerEvent] = []
        self.log = ""
        self.called = threading.Event()

    def __call__(self, events: list[TrainerEvent], log: str) -> None:
        self.called.set()
        if self.errors:
            raise self.errors.pop(0)
        self.events += events
        self.log += log


def outage() -> OperationalError:
    return OperationalError("INSERT", {}, ConnectionError("the database is away"))


def test_what_is_recorded_is_written_without_waiting_for_the_end() -> None:
    sink = Sink()
    with Recorder(sink, on_lost=pytest.fail, flush_seconds=0.01) as recorder:
        recorder.record(TRAINING)
        assert sink.called.wait(SOON)

    assert sink.events == [TRAINING]


def test_finish_writes_the_rest_in_order() -> None:
    sink = Sink()
    with Recorder(sink, on_lost=pytest.fail, flush_seconds=HOURS) as recorder:
        recorder.record(PREPARING)
        recorder.record(TRAINING)
        recorder.log("one ")
        recorder.log("two")
        recorder.finish(lambda: SOON)

    assert (sink.events, sink.log) == ([PREPARING, TRAINING], "one two")


def test_writing_through_waits_for_no_turn() -> None:
    sink = Sink()
    with Recorder(sink, on_lost=pytest.fail, flush_seconds=HOURS) as recorder:
        recorder.record(TRAINING)
        recorder.write_through()

        assert sink.events == [TRAINING]


def test_what_could_not_be_written_through_is_kept() -> None:
    sink = Sink(outage())
    with Recorder(sink, on_lost=pytest.fail, flush_seconds=HOURS) as recorder:
        recorder.record(TRAINING)
        with pytest.raises(OperationalError):
            recorder.write_through()
        recorder.record(PREPARING)
        recorder.finish(lambda: SOON)

    assert sink.events == [TRAINING, PREPARING]


def test_an_outage_loses_nothing_and_keeps_the_order() -> None:
    sink = Sink(outage(), outage())
    with Recorder(sink, on_lost=pytest.fail, flush_seconds=0.01, log_seconds=0) as recorder:
        recorder.record(PREPARING)
        recorder.log("one ")
        assert sink.called.wait(SOON)
        recorder.record(TRAINING)
        recorder.log("two")
        recorder.finish(lambda: SOON)

    assert (sink.events, sink.log) == ([PREPARING, TRAINING], "one two")


def test_finish_gives_up_when_the_lease_runs_out_in_an_outage() -> None:
    sink = Sink(*(outage() for _ in range(100)))
    with Recorder(sink, on_lost=pytest.fail, flush_seconds=HOURS) as recorder:
        recorder.record(TRAINING)
        with pytest.raises(LeaseLost):
            recorder.finish(lambda: 0.0)


def test_a_fenced_write_is_told_at_once_and_raised_at_the_end() -> None:
    lost = threading.Event()
    with Recorder(Sink(LeaseLost("fenced")), on_lost=lost.set, flush_seconds=0.01) as recorder:
        recorder.record(TRAINING)
        assert lost.wait(SOON)
        with pytest.raises(LeaseLost):
            recorder.finish(lambda: SOON)


def test_a_mistake_of_ours_is_raised_at_the_end() -> None:
    with Recorder(Sink(KeyError("val_loss")), on_lost=pytest.fail, flush_seconds=HOURS) as recorder:
        recorder.record(TRAINING)
        with pytest.raises(KeyError):
            recorder.finish(lambda: SOON)


def test_log_that_comes_faster_than_it_is_written_loses_its_oldest_part() -> None:
    sink = Sink()
    with Recorder(sink, on_lost=pytest.fail, flush_seconds=HOURS, log_limit=10) as recorder:
        recorder.log("x" * 100)
        recorder.log("traceback")
        recorder.finish(lambda: SOON)

    assert sink.log == "[… 99 characters dropped …]\nxtraceback"
