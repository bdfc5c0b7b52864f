"""Wishes on their way to the child: from the job's owner, the clock and the worker's own end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.events import Wish
    from worker.trainer_process import TrainerProcess

_WEIGHT: dict[Wish, int] = {"time_limit": 1, "drain": 2, "pause": 3, "cancel": 4}


class Reins:
    """Holds the weightiest wish of an attempt and passes it on, at once or as soon as there is a child."""

    def __init__(self, *, grace_seconds: float, time_limit_grace_seconds: float) -> None:
        """`time_limit` has a grace of its own: the child then still evaluates what it has."""
        self._grace_seconds = grace_seconds
        self._time_limit_grace_seconds = time_limit_grace_seconds
        self._lock = threading.Lock()
        self._process: TrainerProcess | None = None
        self._cut = False
        self._wish: Wish | None = None

    @property
    def wish(self) -> Wish | None:
        return self._wish

    def ask(self, wish: Wish) -> None:
        """Asks the child to stop; a wish no weightier than the one it has already heard changes nothing."""
        with self._lock:
            if self._wish is not None and _WEIGHT[wish] <= _WEIGHT[self._wish]:
                return
            self._wish = wish
            self._pass_on()

    def cut(self) -> None:
        """Kills the child, now or the moment it is attached: its work will be thrown away."""
        with self._lock:
            self._cut = True
            self._pass_on()

    def attach(self, process: TrainerProcess) -> None:
        with self._lock:
            self._process = process
            self._pass_on()

    def _pass_on(self) -> None:
        if self._process is None:
            return
        if self._cut:
            self._process.kill()
        elif self._wish is not None:
            limited = self._wish == "time_limit"
            self._process.stop(self._wish, self._time_limit_grace_seconds if limited else self._grace_seconds)


class Drain:
    """The worker's own end, asked for once by a signal and heard by the job that runs then."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def is_asked(self) -> bool:
        return self._asked.is_set()

    def wait(self, seconds: float) -> None:
        """Until the end is asked for, or for so long."""
        self._asked.wait(seconds)

    def ask(self) -> None:
        """Safe to call from a signal handler: it takes no lock that the interrupted code may hold."""
        if not self._asked.is_set():
            threading.Thread(target=self._tell, name="drain", daemon=True).start()

    @contextmanager
    def calls(self, listener: Callable[[], None]) -> Iterator[None]:
        """`listener` is called once if the end is asked for while this lasts, or was before."""
        with self._lock:
            self._listeners.append(listener)
            asked = self._asked.is_set()
        if asked:
            listener()
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def _tell(self) -> None:
        with self._lock:
            self._asked.set()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
