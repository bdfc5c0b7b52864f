"""The processes of a production deployment, each configured by FORETRAIN_* variables."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from core.database import connect
from core.queue import make_celery
from core.scheduler import Scheduler
from foretrain.metrics_port import metrics_port
from foretrain.pulse import Pulse
from foretrain.refusals import Refusal
from foretrain.setup import open_object_storage, set_up
from foretrain.stopping import Signals
from foretrain.tracing import trace_if_asked
from worker.app import serve

if TYPE_CHECKING:
    from core.settings import Settings

_POLL_SECONDS = 0.1


def run_scheduler() -> int:
    """Sweeps until SIGINT or SIGTERM."""
    signals = Signals()
    settings = set_up()
    trace_if_asked("scheduler")
    db = connect(settings.database_url, lock_seconds=settings.lease_seconds)
    scheduler = Scheduler(db, make_celery(settings), open_object_storage(settings), settings)
    stop = _StopWithPulse(Pulse(settings.data_dir, "scheduler"))
    thread = threading.Thread(target=scheduler.run, args=(stop,), name="scheduler")
    with metrics_port(settings):
        thread.start()
        while thread.is_alive() and not signals.end_wanted:
            time.sleep(_POLL_SECONDS)
        stop.set()
        thread.join()
    db.dispose()
    return 0 if signals.end_wanted else 1


class _StopWithPulse(threading.Event):
    """Waited for between two sweeps, and so the place to show that the one before came to its end."""

    def __init__(self, pulse: Pulse) -> None:
        super().__init__()
        self._pulse = pulse

    def wait(self, timeout: float | None = None) -> bool:
        self._pulse.beat()
        return super().wait(timeout)


def run_worker(
    *, devices: str | None, name: str | None, once_within: float | None, end_with_stdin: bool
) -> int:
    """Runs jobs until SIGTERM, or the first one there is `once_within` so many seconds; the exit code.

    With `end_with_stdin` it dies with the process that holds its stdin.
    """
    if end_with_stdin:
        threading.Thread(target=_die_with_stdin, name="stdin", daemon=True).start()
    settings = set_up()
    trace_if_asked("worker")
    indices = None if devices is None else _parse_devices(devices)
    return _serve(settings, indices, name, once_within)


def _serve(settings: Settings, devices: list[int] | None, name: str | None, once_within: float | None) -> int:
    pulse = Pulse(settings.data_dir, "worker")
    try:
        with metrics_port(settings):
            return serve(
                settings,
                open_object_storage(settings),
                devices=devices,
                name=name,
                once_within=once_within,
                on_beat=pulse.beat,
            )
    except ValueError as error:
        raise Refusal(f"{error}.") from error


def _parse_devices(text: str) -> list[int]:
    try:
        return [int(index) for index in text.split(",")]
    except ValueError as error:
        raise Refusal(f"--devices takes GPU numbers such as 0 or 0,1, not {text!r}.") from error


def _die_with_stdin() -> None:
    # os.read, for a buffered read of stdin can hang for ever when the process forks.
    while os.read(0, 4096):
        pass
    # At once: the trainer, whose stdin ends with us, does the same; the lease tells the rest of the world.
    os._exit(3)
